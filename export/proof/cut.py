"""Proof that nothing after the decisions depends on how the codewords of several tokens combine.

Every tensor is given what it may be a function of, sample by sample (axis 0 is the batch throughout):

FIXED   nothing
MODE    the sample's mode
INDEX   in each entry, the index of one token (and the mode); moved, clipped, padded, but never computed with
TOKEN   in each entry, the index of one token (and the mode): entries of stored tables, looked up by INDEX
SUM     a sum over tokens of functions of one index each (and of the mode), modulo a power of two
SIZE    a shape, that is, the size of the batch: it may only be that of a block of one stored number

Only operators whose effect on this is known may stand here.  None of them compares, branches on or multiplies
two tensors that depend on indices, and none looks anything up by a SUM: given the mode, every entry is

    f(i_1, ..., i_T) = f(0, ..., 0) + sum_t [ f(0, ..., i_t, ..., 0) - f(0, ..., 0) ]

So the values at every codeword at every token, with the other tokens at 0, determine all others.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum

from onnx import NodeProto

from twophase.export.graphs.view import INTEGER_TYPES, GraphView, attribute, node_inputs

__all__ = ["Kind", "problems_of_combining"]


class Kind(IntEnum):
    """What a tensor may be a function of, see above."""

    FIXED = 0
    MODE = 1
    INDEX = 2
    TOKEN = 3
    SUM = 4
    SIZE = 5


_BY_MODE = frozenset(
    {"Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mod"}
    | {"Mul", "Not", "Or", "Sub", "Xor"}
)
"""Entry by entry, and so a function of the mode where all inputs are."""

_MOVES = frozenset(
    {"Concat", "Expand", "Flatten", "Identity", "Pad", "Reshape", "Slice", "Squeeze", "Transpose"}
    | {"Unsqueeze"}
)
"""They move entries and leave them as they are."""

_SHAPES = frozenset({"Shape", "Size"})


class _UnknownError(Exception):
    """Why it is not known what a tensor depends on."""


def problems_of_combining(
    view: GraphView, given: Mapping[str, Kind], outputs: Collection[str], most: Kind
) -> list[str]:
    """Why ``outputs`` may depend on combinations of indices: one sentence for each node at fault.

    The walk from ``outputs`` ends at ``given``, tensors with the batch as axis 0; nothing else may vary.
    ``most`` is the last kind that ``outputs`` may be of.
    """
    leaks = view.sources(outputs, given, shapes="none")
    if leaks:
        return [f"'{name}' is computed from the input '{leak}'" for name in outputs for leak in sorted(leaks)]
    kinds = dict(given)
    problems = []
    for node in view.makers(outputs, given, _SHAPES):
        kind = max((kinds.get(name, Kind.FIXED) for name in node_inputs(node)), default=Kind.FIXED)
        if node.op_type in _SHAPES:
            kind = Kind.SIZE
        elif kind is not Kind.FIXED:
            try:
                kind = _kind_of(view, node, kinds)
            except _UnknownError as error:
                problems.append(f"{node.op_type} ('{node.name}') {error}")
        kinds.update(dict.fromkeys(node.output, kind))
    if problems:
        return problems
    return [
        f"'{name}' is computed with indices ({kinds[name].name}, not {most.name})"
        for name in outputs
        if kinds.get(name, Kind.FIXED) > most
    ]


def _kind_of(view: GraphView, node: NodeProto, kinds: Mapping[str, Kind]) -> Kind:
    """The kind of what a node with varying inputs gives."""
    operator = node.op_type
    inputs = [kinds.get(name, Kind.FIXED) for name in node.input]
    highest = max(inputs, default=Kind.FIXED)
    if node.domain not in ("", "ai.onnx") or any(
        function.domain in ("", "ai.onnx") and function.name == operator for function in view.model.functions
    ):
        raise _UnknownError("is no operator of ONNX")
    if highest is Kind.SIZE:
        is_block = inputs == [Kind.FIXED, Kind.SIZE] and _entries(view, node.input[0], 0) == 1
        _check(
            inputs == [Kind.SIZE] if operator == "ConstantOfShape" else operator == "Expand" and is_block,
            "computes with the size of the batch",
        )
        return Kind.MODE
    if operator in _MOVES:
        _check_move(view, node, inputs)
        return highest
    if operator in ("Gather", "GatherElements", "GatherND"):
        return _kind_of_gather(view, node, inputs)
    if operator == "ReduceSum":
        if highest not in (Kind.TOKEN, Kind.SUM):
            raise _UnknownError("adds up what no table was looked up for")
        _check(0 not in _stored_axes(view, node), "adds up samples of the batch")
        return Kind.SUM
    if operator == "Cast":
        _check(attribute(node, "to", 0) in INTEGER_TYPES, "leaves the integers")
        _check(highest <= Kind.TOKEN, "casts a sum, which may have wrapped around")
        return highest
    _check_rows(view, node, kinds)
    if operator == "Where":
        _check(inputs[0] <= Kind.MODE, "branches on indices: only the mode may decide")
        return highest
    if operator in ("Clip", "Max", "Min") and sorted(inputs)[-2:-1] in ([], [Kind.FIXED]):
        _check(highest <= Kind.TOKEN, "clips a sum")
        return highest
    if operator in _BY_MODE and highest is Kind.MODE:
        return highest
    if operator == "Mul" and highest in (Kind.TOKEN, Kind.SUM):
        _check(min(inputs) <= Kind.MODE, "multiplies two tensors that depend on indices")
        return highest
    raise _UnknownError(
        f"computes with {'indices' if highest is Kind.INDEX else 'what depends on indices'}: "
        "only moves, table look-ups and weighted sums after them are known to keep tokens apart"
    )


def _kind_of_gather(view: GraphView, node: NodeProto, inputs: Sequence[Kind]) -> Kind:
    data, chosen = inputs
    if node.op_type == "GatherND":
        is_plain = len(_shape(view, node.input[1])) > 1 and not attribute(node, "batch_dims", 0)
        _check(inputs == [Kind.FIXED, Kind.MODE] and is_plain, "looks up by more than the mode")
        return Kind.MODE
    axis = _counted(view, node.input[0], attribute(node, "axis", 0))
    if node.op_type == "Gather" and data is Kind.FIXED and chosen in (Kind.MODE, Kind.INDEX):
        _check(axis == 0, "looks up along another axis than the first of its table")
        return Kind.MODE if chosen is Kind.MODE else Kind.TOKEN
    if node.op_type == "Gather":
        _check(chosen is Kind.FIXED, "looks up by more than stored numbers, and not in a table")
    else:
        _check(data > Kind.FIXED and chosen is Kind.MODE, "looks up by more than the mode")
    _check(axis != 0, "mixes samples of the batch")
    return max(data, chosen)


def _check_rows(view: GraphView, node: NodeProto, kinds: Mapping[str, Kind]) -> None:
    """Samples must meet samples in an operator that works entry by entry, and broadcasts."""
    rank = len(_shape(view, node.output[0]))
    for name in filter(None, node.input):
        shape = _shape(view, name)
        if kinds.get(name, Kind.FIXED) is Kind.FIXED:
            _check(len(shape) < rank or shape[:1] in ((), (1,)), "has stored numbers for each sample")
        else:
            _check(len(shape) == rank, "mixes samples of the batch")


def _check_move(view: GraphView, node: NodeProto, inputs: Sequence[Kind]) -> None:
    """Axis 0 must stay the batch, and where entries go may not depend on anything."""
    operator, source = node.op_type, node.input[0]
    rank = len(_shape(view, source))
    if operator == "Concat":
        _check(_counted(view, source, attribute(node, "axis", 0)) != 0, "mixes samples of the batch")
        return
    _check(max(inputs[1:], default=Kind.FIXED) is Kind.FIXED, "moves entries by more than stored numbers")
    keeps = True
    if operator == "Flatten":
        keeps = attribute(node, "axis", 1) == 1
    elif operator == "Transpose":
        order = next((list(item.ints) for item in node.attribute if item.name == "perm"), [-1])
        keeps = order[0] == 0
    elif operator in ("Squeeze", "Unsqueeze"):
        keeps = 0 not in _stored_axes(view, node)
    elif operator == "Slice":
        keeps = 0 not in _stored_axes(view, node, 3)
    elif operator == "Pad":
        pads = _stored(view, node, 1)
        _check(all(item.s == b"constant" for item in node.attribute if item.name == "mode"), "copies entries")
        if len(node.input) > 3 and node.input[3]:
            keeps = 0 not in _stored_axes(view, node, 3)
        else:
            keeps = pads[0] == pads[rank] == 0
    elif operator == "Expand":
        target = _stored(view, node, 1)
        keeps = len(target) < rank or (len(target) == rank and target[0] == 1)
    elif operator == "Reshape":
        target, size = _stored(view, node, 1), _entries(view, source, 1)
        keeps = target[:1] in ([-1], [0]) and min(target[1:], default=1) > 0 < size == math.prod(target[1:])
    _check(keeps, "mixes samples of the batch, or may")


def _check(is_known: bool, otherwise: str) -> None:
    if not is_known:
        raise _UnknownError(otherwise)


def _shape(view: GraphView, name: str) -> tuple[int | None, ...]:
    stored = view.stored(name)
    shape = view.shape(name) if stored is None else stored.shape
    if shape is None:
        raise _UnknownError(f"has '{name}', of which the number of axes is not known")
    return shape


def _entries(view: GraphView, name: str, first: int) -> int:
    """Entries along the axes from ``first`` on; 0 if one is free."""
    return math.prod(axis or 0 for axis in _shape(view, name)[first:])


def _counted(view: GraphView, name: str, axis: int) -> int:
    """An axis of a tensor, counted from the first."""
    return axis % len(_shape(view, name))


def _stored(view: GraphView, node: NodeProto, position: int) -> list[int]:
    values = view.stored(node.input[position]) if len(node.input) > position else None
    if values is None:
        raise _UnknownError("needs stored axes, shapes and widths")
    return [int(value) for value in values.reshape(-1)]


def _stored_axes(view: GraphView, node: NodeProto, position: int = 1) -> list[int]:
    axes = _stored(view, node, position)
    _check(bool(axes), "needs stored axes, shapes and widths")
    tensor = node.output[0] if node.op_type == "Unsqueeze" else node.input[0]
    return [_counted(view, tensor, axis) for axis in axes]
