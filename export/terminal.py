"""What the two commands write to a terminal: the step that they are at, and lines that fit it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

__all__ = ["COLUMNS", "folded", "progress_line"]

COLUMNS = 100
"""What a line of a report takes at most, but for one long word."""


def folded(lines: Iterable[str], indent: int = 4) -> Iterator[str]:
    """Lines of at most ``COLUMNS``; what does not fit goes on in the next one, indented."""
    for line in lines:
        if len(line) <= COLUMNS:
            yield line
        else:
            yield from textwrap.wrap(
                line,
                COLUMNS,
                subsequent_indent=" " * indent,
                break_long_words=False,
                break_on_hyphens=False,
                drop_whitespace=True,
            )


@contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """What shows the current step on stderr if that is a terminal, and nothing otherwise."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda step: None
        return
    with console.status("starting") as status:
        yield status.update
