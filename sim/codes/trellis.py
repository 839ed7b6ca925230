"""The trellis of the rate-1/2 convolutional code with K = 7 and generators 133, 171 (octal).

The register holds the new bit in front: ``register = input << 6 | state``.  Generator j gives the parity of
the register's bits under ``GENERATORS[j]``, and the next state is ``register >> 1``.  The code is that of
CCSDS 131.0-B, IEEE 802.11 and many others (without inverted outputs); commpy calls this reading of the
polynomials ``LSB``.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

__all__ = ["GENERATORS", "MEMORY", "OUTPUTS", "STATES", "branch_outputs", "puncturing", "weight_spectrum"]

GENERATORS = (0o133, 0o171)
MEMORY = 6
STATES = 1 << MEMORY


def branch_outputs() -> NDArray[np.int64]:
    """Output 2 c0 + c1 of each register value, shape (2 * STATES,).

    State s is reached from the states (2 s + b) mod STATES, b = 0 and 1, with the register 2 s + b.
    """
    registers = np.arange(2 * STATES)
    outputs = np.zeros(2 * STATES, dtype=np.int64)
    for generator in GENERATORS:
        parity = np.array([int(value).bit_count() & 1 for value in registers & generator])
        outputs = 2 * outputs + parity
    return outputs


OUTPUTS = branch_outputs()
OUTPUTS.setflags(write=False)

_LARGEST_WEIGHT = 14
_OFFSETS = 8
_AT_AN_END = (0, 2, 3)
_LONG = 200  # steps from which the ends matter little and the search would be slow


@cache
def puncturing(steps: int, n: int) -> NDArray[np.int64]:
    """Which ``n`` of the 2 * ``steps`` mother bits are sent, ascending and cyclic if n is more than all.

    Bits are left out at even distances, and a few more at both ends, where the decoder knows the state.  Of
    some seventy such patterns the one whose code has the fewest words of low weight is taken.  Read-only.
    """
    total = 2 * steps
    best = np.arange(n, dtype=np.int64) % total
    if n < total:
        ends = (0,) if steps > _LONG else _AT_AN_END
        candidates = [
            kept
            for front, back, offset in product(ends, ends, range(_OFFSETS))
            if (kept := _spread(total, n, front, back, offset)) is not None
        ]
        best = min(candidates, key=lambda pattern: weight_spectrum(steps, pattern).tolist())
    best.setflags(write=False)
    return best


def _spread(total: int, n: int, front: int, back: int, offset: int) -> NDArray[np.int64] | None:
    """Leave out ``front`` and ``back`` bits at the ends, the others evenly; None if that is too many."""
    evenly = total - n - front - back
    if evenly < 0:
        return None
    # Places 0, 3, 4, 7, 8, ...: one of the two bits of a step, in turn.
    left_out = [2 * place + place % 2 for place in range(front)]
    left_out += [total - 1 - (2 * place + place % 2) for place in range(back)]
    kept = np.setdiff1d(np.arange(total, dtype=np.int64), left_out)
    # Integers only: the same pattern on every machine.
    places = (np.arange(evenly) * _OFFSETS + offset) * len(kept) // max(1, evenly * _OFFSETS)
    return np.delete(kept, places)


def weight_spectrum(steps: int, pattern: NDArray[np.int64]) -> NDArray[np.int64]:
    """Words of each weight 0..14 of the terminated, punctured code, shape (15,); the zero word excluded.

    Paths through the trellis are counted by the weight of what is sent of them.  Counts are held below 2^40.
    """
    sent = np.bincount(pattern, minlength=2 * steps).reshape(steps, 2)
    counts = np.zeros((STATES, _LARGEST_WEIGHT + 1), dtype=np.int64)
    counts[0, 0] = 1
    registers = np.arange(2 * STATES)
    previous, following = registers % STATES, registers >> 1
    for step in range(steps):
        weights = (OUTPUTS >> 1) * sent[step, 0] + (OUTPUTS & 1) * sent[step, 1]
        grown = np.zeros_like(counts)
        for weight in np.unique(weights):
            # In the tail only zeros enter: the states of the lower half.
            chosen = (weights == weight) & ((following < STATES // 2) | (step < steps - MEMORY))
            moved = counts[previous[chosen], : _LARGEST_WEIGHT + 1 - weight]
            np.add.at(grown[:, weight:], following[chosen], moved)
        counts = np.minimum(grown, 1 << 40)
    spectrum = counts[0].copy()
    spectrum[0] -= 1
    return np.asarray(spectrum, dtype=np.int64)
