"""Compiled twins of the decoders of :mod:`twophase.sim.codes.conv`; numba is imported here and only here.

Every lane does the twins' operations in their order, without fused or reordered arithmetic, so that both give
the same bits.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["bcjr_lanes", "viterbi_lanes"]

# lanes.LANES, copied: numba looks at this file alone to see whether what it has cached is stale.
LANES = 32
_STATES = 64
_HALF = 32
_EVERY = 16  # conv.NORMALISED_EVERY
_UNREACHED = np.float32(-1e9)


@njit(cache=True, nogil=True, error_model="numpy")
def _branches(llr: NDArray[np.float32], group: int, step: int, branch: NDArray[np.float32]) -> None:
    for lane in range(LANES):
        first = llr[group, 2 * step, lane]
        second = llr[group, 2 * step + 1, lane]
        branch[0, lane] = np.float32(0.0)
        branch[1, lane] = second
        branch[2, lane] = first
        branch[3, lane] = first + second


@njit(cache=True, nogil=True, error_model="numpy")
def _normalise(metric: NDArray[np.float32], largest: NDArray[np.float32]) -> None:
    for lane in range(LANES):
        largest[lane] = metric[0, lane]
    for state in range(1, _STATES):
        for lane in range(LANES):
            largest[lane] = max(largest[lane], metric[state, lane])
    for state in range(_STATES):
        for lane in range(LANES):
            metric[state, lane] -= largest[lane]


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy")
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
