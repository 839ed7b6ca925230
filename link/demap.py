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

import twophase.link.demap_numpy as demap_numpy
from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import Constellation
from twophase.link.demap_inputs import MAX_CLIP, as_complex, check_clip, check_dtype, observe, turn
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

_Floats = NDArray[np.floating[Any]]


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

    Returns
    -------
    NDArray
        Shape (..., n * bits_per_symbol), the bits of a symbol side by side, MSB first; always finite.

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

    Parameters
    ----------
    points
        Complex, shape (M,), M a power of two from 2; ``points[i]`` carries the bits of i, MSB first.
    received, noise_var, gain, clip, prior, kernel
        As in :func:`llr_exact`.

    Returns
    -------
    NDArray
        float64, shape (..., n * log2 M).

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
        llr = demap_numpy.any_constellation(observed, candidates)
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
    return _shaped(
        demap_numpy.separable(observed, constellation, exact), clip, observed.received.shape, width
    )


def _shaped(llr: NDArray[Any], clip: float, shape: tuple[int, ...], width: int) -> NDArray[Any]:
    """(symbols, width) LLRs clipped, as (..., n * width)."""
    return np.clip(llr, -clip, clip, out=llr).reshape(*shape[:-1], shape[-1] * width)


def _check_kernel(kernel: str) -> None:
    if kernel not in available_kernels():
        rule = " or ".join(repr(name) for name in available_kernels())
        hint = "" if "numba" in available_kernels() else " (numba is not installed: pip install numba)"
        raise InputError("kernel", f"be {rule}{hint}", kernel)
