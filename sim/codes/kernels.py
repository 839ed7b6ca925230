"""Compiled twins of the decoders of ``conv`` and ``message_passing``; numba is imported here and only here.

Frames run side by side in lanes.  Every lane does the twins' operations in their order, without fused or
reordered arithmetic, so that both give the same bits.  In message passing a lane whose checks all hold is
written out and computes on unseen until its neighbours have finished as well.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from twophase.link.files import keeps_compiled

__all__ = ["bcjr_lanes", "min_sum_lanes", "sum_product_lanes", "viterbi_lanes"]

# Constants are copied: numba looks at this file alone to see whether what it has cached is stale.
LANES = 32  # code.LANES
_STATES = 64
_HALF = 32
_EVERY = 16  # conv.NORMALISED_EVERY
_UNREACHED = np.float32(-1e9)  # conv.UNREACHED
_NORMALISATION = np.float32(0.75)  # message_passing.NORMALISATION
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_FAR = np.float32(3.0e38)
_OUTGOING_LEAST, _OUTGOING_MOST = math.exp(-60.0), math.exp(60.0)  # message_passing.TOLD_LIMIT
_HELD_LEAST, _HELD_MOST = math.exp(-300.0), math.exp(300.0)  # message_passing.HELD_LIMIT

_compiled = njit(cache=keeps_compiled(), nogil=True, error_model="numpy")


@_compiled
def _branches(llr: NDArray[np.float32], group: int, step: int, branch: NDArray[np.float32]) -> None:
    for lane in range(LANES):
        first = llr[group, 2 * step, lane]
        second = llr[group, 2 * step + 1, lane]
        branch[0, lane] = np.float32(0.0)
        branch[1, lane] = second
        branch[2, lane] = first
        branch[3, lane] = first + second


@_compiled
def _normalise(metric: NDArray[np.float32], largest: NDArray[np.float32]) -> None:
    for lane in range(LANES):
        largest[lane] = metric[0, lane]
    for state in range(1, _STATES):
        for lane in range(LANES):
            largest[lane] = max(largest[lane], metric[state, lane])
    for state in range(_STATES):
        for lane in range(LANES):
            metric[state, lane] -= largest[lane]


@_compiled
def viterbi_lanes(llr: NDArray[np.float32], outputs: NDArray[np.int64], bits: NDArray[np.uint8]) -> None:
    """LLRs (groups, 2 steps, LANES) to bits (frames, k), written in place."""
    groups, steps = llr.shape[0], llr.shape[1] // 2
    frames, k = bits.shape
    metric = np.empty((_STATES, LANES), np.float32)
    grown = np.empty((_STATES, LANES), np.float32)
    branch = np.empty((4, LANES), np.float32)
    largest = np.empty(LANES, np.float32)
    from_odd = np.empty((steps, _STATES, LANES), np.uint8)
    for group in range(groups):
        metric[:] = _UNREACHED
        metric[0] = np.float32(0.0)
        for step in range(steps):
            _branches(llr, group, step, branch)
            for state in range(_STATES):
                before = (2 * state) % _STATES
                to_even, to_odd = outputs[2 * state], outputs[2 * state + 1]
                for lane in range(LANES):
                    even = metric[before, lane] + branch[to_even, lane]
                    odd = metric[before + 1, lane] + branch[to_odd, lane]
                    better = odd > even
                    from_odd[step, state, lane] = better
                    grown[state, lane] = odd if better else even
            metric, grown = grown, metric
            if step % _EVERY == _EVERY - 1:
                _normalise(metric, largest)
        for lane in range(min(LANES, frames - group * LANES)):
            frame = group * LANES + lane
            state = 0
            for step in range(steps - 1, -1, -1):
                if step < k:
                    bits[frame, step] = state >= _HALF
                state = (2 * state) % _STATES + from_odd[step, state, lane]


@_compiled
def _weigh(
    weights: NDArray[np.float64],
    group: int,
    step: int,
    largest: NDArray[np.float64],
    branch: NDArray[np.float64],
) -> None:
    for lane in range(LANES):
        zero, one = weights[group, 4 * step, lane], weights[group, 4 * step + 1, lane]
        zero_too, one_too = weights[group, 4 * step + 2, lane], weights[group, 4 * step + 3, lane]
        branch[0, lane] = zero * zero_too / largest[lane]
        branch[1, lane] = zero * one_too / largest[lane]
        branch[2, lane] = one * zero_too / largest[lane]
        branch[3, lane] = one * one_too / largest[lane]


@_compiled
def bcjr_lanes(weights: NDArray[np.float64], outputs: NDArray[np.int64], sums: NDArray[np.float64]) -> None:
    """Bit weights (groups, 4 steps, LANES) to sums (groups, 2 k, LANES), written in place."""
    groups, steps = weights.shape[0], weights.shape[1] // 4
    k = sums.shape[1] // 2
    forward = np.empty((steps + 1, _STATES, LANES))
    backward = np.empty((_STATES, LANES))
    earlier = np.empty((_STATES, LANES))
    branch = np.empty((4, LANES))
    largest = np.empty(LANES)
    ones = np.empty(LANES)
    zeros = np.empty(LANES)
    for group in range(groups):
        forward[0] = 0.0
        forward[0, 0] = 1.0
        largest[:] = 1.0
        for step in range(steps):
            _weigh(weights, group, step, largest, branch)
            largest[:] = 0.0
            for state in range(_STATES):
                before = (2 * state) % _STATES
                to_even, to_odd = outputs[2 * state], outputs[2 * state + 1]
                for lane in range(LANES):
                    even = forward[step, before, lane] * branch[to_even, lane]
                    value = even + forward[step, before + 1, lane] * branch[to_odd, lane]
                    forward[step + 1, state, lane] = value
                    largest[lane] = max(largest[lane], value)
        backward[:] = 0.0
        backward[0] = 1.0
        largest[:] = 1.0
        for step in range(steps - 1, -1, -1):
            if step < k:
                for lane in range(LANES):
                    zeros[lane] = forward[step + 1, 0, lane] * backward[0, lane]
                    ones[lane] = forward[step + 1, _HALF, lane] * backward[_HALF, lane]
                for state in range(1, _HALF):
                    for lane in range(LANES):
                        zeros[lane] += forward[step + 1, state, lane] * backward[state, lane]
                        ones[lane] += forward[step + 1, state + _HALF, lane] * backward[state + _HALF, lane]
                for lane in range(LANES):
                    sums[group, 2 * step, lane] = zeros[lane]
                    sums[group, 2 * step + 1, lane] = ones[lane]
            _weigh(weights, group, step, largest, branch)
            largest[:] = 0.0
            for state in range(_STATES):
                to_zero, to_one = outputs[state], outputs[state + _STATES]
                for lane in range(LANES):
                    zero = backward[state // 2, lane] * branch[to_zero, lane]
                    value = zero + backward[state // 2 + _HALF, lane] * branch[to_one, lane]
                    earlier[state, lane] = value
                    largest[lane] = max(largest[lane], value)
            backward, earlier = earlier, backward


@_compiled
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


@_compiled
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


@_compiled
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
