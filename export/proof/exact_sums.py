"""Arithmetic of exact tensors: when no runtime can make an error in a sum or a product.

Floating-point numbers on a grid are exact as long as no partial sum, in any order, reaches the type's limit.
Integers are exact as long as they neither overflow nor are divided by what may be zero: what an overflow
gives is left open by the ONNX standard, and by C++ for signed types.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product as pairs
from operator import add, mul, sub

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from twophase.export.graphs.view import INTEGER_TYPES, attribute
from twophase.export.proof.exact_values import Exact, NotExactError, common_unit, of_type, summed, type_range

__all__ = [
    "INTEGER_ARITHMETIC",
    "PRODUCTS",
    "REAL_ARITHMETIC",
    "Operation",
    "inverse",
    "powers_of_two",
    "reduced_sizes",
]

Powers = tuple[int, int, tuple[bool, bool]]
"""Least and largest exponent of powers of two, and whether positive and negative ones occur."""

PRODUCTS = frozenset({"Gemm", "MatMul"})
"""Operators that multiply matrices."""

_PAIR_LIMIT = 2**15 - 1
"""Kernels without a fitting instruction add pairs of 8-bit products in 16 bits, and saturate there."""

_ACCUMULATOR_LIMIT = 2**31 - 1
"""They add all of them up in 32 bits."""


@dataclass(frozen=True, eq=False)
class Operation:
    """A node, what is known of its inputs, and the types."""

    node: NodeProto
    inputs: list[Exact | None]
    """None for an input that is left out."""
    shapes: list[tuple[int | None, ...] | None]
    """Of the inputs; None where not known."""
    kinds: list[int]
    """``TensorProto.DataType`` of the inputs; UNDEFINED for one that is left out."""
    kind: int
    """That of the output."""

    @property
    def real(self) -> bool:
        """Whether an input or output is of a floating-point type."""
        return any(kind not in (*INTEGER_TYPES, TensorProto.UNDEFINED) for kind in (*self.kinds, self.kind))

    def given(self, position: int) -> Exact:
        """An input that must be there."""
        value = self.optional(position)
        if value is None:
            raise NotExactError(f"its input {position} is missing")
        return value

    def optional(self, position: int) -> Exact | None:
        """An input that may be left out."""
        return self.inputs[position] if position < len(self.inputs) else None

    def present(self) -> list[Exact]:
        """The inputs that are not left out."""
        return [value for value in self.inputs if value is not None]

    def stored(self, position: int) -> NDArray[np.float64]:
        """The values of an input that must be a stored constant."""
        array = self.given(position).array
        if array is None:
            raise NotExactError(f"its input {position} is no stored constant")
        return array.astype(np.float64)


def _multiply(op: Operation) -> Exact:
    """A power of two only moves the unit."""
    sides = [op.given(0), op.given(1)]
    for one, other in (sides, sides[::-1]):
        if other.array is not None and (powers := powers_of_two(other.array)) is not None:
            return one.scaled(*powers)
    unit = sides[0].unit + sides[1].unit
    return summed(op.kind, unit, sides[0].peak * sides[1].peak)


def _divide(op: Operation) -> Exact:
    powers = powers_of_two(op.stored(1))
    if powers is None:
        raise NotExactError("it divides by something else than powers of two")
    return op.given(0).scaled(*inverse(powers))


def powers_of_two(array: NDArray[np.generic]) -> Powers | None:
    """Least and largest exponent, and whether positive and negative ones occur; None for other numbers."""
    mantissas, exponents = np.frexp(array.astype(np.float64))
    if not array.size or (np.abs(mantissas) != 0.5).any():
        return None
    signs = bool((mantissas > 0).any()), bool((mantissas < 0).any())
    return int(exponents.min()) - 1, int(exponents.max()) - 1, signs


def inverse(powers: Powers) -> Powers:
    """One over powers of two."""
    lowest, highest, signs = powers
    return -highest, -lowest, signs


def _add(op: Operation) -> Exact:
    """Of Add, Sum and Sub; a runtime may merge one with the product before it."""
    terms = op.present()
    own = [term.unit for term in terms]
    unit = common_unit(terms)
    largest = sum(term.peak * 2.0 ** (exponent - unit) for term, exponent in zip(terms, own, strict=True))
    return summed(op.kind, unit, largest)


def _subtract(op: Operation) -> Exact:
    """A stored offset, from whole numbers or, once, from real numbers of an input.

    The standard rounds the difference of two float32 numbers in one way only.  A runtime that merges it with
    a power of two before or after it into one instruction rounds the same number, and so gives the same.
    """
    value, offset = op.given(0), op.given(1)
    if value.exponent is not None or value.rounded or offset.array is None or op.kind != TensorProto.FLOAT:
        return _add(op)
    largest = float(np.finfo(np.float32).max)
    low, high = value.low - offset.as_real(offset.high), value.high - offset.as_real(offset.low)
    return Exact(None, max(low, -largest), min(high, largest), rounded=True)


def _absolute(op: Operation) -> Exact:
    value = op.given(0)
    inside = value.low <= 0.0 <= value.high
    return Exact(value.exponent, 0.0 if inside else min(abs(value.low), abs(value.high)), value.peak)


def _reduce_sum(op: Operation) -> Exact:
    value = op.given(0)
    return summed(op.kind, value.unit, _summands(op) * value.peak)


def _summands(op: Operation) -> int:
    """Entries that each sum of a ReduceSum adds up."""
    sizes = reduced_sizes(op)
    if None in sizes:
        raise NotExactError("it sums a number of entries that is not known")
    return math.prod(size for size in sizes if size is not None)


def reduced_sizes(op: Operation) -> list[int | None]:
    """Sizes of the axes that a reduction takes, None for a free one; no axes if it changes nothing.

    ``NotExactError`` if the axes are not stored, not within the tensor's, or one is named twice.
    """
    shape, axes = op.shapes[0], op.optional(1)
    if axes is not None and axes.array is None:
        raise NotExactError("it reduces axes that are not stored")
    if shape is None:
        raise NotExactError("it reduces a tensor whose number of axes is not known")
    chosen = next((list(item.ints) for item in op.node.attribute if item.name == "axes"), [])
    if axes is not None and axes.array is not None:
        chosen = [int(axis) for axis in axes.array.ravel()]
    if not chosen:
        return [] if attribute(op.node, "noop_with_empty_axes", 0) else list(shape)
    if not all(-len(shape) <= axis < len(shape) for axis in chosen):
        raise NotExactError(f"it reduces axes {chosen} of a tensor with {len(shape)}")
    if len({axis % len(shape) for axis in chosen}) < len(chosen):
        raise NotExactError(f"its axes {chosen} name one twice")
    return [shape[axis] for axis in chosen]


def _product(op: Operation) -> Exact:
    """Matrix product with an offset: the sum of all magnitudes bounds every partial sum in any order."""
    node = op.node
    left, right = op.given(0), op.given(1)
    gemm = node.op_type == "Gemm"
    _check_kernels(op, left, right)
    unit = left.unit + right.unit
    if right.array is not None:
        stored = right.array[:, np.newaxis] if right.array.ndim == 1 else right.array
        weights = np.abs(stored.astype(np.float64)) * 2.0**-right.unit
        reach = left.peak * weights.sum(axis=1 if gemm and attribute(node, "transB", 0) else -2)
    elif left.array is not None:
        weights = np.abs(np.atleast_2d(left.array).astype(np.float64)) * 2.0**-left.unit
        across = weights.sum(axis=0 if gemm and attribute(node, "transA", 0) else -1)
        reach = np.asarray(right.peak * across.max(initial=0.0))
    else:
        reach = np.asarray(_terms(op) * left.peak * right.peak)
    if not gemm:
        return summed(op.kind, unit, float(reach.max(initial=0.0)))
    alpha, beta = (_scale(node, name) for name in ("alpha", "beta"))
    unit += alpha
    offset = op.optional(2)
    if offset is None:
        return summed(op.kind, unit, float(reach.max(initial=0.0)))
    own = offset.unit + beta
    both = min(unit, own) if offset.peak else unit
    height: NDArray[np.float64] = np.asarray(offset.peak * 2.0 ** (own - both))
    if offset.array is not None:
        height = np.abs(offset.array.astype(np.float64)) * 2.0 ** (beta - both)
    largest = (reach * 2.0 ** (unit - both) + height).max(initial=0.0)
    return summed(op.kind, both, float(largest))


def _terms(op: Operation) -> int:
    """Number of products in each sum of a matrix product of two tensors that are not stored."""
    for shape, axis, flag in ((op.shapes[0], -1, "transA"), (op.shapes[1], -2, "transB")):
        if shape:
            turned = op.node.op_type == "Gemm" and attribute(op.node, flag, 0)
            size = shape[-3 - axis if turned else max(axis, -len(shape))]
            if size is not None:
                return size
    raise NotExactError("it sums a number of products that is not known")


def _scale(node: NodeProto, name: str) -> int:
    """Exponent of a factor of Gemm."""
    factor = next((item.f for item in node.attribute if item.name == name), 1.0)
    mantissa, exponent = math.frexp(factor)
    if mantissa != 0.5:
        raise NotExactError(f"its '{name}' is {factor:g}, no positive power of two")
    return exponent - 1


def _check_kernels(op: Operation, left: Exact, right: Exact) -> None:
    """A runtime may multiply the integers after two dequantised matrices; its kernels must not overflow."""
    if left.raw is None or right.raw is None:
        return
    reach = left.raw.largest * right.raw.largest * _terms(op)
    if reach > _ACCUMULATOR_LIMIT:
        raise NotExactError(f"its sums of integers may reach {reach:.4g} and overflow 32 bits")
    for one, other in ((left.raw, right.raw), (right.raw, left.raw)):
        # x86 kernels take signed activations for unsigned ones, shifted by 128
        if other.kind == TensorProto.INT8 and 2 * 255 * other.largest > _PAIR_LIMIT:
            kinds = [TensorProto.DataType.Name(side.kind).lower() for side in (one, other)]
            raise NotExactError(
                f"it multiplies {kinds[0]} by {kinds[1]} up to {other.largest:g}, and processors without a "
                f"fitting instruction saturate pairs of these products at {_PAIR_LIMIT}: take uint8 by uint8"
            )


_LARGEST = float(1 << 52)
"""Bounds are computed in double; up to here they are whole numbers without an error."""


def _combine_integers(op: Operation, combine: Callable[[float, float], float]) -> Exact:
    """Sums, differences and products are monotonic in either side: they are extreme at its bounds."""
    left, right = op.given(0), op.given(1)
    ends = [combine(one, other) for one, other in pairs((left.low, left.high), (right.low, right.high))]
    return _fitting(op, min(ends), max(ends))


def _negate_integers(op: Operation) -> Exact:
    """The least number of a signed type has no negative."""
    value = op.given(0)
    return _fitting(op, -value.high, -value.low)


def _absolute_integers(op: Operation) -> Exact:
    value = _absolute(op)
    return _fitting(op, value.low, value.high)


def _divide_integers(op: Operation) -> Exact:
    """Some runtimes round a negative quotient down, others towards zero."""
    value, divisor = op.given(0), _divisor(op)
    if value.low < 0.0:
        raise NotExactError("it divides numbers that may be negative; runtimes round them in different ways")
    return _fitting(op, value.low // divisor.high, value.high // divisor.low)


def _remainder(op: Operation) -> Exact:
    """With the sign of the divisor, or with ``fmod`` that of the dividend."""
    value, divisor = op.given(0), _divisor(op)
    largest = divisor.high - 1.0
    signed = attribute(op.node, "fmod", 0) and value.low < 0.0
    return _fitting(op, -largest if signed else 0.0, largest)


def _sum_integers(op: Operation) -> Exact:
    value, count = op.given(0), _summands(op)
    return _fitting(op, count * value.low, count * value.high)


def _cast_integers(op: Operation) -> Exact:
    """From integers to integers that hold them."""
    if op.kind == TensorProto.BOOL:
        return of_type(op.kind)
    if op.kind == op.kinds[0]:
        return op.given(0).moved()
    value, (least, most) = op.given(0), type_range(op.kind)
    if not least <= value.low <= value.high < most + 1:
        raise NotExactError(f"it makes integers of {value.low:.4g} to {value.high:.4g} that cannot hold them")
    return value.moved()


def _divisor(op: Operation) -> Exact:
    divisor = op.given(1)
    if divisor.array is None:
        raise NotExactError("its divisor is no stored constant")
    if not divisor.low > 0.0:
        raise NotExactError("its divisor is not positive")
    return divisor


def _fitting(op: Operation, low: float, high: float) -> Exact:
    """Bounds of a result, and of all partial results, that the type must hold."""
    least, most = type_range(op.kind)
    if not (max(least, -_LARGEST) <= low <= high <= min(most, _LARGEST)):
        raise NotExactError(
            f"its integers may be {low:.4g} to {high:.4g} and overflow "
            f"{TensorProto.DataType.Name(op.kind).lower()} or the proof's bounds"
        )
    return Exact(0, low, high)


REAL_ARITHMETIC: dict[str, Callable[[Operation], Exact]] = {
    "Abs": _absolute,
    **dict.fromkeys(("Add", "Sum"), _add),
    **dict.fromkeys(PRODUCTS, _product),
    "Div": _divide,
    "Mul": _multiply,
    "ReduceSum": _reduce_sum,
    "Sub": _subtract,
}
"""Rules for operators that have a floating-point number among their inputs and outputs."""

INTEGER_ARITHMETIC: dict[str, Callable[[Operation], Exact]] = {
    "Abs": _absolute_integers,
    "Add": lambda op: _combine_integers(op, add),
    "Cast": _cast_integers,
    "Div": _divide_integers,
    "Mod": _remainder,
    "Mul": lambda op: _combine_integers(op, mul),
    "Neg": _negate_integers,
    "ReduceSum": _sum_integers,
    "Sub": lambda op: _combine_integers(op, sub),
}
"""Rules for operators all of whose inputs and outputs are integers."""
