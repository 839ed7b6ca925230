"""From checked or checkable arrays to the numba kernels; imports numba, so :mod:`demap` imports it late.

The kernels look for infinities themselves, which costs little there; only what they refuse, or cannot take
as it is, goes through :func:`twophase.link.demap_inputs.observe`, which converts or names what is wrong.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.constellation import Constellation, qam
from twophase.link.demap_inputs import BOUNDS, Observation, observe
from twophase.link.demap_kernels import any_constellation, exact_axes, general_axes, maxlog_axes

__all__ = ["brute_force", "separable"]

_Array = NDArray[Any]

_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


def _limits(precision: np.dtype[Any]) -> tuple[Any, ...]:
    """Bounds as the kernels take them: of magnitudes, their inverse, of ratios, and what is still finite."""
    huge, ratio = BOUNDS[precision]
    return tuple(precision.type(value) for value in (huge, 1 / huge, ratio, np.finfo(precision.name).max))


_LIMITS = {precision: _limits(precision) for precision in (_SINGLE, _DOUBLE)}
_NO_PRIOR = {precision: np.empty(0, precision) for precision in (_SINGLE, _DOUBLE)}


def separable(
    received: ArrayLike,
    constellation: Constellation,
    noise_var: ArrayLike,
    gain: ArrayLike,
    clip: float,
    prior: ArrayLike | None,
    precision: np.dtype[Any],
    exact: bool,
) -> _Array:
    """LLRs of a square QAM, (..., n * bits_per_symbol), clipped; as :func:`twophase.link.demap.llr_exact`."""
    width = constellation.bits_per_symbol
    known = _NO_PRIOR[precision]
    arrays = None if prior is not None else _as_they_are(received, noise_var, gain, precision)
    if arrays is None:
        observed = observe(received, noise_var, gain, prior, width, precision)
        arrays = observed.received, observed.noise_var, observed.gain
        known = known if observed.prior is None else observed.prior.ravel()
    y, n0, h = arrays
    llr = np.empty((*y.shape[:-1], y.shape[-1] * width), dtype=precision)
    out, half = llr.reshape(-1), constellation.axis_levels.size // 2
    standard = _is_standard(constellation) and not known.size
    # Exact sums are double in either case: single precision would lose the weaker group of a bit at |LLR| 87.
    # In QPSK a bit has one amplitude for 0 and one for 1, so that max-log is exact.
    fast = standard and not (exact and half > 1)
    levels, is_one = _tables(constellation, precision if fast else _DOUBLE)
    given = _parts(y), _writable(n0), _parts(h), _LIMITS[levels.dtype]
    bound = levels.dtype.type(clip)
    if fast:
        wrong = maxlog_axes(given, levels[half:], bound, out)
    elif standard:
        wrong = exact_axes(given, levels[half:], is_one[half:], bound, out)
    else:
        wrong = general_axes(given, known, levels, is_one, exact, bound, out)
    if wrong:
        observe(received, noise_var, gain, prior, width, precision)  # raises, naming what is wrong
        raise AssertionError("a kernel refused what the checks accept")
    return llr


def brute_force(observed: Observation, points: _Array, clip: float) -> _Array:
    """Exact LLRs of any labelled points, (symbols, log2 M), clipped; float64."""
    width = points.size.bit_length() - 1
    llr = np.empty((observed.received.size, width))
    known = np.empty((0, width)) if observed.prior is None else observed.prior.reshape(-1, width)
    y, h, x = (_parts(array).reshape(-1, 2) for array in (observed.received, observed.gain, points))
    any_constellation(y, _writable(observed.noise_var), h, known, x, clip, llr)
    return llr


@lru_cache(maxsize=64)
def _is_standard(constellation: Constellation) -> bool:
    """Whether it is TS 38.211's, on whose symmetries the fast kernels rest."""
    standard = qam(constellation.order)
    return np.array_equal(constellation.axis_labels, standard.axis_labels) and np.array_equal(
        constellation.axis_levels, standard.axis_levels
    )


@lru_cache(maxsize=64)
def _tables(constellation: Constellation, precision: np.dtype[Any]) -> tuple[_Array, NDArray[np.uint8]]:
    """Amplitudes of an axis, ascending, (L,), and their bits, (L, bits of an axis)."""
    return constellation.axis_levels.astype(precision), constellation.axis_labels.astype(np.uint8)


def _as_they_are(
    received: ArrayLike, noise_var: ArrayLike, gain: ArrayLike, precision: np.dtype[Any]
) -> tuple[_Array, _Array, _Array] | None:
    """Received, N0 and gain unchecked but fit for the kernels; None if they are not of their types or shapes.

    N0 and gain have one element, or as many as there are symbols.
    """
    y, n0, h = np.asarray(received), np.asarray(noise_var), np.asarray(gain)
    if y.dtype != np.result_type(precision, np.complex64) or y.ndim == 0 or y.size == 0:
        return None
    huge, _ = BOUNDS[precision]
    if n0.size == 1:
        if n0.dtype.kind not in "iuf" or n0.ndim > y.ndim or not 0 < n0.item() < np.inf:
            return None
        n0 = np.array([min(max(n0.item(), 1 / huge), huge)], dtype=precision)
    if h.size == 1:
        value = h.item()
        if h.dtype.kind not in "iufc" or h.ndim > y.ndim or not abs(value.real) + abs(value.imag) < huge:
            return None
        h = np.array([value], dtype=y.dtype)
    if n0.dtype != precision or h.dtype != y.dtype:
        return None
    try:
        return y, _widened(n0, y.shape), _widened(h, y.shape)
    except ValueError:
        return None


def _widened(values: _Array, shape: tuple[int, ...]) -> _Array:
    return values if values.size == 1 or values.shape == shape else np.broadcast_to(values, shape)


def _parts(values: _Array) -> _Array:
    """Real and imaginary parts of a complex array side by side, (2 * size,)."""
    flat = _writable(values)
    return flat.view(flat.real.dtype)


def _writable(values: _Array) -> _Array:
    """Flat and contiguous; a copy only if need be.  For read-only arrays numba would compile all again."""
    return np.require(values.reshape(-1), requirements=["C", "W"])
