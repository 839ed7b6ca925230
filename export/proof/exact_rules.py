"""Which ONNX operators give the same values on every runtime, and what is then known of their results.

A rule gets one node with what is known of its inputs.  It says what is known of its outputs or raises
``NotExactError``; operators without a rule are not exact, those that take and give integers alone included:
the order of a sort, ties, overflows and indices out of range are where their results differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from twophase.export.graphs.signature import RANDOM_OPERATORS
from twophase.export.graphs.view import INTEGER_TYPES, attribute
from twophase.export.proof.exact_sums import (
    INTEGER_ARITHMETIC,
    REAL_ARITHMETIC,
    Operation,
    Powers,
    inverse,
    powers_of_two,
    reduced_sizes,
)
from twophase.export.proof.exact_values import (
    Exact,
    NotExactError,
    Raw,
    hull,
    limit_of,
    of_array,
    of_type,
    type_range,
)

__all__ = ["apply_rule"]


def _gather(op: Operation) -> Exact:
    """Of Gather, GatherElements and GatherND: runtimes differ in what an index out of range does."""
    index = op.given(1)
    size = min(_sizes_picked_from(op))
    if not -size <= index.low <= index.high <= size - 1:
        raise NotExactError(
            f"its index may be {index.low:.4g} to {index.high:.4g}, and its axis has {size} entries"
        )
    return op.given(0).moved()


def _sizes_picked_from(op: Operation) -> list[int]:
    """Sizes of the axes that the index counts along, at least one."""
    shape, index_shape = op.shapes[0], op.shapes[1]
    sizes: list[int | None] = []
    if shape is not None and op.node.op_type != "GatherND":
        axis = attribute(op.node, "axis", 0)
        sizes = [shape[axis]] if -len(shape) <= axis < len(shape) else []
    elif shape is not None and index_shape and index_shape[-1] is not None:
        first = attribute(op.node, "batch_dims", 0)
        sizes = list(shape[first : first + index_shape[-1]])
    known = [size for size in sizes if size is not None]
    if not known or len(known) != len(sizes):
        raise NotExactError("it picks from an axis whose size is not known")
    return known


def _decide(op: Operation) -> Exact:
    """Of ArgMax and ArgMin: the first of ties, a place on an axis."""
    if attribute(op.node, "select_last_index", 0):
        raise NotExactError("of equal entries it takes the last one; ties must go to the lowest index")
    shape, axis = op.shapes[0], attribute(op.node, "axis", 0)
    size = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
    if size == 0:
        raise NotExactError("it decides between no entries")
    return Exact(0, 0.0, of_type(op.kind).high if size is None else size - 1.0)


def _reduce_extreme(op: Operation) -> Exact:
    if 0 in reduced_sizes(op):
        raise NotExactError("it reduces no entries")
    return op.given(0).moved()


def _shape_of(op: Operation) -> Exact:
    """Of Shape and Size: never negative, and the sizes themselves where all are known."""
    shape = op.shapes[0]
    is_part = attribute(op.node, "start", 0) or any(item.name == "end" for item in op.node.attribute)
    if shape is None or None in shape or op.node.op_type == "Size" or is_part:
        return Exact(0, 0.0, of_type(TensorProto.INT64).high)
    sizes = [float(size) for size in shape if size is not None]
    return Exact(0, min(sizes, default=0.0), max(sizes, default=0.0))


_EIGHT_BITS = (TensorProto.INT8, TensorProto.UINT8)

_ROUNDED = frozenset(
    {
        *("BatchNormalization", "Celu", "Cos", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish"),
        *("LayerNormalization", "LogSoftmax", "Log", "Mish", "Pow", "Reciprocal", "ReduceL2", "ReduceMean"),
        *("Selu", "Sigmoid", "Sin", "Softmax", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh"),
    }
)


def apply_rule(op: Operation) -> Exact:
    """What is known of a node's outputs; ``NotExactError`` if its results may differ between runtimes."""
    operator = op.node.op_type
    if op.node.domain not in ("", "ai.onnx"):
        raise NotExactError(f"'{op.node.domain}' is not the domain of the ONNX standard")
    if operator in RANDOM_OPERATORS:
        raise NotExactError("it draws random numbers")
    rules = _RULES if op.real else _INTEGER_RULES
    if operator in rules:
        if operator != "Split" and sum(map(bool, op.node.output)) > 1:
            raise NotExactError("it has several outputs, and the proof follows the first one alone")
        return rules[operator](op)
    if op.real and operator in _ROUNDED:
        raise NotExactError("its results are rounded, and each runtime has its own way to compute them")
    if operator.startswith("Dynamic"):
        raise NotExactError("it scales by what else is in the batch")
    raise NotExactError("it is not an operator that the proof follows")


def _move(op: Operation) -> Exact:
    return op.given(0).moved()


def _pad(op: Operation) -> Exact:
    _refuse_attributes(op, "value")
    filler = op.optional(2)
    return hull([op.given(0), filler if filler is not None else Exact(0, 0.0, 0.0)])


def _refuse_attributes(op: Operation, *names: str) -> None:
    """Old versions of an operator have numbers in attributes that are inputs now."""
    for item in op.node.attribute:
        if item.name in names:
            raise NotExactError(f"its '{item.name}' is an attribute, as in opsets before 11")


def _round(op: Operation) -> Exact:
    value = op.given(0)
    if value.exponent is not None and value.exponent >= 0:
        return value.moved()
    return Exact(0, *_whole(value))


def _whole(value: Exact) -> tuple[float, float]:
    """Bounds on numbers once they are rounded; what no Clip bounds may have been scaled to infinity."""
    low, high = (value.as_real(end) for end in (value.low, value.high))
    largest = float(np.finfo(np.float32).max)
    return (
        -math.inf if low <= -largest else math.floor(low),
        math.inf if high >= largest else math.ceil(high),
    )


def _clip(op: Operation) -> Exact:
    _refuse_attributes(op, "min", "max")
    return _between(op.given(0), op.optional(1), op.optional(2))


def _between(value: Exact, least: Exact | None, most: Exact | None) -> Exact:
    """Clipped values lie on the grid of the values and of the bounds."""
    for bound in (least, most):
        if bound is not None and bound.array is None:
            raise NotExactError("it clips to bounds that are not stored")
    if least is not None and most is not None and least.as_real(least.high) > most.as_real(most.low):
        raise NotExactError("its lower bound lies above its upper bound")
    result = value.moved()
    for bound, pick in ((least, max), (most, min)):
        if bound is not None:
            result = _extreme([result, bound], pick)
    return result


def _extreme(values: list[Exact], pick: Callable[..., float]) -> Exact:
    """The larger, or the smaller, of several numbers at each place."""
    around = hull(values)
    unit = around.exponent or 0
    lows, highs = (
        [getattr(value, end) * 2.0 ** ((value.exponent or 0) - unit) for value in values]
        for end in ("low", "high")
    )
    return Exact(around.exponent, pick(lows), pick(highs))


def _cast(op: Operation) -> Exact:
    value = op.given(0)
    if op.kind == TensorProto.BOOL:
        if value.exponent is None:
            raise NotExactError("it asks whether real numbers are zero; runtimes may flush small ones")
        return of_type(op.kind)
    if op.kind in INTEGER_TYPES:
        least, most = type_range(op.kind)
        low, high = (value.as_real(end) for end in (value.low, value.high))
        if least - 1 < low and high < most + 1:
            return Exact(0, float(math.trunc(low)), float(math.trunc(high)))
        raise NotExactError(f"it makes integers of {low:.4g} to {high:.4g} that cannot hold them")
    limit = limit_of(op.kind)
    if value.exponent is None:
        if op.kind == TensorProto.DOUBLE:
            return value.moved()
        raise NotExactError("it rounds real numbers to another type")
    if not value.peak < limit:
        raise NotExactError(
            f"its numbers may reach {value.peak:.4g} units of 2^{value.exponent}; "
            f"exact are those below {limit:,} only"
        )
    return value.moved()


def _quantize(op: Operation) -> Exact:
    low, high = _whole(op.given(0).scaled(*inverse(_scales(op))))
    zero = _zero_points(op)
    least, most = type_range(op.kind)
    bounds = np.clip([low + zero.min(), high + zero.max()], least, most)
    return Exact(0, float(bounds[0]), float(bounds[1]))


def _dequantize(op: Operation) -> Exact:
    value, zero = op.given(0), _zero_points(op)
    centred = Exact(0, value.low - float(zero.max()), value.high - float(zero.min()))
    if not centred.peak < limit_of(op.kind):
        raise NotExactError(f"its integers may reach {centred.peak:.4g}, too large to be exact")
    raw = Raw(op.kinds[0], value.peak) if op.kinds[0] in _EIGHT_BITS else None
    return replace(centred.scaled(*_scales(op)), raw=raw)


def _scales(op: Operation) -> Powers:
    powers = powers_of_two(op.stored(1))
    if powers is None:
        raise NotExactError("its scale is no power of two")
    return powers


def _zero_points(op: Operation) -> NDArray[np.float64]:
    return op.stored(2) if op.optional(2) is not None else np.zeros(1)


def _fill(op: Operation) -> Exact:
    value = next((item.t for item in op.node.attribute if item.name == "value"), None)
    return of_array(np.zeros(1, np.float32) if value is None else numpy_helper.to_array(value)).moved()


def _refuse_kernels(op: Operation) -> Exact:
    raise NotExactError(
        "its kernels may saturate; products of dequantised matrices are followed, this is not"
    )


def _truth(op: Operation) -> Exact:
    return of_type(op.kind)


_COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")

_MOVING: dict[str, Callable[[Operation], Exact]] = {
    **dict.fromkeys(
        (
            *("DepthToSpace", "Expand", "Flatten", "Identity", "Reshape", "Slice", "SpaceToDepth", "Split"),
            *("Squeeze", "Tile", "Transpose", "Unsqueeze"),
        ),
        _move,
    ),
    **dict.fromkeys(("ArgMax", "ArgMin"), _decide),
    **dict.fromkeys(("Gather", "GatherElements", "GatherND"), _gather),
    **dict.fromkeys(("ReduceMax", "ReduceMin"), _reduce_extreme),
    **dict.fromkeys(("Shape", "Size"), _shape_of),
    **dict.fromkeys(_COMPARISONS, _truth),
    "Clip": _clip,
    "Concat": lambda op: hull(op.present()),
    "ConstantOfShape": _fill,
    "Max": lambda op: _extreme(op.present(), max),
    "Min": lambda op: _extreme(op.present(), min),
    "Pad": _pad,
    "Where": lambda op: hull([op.given(1), op.given(2)]),
}
"""For operators that compare entries or move them, of whatever type."""

_INTEGER_RULES: dict[str, Callable[[Operation], Exact]] = {
    **_MOVING,
    **dict.fromkeys(("And", "Not", "Or", "Xor"), _truth),
    **dict.fromkeys(("ConvInteger", "MatMulInteger"), _refuse_kernels),
    **INTEGER_ARITHMETIC,
}
"""For operators whose inputs and outputs are all integers; there is no rule for what is not listed."""

_RULES: dict[str, Callable[[Operation], Exact]] = {
    **_MOVING,
    **dict.fromkeys(("Ceil", "Floor", "Round"), _round),
    **REAL_ARITHMETIC,
    "Cast": _cast,
    "DequantizeLinear": _dequantize,
    "Neg": lambda op: op.given(0).scaled(0, 0, (False, True)),
    "QuantizeLinear": _quantize,
    "Relu": lambda op: _between(op.given(0), Exact(0, 0.0, 0.0, np.zeros(())), None),
}
"""For those that have a floating-point number among them."""
