"""What a transmitter does to an input before it is rounded for the first time: part of the artefact.

A transmitter takes features in the units of the user's data.  ``tx.onnx`` computes

    (x - offset) * 2^-exponent

of each, one subtraction and one power of two, hence one rounding: the same in every runtime, with or without
fused multiply-add.  Offsets and exponents are measured on the training part of the data, and stand in the
manifest together with the type of the data and what they are like, so that other data can be told from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import InputError

__all__ = ["CONSTANT_EXPONENT", "InputDtype", "InputScale", "as_float32", "measure", "spread"]

InputDtype = Literal["float32", "uint8"]
"""``uint8``: whole numbers 0..255, as pixels come.  ``float32``: all other numbers."""

CONSTANT_EXPONENT = 100
"""Of a feature that is constant in training: whatever it holds later counts as nothing, up to 2^95 off."""

_EXPONENTS = 90
"""Largest magnitude of any other exponent."""
_EACH_LIMIT, _ONE_LIMIT = 8.0, 2.0
"""Where scaled values saturate."""
_TAILS = 0.01
"""Share of a feature's values, at either end, that do not count for its mean and deviation."""
_LARGEST = float(np.finfo(np.float32).max)
_WIDER, _FEWEST = 10.0, 10
"""A ratio of deviations that is reported, and of how many samples."""


@dataclass(frozen=True)
class InputScale:
    """Units of a link's input, and how the transmitter scales it.

    ``offset``, ``exponent``, ``mean`` and ``deviation`` have one entry for all features, as pixels and
    the samples of a signal have, or one for each, row by row.
    """

    dtype: InputDtype = "float32"
    """Type of the training data."""
    offset: tuple[float, ...] = (0.0,)
    """Subtracted; float32."""
    exponent: tuple[int, ...] = (0,)
    """What is left is divided by 2 to this power."""
    mean: tuple[float, ...] = (0.0,)
    """Of the training data, in their units, their tails drawn in."""
    deviation: tuple[float, ...] = (1.0,)
    """Likewise; 0 of a feature that is constant."""
    limit: float | None = None
    """A power of two: scaled values saturate at -limit and 127/128 of limit, as those of 8 bits do.  None:
    where the grid of the transmitter does."""

    def __post_init__(self) -> None:
        if self.limit is not None and not (0 < self.limit < math.inf and math.frexp(self.limit)[0] == 0.5):
            raise InputError("limit", "be a power of two", self.limit)
        for name in ("offset", "mean", "deviation"):
            if not all(abs(value) <= _LARGEST for value in getattr(self, name)):
                raise InputError(name, "be finite in float32", getattr(self, name))
        if min(self.deviation, default=-1.0) < 0:
            raise InputError("deviation", "be at least 0", self.deviation)
        for exponent in self.exponent:
            if abs(exponent) > _EXPONENTS and exponent != CONSTANT_EXPONENT:
                rule = f"lie in -{_EXPONENTS}..{_EXPONENTS}, or be {CONSTANT_EXPONENT} of a constant feature"
                raise InputError("exponent", rule, exponent)

    @property
    def limits(self) -> tuple[float, float] | None:
        """Where scaled values saturate."""
        return None if self.limit is None else (-self.limit, self.limit * 127 / 128)

    def check(self, features: int) -> None:
        """InputError unless each entry holds one number or one for each of so many features."""
        for name in ("offset", "exponent", "mean", "deviation"):
            if (count := len(getattr(self, name))) not in (1, features):
                raise InputError(name, f"hold 1 or {features} numbers, one per feature", count)

    def taken(self, name: str, values: ArrayLike) -> NDArray[np.float32]:
        """``values`` as the transmitter takes them, float32 of the same shape, in their own units.

        Raises
        ------
        InputError
            Unless they are real numbers, finite as float32; of a link of ``uint8`` whole numbers 0..255, and
            of any other no array of ``uint8``, whose units are not those of the training data.
        """
        array = as_float32(name, values)
        if self.dtype == "uint8":
            wrong = (array < 0) | (array > 255) | (array != np.rint(array))
            if wrong.any():
                rule = "be pixels, whole numbers 0..255, as this link was trained on"
                raise InputError(name, rule, float(array[wrong].flat[0]))
        elif np.asarray(values).dtype == np.uint8:
            rule = "be in the units of the training data, which was no uint8: scale it and make it float32"
            raise InputError(name, rule, "an array of uint8")
        return array

    def legal(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The nearest values that :meth:`taken` takes: pixels are rounded and kept in 0..255."""
        return np.rint(np.clip(values, 0, 255)) if self.dtype == "uint8" else values

    def scaled(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the first layer takes, not yet rounded: (n, features) of float32, saturated."""
        factor = np.exp2(-np.asarray(self.exponent, dtype=np.float32))
        with np.errstate(over="ignore"):  # it saturates
            result = (features - np.asarray(self.offset, dtype=np.float32)) * factor
        return result if self.limits is None else np.clip(result, *self.limits)

    def shifts(self, features: NDArray[np.float32]) -> list[str]:
        """How data differ from what the link was trained on, at most one sentence for mean and for scale.

        ``features``, (n, ...), are in the units of the link.  A mean counts as far off from 1 deviation and 4
        standard errors on, a deviation from a factor of 10 on, which no sampling explains; that of a feature
        without any counts if no feature has one.  Of fewer than 10 samples nothing is said.
        """
        if len(features) < _FEWEST:
            return []
        mean, deviation = spread(features, one=len(self.mean) == 1)
        usual, wide = np.asarray(self.mean), np.asarray(self.deviation)
        constant = wide == 0
        room = wide + 4 * np.maximum(wide, deviation) / math.sqrt(len(features))
        room = np.where(constant, 1e-3 * np.abs(usual), room)
        ratio = np.where(constant, 1.0, deviation) / np.where(constant, 1.0, wide)
        other = (ratio > _WIDER) | ((ratio < 1 / _WIDER) & ((ratio > 0) | (deviation.max() == 0)))
        distance = np.abs(np.log(np.maximum(ratio, 1e-30)))
        off = np.abs(mean - usual)
        found = []
        if (off > room).any():
            worst = int(np.argmax(np.where(off > room, off / np.maximum(room, 1e-30), 0)))
            named, was = self._named(off > room, worst), f"{usual[worst]:.4g} ± {wide[worst]:.4g}"
            found.append(f"the mean of {named} is {mean[worst]:.4g}, in training {was}")
        if other.any():
            worst = int(np.argmax(np.where(other, distance, 0)))
            named = self._named(other, worst)
            was = f"{deviation[worst]:.4g}, in training {wide[worst]:.4g}"
            found.append(f"the standard deviation of {named} is {was}")
        return found

    def _named(self, which: NDArray[np.bool_], worst: int) -> str:
        if len(self.mean) == 1:
            return "the input"
        return f"feature {worst}" + (f" (and of {which.sum() - 1} more)" if which.sum() > 1 else "")


def measure(features: NDArray[np.float32], dtype: InputDtype, *, one: bool) -> InputScale:
    """The scale of training data, (n, ...).

    ``one``: pixels and signals keep one scale, by which the 0.1 and 99.9 % quantiles of all values come into
    -1..1; 0 stays 0 unless the values lie further from it than they vary.  Of ``uint8`` it is 2^-8.
    Otherwise each feature is centred on its mean and divided by the power of two that is nearest to its
    standard deviation, both with the 1 % of its values at either end drawn in (as they are, where nothing
    else varies), so that outliers do not count; what lies further than 8 of these units off saturates.  A
    feature that is constant counts as nothing.  InputError where one varies by less than 2^-90.
    """
    mean, deviation = spread(features, one=one)
    stated = tuple(map(float, mean)), tuple(map(float, deviation))
    if one and dtype == "uint8":
        return InputScale(dtype, (0.0,), (8,), *stated, _ONE_LIMIT)
    if one:
        low, high = (float(end) for end in np.quantile(features, (0.001, 0.999)))
        offset = float(np.float32(mean[0])) if max(low, -high) > high - low else 0.0
        largest = max(abs(low - offset), abs(high - offset)) or float(np.abs(features - offset).max())
        return InputScale(dtype, (offset,), (_power(largest, math.ceil),), *stated, _ONE_LIMIT)
    offsets = tuple(float(value) for value in mean.astype(np.float32))
    return InputScale(dtype, offsets, tuple(_power(one, round) for one in deviation), *stated, _EACH_LIMIT)


def _power(value: float, rounded: Callable[[float], int]) -> int:
    """The exponent of a power of two near a magnitude."""
    if value == 0:
        return CONSTANT_EXPONENT
    exponent = rounded(math.log2(value))
    if exponent < -_EXPONENTS:
        raise InputError("features", f"vary by at least 2^-{_EXPONENTS} in their units", float(value))
    return min(exponent, _EXPONENTS)  # what is larger saturates


def spread(features: NDArray[np.float32], *, one: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of the features, (features,), or of all of them together, (1,).

    Values beyond the 1 and 99 % quantiles count as these, unless nothing is left to vary then.
    """
    flat = features.reshape(len(features), -1)
    flat = flat.reshape(-1, 1) if one else flat
    # Values that occur: one between 0 and a rare 1 would make the 1 count as next to nothing.
    low = np.quantile(flat, _TAILS, axis=0, method="lower").astype(np.float32)
    high = np.quantile(flat, 1 - _TAILS, axis=0, method="higher").astype(np.float32)
    narrow = low == high
    low, high = np.where(narrow, flat.min(axis=0), low), np.where(narrow, flat.max(axis=0), high)
    inner = np.clip(flat, low, high)
    mean = np.where(low == high, low.astype(np.float64), inner.mean(axis=0, dtype=np.float64))
    return mean, np.where(low == high, 0.0, inner.std(axis=0, dtype=np.float64))


def as_float32(name: str, values: ArrayLike) -> NDArray[np.float32]:
    """``values`` as float32, same shape; :class:`InputError` unless real numbers, finite as float32."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise InputError(name, "be an array", "rows of unequal length") from None
    if array.dtype.kind not in "biuf":
        raise InputError(name, "be real numbers", f"an array of {array.dtype}")
    if array.dtype != np.float32:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError(name, "be finite", "an array with NaN or infinity")
    return array
