"""Which ONNX operators give the same values on every runtime, and what is then known of their results.

A rule gets one node with what is known of its inputs.  It says what is known of its outputs or raises
``NotExactError``; operators without a rule are not exact.  Of what has integers for all inputs and
outputs only a few need one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from twophase.export.exactness.lattice import (
    Exact,
    NotExactError,
    Raw,
    hull,
    limit_of,
    of_array,
    of_type,
    type_range,
)
from twophase.export.exactness.sums import (
    PRODUCTS,
    Powers,
    Step,
    add,
    divide,
    inverse,
    multiply,
    powers_of_two,
    product,
    reduce_sum,
)
from twophase.export.graph import INTEGER_TYPES, attribute
from twophase.export.operators import RANDOM_OPERATORS

__all__ = ["apply_rule"]

_EIGHT_BITS = (TensorProto.INT8, TensorProto.UINT8)

_ROUNDED = frozenset(
    {
        *("BatchNormalization", "Celu", "Cos", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish"),
        *("LayerNormalization", "LogSoftmax", "Log", "Mish", "Pow", "Reciprocal", "ReduceL2", "ReduceMean"),
        *("Selu", "Sigmoid", "Sin", "Softmax", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh"),
    }
)


def apply_rule(step: Step) -> Exact:
    """What is known of a node's outputs.

    Raises
    ------
    NotExactError
        If its results may differ between runtimes.
    """
    operator = step.node.op_type
    if step.node.domain not in ("", "ai.onnx"):
        raise NotExactError(f"'{step.node.domain}' is not the domain of the ONNX standard")
    if operator in RANDOM_OPERATORS:
        raise NotExactError("it draws random numbers")
    rules = _RULES if step.real else _INTEGER_RULES
    if operator in rules:
        return rules[operator](step)
    if not step.real:
        return of_type(step.kind)
    if operator in _ROUNDED:
        raise NotExactError("its results are rounded, and each runtime has its own way to compute them")
    if operator.startswith("Dynamic"):
        raise NotExactError("it scales by what else is in the batch")
    raise NotExactError("nothing is known of how runtimes compute it")


def _move(step: Step) -> Exact:
    return step.given(0).moved()


def _pad(step: Step) -> Exact:
    filler = step.optional(2)
    return hull([step.given(0), filler if filler is not None else Exact(0, 0.0, 0.0)])


def _join(step: Step) -> Exact:
    return hull([value for value in step.inputs if value is not None])


def _where(step: Step) -> Exact:
    return hull([step.given(1), step.given(2)])


def _decide(step: Step) -> Exact:
    if attribute(step.node, "select_last_index", 0):
        raise NotExactError("of equal entries it takes the last one; ties must go to the lowest index")
    return of_type(step.kind)


def _negate(step: Step) -> Exact:
    return step.given(0).scaled(0, 0, (False, True))


def _absolute(step: Step) -> Exact:
    value = step.given(0)
    inside = value.low <= 0.0 <= value.high
    return Exact(value.exponent, 0.0 if inside else min(abs(value.low), abs(value.high)), value.peak)


def _round(step: Step) -> Exact:
    value = step.given(0)
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


def _clip(step: Step) -> Exact:
    return _between(step.given(0), step.optional(1), step.optional(2))


def _rectify(step: Step) -> Exact:
    return _between(step.given(0), Exact(0, 0.0, 0.0, np.zeros(())), None)


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


def _largest(step: Step) -> Exact:
    return _extreme([value for value in step.inputs if value is not None], max)


def _smallest(step: Step) -> Exact:
    return _extreme([value for value in step.inputs if value is not None], min)


def _extreme(values: list[Exact], pick: Callable[..., float]) -> Exact:
    """The larger, or the smaller, of several numbers at each place."""
    around = hull(values)
    unit = around.exponent or 0
    lows, highs = (
        [getattr(value, end) * 2.0 ** ((value.exponent or 0) - unit) for value in values]
        for end in ("low", "high")
    )
    return Exact(around.exponent, pick(lows), pick(highs))


def _cast(step: Step) -> Exact:
    value = step.given(0)
    if step.kind == TensorProto.BOOL:
        return of_type(step.kind)
    if step.kind in INTEGER_TYPES:
        return _to_integers(value, step)
    limit = limit_of(step.kind)
    if value.exponent is None:
        if step.kind == TensorProto.DOUBLE:
            return value.moved()
        raise NotExactError("it rounds real numbers to another type")
    if not value.peak < limit:
        raise NotExactError(
            f"its numbers may reach {value.peak:.4g} units of 2^{value.exponent}; "
            f"exact are those below {limit:,} only"
        )
    return value.moved()


def _to_integers(value: Exact, step: Step) -> Exact:
    least, most = type_range(step.kind)
    low, high = (value.as_real(end) for end in (value.low, value.high))
    if least - 1 < low and high < most + 1:
        return Exact(0, float(math.trunc(low)), float(math.trunc(high)))
    if step.real:
        raise NotExactError(f"it makes integers of {low:.4g} to {high:.4g} that cannot hold them")
    return of_type(step.kind)


def _quantize(step: Step) -> Exact:
    low, high = _whole(step.given(0).scaled(*inverse(_scales(step))))
    zero = _zero_points(step)
    least, most = type_range(step.kind)
    bounds = np.clip([low + zero.min(), high + zero.max()], least, most)
    return Exact(0, float(bounds[0]), float(bounds[1]))


def _dequantize(step: Step) -> Exact:
    value, zero = step.given(0), _zero_points(step)
    centred = Exact(0, value.low - float(zero.max()), value.high - float(zero.min()))
    if not centred.peak < limit_of(step.kind):
        raise NotExactError(f"its integers may reach {centred.peak:.4g}, too large to be exact")
    raw = Raw(step.kinds[0], value.peak) if step.kinds[0] in _EIGHT_BITS else None
    return replace(centred.scaled(*_scales(step)), raw=raw)


def _scales(step: Step) -> Powers:
    powers = powers_of_two(step.stored(1))
    if powers is None:
        raise NotExactError("its scale is no power of two")
    return powers


def _zero_points(step: Step) -> NDArray[np.float64]:
    return step.stored(2) if step.optional(2) is not None else np.zeros(1)


def _fill(step: Step) -> Exact:
    value = next((item.t for item in step.node.attribute if item.name == "value"), None)
    return of_array(np.zeros(1, np.float32) if value is None else numpy_helper.to_array(value)).moved()


def _refuse_kernels(step: Step) -> Exact:
    raise NotExactError(
        "its kernels may saturate; products of dequantised matrices are followed, this is not"
    )


def _any_integers(step: Step) -> Exact:
    return of_type(step.kind)


_MOVING = dict.fromkeys(
    (
        *("DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "MaxPool"),
        *("ReduceMax", "ReduceMin", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile"),
        *("Transpose", "Unsqueeze"),
    ),
    _move,
)

_INTEGER_RULES: dict[str, Callable[[Step], Exact]] = {
    **_MOVING,
    **dict.fromkeys(("ArgMax", "ArgMin"), _decide),
    **dict.fromkeys(("ConvInteger", "MatMulInteger"), _refuse_kernels),
    "Cast": _cast,
    "Concat": _join,
    "Pad": _pad,
    "Where": _where,
}
"""For operators whose inputs and outputs are all integers: those that keep bounds, or must not be taken
for granted."""

_RULES: dict[str, Callable[[Step], Exact]] = {
    **_INTEGER_RULES,
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"), _any_integers),
    **dict.fromkeys(("NonZero", "Shape", "Size"), _any_integers),
    **dict.fromkeys(("Ceil", "Floor", "Round"), _round),
    **dict.fromkeys(("Add", "Sub", "Sum"), add),
    **dict.fromkeys(PRODUCTS, product),
    "Abs": _absolute,
    "Clip": _clip,
    "ConstantOfShape": _fill,
    "DequantizeLinear": _dequantize,
    "Div": divide,
    "Max": _largest,
    "Min": _smallest,
    "Mul": multiply,
    "Neg": _negate,
    "QuantizeLinear": _quantize,
    "ReduceSum": reduce_sum,
    "Relu": _rectify,
}
