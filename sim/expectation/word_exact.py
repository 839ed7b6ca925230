"""P(decided class | sent word) exactly, for words so short that every received word can be looked at.

With F[r, c] = 1 where the receiver decides class c for the word r, the law is the expectation of F over r.
Given the gains it is multilinear: one matrix product for each symbol, over the words of all other symbols at
once, gives it for ALL sent words, without a sum over pairs of words.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twophase.sim.expectation.transitions import WordLaw

__all__ = ["class_probabilities"]

_Float = NDArray[np.float64]

_ELEMENTS = 1 << 24
"""Numbers of a tensor at most, 128 MiB: classes are taken in groups."""


def class_probabilities(
    law: WordLaw, table: NDArray[np.int64], words: NDArray[np.int64], classes: int
) -> _Float:
    """P(decided class | sent word).

    Parameters
    ----------
    law
        Of a word's symbols.
    table
        Class of every received word, shape (M**symbols,), the first symbol most significant.
    words
        Sent words as point numbers, shape (words, symbols).
    classes
        Number of classes.

    Returns
    -------
    NDArray
        Shape (words, classes); rows sum to 1.
    """
    codes = np.zeros(len(words), dtype=np.int64)
    for column in words.T:
        codes = codes * law.order + column
    expected = np.empty((len(words), classes))
    group = max(1, _ELEMENTS // len(table))
    for start in range(0, classes, group):
        chosen = np.arange(start, min(start + group, classes))
        tensor = (table[:, np.newaxis] == chosen).astype(np.float64)
        for block in law.blocks:
            tensor = _contract(law, tensor, block.stop - block.start)
        # Every contraction takes the leading symbol and puts it behind the classes.
        expected[:, chosen] = tensor.reshape(len(chosen), -1)[:, codes].T
    return expected


def _contract(law: WordLaw, tensor: _Float, symbols: int) -> _Float:
    """Average the leading ``symbols`` axes, which share a gain, and move them behind all others."""
    total: _Float | None = None
    for weight, matrix in zip(law.weights, law.matrices, strict=True):
        moved = tensor
        for _ in range(symbols):
            moved = moved.reshape(law.order, -1).T @ matrix.T
        total = weight * moved if total is None else total + weight * moved
    assert total is not None
    return total
