"""Arithmetic of integers: exact everywhere, as long as it neither overflows nor divides by what may be zero.

What an overflow gives is left open by the ONNX standard, and by C++ for signed types.
"""

from __future__ import annotations

import math
from itertools import product as pairs

from onnx import TensorProto

from twophase.export.exactness.lattice import Exact, NotExactError, of_type, type_range
from twophase.export.exactness.sums import Step, reduced_sizes
from twophase.export.graph import attribute

__all__ = [
    "absolute_integers",
    "add_integers",
    "cast_integers",
    "divide_integers",
    "multiply_integers",
    "negate_integers",
    "remainder",
    "subtract_integers",
    "sum_integers",
    "truth",
]

_LARGEST = float(1 << 52)
"""Bounds are computed in double; up to here they are whole numbers without an error."""


def truth(step: Step) -> Exact:
    """Rule of comparisons and of logic."""
    return of_type(step.kind)


def add_integers(step: Step) -> Exact:
    """Rule of Add."""
    left, right = step.given(0), step.given(1)
    return _fitting(step, left.low + right.low, left.high + right.high)


def subtract_integers(step: Step) -> Exact:
    """Rule of Sub."""
    left, right = step.given(0), step.given(1)
    return _fitting(step, left.low - right.high, left.high - right.low)


def multiply_integers(step: Step) -> Exact:
    """Rule of Mul."""
    left, right = step.given(0), step.given(1)
    ends = [one * other for one, other in pairs((left.low, left.high), (right.low, right.high))]
    return _fitting(step, min(ends), max(ends))


def negate_integers(step: Step) -> Exact:
    """Rule of Neg; the least number of a signed type has no negative."""
    value = step.given(0)
    return _fitting(step, -value.high, -value.low)


def absolute_integers(step: Step) -> Exact:
    """Rule of Abs."""
    value = step.given(0)
    inside = value.low <= 0.0 <= value.high
    return _fitting(step, 0.0 if inside else min(abs(value.low), abs(value.high)), value.peak)


def divide_integers(step: Step) -> Exact:
    """Rule of Div; some runtimes round a negative quotient down, others towards zero."""
    value, divisor = step.given(0), _divisor(step)
    if value.low < 0.0:
        raise NotExactError("it divides numbers that may be negative; runtimes round them in different ways")
    return _fitting(step, value.low // divisor.high, value.high // divisor.low)


def remainder(step: Step) -> Exact:
    """Rule of Mod: with the sign of the divisor, or with ``fmod`` that of the dividend."""
    value, divisor = step.given(0), _divisor(step)
    largest = divisor.high - 1.0
    signed = attribute(step.node, "fmod", 0) and value.low < 0.0
    return _fitting(step, -largest if signed else 0.0, largest)


def sum_integers(step: Step) -> Exact:
    """Rule of ReduceSum."""
    value, sizes = step.given(0), reduced_sizes(step)
    if None in sizes:
        raise NotExactError("it sums a number of entries that is not known")
    count = float(math.prod(size for size in sizes if size is not None))
    return _fitting(step, count * value.low, count * value.high)


def cast_integers(step: Step) -> Exact:
    """Rule of Cast from integers to integers that hold them."""
    if step.kind == TensorProto.BOOL:
        return of_type(step.kind)
    if step.kind == step.kinds[0]:
        return step.given(0).moved()
    value, (least, most) = step.given(0), type_range(step.kind)
    if not least <= value.low <= value.high < most + 1:
        raise NotExactError(f"it makes integers of {value.low:.4g} to {value.high:.4g} that cannot hold them")
    return value.moved()


def _divisor(step: Step) -> Exact:
    divisor = step.given(1)
    if divisor.array is None:
        raise NotExactError("its divisor is no stored constant")
    if not divisor.low > 0.0:
        raise NotExactError("its divisor is not positive")
    return divisor


def _fitting(step: Step, low: float, high: float) -> Exact:
    """Bounds of a result, and of all partial results, that the type must hold."""
    least, most = type_range(step.kind)
    if not (max(least, -_LARGEST) <= low <= high <= min(most, _LARGEST)):
        raise NotExactError(
            f"its integers may be {low:.4g} to {high:.4g} and overflow "
            f"{TensorProto.DataType.Name(step.kind).lower()} or the proof's bounds"
        )
    return Exact(0, low, high)
