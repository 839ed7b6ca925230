"""Received symbols to log-likelihood ratios and to hard decisions.

The channel is ``received = gain * x + n`` with n complex Gaussian of total variance ``noise_var`` (N0/2 per
real dimension), and the symbols are equally likely.  For bit b of a symbol

    LLR_b = log P(b=1|y) - log P(b=0|y)
          = log sum_{x: b=1} exp(-|y - gain x|^2 / N0) - log sum_{x: b=0} exp(-|y - gain x|^2 / N0)

(Caire, Taricco and Biglieri, "Bit-interleaved coded modulation", IEEE Trans. Inf. Theory 44(3), 1998), or
with each sum replaced by its largest term: max-log.  Positive means 1.  A square QAM separates: turned by the
phase of the gain, each axis is an amplitude modulation of sqrt(M) levels, and the sum over the other axis
cancels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.bits import indices_to_bits
from twophase.link.constellation import Constellation
from twophase.link.errors import InputError

__all__ = ["LLR_CLIP", "MAX_CLIP", "hard_decisions", "llr_bruteforce", "llr_exact", "llr_maxlog"]

LLR_CLIP = 100.0
"""Bound on |LLR|: the decision is then certain to one part in 10^43."""

MAX_CLIP = 600.0
"""Largest bound that may be asked for: exp(-600) is still an ordinary float64."""

# Magnitudes are held to at most 1e100 and N0 to at least 1e-100, and a gain below 1e-100 counts as none: no
# product below can then overflow, and no physical input is near either bound.
_HUGE = 1e100
_BLOCK = 8192  # symbols per pass: sixteen levels of float64 then stay in the cache

_Float = NDArray[np.float64]
Number = TypeVar("Number", bound=np.generic)


def llr_exact(
    received: ArrayLike,
    constellation: Constellation,
    noise_var: ArrayLike,
    gain: ArrayLike = 1.0,
    clip: float = LLR_CLIP,
) -> _Float:
    """Exact LLRs of a square QAM, one axis at a time.

    Parameters
    ----------
    received
        Complex, shape (..., n).
    constellation
        What was sent.
    noise_var
        N0, total complex variance of each symbol's noise; broadcasts to ``received``.
    gain
        Complex channel gain of each symbol; broadcasts to ``received``.  Where it is zero, LLRs are zero.
    clip
        LLRs are held within -clip..clip; at most ``MAX_CLIP``.

    Returns
    -------
    NDArray
        Shape (..., n * bits_per_symbol), the bits of a symbol side by side, MSB first; always finite.

    Raises
    ------
    InputError
        If a value is not finite, ``noise_var`` is not positive, a shape does not broadcast or ``clip`` is out
        of range.
    """
    return _separable(received, constellation, noise_var, gain, clip, _exact_axis)


def llr_maxlog(
    received: ArrayLike,
    constellation: Constellation,
    noise_var: ArrayLike,
    gain: ArrayLike = 1.0,
    clip: float = LLR_CLIP,
) -> _Float:
    """Max-log LLRs of a square QAM; arguments, shapes and errors of :func:`llr_exact`."""
    return _separable(received, constellation, noise_var, gain, clip, _maxlog_axis)


def llr_bruteforce(
    received: ArrayLike,
    points: ArrayLike,
    noise_var: ArrayLike,
    gain: ArrayLike = 1.0,
    clip: float = LLR_CLIP,
) -> _Float:
    """Exact LLRs of ANY constellation by log-sum-exp over all its points: the slow, obvious twin.

    Parameters
    ----------
    points
        Complex, shape (M,), M a power of two from 2; ``points[i]`` carries the bits of i, MSB first.
    received, noise_var, gain, clip
        As in :func:`llr_exact`.

    Returns
    -------
    NDArray
        Shape (..., n * log2 M).

    Raises
    ------
    InputError
        As in :func:`llr_exact`, or if ``points`` has another shape.
    """
    candidates = _complex("points", points)
    size = candidates.size
    if candidates.ndim != 1 or size < 2 or size & (size - 1):
        raise InputError("points", "hold a power of two of points", f"shape {candidates.shape}")
    y, n0, h = _validated(received, noise_var, gain, clip)
    metric = -(np.abs(y[..., np.newaxis] - h[..., np.newaxis] * candidates) ** 2) / n0[..., np.newaxis]
    bits = indices_to_bits(np.arange(size), size.bit_length() - 1).astype(bool)
    llr = np.empty((*y.shape, bits.shape[1]))
    for position, is_one in enumerate(bits.T):
        ones = np.logaddexp.reduce(metric[..., is_one], axis=-1)
        zeros = np.logaddexp.reduce(metric[..., ~is_one], axis=-1)
        llr[..., position] = ones - zeros
    return np.clip(llr, -clip, clip).reshape(*y.shape[:-1], y.shape[-1] * bits.shape[1])


def hard_decisions(
    received: ArrayLike, constellation: Constellation, gain: ArrayLike = 1.0
) -> NDArray[np.int64]:
    """Return the number of the point whose faded image is nearest to each received symbol; same shape.

    On a decision boundary the lower amplitude wins.

    Raises
    ------
    InputError
        If a value is not finite or a shape does not broadcast.
    """
    y, _, h = _validated(received, 1.0, gain, LLR_CLIP)
    axes, magnitude = _turned(y, h)
    boundaries = (constellation.axis_levels[1:] + constellation.axis_levels[:-1]) / 2
    width = constellation.bits_per_symbol
    numbers = np.zeros(y.shape, dtype=np.int64)
    for axis, coordinate in enumerate(axes):
        level = np.zeros(y.shape, dtype=np.int64)
        for boundary in boundaries:
            level += coordinate > magnitude * boundary
        place_values = np.int64(1) << np.arange(width - 1 - axis, -1, -2, dtype=np.int64)
        numbers += (constellation.axis_labels.astype(np.int64) @ place_values)[level]
    return numbers


def _separable(
    received: ArrayLike,
    constellation: Constellation,
    noise_var: ArrayLike,
    gain: ArrayLike,
    clip: float,
    axis_llr: Callable[[_Float, NDArray[np.bool_]], _Float],
) -> _Float:
    y, n0, h = _validated(received, noise_var, gain, clip)
    axes, magnitude = _turned(y.ravel(), h.ravel())
    deviation = np.sqrt(n0.ravel())
    levels = constellation.axis_levels[:, np.newaxis]
    is_one = constellation.axis_labels.T.astype(bool)
    llr = np.empty((y.size, constellation.bits_per_symbol))
    for start in range(0, y.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        amplitude = magnitude[block] / deviation[block]
        for axis, coordinate in enumerate(axes):
            # -(y - |h| a)^2 / N0 without its y^2 / N0, which is common to all levels a: far from the
            # constellation that term would swallow the differences.
            slope = 2.0 * amplitude * (coordinate[block] / deviation[block])
            metric = slope * levels - (amplitude * levels) ** 2
            llr[block, axis::2] = axis_llr(metric, is_one).T
    return np.clip(llr, -clip, clip).reshape(*y.shape[:-1], y.shape[-1] * constellation.bits_per_symbol)


def _exact_axis(metric: _Float, is_one: NDArray[np.bool_]) -> _Float:
    """(L, n) metrics to (bits, n) LLRs, not clipped.

    One maximum per symbol serves all bits: the group without it may underflow, but only where |LLR| is beyond
    ``MAX_CLIP``, so that the floor put under the logarithm is never seen.
    """
    weights = np.exp(metric - metric.max(axis=0))
    ones = np.stack([weights[group].sum(axis=0) for group in is_one])
    zeros = np.stack([weights[~group].sum(axis=0) for group in is_one])
    floor = np.finfo(np.float64).tiny
    return np.asarray(np.log(np.maximum(ones, floor)) - np.log(np.maximum(zeros, floor)))


def _maxlog_axis(metric: _Float, is_one: NDArray[np.bool_]) -> _Float:
    """(L, n) metrics to (bits, n) max-log LLRs, not clipped."""
    return np.stack([metric[group].max(axis=0) - metric[~group].max(axis=0) for group in is_one])


def _turned(
    received: NDArray[np.complex128], gain: NDArray[np.complex128]
) -> tuple[tuple[_Float, _Float], _Float]:
    """Turn the gain's phase out: both axes of what was received, and |gain|; all zero where the gain is.

    In real arithmetic, because numpy rounds a complex product differently in large arrays (it exchanges the
    factors when it reuses a temporary), and a symbol's LLRs must not depend on how many are demapped at once.
    """
    magnitude = np.abs(gain)
    present = magnitude > 1 / _HUGE
    divisor = np.where(present, magnitude, 1.0)
    cosine = np.where(present, gain.real / divisor, 0.0)
    sine = np.where(present, gain.imag / divisor, 0.0)
    in_phase = received.real * cosine + received.imag * sine
    quadrature = received.imag * cosine - received.real * sine
    return (in_phase, quadrature), np.where(present, magnitude, 0.0)


def _validated(
    received: ArrayLike, noise_var: ArrayLike, gain: ArrayLike, clip: float
) -> tuple[NDArray[np.complex128], _Float, NDArray[np.complex128]]:
    """Arrays of the shape of ``received``, held within a range in which nothing can overflow."""
    if not 0 < clip <= MAX_CLIP:
        raise InputError("clip", f"lie above 0 and at most at {MAX_CLIP:g}", clip)
    y = _complex("received", received)
    if y.ndim == 0:
        raise InputError("received", "have at least one axis", y.item())
    n0 = _real("noise_var", noise_var)
    if not (n0 > 0).all():
        raise InputError("noise_var", "be positive", n0.item() if n0.ndim == 0 else "an array with zeros")
    h = _complex("gain", gain)
    return (
        _held(y),
        np.clip(_broadcast("noise_var", n0, y.shape), 1 / _HUGE, _HUGE),
        _held(_broadcast("gain", h, y.shape)),
    )


def _held(values: NDArray[np.complex128]) -> NDArray[np.complex128]:
    held = np.empty_like(values)
    np.clip(values.real, -_HUGE, _HUGE, out=held.real)
    np.clip(values.imag, -_HUGE, _HUGE, out=held.imag)
    return held


def _complex(name: str, values: ArrayLike) -> NDArray[np.complex128]:
    try:
        array = np.asarray(values, dtype=np.complex128)
    except (TypeError, ValueError):
        raise InputError(name, "be numeric", values) from None
    if not np.isfinite(array).all():
        raise InputError(name, "be finite", "NaN or infinity")
    return array


def _real(name: str, values: ArrayLike) -> _Float:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise InputError(name, "be real numbers", f"an array of {array.dtype}")
    if not np.isfinite(array).all():
        raise InputError(name, "be finite", "NaN or infinity")
    return array.astype(np.float64)


def _broadcast(name: str, array: NDArray[Number], shape: tuple[int, ...]) -> NDArray[Number]:
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise InputError(name, f"broadcast to the shape {shape} of 'received'", array.shape) from None
