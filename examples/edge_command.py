"""What the two ends share as programs: options, and one line for each problem."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from twophase.link.errors import LinkError

__all__ = ["GoneError", "Parser", "run"]


class UsageError(LinkError):
    """An option is unknown or out of range."""


class GoneError(LinkError):
    """The other end is not there, or no longer."""

    exit_status = 1


class Parser(argparse.ArgumentParser):
    """One line for bad input, where argparse would print the usage, too."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise UsageError(f"{message} (see {self.prog} --help)")

    def demand(self, **allowed: bool) -> None:
        """Refuse the first option that is not allowed."""
        for name, is_allowed in allowed.items():
            if not is_allowed:
                self.error(f"argument --{name.replace('_', '-')}: out of range")


def run(program: str, body: Callable[[], int]) -> int:
    """Exit status of ``body``; problems become one line on stderr, Ctrl-C and SIGTERM a clean end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return body()
    except LinkError as error:
        sys.stderr.write(f"{program}: {error}\n")
        return error.exit_status
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: interrupted\n")
        return 130
    except BrokenPipeError:  # whoever read the lines has had enough
        sys.stderr.close()
        return 1
    except OSError as error:
        sys.stderr.write(f"{program}: {error.strerror or error}\n")
        return 2
