"""Lines of a report that fit a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from twophase.link.command import WIDTH

__all__ = ["folded"]


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
