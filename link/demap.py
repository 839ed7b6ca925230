"""Received symbols to log-likelihood ratios and to hard decisions.

The channel is ``received = gain * x + n`` with n complex Gaussian of total variance ``noise_var`` (N0/2 per
real dimension), and the symbols are equally likely unless a ``prior`` says otherwise.  For bit b of a symbol

    LLR_b = log P(b=1|y) - log P(b=0|y)
          = log sum_{x: b=1} P(x) exp(-|y - gain x|^2 / N0) - log sum_{x: b=0} P(x) exp(-|y - gain x|^2 / N0)

(Caire, Taricco and Biglieri, "Bit-interleaved coded modulation", IEEE Trans. Inf. Theory 44(3), 1998), or
with each sum replaced by its largest term: max-log.  Positive means 1.  A square QAM separates: turned by the
phase of the gain, each axis is an amplitude modulation of sqrt(M) levels, and the sum over the other axis
cancels.

Every LLR function takes ``kernel="numpy"`` or ``"numba"``, the latter where numba is installed (the ``sim``
extra; compiled at the first call and cached).  Both give the same LLRs but for rounding, which is that of
the metrics whose difference an LLR is: in float64 at most 1e-10 of max(1, |LLR|) up to an Es/N0 of 40 dB, and
some 1e-15 of Es/N0 on decision boundaries above; in float32 some 1e-6 of Es/N0 there.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from twophase.link.bits import indices_to_bits, symbols_to_bits
from twophase.link.constellation import Constellation
from twophase.link.demap_inputs import (
    MAX_CLIP,
    Observation,
    as_complex,
    check_clip,
    check_dtype,
    observe,
    turn,
)
from twophase.link.errors import InputError

__all__ = [
    "LLR_CLIP",
    "MAX_CLIP",
    "KernelName",
    "available_kernels",
    "hard_decisions",
    "llr_bruteforce",
    "llr_exact",
    "llr_hard",
    "llr_maxlog",
]

LLR_CLIP = 100.0
"""Bound on |LLR|: the decision is then certain to one part in 10^43."""

KernelName = Literal["numpy", "numba"]

_BLOCK = 8192  # symbols per pass in NumPy: sixteen levels of float64 then stay in the cache

_Array = NDArray[Any]


@cache
def available_kernels() -> tuple[KernelName, ...]:
    """Kernels that can be asked for here: ``("numpy", "numba")``, the latter only if numba is installed.

    It is looked for and not imported, which takes long: an installed numba that is broken shows at its use.
    """
    return ("numpy",) if find_spec("numba") is None else ("numpy", "numba")


def llr_exact(
    received: ArrayLike,
    constellation: Constellation,
    noise_var: ArrayLike,
    gain: ArrayLike = 1.0,
    clip: float = LLR_CLIP,
    prior: ArrayLike | None = None,
    kernel: str = "numpy",
    dtype: DTypeLike = np.float64,
) -> NDArray[Any]:
    """Exact LLRs of a square QAM, one axis at a time: always finite, shape (..., n * bits_per_symbol).

    The bits of a symbol stand side by side, MSB first.

    Parameters
    ----------
    received
        Complex, shape (..., n).
    constellation
        What was sent.
    noise_var
        N0, total complex variance of each symbol's noise; broadcasts to ``received``.
    gain
        Complex channel gain of each symbol; broadcasts to ``received``.  Where it is zero, LLRs are zero, or
        the prior's.
    clip
        LLRs are held within -clip..clip; at most ``MAX_CLIP``.
    prior
        A-priori LLRs of the bits, broadcast to the shape of the result, as a decoder gives them; held within
        -MAX_CLIP..MAX_CLIP.  The result is then the A-POSTERIORI LLR, prior included: subtract the prior for
        what the channel adds (the extrinsic LLR).
    kernel
        ``"numpy"`` or ``"numba"``.
    dtype
        float64, or float32 for a result in single precision; a complex64 ``received`` is then taken as it is.
        Arithmetic is single, too, but for the sums of the numba kernels' exact LLRs and for priors there.

    Raises
    ------
    InputError
        If a value is not finite, ``noise_var`` is not positive, a shape does not broadcast, ``clip`` is out
        of range, the kernel is not available or ``dtype`` is another.
    """
    return _separable(received, constellation, noise_var, gain, clip, prior, kernel, dtype, exact=True)


def llr_maxlog(
    received: ArrayLike,
    constellation: Constellation,
    noise_var: ArrayLike,
    gain: ArrayLike = 1.0,
    clip: float = LLR_CLIP,
    prior: ArrayLike | None = None,
    kernel: str = "numpy",
    dtype: DTypeLike = np.float64,
) -> NDArray[Any]:
    """Max-log LLRs of a square QAM; arguments, shapes and errors of :func:`llr_exact`."""
    return _separable(received, constellation, noise_var, gain, clip, prior, kernel, dtype, exact=False)


def llr_hard(
    received: ArrayLike,
    constellation: Constellation,
    noise_var: ArrayLike,
    gain: ArrayLike = 1.0,
    clip: float = LLR_CLIP,
    kernel: str = "numpy",
    dtype: DTypeLike = np.float64,
) -> NDArray[Any]:
    """Hard decisions as LLRs: +clip or -clip by the bits of the nearest point, 0 where the gain is zero.

    Arguments, shapes and errors of :func:`llr_exact`; the noise variance is checked and changes nothing.
    Both kernels decide alike.
    """
    check_clip(clip)
    _check_kernel(kernel)
    precision = check_dtype(dtype)
    observed = observe(received, noise_var, gain)
    bits = symbols_to_bits(
        _nearest(observed.received, observed.gain, constellation), constellation.bits_per_symbol
    )
    llr = np.where(bits == 1, clip, -clip).astype(precision)
    missing = turn(observed.received, observed.gain)[1] == 0
    llr[np.repeat(missing, constellation.bits_per_symbol, axis=-1)] = 0
    return llr


def llr_bruteforce(
    received: ArrayLike,
    points: ArrayLike,
    noise_var: ArrayLike,
    gain: ArrayLike = 1.0,
    clip: float = LLR_CLIP,
    prior: ArrayLike | None = None,
    kernel: str = "numpy",
) -> NDArray[Any]:
    """Exact LLRs of ANY constellation by log-sum-exp over all its points: the slow, obvious twin.

    float64, shape (..., n * log2 M).

    Parameters
    ----------
    points
        Complex, shape (M,), M a power of two from 2; ``points[i]`` carries the bits of i, MSB first.
    received, noise_var, gain, clip, prior, kernel
        As in :func:`llr_exact`.

    Raises
    ------
    InputError
        As in :func:`llr_exact`, or if ``points`` has another shape.
    """
    check_clip(clip)
    _check_kernel(kernel)
    candidates = as_complex("points", points).astype(np.complex128, copy=False)
    size = candidates.size
    if candidates.ndim != 1 or size < 2 or size & (size - 1):
        raise InputError("points", "hold a power of two of points", f"shape {candidates.shape}")
    width = size.bit_length() - 1
    observed = observe(received, noise_var, gain, prior, width)
    if kernel == "numba":
        from twophase.link import demap_compiled

        llr = demap_compiled.brute_force(observed, candidates, clip)
    else:
        llr = _by_points(observed, candidates)
    return _shaped(llr, clip, observed.received.shape, width)


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
    observed = observe(received, 1.0, gain)
    return _nearest(observed.received, observed.gain, constellation)


def _nearest(received: NDArray[Any], gain: NDArray[Any], constellation: Constellation) -> NDArray[np.int64]:
    axes, magnitude = turn(received, gain)
    boundaries = (constellation.axis_levels[1:] + constellation.axis_levels[:-1]) / 2
    width = constellation.bits_per_symbol
    numbers = np.zeros(received.shape, dtype=np.int64)
    for axis, coordinate in enumerate(axes):
        level = np.zeros(received.shape, dtype=np.int64)
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
    prior: ArrayLike | None,
    kernel: str,
    dtype: DTypeLike,
    exact: bool,
) -> NDArray[Any]:
    check_clip(clip)
    _check_kernel(kernel)
    precision = check_dtype(dtype)
    if kernel == "numba":
        from twophase.link import demap_compiled

        return demap_compiled.separable(
            received, constellation, noise_var, gain, clip, prior, precision, exact
        )
    width = constellation.bits_per_symbol
    observed = observe(received, noise_var, gain, prior, width, precision)
    return _shaped(_by_axes(observed, constellation, exact), clip, observed.received.shape, width)


def _shaped(llr: NDArray[Any], clip: float, shape: tuple[int, ...], width: int) -> NDArray[Any]:
    """(symbols, width) LLRs clipped, as (..., n * width)."""
    return np.clip(llr, -clip, clip, out=llr).reshape(*shape[:-1], shape[-1] * width)


def _check_kernel(kernel: str) -> None:
    if kernel not in available_kernels():
        rule = " or ".join(repr(name) for name in available_kernels())
        hint = "" if "numba" in available_kernels() else " (numba is not installed: pip install numba)"
        raise InputError("kernel", f"be {rule}{hint}", kernel)


def _by_axes(observed: Observation, constellation: Constellation, exact: bool) -> _Array:
    """LLRs of a square QAM, (symbols, bits_per_symbol), not clipped, one axis at a time.

    Sums over levels go level by level, never through BLAS, so that a symbol's LLRs do not depend on how many
    are demapped at once.
    """
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


def _by_points(observed: Observation, points: _Array) -> _Array:
    """Exact LLRs of any labelled points, (symbols, log2 M), not clipped, by log-sum-exp over all of them."""
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
