"""The backbone in INT8: its weights are stored in 8 bits, and everything is computed in float32.

Stored matrices of products are rounded to 127 steps on either side of zero, with a step for each column and
each ``_BLOCK`` rows; embedding tables with a step for each column.  Numbers are made of them again by Cast
and Mul, in front of the product or after the look-up.

Not by DequantizeLinear: ONNX Runtime (1.31 tried) fuses one before a MatMul into a product that rounds the
activations to 8 bits as well, by default and without being asked, while another runtime, or the same one
without optimisation, does not.  Features of the default backbone, whose standard deviation is 0.2, then
differ by up to 0.03 between the two; with Cast and Mul the two agree to 1e-6.  What is folded when the
graph is loaded takes the memory of float32 and runs as fast: 7.5 ms for a sentence of 27 tokens on one core
against 7.9 ms in float32, and 5.7 ms with DequantizeLinear and rounded activations.  Tables are not folded.

Features of the same backbone in INT8 differ from those in float32 by 2.3 % of their standard deviation, by
3.2 % without blocks.  A step for each row of a table in the place of each column, or steps of least squared
error, gain nothing.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from twophase.export.graphs.view import REAL_TYPES, attribute
from twophase.export.int8.nodes import INT8_IR_VERSION, INT8_OPSET, check_opset
from twophase.link.errors import ArtifactError

__all__ = ["check_weights", "quantise_weights"]

_REAL_NUMBERS, _REAL_SHARE = 65_536, 16
"""A backbone in INT8 may store so many real numbers, and one more for so many of int8: scales and biases."""

_SMALLEST = 32
"""Matrices of fewer numbers stay as they are."""

_BLOCK = 64
"""Rows of a matrix that share a step, where their number is a multiple of it."""

_STEPS = 127


def quantise_weights(backbone: ModelProto) -> ModelProto:
    """The INT8 form of a backbone; a copy, at the operator set of INT8 graphs.

    ``ArtifactError`` if it has no weight to quantise, or an operator whose meaning depends on that set.
    """
    check_opset(backbone)
    result = deepcopy(backbone)
    graph = result.graph
    matrices = {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT
        and len(tensor.dims) == 2
        and np.prod(tensor.dims) >= _SMALLEST
    }
    stored: dict[str, TensorProto] = {}
    nodes: list[NodeProto] = []
    made: set[str] = set()
    for node in backbone.graph.node:
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in matrices:
            name = node.input[1]
            if name not in made:
                made.add(name)
                columns_first = attribute(node, "transB", 0) == 1
                values = numpy_helper.to_array(matrices[name])
                nodes += _product_weights(name, values, stored, columns_first=columns_first)
            copy = deepcopy(node)
            copy.input[1] = f"{name}_restored"
            nodes.append(copy)
        elif node.op_type == "Gather" and attribute(node, "axis", 0) == 0 and node.input[0] in matrices:
            nodes += _look_up(node, numpy_helper.to_array(matrices[node.input[0]]), stored)
        else:
            nodes.append(deepcopy(node))
    if not stored:
        raise ArtifactError("the backbone has no matrix to quantise: no MatMul or Gather of a stored one")
    needed = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in backbone.graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:], graph.value_info[:], result.opset_import[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *stored.values()])
    result.opset_import.append(helper.make_opsetid("", INT8_OPSET))
    result.ir_version = INT8_IR_VERSION
    return result


def check_weights(whole: ModelProto, head: ModelProto) -> list[str]:
    """Problems of what the backbone of a whole stores, which is to be INT8; the head is checked by itself."""
    of_head = {tensor.name for tensor in head.graph.initializer}
    ours = [tensor for tensor in whole.graph.initializer if tensor.name not in of_head]

    def numbers(kinds: frozenset[int]) -> int:
        return sum(int(np.prod(tensor.dims)) for tensor in ours if tensor.data_type in kinds)

    in_steps, real = numbers(frozenset({TensorProto.INT8})), numbers(REAL_TYPES)
    if real <= _REAL_NUMBERS + in_steps // _REAL_SHARE and in_steps:
        return []
    return [f"the backbone stores {real:,} real numbers next to {in_steps:,} of int8"]


def _product_weights(
    name: str, values: NDArray[np.float32], stored: dict[str, TensorProto], *, columns_first: bool
) -> list[NodeProto]:
    """Nodes that make ``NAME_restored`` of int8; steps are those of an output of the product."""
    summed = values.shape[1 if columns_first else 0]
    block = _BLOCK if summed % _BLOCK == 0 else summed
    if columns_first:
        steps, scale = _rounded(values.reshape(len(values), -1, block), axis=2)
    else:
        steps, scale = _rounded(values.reshape(-1, block, values.shape[1]), axis=1)
    for what, array in (("int8", steps), ("scale", scale), ("shape", np.array(values.shape))):
        stored[f"{name}_{what}"] = numpy_helper.from_array(array, f"{name}_{what}")
    return [
        _node("Cast", [f"{name}_int8"], f"{name}_steps", to=TensorProto.FLOAT),
        _node("Mul", [f"{name}_steps", f"{name}_scale"], f"{name}_blocks"),
        _node("Reshape", [f"{name}_blocks", f"{name}_shape"], f"{name}_restored"),
    ]


def _look_up(node: NodeProto, values: NDArray[np.float32], stored: dict[str, TensorProto]) -> list[NodeProto]:
    """Nodes that look rows up in int8 and make what ``node`` makes."""
    name, output = node.input[0], node.output[0]
    steps, scale = _rounded(values, axis=0)
    stored[f"{name}_int8"] = numpy_helper.from_array(steps, f"{name}_int8")
    stored[f"{name}_scale"] = numpy_helper.from_array(scale[0], f"{name}_scale")
    copy = deepcopy(node)
    copy.input[0], copy.output[0], copy.name = f"{name}_int8", f"{output}_int8", f"node_{output}_int8"
    return [
        copy,
        _node("Cast", [f"{output}_int8"], f"{output}_steps", to=TensorProto.FLOAT),
        _node("Mul", [f"{output}_steps", f"{name}_scale"], output),
    ]


def _rounded(values: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Steps, and the size of a step, one for all numbers along an axis."""
    largest = np.abs(values).max(axis=axis, keepdims=True)
    scale = np.where(largest > 0, largest / _STEPS, 1.0).astype(np.float32)
    return np.clip(np.rint(values / scale), -_STEPS, _STEPS).astype(np.int8), scale


def _node(operator: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs, [output], name=f"node_{output}", **attributes)
