"""Which part of a graph INT8 is for: the products of the encoder, and those of the classifier.

Transmitter.  From ``indices`` back, the first products met are those with the codebooks; the products further
back, from which the latents come, are the encoder's.  (``mode`` ends the walk: a router stays as it is.)

Receiver.  What ``posterior`` and ``indices`` are made of is the decoder, and so are products of the decoder's
tensors, as the posterior mean of the codewords is one; the other products before ``logits`` are the
classifier's.

What is found is a matter of the graph alone, never of names of nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto

from twophase.export.graph import GraphView, attribute, node_inputs, subgraphs
from twophase.link.errors import ArtifactError

__all__ = [
    "PRODUCTS",
    "RESHAPING",
    "Product",
    "Rounding",
    "classifier_products",
    "encoder_products",
    "rounding_before",
]

PRODUCTS = frozenset({"Gemm", "MatMul"})
"""Operators that multiply with a matrix."""

_OTHER_PRODUCTS = frozenset(
    {"Attention", "Conv", "ConvTranspose", "DeformConv", "Einsum", "GRU", "LSTM", "RNN"}
    | {"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
)
RESHAPING = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that move values and change none."""


@dataclass(frozen=True, eq=False)
class Product:
    """A Gemm or MatMul of an activation with stored weights."""

    node: NodeProto
    weights: NDArray[np.float32]
    """Shape (in, out), or (out, in) if ``transposed``."""
    transposed: bool
    bias: NDArray[np.float32] | None
    """Shape (out,); None if the node adds none."""

    @property
    def source(self) -> str:
        """The tensor that is multiplied."""
        return str(self.node.input[0])

    @property
    def output(self) -> str:
        """The tensor that it makes."""
        return str(self.node.output[0])


@dataclass(frozen=True, eq=False)
class Rounding:
    """A tensor rounded to whole numbers 0..255 above a lowest one: Clip(Round(Mul(source, factor)))."""

    source: str
    step: float
    """1 / factor; a power of two."""
    lowest: int
    """0 or below, and not below -255; the largest is 255 more."""
    output: str
    nodes: tuple[NodeProto, ...]
    """Mul or Div, Round, Clip."""


def encoder_products(view: GraphView) -> tuple[Product, ...]:
    """Products of a transmitter's encoder, in the order of the graph.

    Raises
    ------
    ArtifactError
        If there are none, or the encoder has an operator that INT8 does not know.
    """
    searched: list[str] = []
    for node in _walk(view, ["indices"], {"mode"}, PRODUCTS):
        if node.op_type in PRODUCTS:
            searched.extend(name for name in node_inputs(node) if not view.is_constant(name, ("mode",)))
    return _products(view, _walk(view, searched, {"mode"}), "the encoder")


def classifier_products(view: GraphView) -> tuple[Product, ...]:
    """Products of a receiver's classifier, in the order of the graph.

    Raises
    ------
    ArtifactError
        As for ``encoder_products``.
    """
    kept = {name for node in _walk(view, ["posterior", "indices"], {"mode"}) for name in node.output if name}

    def decodes(node: NodeProto) -> bool:
        product = node.op_type in PRODUCTS or node.op_type in _OTHER_PRODUCTS
        return bool(kept & (set(node.output) | (node_inputs(node) if product else set())))

    walked = _walk(view, ["logits"], {"mode"})
    return _products(view, [node for node in walked if not decodes(node)], "the classifier")


def rounding_before(view: GraphView, name: str) -> Rounding | None:
    """The rounding to whole numbers that a tensor comes from, reshaped or not; None if it comes from none."""
    node = view.producer(name)
    while node is not None and node.op_type in RESHAPING:
        node = view.producer(node.input[0])
    if node is None or node.op_type != "Clip" or len(node.input) != 3:
        return None
    low, high = _scalar(view, node.input[1]), _scalar(view, node.input[2])
    rounded = view.producer(node.input[0])
    if low is None or high is None or rounded is None or rounded.op_type != "Round":
        return None
    scaled = view.producer(rounded.input[0])
    found = None if scaled is None else _scaling(view, scaled)
    if scaled is None or found is None:
        return None
    source, step = found
    if high - low != 255 or low != np.rint(low) or not -255 <= low <= 0:
        return None
    return Rounding(source, step, int(low), str(node.output[0]), (scaled, rounded, node))


def _scaling(view: GraphView, node: NodeProto) -> tuple[str, float] | None:
    """What a Mul or Div by a stored power of two scales, and by how much it divides."""
    if node.op_type not in ("Mul", "Div"):
        return None
    constants = [_scalar(view, name) for name in node.input]
    if node.op_type == "Div" and constants[0] is not None:
        return None
    for constant, source in zip(constants, reversed(node.input), strict=True):
        if constant is not None and constant > 0 and np.frexp(constant)[0] == 0.5:
            return source, 1 / constant if node.op_type == "Mul" else constant
    return None


def _scalar(view: GraphView, name: str) -> float | None:
    value = view.stored(name) if name else None
    return float(value.reshape(())) if value is not None and value.size == 1 else None


def _walk(
    view: GraphView, names: Iterable[str], stop: Collection[str], last: Collection[str] = ()
) -> list[NodeProto]:
    """Nodes that tensors are made from, in the order of the graph; nothing behind an operator of ``last``."""
    found: set[str] = set()
    seen = set(stop)
    stack = list(names)
    while stack:
        name = stack.pop()
        node = view.producer(name)
        if name in seen or node is None:
            continue
        seen.update(node.output)
        found.update(node.output)
        if node.op_type not in last:
            stack.extend(node_inputs(node))
    return [node for node in view.model.graph.node if found & set(node.output)]


def _products(view: GraphView, nodes: Iterable[NodeProto], where: str) -> tuple[Product, ...]:
    """The products among ``nodes``; every one must be of a kind that can be made INT8."""
    products = []
    for node in nodes:
        if node.op_type in _OTHER_PRODUCTS or any(True for _ in subgraphs(node)) or node.domain:
            raise ArtifactError(
                f"{where} has {node.op_type} ('{node.name}'): INT8 knows Gemm and MatMul only"
            )
        if node.op_type in PRODUCTS:
            products.append(_product(view, node, where))
    if not products:
        raise ArtifactError(f"{where} has no product with stored weights: nothing can be made INT8")
    return tuple(products)


def _product(view: GraphView, node: NodeProto, where: str) -> Product:
    label = f"{node.op_type} ('{node.name}') of {where}"
    weights = _matrix(view, node.input[1], 2)
    if weights is None:
        raise ArtifactError(f"{label} must multiply with a stored float32 matrix, not '{node.input[1]}'")
    factors: dict[str, Any] = {
        item.name: item.f for item in node.attribute if item.type == AttributeProto.FLOAT
    }
    if attribute(node, "transA", 0) or any(factor != 1.0 for factor in factors.values()):
        raise ArtifactError(f"{label} must neither transpose nor scale what it multiplies")
    bias = None
    transposed = bool(attribute(node, "transB", 0))
    if len(node.input) > 2 and node.input[2]:
        bias = _matrix(view, node.input[2], 1)
        if bias is None or bias.shape != (weights.shape[0 if transposed else 1],):
            raise ArtifactError(f"{label} must add a stored float32 vector, not '{node.input[2]}'")
    return Product(node, weights, transposed, bias)


def _matrix(view: GraphView, name: str, axes: int) -> NDArray[np.float32] | None:
    values = view.stored(name)
    return values if values is not None and values.dtype == np.float32 and values.ndim == axes else None
