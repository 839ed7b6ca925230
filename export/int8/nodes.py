"""INT8 graphs in QDQ form: which products are made INT8, and the nodes that do it, at opset 21.

A product in QDQ form multiplies what two DequantizeLinear give, one after a QuantizeLinear of the activation
and one of stored uint8 weights; a runtime computes it with integers.  All types are uint8: with uint8
activations and int8 weights, AVX2 saturates its 16-bit sums.  All scales are powers of two, stored, and one
for a whole tensor, so that the scaling is exact on every machine, fused into an integer product or not.

INT8 is for the products of the encoder and those of the classifier, found by the graph alone, never by names:

transmitter  from ``indices`` back, the first products met are those with the codebooks; the products further
             back, from which the latents come, are the encoder's.  (``mode`` ends the walk: a router stays.)
receiver     what ``posterior`` and ``indices`` are made of is the decoder, and so are products of the
             decoder's tensors, as the posterior mean of the codewords is one; the other products before
             ``logits`` are the classifier's.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from twophase.export.graphs.view import RESHAPING, GraphView, all_nodes, attribute, node_inputs, subgraphs
from twophase.export.proof.exact_sums import PRODUCTS
from twophase.link.errors import ArtifactError

__all__ = [
    "INT8_IR_VERSION",
    "INT8_OPSET",
    "WEIGHT_ZERO_POINT",
    "NodeWriter",
    "Product",
    "Rounding",
    "check_opset",
    "classifier_products",
    "encoder_products",
    "maker_before_reshaping",
    "power_of_two_scale",
    "rounding_before",
]

INT8_OPSET = 21
"""Operator set of INT8 graphs."""

INT8_IR_VERSION = 10
"""Version of the file format: the one that belongs to opset 21."""

WEIGHT_ZERO_POINT = 128
"""What stands for a weight of zero; weights are -127..127 steps."""

_WIDENED = frozenset(
    {"Cast", "Constant", "ConstantOfShape", "Equal", "Flatten", "Identity", "Pad", "ReduceMax", "ReduceMin"}
    | {"Reshape", "Shape", "Size", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators whose definition changed between opsets 18 and 21 by additions only: types, and a mode of Pad."""


def power_of_two_scale(largest: float, steps: int) -> float:
    """The smallest power of two of which ``steps`` reach ``largest``; 1 for 0.

    >>> power_of_two_scale(1.0, 127), power_of_two_scale(127.0, 127)
    (0.015625, 1.0)
    """
    if largest == 0.0:
        return 1.0
    mantissa, exponent = np.frexp(largest / steps)
    return float(np.ldexp(1.0, int(exponent) - (mantissa == 0.5)))


class NodeWriter:
    """Nodes and stored tensors that are added to a graph, under names that it does not use yet."""

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._taken = {name for node in model.graph.node for name in (*node.input, *node.output, node.name)}
        self._taken |= {tensor.name for tensor in model.graph.initializer}
        self._taken |= {value.name for value in model.graph.input}
        self._stored: dict[str, NDArray[np.generic]] = {}
        self._nodes: dict[str, NodeProto] = {}

    def store(self, name: str, values: NDArray[np.generic]) -> str:
        """Store a tensor; the same name with the same values is stored once."""
        own = self._free(name)
        if own in self._stored and not np.array_equal(self._stored[own], values):
            raise ArtifactError(f"two tensors of the INT8 graph are called '{own}'")
        self._stored[own] = values
        return own

    def node(self, operator: str, inputs: list[str], output: str) -> str:
        """Add a node that makes ``output``, in the place of one that was added for it before."""
        self._nodes[output] = helper.make_node(operator, inputs, [output], name=self._free(f"node_{output}"))
        return output

    def quantize(self, source: str, scale: float, zero_point: int, name: str) -> str:
        """uint8 of a tensor."""
        output = self._free(name)
        return self.node("QuantizeLinear", [source, *self._step(scale, zero_point)], output)

    def dequantize(self, source: str, scale: float, zero_point: int, output: str) -> str:
        """float32 of a uint8 tensor; ``output`` may be the name of a tensor that it takes the place of."""
        return self.node("DequantizeLinear", [source, *self._step(scale, zero_point)], output)

    def weights(self, name: str, values: NDArray[np.float32], scale: float) -> str:
        """Weights as uint8 around ``WEIGHT_ZERO_POINT`` after a DequantizeLinear."""
        steps = np.rint(values.astype(np.float64) / scale)
        if np.abs(steps).max() > 127:
            raise ArtifactError(f"the weights '{name}' reach {np.abs(steps).max():.0f} steps, not 127")
        stored = self.store(f"{name}_uint8", (steps + WEIGHT_ZERO_POINT).astype(np.uint8))
        return self.dequantize(stored, scale, WEIGHT_ZERO_POINT, self._free(f"{name}_dequantized"))

    def bias(self, name: str, values: NDArray[np.float32], scale: float) -> str:
        """A bias as int32 after a DequantizeLinear; its scale is that of the products it is added to."""
        steps = np.rint(values.astype(np.float64) / scale)
        if np.abs(steps).max() >= 1 << 31:
            raise ArtifactError(f"the bias '{name}' does not fit int32 in steps of {scale:g}")
        # one bias may be added to products of several scales
        own = f"{name}_{_spelled(scale)}"
        stored = self.store(f"{own}_int32", steps.astype(np.int32))
        inputs = [stored, self.number(f"scale_{_spelled(scale)}", scale)]
        return self.node("DequantizeLinear", inputs, self._free(f"{own}_dequantized"))

    def number(self, name: str, value: float) -> str:
        """A stored float32."""
        return self.store(name, np.array(value, dtype=np.float32))

    def model(self, replaced: dict[str, NodeProto], dropped: set[str]) -> ModelProto:
        """The graph with the nodes added, at opset 21, checked.

        ``replaced`` are nodes that take the place of others, by the first output of those; ``dropped`` the
        first outputs of nodes that go.  Errors as of ``check_opset``.
        """
        check_opset(self._model)
        result = deepcopy(self._model)
        graph = result.graph
        rest = [node for node in self._model.graph.node if node.output[0] not in dropped]
        pending = [*(replaced.get(node.output[0], node) for node in rest), *self._nodes.values()]
        tensors = {tensor.name: tensor for tensor in self._model.graph.initializer}
        tensors |= {name: numpy_helper.from_array(values, name) for name, values in self._stored.items()}
        ordered = _sorted(pending, {*tensors, *(value.name for value in graph.input)})
        needed = {name for node in ordered for name in node_inputs(node)}
        needed |= {value.name for value in (*graph.input, *graph.output)}
        copies = [TensorProto.FromString(t.SerializeToString()) for n, t in tensors.items() if n in needed]
        nodes = [NodeProto.FromString(node.SerializeToString()) for node in ordered]
        del graph.node[:], graph.initializer[:], graph.value_info[:], result.opset_import[:]
        graph.node.extend(nodes)
        graph.initializer.extend(copies)
        result.opset_import.append(helper.make_opsetid("", INT8_OPSET))
        result.ir_version = INT8_IR_VERSION
        onnx.checker.check_model(result, full_check=True)
        return result

    def _step(self, scale: float, zero_point: int) -> list[str]:
        return [
            self.number(f"scale_{_spelled(scale)}", scale),
            self.store(f"zero_point_{zero_point}", np.array(zero_point, dtype=np.uint8)),
        ]

    def _free(self, name: str) -> str:
        """The name, longer if the graph has it already."""
        while name in self._taken:
            name += "_int8"
        return name


def _spelled(scale: float) -> str:
    """A power of two as a part of a name: ``2e-3`` for 1/8."""
    return f"2e{int(np.log2(scale))}"


def _sorted(nodes: list[NodeProto], known: set[str]) -> list[NodeProto]:
    """Nodes in an order in which each finds its inputs; otherwise as they stand."""
    ordered: list[NodeProto] = []
    makers = {name: node for node in nodes for name in node.output}
    done = known | {""}

    def place(node: NodeProto) -> None:
        if set(node.output) <= done:
            return
        for name in sorted(node_inputs(node)):
            if name not in done:
                place(makers[name])
        ordered.append(node)
        done.update(node.output)

    for node in nodes:
        place(node)
    return ordered


def check_opset(model: ModelProto) -> None:
    """``ArtifactError`` if a graph has an operator whose meaning may change between its opset and 21."""
    (given,) = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if given > INT8_OPSET:
        raise ArtifactError(f"the graph is of opset {given}: INT8 graphs are of {INT8_OPSET}")
    changed = sorted(
        {
            node.op_type
            for node in all_nodes(model)
            if not node.domain
            and node.op_type not in _WIDENED
            and onnx.defs.get_schema(node.op_type, INT8_OPSET, "").since_version > given
        }
    )
    if changed:
        raise ArtifactError(
            f"the definition of {', '.join(changed)} changed between opsets {given} and {INT8_OPSET}"
        )


_OTHER_PRODUCTS = frozenset(
    {"Attention", "Conv", "ConvTranspose", "DeformConv", "Einsum", "GRU", "LSTM", "RNN"}
    | {"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
)


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
    """A tensor rounded to whole numbers 0..255 above a lowest one: Clip(Round(Mul(source, factor))).

    Where no one factor scales the tensor, it is its own source, and the step 1.
    """

    source: str
    step: float
    """1 / factor; a power of two."""
    lowest: int
    """0 or below, and not below -255; the largest is 255 more."""
    output: str
    nodes: tuple[NodeProto, ...]
    """Mul or Div if there is one, Round, Clip."""


def encoder_products(view: GraphView) -> tuple[Product, ...]:
    """Products of a transmitter's encoder, in the order of the graph.

    ``ArtifactError`` if there are none, or the encoder has an operator that INT8 does not know.
    """
    searched: list[str] = []
    for node in view.makers(["indices"], {"mode"}, PRODUCTS):
        if node.op_type in PRODUCTS:
            searched.extend(name for name in node_inputs(node) if not view.is_constant(name, ("mode",)))
    return _products(view, view.makers(searched, {"mode"}), "the encoder")


def classifier_products(view: GraphView) -> tuple[Product, ...]:
    """Products of a receiver's classifier, in the order of the graph; errors as of ``encoder_products``."""
    kept = {name for node in view.makers(["posterior", "indices"], {"mode"}) for name in node.output if name}

    def decodes(node: NodeProto) -> bool:
        product = node.op_type in PRODUCTS or node.op_type in _OTHER_PRODUCTS
        return bool(kept & (set(node.output) | (node_inputs(node) if product else set())))

    walked = view.makers(["logits"], {"mode"})
    return _products(view, [node for node in walked if not decodes(node)], "the classifier")


def maker_before_reshaping(view: GraphView, name: str) -> NodeProto | None:
    """The node whose values a tensor holds, reshaped or not; None if they are given or stored."""
    node = view.producer(name)
    while node is not None and node.op_type in RESHAPING:
        node = view.producer(node.input[0])
    return node


def rounding_before(view: GraphView, name: str) -> Rounding | None:
    """The rounding to whole numbers that a tensor comes from, reshaped or not; None if it comes from none."""
    node = maker_before_reshaping(view, name)
    if node is None or node.op_type != "Clip" or len(node.input) != 3:
        return None
    low, high = _scalar(view, node.input[1]), _scalar(view, node.input[2])
    rounded = view.producer(node.input[0])
    if low is None or high is None or rounded is None or rounded.op_type != "Round":
        return None
    scaled = view.producer(rounded.input[0])
    found = None if scaled is None else _scaling(view, scaled)
    if high - low != 255 or low != np.rint(low) or not -255 <= low <= 0:
        return None
    if scaled is None or found is None:
        return Rounding(str(rounded.input[0]), 1.0, int(low), str(node.output[0]), (rounded, node))
    return Rounding(*found, int(low), str(node.output[0]), (scaled, rounded, node))


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
    factors = [item.f for item in node.attribute if item.type == AttributeProto.FLOAT]
    if attribute(node, "transA", 0) or any(factor != 1.0 for factor in factors):
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
