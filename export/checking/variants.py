"""Variants of a transmitter, made by rewriting its graph, to see what another arithmetic would change.

They are for measuring only; none of them is shipped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from twophase.export.exactness.sums import PRODUCTS
from twophase.export.graph import GraphView, node_inputs

__all__ = ["opened", "products_between", "rounding_of", "with_float16", "with_int8"]

_MOVING = frozenset({"Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
_CLIPPING = frozenset({"Clip", "Max", "Min"})

_TINY = float(np.finfo(np.float32).tiny)

_STEPS = 255
"""An 8-bit number tells this many steps apart."""


def products_between(view: GraphView, names: Collection[str], stop: Collection[str]) -> list[NodeProto]:
    """Products of real matrices that tensors are made with, in the order of the graph, not past ``stop``."""
    seen = set(stop)
    found: set[str] = set()
    stack = [name for name in names if name not in seen]
    while stack:
        name = stack.pop()
        node = view.producer(name)
        if name in seen or node is None:
            continue
        seen.add(name)
        if node.op_type in PRODUCTS and view.element_type(name) == TensorProto.FLOAT:
            found.add(name)
        stack.extend(node_inputs(node))
    return [node for node in view.model.graph.node if node.output[0] in found]


def rounding_of(view: GraphView, latents: str) -> str:
    """The tensor that is rounded to whole latents; ``latents`` itself if nothing rounds them."""
    name = latents
    while (node := view.producer(name)) is not None:
        if node.op_type == "Round":
            return str(node.input[0])
        varying = [source for source in node.input if source and not view.is_constant(source)]
        if node.op_type not in _MOVING | _CLIPPING or len(varying) != 1:
            break
        name = varying[0]
    return latents


def opened(view: GraphView, name: str) -> tuple[ModelProto, str]:
    """The model with a tensor as one more input, in the place of what makes it; and that input's name."""
    model = _copy(view)
    given = f"{name}_given"
    for node in model.graph.node:
        for position, source in enumerate(node.input):
            if source == name:
                node.input[position] = given
    model.graph.input.append(
        helper.make_tensor_value_info(given, view.element_type(name), [None] * len(view.shape(name) or ()))
    )
    return model, given


def with_float16(view: GraphView, products: Collection[str]) -> ModelProto:
    """Operands and results of some products, named by what they make, rounded to float16; sums are not."""

    def through_half(source: str, target: str) -> list[NodeProto]:
        return [
            helper.make_node("Cast", [source], [f"{target}_half"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", [f"{target}_half"], [target], to=TensorProto.FLOAT),
        ]

    def rewrite(node: NodeProto) -> list[NodeProto]:
        made, before = node.output[0], []
        for position, source in enumerate(node.input):
            if source:
                node.input[position] = f"{made}_operand_{position}"
                before += through_half(source, node.input[position])
        node.output[0] = f"{made}_single"
        return [*before, node, *through_half(f"{made}_single", made)]

    return _rewritten(view, products, rewrite, {})


def with_int8(view: GraphView, ranges: Mapping[str, tuple[float, float]]) -> ModelProto:
    """Products, by what they make, with weights and activations rounded to 8 bits.

    Each tensor is rounded to whole multiples of one step: the activation (first operand) to the 256 that
    cover its range, ``ranges[product]``, the stored weights to the 255 that cover their largest magnitude.
    """
    stored: dict[str, NDArray[np.float32]] = {}

    def rewrite(node: NodeProto) -> list[NodeProto]:
        made = node.output[0]
        low, high = ranges[made]
        step = max(high - low, _TINY) / _STEPS
        names = {
            "step": step,
            "least": np.rint(low / step),
            "most": np.rint(low / step) + _STEPS,
        }
        for key, value in names.items():
            stored[f"{made}_{key}"] = np.array(value, dtype=np.float32)
        source, target = node.input[0], f"{made}_rounded"
        node.input[0] = target
        before = [
            helper.make_node("Div", [source, f"{made}_step"], [f"{target}_units"]),
            helper.make_node("Round", [f"{target}_units"], [f"{target}_whole"]),
            helper.make_node(
                "Clip", [f"{target}_whole", f"{made}_least", f"{made}_most"], [f"{target}_clipped"]
            ),
            helper.make_node("Mul", [f"{target}_clipped", f"{made}_step"], [target]),
        ]
        weights = view.stored(node.input[1])
        if weights is not None:
            unit = max(float(np.abs(weights).max()), _TINY) / (_STEPS // 2)
            node.input[1] = f"{made}_weights"
            stored[node.input[1]] = (np.rint(weights / unit) * unit).astype(np.float32)
        return [*before, node]

    return _rewritten(view, ranges, rewrite, stored)


def _rewritten(
    view: GraphView,
    products: Collection[str],
    rewrite: Callable[[NodeProto], list[NodeProto]],
    stored: Mapping[str, NDArray[np.float32]],
) -> ModelProto:
    """A copy with some nodes, named by what they make, replaced; ``stored`` may be filled meanwhile."""
    model = _copy(view)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        copy = NodeProto.FromString(node.SerializeToString())
        nodes += rewrite(copy) if node.output[0] in products else [copy]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in stored.items())
    return model


def _copy(view: GraphView) -> ModelProto:
    model = ModelProto()
    model.CopyFrom(view.model)
    return model
