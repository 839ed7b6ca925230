"""Demapper kernels in NumPy: whole arrays at a time, no checks.

Each takes metrics of amplitudes or points and returns LLRs, not clipped.  Sums over levels go level by level,
never through BLAS, so that a symbol's LLRs do not depend on how many are demapped at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from twophase.link.bits import indices_to_bits
from twophase.link.constellation import Constellation
from twophase.link.demap_inputs import Observation

__all__ = ["any_constellation", "separable"]

_BLOCK = 8192  # symbols per pass: sixteen levels of float64 then stay in the cache

_Array = NDArray[Any]


def separable(observed: Observation, constellation: Constellation, exact: bool) -> _Array:
    """LLRs of a square QAM, (symbols, bits_per_symbol), one axis at a time."""
    coordinates, amplitudes = observed.ratios()
    axis_llr = _maxlog_axis if not exact else _exact_axis if amplitudes.dtype == np.float64 else _exact_groups
    levels = constellation.axis_levels[:, np.newaxis].astype(amplitudes.dtype)
    is_one = constellation.axis_labels.T.astype(bool)
    prior = None if observed.prior is None else observed.prior.reshape(-1, constellation.bits_per_symbol)
    llr = np.empty((amplitudes.size, constellation.bits_per_symbol), dtype=amplitudes.dtype)
    for start in range(0, amplitudes.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        amplitude = amplitudes[block]
        for axis, coordinate in enumerate(coordinates):
            # -(y - |h| a)^2 / N0 without its y^2 / N0, which is common to all levels a: far from the
            # constellation that term would swallow the differences.
            slope = 2 * amplitude * coordinate[block]
            metric = slope * levels - (amplitude * levels) ** 2
            if prior is not None:
                for ones, known in zip(is_one, prior[block, axis::2].T, strict=True):
                    metric[ones] += known
            llr[block, axis::2] = axis_llr(metric, is_one).T
    return llr


def any_constellation(observed: Observation, points: _Array) -> _Array:
    """Exact LLRs of any labelled points, (symbols, log2 M), by log-sum-exp over all of them."""
    y, n0, h = (array.reshape(-1, 1) for array in (observed.received, observed.noise_var, observed.gain))
    metric = -(np.abs(y - h * points) ** 2) / n0
    width = points.size.bit_length() - 1
    bits = indices_to_bits(np.arange(points.size), width).astype(bool)
    if observed.prior is not None:
        for is_one, known in zip(bits.T, observed.prior.reshape(-1, width).T, strict=True):
            metric[:, is_one] += known[:, np.newaxis]
    llr = np.empty((y.size, width))
    for position, is_one in enumerate(bits.T):
        ones = np.logaddexp.reduce(metric[:, is_one], axis=-1)
        zeros = np.logaddexp.reduce(metric[:, ~is_one], axis=-1)
        llr[:, position] = ones - zeros
    return llr


def _exact_axis(metric: _Array, is_one: NDArray[np.bool_]) -> _Array:
    """(L, n) float64 metrics to (bits, n) LLRs.

    One maximum per symbol serves all bits: the group without it may underflow, but only where |LLR| is beyond
    ``MAX_CLIP``, so that the floor put under the logarithm is never seen.
    """
    weights = np.exp(metric - metric.max(axis=0))
    ones = np.stack([_row_sum(weights[group]) for group in is_one])
    zeros = np.stack([_row_sum(weights[~group]) for group in is_one])
    floor = np.finfo(np.float64).tiny
    return np.asarray(np.log(np.maximum(ones, floor)) - np.log(np.maximum(zeros, floor)))


def _exact_groups(metric: _Array, is_one: NDArray[np.bool_]) -> _Array:
    """(L, n) float32 metrics to (bits, n) LLRs: each group from its own maximum.

    In single precision the weaker group would underflow at |LLR| = 87, below the usual clip.  Max-log alone
    is no stand-in there: it is off by up to ln 2 wherever a group has two equally near members.
    """
    return np.stack([_log_sum(metric[group]) - _log_sum(metric[~group]) for group in is_one])


def _log_sum(metric: _Array) -> _Array:
    largest = metric.max(axis=0)
    return np.asarray(largest + np.log(_row_sum(np.exp(metric - largest))))


def _row_sum(weights: _Array) -> _Array:
    """Sum over the first axis, row after row: numpy's own sum takes another order for a single column."""
    total: _Array = weights[0].copy()
    for row in weights[1:]:
        total += row
    return total


def _maxlog_axis(metric: _Array, is_one: NDArray[np.bool_]) -> _Array:
    """(L, n) metrics to (bits, n) max-log LLRs."""
    return np.stack([metric[group].max(axis=0) - metric[~group].max(axis=0) for group in is_one])
