"""Blocks of trials: the unit that is run anywhere, kept, and resumed.

How trials are cut into blocks follows from the stop rule alone, never from the number of workers, and counts
are merged in the order of the trials.  So even sums of real numbers come out the same for any split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from twophase.link.errors import InputError, LinkError

__all__ = ["BLOCK_TRIALS", "Block", "Point", "WorkerError", "trial_blocks"]

BLOCK_TRIALS = 5
"""Most trials of a block.  Sums of real numbers depend on it in their last digits, so it is no option."""

Point = tuple[str, float]
"""A sweep and its Es/N0 in dB."""


@dataclass(frozen=True)
class Block:
    """Some trials of one point.

    Raises
    ------
    InputError
        If there is no trial, or one of negative number.
    """

    sweep: str
    """Empty for the link as it is deployed, else the name of the one mode that is used."""
    esn0_db: float
    first: int
    """Number of the first trial."""
    count: int

    def __post_init__(self) -> None:
        if self.first < 0:
            raise InputError("first", "be at least 0", self.first)
        if self.count < 1:
            raise InputError("count", "be at least 1", self.count)

    @property
    def point(self) -> Point:
        """What is measured."""
        return self.sweep, self.esn0_db

    @property
    def trials(self) -> range:
        """Numbers of the trials."""
        return range(self.first, self.first + self.count)


class WorkerError(LinkError):
    """A worker process ended, or raised what cannot be sent to another process."""


def trial_blocks(point: Point, first: int, stop: int) -> Iterator[Block]:
    """Trials ``first`` to ``stop - 1`` of a point in blocks of at most :data:`BLOCK_TRIALS`."""
    for start in range(first, stop, BLOCK_TRIALS):
        yield Block(*point, start, min(BLOCK_TRIALS, stop - start))
