"""Es/N0, Eb/N0 and N0, and grids of Es/N0 points.

Everything on an axis or in an argument is Es/N0 in dB.  ``noise_var`` is N0 = E|n|^2, the TOTAL variance of
the complex noise: N0/2 in each real dimension.

    Es/N0 = symbol_energy / noise_var          Eb/N0 = Es/N0 / (information bits per symbol)
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.bits import as_array
from twophase.link.errors import InputError

__all__ = [
    "MAX_ESN0_DB",
    "MAX_SNR_POINTS",
    "ebn0_db_to_esn0_db",
    "esn0_db_to_ebn0_db",
    "esn0_db_to_noise_var",
    "esn0_float32",
    "is_float32",
    "noise_var_to_esn0_db",
    "positive",
    "snr_grid",
]

MAX_ESN0_DB = 100.0
"""Largest |Es/N0| in dB of a point of :func:`snr_grid`; beyond it float64 holds only rounding."""
MAX_SNR_POINTS = 10_000
"""Longest grid that :func:`snr_grid` makes; more is a typing error, not a measurement."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})(?:[eE][+-]?[0-9]{1,2})?")
_GRID_RULE = "be START:STOP or START:STEP:STOP with START <= STOP and STEP > 0"
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def esn0_db_to_noise_var(esn0_db: ArrayLike, symbol_energy: ArrayLike = 1.0) -> NDArray[np.float64]:
    """N0 that gives the stated Es/N0: ``symbol_energy * 10**(-esn0_db / 10)``, in the broadcast shape.

    Parameters
    ----------
    esn0_db
        Es/N0 in dB, any shape.
    symbol_energy
        Es = E|x|^2 of the transmitted stream, linear; broadcasts against ``esn0_db``.

    Raises
    ------
    InputError
        If an argument is not finite, the energy is not positive, or N0 leaves the range of float64.
    """
    ratio_db = _finite("esn0_db", esn0_db)
    energy = positive("symbol_energy", symbol_energy)
    with np.errstate(over="ignore", under="ignore"):
        noise_var = np.asarray(energy * 10.0 ** (-ratio_db / 10.0), dtype=np.float64)
    if not (np.isfinite(noise_var).all() and (noise_var > 0).all()):
        raise InputError("esn0_db", "give a noise variance that float64 can hold", _shown(ratio_db))
    return noise_var


def noise_var_to_esn0_db(noise_var: ArrayLike, symbol_energy: ArrayLike = 1.0) -> NDArray[np.float64]:
    """Es/N0 in dB of a stream of the stated energy in noise of the stated total complex variance.

    The inverse of :func:`esn0_db_to_noise_var`; same shapes.

    Raises
    ------
    InputError
        If an argument is not finite and positive.
    """
    energy = positive("symbol_energy", symbol_energy)
    variance = positive("noise_var", noise_var)
    return np.asarray(10.0 * (np.log10(energy) - np.log10(variance)), dtype=np.float64)


def esn0_db_to_ebn0_db(esn0_db: ArrayLike, bits_per_symbol: ArrayLike) -> NDArray[np.float64]:
    """Eb/N0 in dB: the symbol's energy shared among the information bits that it carries.

    Parameters
    ----------
    esn0_db
        Es/N0 in dB, any shape.
    bits_per_symbol
        INFORMATION bits per channel use, not the constellation's: padding and headers lower it, and it may
        be fractional.

    Raises
    ------
    InputError
        If an argument is not finite or ``bits_per_symbol`` is not positive.
    """
    ratio_db = _finite("esn0_db", esn0_db)
    return np.asarray(
        ratio_db - 10.0 * np.log10(positive("bits_per_symbol", bits_per_symbol)), dtype=np.float64
    )


def ebn0_db_to_esn0_db(ebn0_db: ArrayLike, bits_per_symbol: ArrayLike) -> NDArray[np.float64]:
    """Es/N0 in dB; the inverse of :func:`esn0_db_to_ebn0_db`, same shapes and errors."""
    ratio_db = _finite("ebn0_db", ebn0_db)
    return np.asarray(
        ratio_db + 10.0 * np.log10(positive("bits_per_symbol", bits_per_symbol)), dtype=np.float64
    )


def esn0_float32(snr_db: ArrayLike) -> NDArray[np.float32]:
    """Es/N0 in dB as the graphs take it, same shape.

    Whatever follows from an SNR, a mode or the code of a header, compares this float32 value, so that the
    host and the graph never differ on a threshold.

    Raises
    ------
    InputError
        If a value is no real number or not finite as float32.
    """
    array = as_array("snr_db", snr_db)
    if array.dtype.kind not in "iuf":
        raise InputError("snr_db", "be real numbers", f"an array of {array.dtype}")
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if not np.isfinite(single).all():
        raise InputError("snr_db", "be finite", "NaN or infinity")
    return single


def is_float32(value: float) -> bool:
    """Whether a number is a finite int or float, as JSON has them, that float32 holds exactly."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _FLOAT32_MAX:
        return False
    return float(np.float32(value)) == value


def snr_grid(text: str) -> NDArray[np.float64]:
    """Es/N0 points in dB, ascending, of ``START:STOP`` (step 1), ``START:STEP:STOP`` or one number.

    STOP is included if it is a whole number of steps from START; otherwise the last point lies below it.  The
    text is read as exact decimals, so ``0:0.1:1`` has 11 points and ends in 1.

    Raises
    ------
    InputError
        If the text is empty, reversed, not made of finite numbers, has a step beyond its range (as
        ``START:STOP:STEP`` often has), makes more than ``MAX_SNR_POINTS``, or leaves
        -``MAX_ESN0_DB``..``MAX_ESN0_DB``.

    Examples
    --------
    >>> snr_grid("-5:2.5:5").tolist()
    [-5.0, -2.5, 0.0, 2.5, 5.0]
    >>> len(snr_grid("0:20"))
    21
    """
    from fractions import Fraction  # not for an edge process

    parts = text.strip().split(":")
    if len(parts) > 3 or not all(_NUMBER.fullmatch(part.strip()) for part in parts):
        raise InputError("snr", _GRID_RULE, text)
    numbers = [Fraction(part.strip()) for part in parts]
    start, stop = numbers[0], numbers[-1]
    step = numbers[1] if len(numbers) == 3 else Fraction(1)
    if len(numbers) == 3 and start < step and step > stop - start and 0 < stop <= step - start:
        meant = ":".join(parts[place].strip() for place in (0, 2, 1))
        raise InputError("snr", f"be START:STEP:STOP, perhaps {meant}", text)
    if start > stop or step <= 0:
        raise InputError("snr", _GRID_RULE, text)
    steps = int((stop - start) / step + Fraction(1, 10**9))
    if steps == 0 and start < stop:
        raise InputError("snr", "be START:STEP:STOP with STEP <= STOP - START", text)
    if steps >= MAX_SNR_POINTS:
        raise InputError("snr", f"hold at most {MAX_SNR_POINTS:,} points", text)
    if max(abs(start), abs(stop)) > MAX_ESN0_DB:
        raise InputError("snr", f"stay within -{MAX_ESN0_DB:g} to {MAX_ESN0_DB:g} dB", text)
    return np.array([float(min(start + count * step, stop)) for count in range(steps + 1)])


def _finite(name: str, value: ArrayLike) -> NDArray[np.float64]:
    try:
        array = np.asarray(value)
        if array.dtype.kind == "c":
            raise InputError(name, "be real", f"an array of {array.dtype}")
        array = array.astype(np.float64)
    except InputError:
        raise
    except (TypeError, ValueError):
        raise InputError(name, "be numeric", value) from None
    if not np.isfinite(array).all():
        raise InputError(name, "be finite", _shown(array))
    return array


def positive(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """``value`` as float64, same shape; :class:`InputError` unless real, finite and above 0."""
    array = _finite(name, value)
    if not (array > 0).all():
        raise InputError(name, "be positive", _shown(array))
    return array


def _shown(array: NDArray[np.float64]) -> object:
    return array.item() if array.ndim == 0 else f"an array of shape {array.shape}"
