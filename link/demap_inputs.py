"""What a demapper is given: checked, broadcast and held within a range in which nothing overflows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from twophase.link.bits import as_array
from twophase.link.errors import InputError

__all__ = ["BOUNDS", "MAX_CLIP", "Observation", "as_complex", "check_clip", "check_dtype", "observe", "turn"]

MAX_CLIP = 600.0
"""Largest bound that may be asked for: exp(-600) is still an ordinary float64."""

BOUNDS = {np.dtype(np.float64): (1e100, 1e150), np.dtype(np.float32): (1e30, 1e15)}
"""What is not to overflow: bounds of every magnitude, and of amplitudes over the noise's deviation.

Magnitudes are held to at most the first, N0 to at least its inverse as well, and a gain below its inverse
counts as none; no physical input is near.  The second is 300 dB of Es/N0 in single precision.
"""

Number = TypeVar("Number", bound=np.generic)
_Array = NDArray[Any]


@dataclass(frozen=True)
class Observation:
    """Symbols as received, all arrays of one shape (..., n) and of one precision."""

    received: _Array
    """Complex."""
    noise_var: _Array
    """N0, real, positive."""
    gain: _Array
    """Complex."""
    prior: _Array | None
    """A-priori LLRs, (..., n, bits_per_symbol); None where every bit is as likely 0 as 1."""

    def ratios(self) -> tuple[_Array, _Array]:
        """Both axes over the noise's deviation, (2, symbols), and |gain| over it, (symbols,).

        The gain's phase is turned out; where the gain is zero, so are all of them.
        """
        axes, magnitude = turn(self.received.ravel(), self.gain.ravel())
        deviation = np.sqrt(self.noise_var.ravel())
        with np.errstate(over="ignore"):  # in single precision only, and held below
            coordinates, amplitude = np.stack(axes) / deviation, magnitude / deviation
        if amplitude.dtype == np.float32:  # in double precision the first bound implies the second
            ratio = BOUNDS[amplitude.dtype][1]
            np.clip(coordinates, -ratio, ratio, out=coordinates)
            np.minimum(amplitude, ratio, out=amplitude)
        return coordinates, amplitude


def observe(
    received: ArrayLike,
    noise_var: ArrayLike,
    gain: ArrayLike,
    prior: ArrayLike | None = None,
    bits_per_symbol: int = 1,
    dtype: DTypeLike = np.float64,
) -> Observation:
    """Check what a demapper is given, broadcast it to ``received`` and hold it within a safe range.

    ``received`` is complex, (..., n); N0 and gain broadcast to it, a-priori LLRs to (..., n *
    bits_per_symbol); ``dtype``, float64 or float32, is the precision of what is returned.

    Raises
    ------
    InputError
        If a value is not finite, ``noise_var`` is not positive, or a type or shape does not fit.
    """
    precision = check_dtype(dtype)
    huge, _ = BOUNDS[precision]
    y = as_complex("received", received)
    if y.ndim == 0:
        raise InputError("received", "have at least one axis", y.item())
    n0 = _real("noise_var", noise_var)
    if not (n0 > 0).all():
        raise InputError("noise_var", "be positive", n0.item() if n0.ndim == 0 else "an array with zeros")
    h = as_complex("gain", gain)
    return Observation(
        _held(y, huge, precision),
        np.clip(_broadcast("noise_var", n0, y.shape), 1 / huge, huge).astype(precision, copy=False),
        _held(_broadcast("gain", h, y.shape), huge, precision),
        None if prior is None else _prior(prior, y.shape, bits_per_symbol, precision),
    )


def check_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return ``dtype`` as float32 or float64; :class:`InputError` if it is another."""
    precision = np.dtype(dtype)
    if precision not in BOUNDS:
        raise InputError("dtype", "be float32 or float64", precision)
    return precision


def check_clip(clip: float) -> None:
    """Raise :class:`InputError` unless 0 < clip <= MAX_CLIP."""
    if not 0 < clip <= MAX_CLIP:
        raise InputError("clip", f"lie above 0 and at most at {MAX_CLIP:g}", clip)


def turn(received: _Array, gain: _Array) -> tuple[tuple[_Array, _Array], _Array]:
    """Turn the gain's phase out: both axes of what was received, and |gain|; all zero where the gain is.

    In real arithmetic, because numpy rounds a complex product differently in large arrays (it exchanges the
    factors when it reuses a temporary), and a symbol's LLRs must not depend on how many are demapped at once.
    """
    magnitude = np.abs(gain)
    present = magnitude > 1 / BOUNDS[magnitude.dtype][0]
    divisor = np.where(present, magnitude, 1)
    cosine = np.where(present, gain.real / divisor, 0)
    sine = np.where(present, gain.imag / divisor, 0)
    in_phase = received.real * cosine + received.imag * sine
    quadrature = received.imag * cosine - received.real * sine
    return (in_phase, quadrature), np.where(present, magnitude, 0)


def as_complex(name: str, values: ArrayLike) -> _Array:
    """``values`` as complex64 where they are, else as complex128; :class:`InputError` unless finite."""
    try:
        array = np.asarray(values)
        if array.dtype != np.complex64:
            array = array.astype(np.complex128, copy=False)
    except (TypeError, ValueError):
        raise InputError(name, "be numeric", values) from None
    if not np.isfinite(array).all():
        raise InputError(name, "be finite", "NaN or infinity")
    return array


def _held(values: _Array, huge: float, precision: np.dtype[Any]) -> _Array:
    if precision == np.float64:  # before the bounds, which single precision does not reach
        values = values.astype(np.complex128, copy=False)
    held = np.empty(values.shape, dtype=np.result_type(precision, np.complex64))
    np.copyto(held.real, np.clip(values.real, -huge, huge), casting="same_kind")
    np.copyto(held.imag, np.clip(values.imag, -huge, huge), casting="same_kind")
    return held


def _prior(prior: ArrayLike, shape: tuple[int, ...], bits: int, precision: np.dtype[Any]) -> _Array:
    # A certainty beyond the largest LLR would only swallow what the channel says of the symbol's other bits.
    wide = (*shape[:-1], shape[-1] * bits)
    array = _broadcast("prior", _real("prior", prior), wide)
    held: _Array = np.clip(array, -MAX_CLIP, MAX_CLIP).astype(precision, copy=False)
    return held.reshape(*shape, bits)


def _real(name: str, values: ArrayLike) -> _Array:
    array = as_array(name, values)
    if array.dtype.kind not in "iuf":
        raise InputError(name, "be real numbers", f"an array of {array.dtype}")
    if not np.isfinite(array).all():
        raise InputError(name, "be finite", "NaN or infinity")
    return array.astype(np.float64, copy=False)


def _broadcast(name: str, array: NDArray[Number], shape: tuple[int, ...]) -> NDArray[Number]:
    try:
        widened: NDArray[Number] = np.broadcast_to(array, shape)
    except ValueError:
        raise InputError(name, f"broadcast to the shape {shape} of 'received'", array.shape) from None
    return widened
