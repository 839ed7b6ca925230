"""Batches of sentences of like length, so that little is computed on padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["bucketed", "longest_first"]

CHUNK = 20
"""Batches that are sorted by length among one another."""


def longest_first(
    lengths: NDArray[np.int64], members: NDArray[np.int64], tokens: int
) -> Iterator[NDArray[np.int64]]:
    """Members in batches of at most ``tokens`` tokens with padding; too little memory shows at once."""
    order = members[np.argsort(-lengths[members], kind="stable")]
    first = 0
    while first < len(order):
        count = max(1, tokens // int(lengths[order[first]]))
        yield order[first : first + count]
        first += count


def bucketed(
    lengths: NDArray[np.int64],
    members: NDArray[np.int64],
    size: int,
    generator: np.random.Generator,
) -> list[NDArray[np.int64]]:
    """Members in random batches of ``size`` sentences of like length, in random order, less a remainder.

    The members are shuffled, each ``CHUNK`` batches of them sorted by length and cut, and the batches
    shuffled.
    """
    count = len(members) // size
    order = generator.permutation(members)[: count * size]
    batches: list[NDArray[np.int64]] = []
    for first in range(0, len(order), size * CHUNK):
        chunk = order[first : first + size * CHUNK]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[start : start + size] for start in range(0, len(chunk), size)]
    return [batches[place] for place in generator.permutation(count)]
