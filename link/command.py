"""What the three commands share: parsing, one-line errors, exit status, logging.

Exit status: 0 done, 1 the result is a failure (verdict FAIL, proof failed), 2 bad input, 130 interrupted, 143
terminated.  ``--version`` alone tells the version.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import TypeVar

from twophase.link.errors import LinkError

__all__ = ["run_command"]

Arguments = TypeVar("Arguments")


def run_command(
    program: str,
    arguments_type: type[Arguments],
    body: Callable[[Arguments], int],
    description: str,
    argv: Sequence[str] | None = None,
    default: Callable[[Sequence[str]], Arguments] | None = None,
) -> int:
    """Parse ``argv`` into ``arguments_type``, run ``body`` on it, return the exit status.

    ``default`` gives the values of what ``argv`` does not set, where they depend on ``argv``.  Errors that
    the package raises on purpose become one line on stderr and their own exit status; Ctrl-C becomes 130.
    Any other exception is a defect and keeps its traceback.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.captureWarnings(True)
    try:
        words = sys.argv[1:] if argv is None else argv
        if list(words) == ["--version"]:
            print(f"{program} {version('twophase-link')}")  # noqa: T201
            return 0
        with _terminable():
            given = None if default is None else default(words)
            return body(_parse(program, arguments_type, description, words, given))
    except LinkError as error:
        print(f"{program}: error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_status
    except _Terminated:
        print(f"{program}: terminated; nothing half-written is left", file=sys.stderr)  # noqa: T201
        return 143
    except KeyboardInterrupt:
        print(f"{program}: interrupted; nothing half-written is left", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        # A file that cannot be read, a disk that is full: the machine's fault, not a defect of the program.
        where = f"'{error.filename}': " if error.filename else ""
        print(f"{program}: error: {where}{error.strerror or error}", file=sys.stderr)  # noqa: T201
        return 2


def _parse(
    program: str,
    arguments_type: type[Arguments],
    description: str,
    argv: Sequence[str],
    default: Arguments | None,
) -> Arguments:
    """Parse with tyro; fold its framed message for bad options into one line."""
    import tyro

    framed = io.StringIO()
    try:
        with contextlib.redirect_stderr(framed):
            return tyro.cli(
                arguments_type,
                prog=program,
                description=description,
                args=argv,
                default=tyro.MISSING_NONPROP if default is None else default,
            )
    except SystemExit as stop:
        if stop.code not in (0, None):
            raise _UsageError(_one_line(framed.getvalue(), program)) from None
        raise


def _one_line(framed: str, program: str) -> str:
    """The message inside tyro's frame, without its title and its rules."""
    lines = [line.strip("│ ") for line in framed.splitlines() if not line.startswith(("╭", "╰"))]
    message = " ".join(" ".join(line for line in lines if line.strip("─")).split())
    message = message.partition(" For full helptext")[0].partition(" Argument helptext:")[0]
    message = re.sub(r"^Error parsing [\w.]+: ", "", message)
    return f"{message} (see {program} --help)"


class _Terminated(BaseException):
    """SIGTERM came; like an interrupt it passes what cleans up."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end what runs inside as an interrupt would, so that nothing is left half-written."""

    def terminate(number: int, frame: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _UsageError(LinkError):
    """An option is unknown or its value breaks a rule."""
