"""Compiled twins of :mod:`twophase.sim.codes.message_passing`; numba is imported here and only here.

Frames run side by side in lanes.  A lane whose checks all hold is written out and computes on unseen until
its neighbours have finished as well.  Arithmetic and its order are the twins', so both give the same bits.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["min_sum_lanes", "sum_product_lanes"]

# lanes.LANES, copied: numba looks at this file alone to see whether what it has cached is stale.
LANES = 32
_NORMALISATION = np.float32(0.75)  # message_passing.NORMALISATION
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_FAR = np.float32(3.0e38)
_OUTGOING_LEAST, _OUTGOING_MOST = math.exp(-60.0), math.exp(60.0)  # message_passing.TOLD_LIMIT
_HELD_LEAST, _HELD_MOST = math.exp(-300.0), math.exp(300.0)  # message_passing.HELD_LIMIT


@njit(cache=True, nogil=True, error_model="numpy")
def _finish(
    posterior: NDArray[np.floating],
    even: float | np.float32,
    starts: NDArray[np.int64],
    bits: NDArray[np.int64],
    last: bool,
    done: NDArray[np.bool_],
    broken: NDArray[np.uint8],
    parity: NDArray[np.uint8],
    result: NDArray[np.floating],
) -> bool:
    """Write out every lane whose checks hold for the first time, in the ``last`` pass all others as well.

    A bit is one where its ``posterior`` is above ``even``.  Returns whether all lanes are done.
    """
    broken[:] = 0
    for check in range(len(starts) - 1):
        parity[:] = 0
        for edge in range(starts[check], starts[check + 1]):
            bit = bits[edge]
            for lane in range(LANES):
                parity[lane] ^= posterior[bit, lane] > even
        for lane in range(LANES):
            broken[lane] |= parity[lane]
    finished = True
    for lane in range(LANES):
        if not done[lane]:
            if last or broken[lane] == 0:
                done[lane] = True
                for bit in range(len(posterior)):
                    result[bit, lane] = posterior[bit, lane]
            else:
                finished = False
    return finished


@njit(cache=True, nogil=True, error_model="numpy")
def min_sum_lanes(
    llr: NDArray[np.float32], starts: NDArray[np.int64], bits: NDArray[np.int64], iterations: int
) -> None:
    """Normalised min-sum in place, (groups, width, LANES)."""
    groups, width = llr.shape[0], llr.shape[1]
    checks = len(starts) - 1
    widest = 0
    for check in range(checks):
        widest = max(widest, starts[check + 1] - starts[check])
    posterior = np.empty((width, LANES), np.float32)
    outgoing = np.empty((len(bits), LANES), np.float32)
    incoming = np.empty((widest, LANES), np.float32)
    least = np.empty(LANES, np.float32)
    second = np.empty(LANES, np.float32)
    sign = np.empty(LANES, np.float32)
    done = np.empty(LANES, np.bool_)
    broken = np.empty(LANES, np.uint8)
    parity = np.empty(LANES, np.uint8)
    for group in range(groups):
        posterior[:] = llr[group]
        outgoing[:] = np.float32(0.0)
        done[:] = False
        for turn in range(iterations):
            for check in range(checks):
                first = starts[check]
                degree = starts[check + 1] - first
                # Short loops over few arrays: only those does the compiler turn into vector instructions.
                for lane in range(LANES):
                    least[lane] = _FAR
                    second[lane] = _FAR
                    sign[lane] = _ONE
                for place in range(degree):
                    bit = bits[first + place]
                    for lane in range(LANES):
                        value = posterior[bit, lane] - outgoing[first + place, lane]
                        incoming[place, lane] = value
                        size = abs(value)
                        second[lane] = min(second[lane], max(least[lane], size))
                        least[lane] = min(least[lane], size)
                        sign[lane] = -sign[lane] if value > _ZERO else sign[lane]
                for lane in range(LANES):
                    sign[lane] *= -_NORMALISATION
                for place in range(degree):
                    bit = bits[first + place]
                    for lane in range(LANES):
                        value = incoming[place, lane]
                        other = second[lane] if abs(value) == least[lane] else least[lane]
                        other = -other if value > _ZERO else other
                        said = other * sign[lane]
                        outgoing[first + place, lane] = said
                        posterior[bit, lane] = value + said
            last = turn == iterations - 1
            if _finish(posterior, _ZERO, starts, bits, last, done, broken, parity, llr[group]):
                break


@njit(cache=True, nogil=True, error_model="numpy")
def sum_product_lanes(
    odds: NDArray[np.float64], starts: NDArray[np.int64], bits: NDArray[np.int64], iterations: int
) -> None:
    """Sum-product on odds P1/P0 in place, (groups, width, LANES)."""
    groups, width = odds.shape[0], odds.shape[1]
    checks = len(starts) - 1
    widest = 0
    for check in range(checks):
        widest = max(widest, starts[check + 1] - starts[check])
    posterior = np.empty((width, LANES))
    outgoing = np.empty((len(bits), LANES))
    incoming = np.empty((widest, LANES))
    zero = np.empty((widest, LANES))
    one = np.empty((widest, LANES))
    before = np.empty((widest, 2, LANES))
    later = np.empty((2, LANES))
    done = np.empty(LANES, np.bool_)
    broken = np.empty(LANES, np.uint8)
    parity = np.empty(LANES, np.uint8)
    for group in range(groups):
        posterior[:] = odds[group]
        outgoing[:] = 1.0
        done[:] = False
        for turn in range(iterations):
            for check in range(checks):
                first = starts[check]
                end = starts[check + 1] - first - 1
                for place in range(end + 1):
                    bit = bits[first + place]
                    for lane in range(LANES):
                        value = posterior[bit, lane] / outgoing[first + place, lane]
                        incoming[place, lane] = value
                        held = min(max(value, _OUTGOING_LEAST), _OUTGOING_MOST)
                        zero[place, lane] = 1.0 / (1.0 + held)
                        one[place, lane] = held * zero[place, lane]
                for lane in range(LANES):
                    before[0, 0, lane] = zero[0, lane]
                    before[0, 1, lane] = one[0, lane]
                    later[0, lane] = zero[end, lane]
                    later[1, lane] = one[end, lane]
                for place in range(1, end):
                    for lane in range(LANES):
                        a0, a1 = before[place - 1, 0, lane], before[place - 1, 1, lane]
                        b0, b1 = zero[place, lane], one[place, lane]
                        before[place, 0, lane] = a0 * b0 + a1 * b1
                        before[place, 1, lane] = a0 * b1 + a1 * b0
                for lane in range(LANES):
                    outgoing[first + end, lane] = before[end - 1, 1, lane] / before[end - 1, 0, lane]
                for place in range(end - 1, 0, -1):
                    for lane in range(LANES):
                        a0, a1 = before[place - 1, 0, lane], before[place - 1, 1, lane]
                        b0, b1 = later[0, lane], later[1, lane]
                        outgoing[first + place, lane] = (a0 * b1 + a1 * b0) / (a0 * b0 + a1 * b1)
                        a0, a1 = zero[place, lane], one[place, lane]
                        later[0, lane] = a0 * b0 + a1 * b1
                        later[1, lane] = a0 * b1 + a1 * b0
                for lane in range(LANES):
                    outgoing[first, lane] = later[1, lane] / later[0, lane]
                for place in range(end + 1):
                    bit = bits[first + place]
                    for lane in range(LANES):
                        value = incoming[place, lane] * outgoing[first + place, lane]
                        posterior[bit, lane] = min(max(value, _HELD_LEAST), _HELD_MOST)
            last = turn == iterations - 1
            if _finish(posterior, 1.0, starts, bits, last, done, broken, parity, odds[group]):
                break
