"""What is known of a tensor that holds the same values on every runtime: a grid it lies on, and bounds.

Such a tensor holds whole numbers times 2^e.  Sums and products of its entries are exact in a floating-point
type, in whatever order they are formed, as long as no magnitude in units of 2^e reaches the type's limit.
Before they are rounded for the first time, inputs of a graph are real numbers on no grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from twophase.export.graphs.view import INTEGER_TYPES
from twophase.link.grid import EXACT_LIMIT

__all__ = [
    "Exact",
    "NotExactError",
    "Raw",
    "common_unit",
    "given",
    "hull",
    "limit_of",
    "of_array",
    "of_type",
    "summed",
    "type_range",
]

_LIMITS: dict[int, int] = {TensorProto.FLOAT: EXACT_LIMIT, TensorProto.DOUBLE: 1 << 52}
"""Whole numbers below are exact; for double half of what it holds, since bounds are computed in double."""

_SMALLEST_UNIT = -126
"""Exponent of the smallest normal float32: runtimes may flush what is smaller to zero."""

_LARGEST_MAGNITUDE = 127


class NotExactError(Exception):
    """Why a tensor may differ between runtimes, as the words after "is not exact:"."""


@dataclass(frozen=True)
class Raw:
    """The integers that a dequantised tensor stands for: what an integer kernel multiplies."""

    kind: int
    """``TensorProto.DataType``."""
    largest: float
    """Largest magnitude of the stored integers, zero point not taken off."""


@dataclass(frozen=True, eq=False)
class Exact:
    """A tensor with the same values everywhere."""

    exponent: int | None
    """Values are whole numbers of units 2^exponent; None: they are real numbers."""
    low: float
    high: float
    """Bounds in units; of real numbers themselves."""
    array: NDArray[Any] | None = None
    """The values, if they are stored."""
    raw: Raw | None = None
    rounded: bool = False
    """Whether real numbers are no longer those of an input: an offset was subtracted."""

    @property
    def peak(self) -> float:
        """Largest magnitude, in units."""
        return max(abs(self.low), abs(self.high))

    @property
    def unit(self) -> int:
        """The exponent of what lies on a grid; ``NotExactError`` if it does not, or is unbounded."""
        if self.exponent is None:
            raise NotExactError("it computes with real numbers that were never rounded to a grid")
        if not math.isfinite(self.peak):
            raise NotExactError("it computes with numbers that no Clip bounds")
        return self.exponent

    def moved(self) -> Exact:
        """The same values in other places."""
        return replace(self, array=None)

    def scaled(self, lowest: int, highest: int, signs: tuple[bool, bool]) -> Exact:
        """Multiplied by powers of two from 2^lowest to 2^highest, positive and negative as ``signs`` say."""
        unit = lowest if self.exponent is not None else 0
        factors = [2.0 ** (power - unit) for power in (lowest, highest)]
        ends = [
            end * factor * sign
            for end in (self.low, self.high)
            for factor in factors
            for sign, there in ((1.0, signs[0]), (-1.0, signs[1]))
            if there
        ]
        exponent = None if self.exponent is None else self.exponent + lowest
        result = Exact(exponent, min(ends), max(ends), rounded=self.rounded)
        if exponent is not None:
            _check_range(exponent, result.peak)
        elif not -100 <= lowest <= highest <= 100:
            raise NotExactError(f"it scales real numbers by 2^{lowest}..2^{highest}, not within 2^+-100")
        return result

    def as_real(self, end: float) -> float:
        """A bound as a number."""
        return end * 2.0 ** (self.exponent or 0)


def given(kind: int) -> Exact:
    """An input of the graph: any finite numbers of its type, float32, float64 or an integer.

    ``NotExactError`` for other types.
    """
    if kind in INTEGER_TYPES:
        return of_type(kind)
    if kind not in _LIMITS:
        raise NotExactError(f"{TensorProto.DataType.Name(kind)} is computed in different ways")
    largest = float(np.finfo(helper.tensor_dtype_to_np_dtype(kind)).max)
    return Exact(None, -largest, largest)


def type_range(kind: int) -> tuple[int, int]:
    """Least and largest number of an integer type, truth values included.

    ``NotExactError`` for types that the proof does not follow, integers of 4 bits among them.
    """
    if kind not in INTEGER_TYPES:
        raise NotExactError(f"{TensorProto.DataType.Name(kind)} is no integer type that the proof follows")
    if kind == TensorProto.BOOL:
        return 0, 1
    info = np.iinfo(helper.tensor_dtype_to_np_dtype(kind))
    return int(info.min), int(info.max)


def of_type(kind: int) -> Exact:
    """Whole numbers of an integer type."""
    low, high = type_range(kind)
    return Exact(0, float(low), float(high))


def of_array(array: NDArray[Any]) -> Exact:
    """Stored values: the coarsest grid that they lie on.

    ``NotExactError`` if one is NaN or infinite, or they are neither float32, float64 nor integers.
    """
    if array.dtype.kind in "biu":
        low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
        return Exact(0, low, high, array)
    if array.dtype not in (np.float32, np.float64):
        raise NotExactError(f"a stored tensor is {array.dtype}, which is computed in different ways")
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise NotExactError("a stored tensor holds NaN or infinity")
    mantissas, exponents = np.frexp(values[values != 0.0])
    if not mantissas.size:
        return Exact(0, 0.0, 0.0, array)
    digits = np.abs(mantissas * 2.0**53).astype(np.int64)
    trailing = np.log2((digits & -digits).astype(np.float64)).astype(np.int64)
    exponent = int((exponents - 53 + trailing).min())
    low, high = float(values.min()), float(values.max())
    _check_range(exponent, max(abs(low), abs(high)) * 2.0**-exponent)
    return Exact(exponent, low * 2.0**-exponent, high * 2.0**-exponent, array)


def hull(values: Sequence[Exact]) -> Exact:
    """A tensor each of whose entries is one of several tensors'."""
    if any(value.exponent is None for value in values):
        lows, highs = ([value.as_real(getattr(value, end)) for value in values] for end in ("low", "high"))
        return Exact(None, min(lows), max(highs))
    unit = common_unit(values)
    factors = [2.0 ** ((value.exponent or 0) - unit) for value in values]
    lows = [value.low * factor for value, factor in zip(values, factors, strict=True)]
    highs = [value.high * factor for value, factor in zip(values, factors, strict=True)]
    return Exact(unit, min(lows), max(highs))


def common_unit(values: Sequence[Exact]) -> int:
    """Exponent of the largest unit that all can be counted in; what is zero throughout can in any."""
    return min((value.exponent or 0 for value in values if value.peak), default=0)


def summed(kind: int, unit: int, largest: float) -> Exact:
    """A sum whose partial sums in any order reach ``largest`` units of 2^unit, computed in a type.

    ``NotExactError`` if that may be inexact.
    """
    limit = limit_of(kind)
    if not largest < limit:
        raise NotExactError(
            f"its sums may reach {largest:.4g} units of 2^{unit}; exact are those below {limit:,} only"
        )
    _check_range(unit, largest)
    return Exact(unit, -largest, largest)


def limit_of(kind: int) -> int:
    """Below which magnitude whole numbers of a type, and their sums, are exact.

    ``NotExactError`` if the type is neither float32, float64 nor an integer.
    """
    if kind in INTEGER_TYPES:
        return type_range(kind)[1] + 1
    if kind not in _LIMITS:
        raise NotExactError(f"{TensorProto.DataType.Name(kind)} is computed in different ways")
    return _LIMITS[kind]


def _check_range(unit: int, peak: float) -> None:
    if unit < _SMALLEST_UNIT or (peak and unit + math.log2(peak) > _LARGEST_MAGNITUDE):
        raise NotExactError(f"its numbers, up to {peak:.4g} units of 2^{unit}, leave the range of float32")
