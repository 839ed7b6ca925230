"""What the commands share: parsing, help, logging, and what they say at work; :mod:`process` is how they end.

``--version`` alone prints the version.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from twophase.link.errors import InputError, LinkError, PackageError, remedy
from twophase.link.escape import visible
from twophase.link.help import WIDTH, help_text
from twophase.link.options import named_as_options, parse
from twophase.link.process import Terminated, ended

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["WIDTH", "Progress", "Terminal", "folded", "require", "run_command"]

Arguments = TypeVar("Arguments")


def run_command(
    program: str,
    arguments_type: type[Arguments],
    body: Callable[[Arguments], int],
    description: str,
    argv: Sequence[str] | None = None,
    *,
    usual: Callable[[Sequence[str]], Mapping[str, Any]] | None = None,
    sections: Mapping[str, str] | None = None,
    positional: str | None = None,
    extra: str = "sim",
) -> int:
    """Parse ``argv`` into ``arguments_type``, run ``body`` on it, return the exit status.

    Whatever is raised becomes one line on stderr and an exit status (:func:`~twophase.link.process.ended`).

    Parameters
    ----------
    arguments_type
        A dataclass whose fields are the options; the string under a field is its help.
    usual
        Values of what ``argv`` does not set, where they depend on ``argv``.
    sections
        Titles of the help's sections, each with the field that it begins with.
    positional
        The field that may be given without its name.
    extra
        What of this distribution brings the packages that the command needs.

    Raises
    ------
    SystemExit
        With status 0, after ``--help``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Visible("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.captureWarnings(True)
    try:
        words = list(sys.argv[1:] if argv is None else argv)
        if words == ["--version"]:
            from importlib.metadata import version

            print(f"{program} {version('twophase-link')}")  # noqa: T201
            return 0
        for word in words:
            _check_utf8("argument", word)
        with contextlib.suppress(OSError):  # removed; whatever needs it says so
            _check_utf8("working folder", str(Path.cwd()))
        values = {} if usual is None else usual(words)
        if "--help" in words or "-h" in words:
            sys.stdout.write(
                help_text(program, description, arguments_type, sections or {}, values, positional)
            )
            raise SystemExit(0)
        try:
            arguments = parse(arguments_type, words, values, positional)
        except InputError:
            raise
        except LinkError as error:
            raise LinkError(f"{error} (see {program} --help)") from error
        require("rich", extra, program)
        return body(arguments)
    except InputError as error:
        return ended(program, named_as_options(error, arguments_type))
    except (Exception, KeyboardInterrupt, Terminated) as error:  # noqa: BLE001 - whatever it is
        return ended(program, error)


class _Visible(logging.Formatter):
    """Messages hold names of users, which are text on a terminal too."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record), "\n")


def _check_utf8(name: str, text: str) -> None:
    """Reports and manifests name paths in UTF-8: one that they could not is refused at once."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(name, "be text in UTF-8", text) from None


def require(package: str, extra: str, who: str) -> ModuleType:
    """A package that not every installation has.

    Raises
    ------
    PackageError
        If it cannot be imported; says ``who`` needs it, and which ``extra`` of this distribution brings it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        name = {"sklearn": "scikit-learn"}.get(root := package.partition(".")[0], root)
        raise PackageError(
            f"{who} needs {name}, which cannot be imported ({error}): {remedy(extra)}"
        ) from error


def folded(lines: Iterable[str], indent: int = 4) -> Iterator[str]:
    """Lines of at most ``WIDTH`` columns, but for a long word; what does not fit goes on in the next one."""
    for line in lines:
        if len(line) <= WIDTH:
            yield line
        else:
            yield from textwrap.wrap(
                line,
                WIDTH,
                subsequent_indent=" " * indent,
                break_long_words=False,
                break_on_hyphens=False,
            )


class Terminal:
    """What a command says while it works: lines on stderr and, if that is a terminal, a bar below them.

    Parameters
    ----------
    stream
        In place of stderr.
    quiet
        Says nothing.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._quiet = quiet
        self._bar: RichProgress | None = None

    def say(self, line: str) -> None:
        """Print a line, folded where it is longer than ``WIDTH``."""
        folded = textwrap.fill(
            visible(line, "\n"), WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
        )
        if self._bar is not None:
            self._bar.console.print(folded, markup=False, highlight=False, soft_wrap=True)
        elif not self._quiet:
            print(folded, file=self._stream, flush=True)

    @contextlib.contextmanager
    def progress(
        self, title: str = "starting", total: int | None = None, done: int = 0
    ) -> Iterator[Progress]:
        """A bar that goes away when its work is done; without ``total`` a line with a title."""
        if self._quiet or not self._stream.isatty():
            yield Progress()
            return
        from rich import progress as rich
        from rich.console import Console
        from rich.text import Text

        columns = [
            rich.TextColumn("{task.description}", markup=False),
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
        ]

        class Left(rich.TimeRemainingColumn):
            """Nothing until it is known."""

            def render(self, task: rich.Task) -> Text:
                left = super().render(task)
                return Text("") if task.total is None or task.time_remaining is None else left.append(" left")

        columns += [rich.TimeElapsedColumn(), Left()]
        with rich.Progress(*columns, console=Console(file=self._stream), transient=True) as self._bar:
            yield Progress(self._bar, self._bar.add_task(title, total=total, completed=done))
        self._bar = None


class Progress:
    """How far a work is; shown where there is a bar."""

    def __init__(self, bar: RichProgress | None = None, task: TaskID | None = None) -> None:
        self._bar, self._task = bar, task

    def show(self, title: str | None = None, done: int | None = None, total: int | None = None) -> None:
        """Show what is given; the rest stays."""
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, description=None if title is None else visible(title), completed=done, total=total
            )
