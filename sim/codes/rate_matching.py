"""From a mother code's bits to as many as are sent, and back: puncturing and repetition.

A pattern is an array of shape (n,): sent bit i is bit ``pattern[i]`` of the mother code.  A bit that is sent
several times adds up at the receiver; one that is not sent has LLR zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["collect"]


def collect(llr: NDArray[np.float32], pattern: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    """LLRs of the sent bits, (frames, n), to those of the mother code's, (frames, width).

    Repetitions are added one after the other, in the order of sending.
    """
    mother = np.zeros((len(llr), width), dtype=np.float32)
    turn = _turns(pattern, width)
    for number in range(int(turn.max(initial=-1)) + 1):
        sent = turn == number
        mother[:, pattern[sent]] += llr[:, sent]
    return mother


def _turns(pattern: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """How often each sent bit has been sent before, shape (n,)."""
    seen = np.zeros(width, dtype=np.int64)
    turn = np.empty(len(pattern), dtype=np.int64)
    for place, position in enumerate(pattern):
        turn[place] = seen[position]
        seen[position] += 1
    return turn
