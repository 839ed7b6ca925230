"""The account of an INT8 graph: every node is one of the original, or belongs to a product in QDQ form.

Nothing is taken from names of nodes or from how the graph was made.  The products that have to be INT8 are
those that ``nodes`` finds in the original; each is looked up by the tensor that it makes, and what
stands around it is compared in numbers with the original.  What remains must be the original's, node for node
and constant for constant; what is left over on either side is a problem.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto

from twophase.export.graphs.view import RESHAPING, GraphError, GraphView, all_nodes, node_inputs
from twophase.export.int8.nodes import (
    INT8_IR_VERSION,
    INT8_OPSET,
    WEIGHT_ZERO_POINT,
    Product,
    classifier_products,
    encoder_products,
    rounding_before,
)
from twophase.link.errors import ArtifactError

__all__ = ["check_quantized"]


def check_quantized(model: ModelProto, original: ModelProto) -> list[str]:
    """Problems of a graph that is to be the INT8 form of ``original``, a transmitter or receiver in float32.

    There are none if every product of the encoder or the classifier multiplies uint8 with uint8 in static
    steps, and all else is untouched.
    """
    problems = _check_format(model)
    try:
        view, before = GraphView(model), GraphView(original)
        find = classifier_products if "logits" in before.outputs else encoder_products
        products = find(before)
    except (GraphError, ArtifactError) as error:
        return [*problems, f"the graph cannot be read: {error}"]
    account = _Account(view, before)
    for product in products:
        account.settle(product)
    return [*problems, *account.problems, *account.remainder()]


def _check_format(model: ModelProto) -> list[str]:
    problems = []
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if versions != {"ai.onnx": INT8_OPSET} or model.ir_version != INT8_IR_VERSION:
        problems.append(
            f"the graph must be of opset {INT8_OPSET} and IR version {INT8_IR_VERSION}, "
            f"not {versions} and {model.ir_version}"
        )
    if model.functions:
        problems.append("the graph must have no functions")
    for node in all_nodes(model):
        if node.op_type.startswith("Dynamic") or node.op_type.endswith("Integer"):
            problems.append(f"{node.op_type} ('{node.name}') quantises dynamically")
        elif node.domain not in ("", "ai.onnx"):
            problems.append(f"{node.op_type} ('{node.name}') of '{node.domain}' is no standard operator")
    return problems


class _Account:
    """Which nodes of the INT8 graph have been explained, and which of the original have found a successor."""

    def __init__(self, view: GraphView, before: GraphView) -> None:
        self.view, self.before = view, before
        self.explained: set[str] = set()
        self.succeeded: set[str] = set()
        self.problems: list[str] = []

    def settle(self, product: Product) -> None:
        """Explain the nodes around one product."""
        label = f"the {product.node.op_type} that makes '{product.output}'"
        self.succeeded.add(product.output)
        try:
            self._settle(product)
        except _NotInt8Error as error:
            self.problems.append(f"{label} is not INT8: {error}")

    def remainder(self) -> list[str]:
        """Nodes and constants of either graph that the other does not have."""
        ours, theirs = self.view.model.graph, self.before.model.graph
        problems = []
        for side in ("input", "output"):
            names = [[value.name for value in getattr(graph, side)] for graph in (ours, theirs)]
            if names[0] != names[1]:
                problems.append(f"the {side}s are {names[0]}, not {names[1]}")
        for node in theirs.node:
            if node.output[0] not in self.succeeded:
                problems.extend(self._unlike(node))
        problems.extend(
            f"{node.op_type} ('{node.name}') is neither of the original nor part of a product in QDQ form"
            for node in ours.node
            if node.output[0] not in self.explained
        )
        return problems

    def _unlike(self, node: NodeProto) -> list[str]:
        """Why the INT8 graph does not have a node of the original."""
        own = self.view.producer(node.output[0])
        if own is None or own.SerializeToString() != node.SerializeToString():
            return [f"{node.op_type} ('{node.name}') is not as in the original"]
        self.explained.add(node.output[0])
        for name in sorted(node_inputs(node)):
            held = [view.stored(name) for view in (self.view, self.before)]
            mine, wanted = [
                side if side is None else (side.dtype, side.shape, side.tobytes()) for side in held
            ]
            if mine != wanted:
                return [f"'{name}', which {node.op_type} ('{node.name}') reads, is not as in the original"]
        return []

    def _settle(self, product: Product) -> None:
        node = self.view.producer(product.output)
        if node is None or node.op_type != product.node.op_type or len(node.input) != len(product.node.input):
            raise _NotInt8Error("it is gone")
        self.explained.add(product.output)
        if list(node.attribute) != list(product.node.attribute):
            raise _NotInt8Error("its attributes are others")
        step, whole = self._activation(node.input[0], product)
        step *= self._stored(node.input[1], product.weights, TensorProto.UINT8, whole)
        bias = product.bias
        if bias is not None and self._stored(node.input[2], bias, TensorProto.INT32, whole) != step:
            raise _NotInt8Error("its bias has another step than its products")

    def _activation(self, name: str, product: Product) -> tuple[float, bool]:
        """The step of what a product multiplies, and whether the original has whole numbers there."""
        reached = name
        while (node := self.view.producer(reached)) is not None and node.op_type in RESHAPING:
            reached = node.input[0]
        made = self._maker(reached, "DequantizeLinear")
        step, zero_point = self._step(made, TensorProto.UINT8)
        quantizer = self._maker(made.input[0], "QuantizeLinear")
        given = self._step(quantizer, TensorProto.UINT8)
        source = self._unclipped(quantizer.input[0], *given)
        self.explained.update((reached, quantizer.output[0]))
        rounding = rounding_before(self.before, product.source)
        whole = rounding is not None and reached == rounding.output
        if rounding is not None and whole:
            # what takes the place of a rounding must give the same whole numbers
            self.succeeded.update(node.output[0] for node in rounding.nodes)
            wanted, wanted_source = (rounding.step, -rounding.lowest, 1.0), rounding.source
        else:
            wanted, wanted_source = (*given, given[0]), product.source
        if source != wanted_source:
            raise _NotInt8Error(f"it multiplies '{source}', not '{wanted_source}'")
        if zero_point != given[1] or (*given, step) != wanted:
            raise _NotInt8Error(f"'{reached}' is dequantised to other values than '{source}' has")
        return step, whole

    def _unclipped(self, name: str, scale: float, zero_point: int) -> str:
        """The tensor that is quantised: what stands before Max and Min to the range of the steps."""
        upper = self.view.producer(name)
        if upper is None or upper.op_type != "Min" or self.before.producer(name) is not None:
            return name
        lower = self._maker(upper.input[0], "Max")
        bounds = [self.view.stored(node.input[1]) for node in (lower, upper)]
        if bounds != [-zero_point * scale, (255 - zero_point) * scale]:
            raise _NotInt8Error(f"'{name}' is clipped to another range than that of the steps")
        self.explained.update((name, upper.input[0]))
        return str(lower.input[0])

    def _stored(self, name: str, wanted: NDArray[np.float32], kind: int, whole: bool) -> float:
        """The step of stored integers after a DequantizeLinear: ``wanted``, to half a step if not whole."""
        node = self._maker(name, "DequantizeLinear")
        step, zero_point = self._step(node, kind)
        values = self.view.stored(node.input[0])
        if values is None or values.shape != wanted.shape:
            raise _NotInt8Error(f"'{node.input[0]}' is not stored in shape {wanted.shape}")
        if zero_point != (WEIGHT_ZERO_POINT if kind == TensorProto.UINT8 else 0):
            raise _NotInt8Error(f"zero is {zero_point} in '{node.input[0]}'")
        error = np.abs((values.astype(np.float64) - zero_point) * step - wanted).max(initial=0.0)
        if error > (0.0 if whole else step / 2):
            raise _NotInt8Error(f"'{node.input[0]}' is off by {error:.3g} at a step of {step:.3g}")
        self.explained.add(name)
        return step

    def _maker(self, name: str, operator: str) -> NodeProto:
        node = self.view.producer(name)
        if node is None or node.op_type != operator:
            raise _NotInt8Error(f"'{name}' is not made by {operator}")
        return node

    def _step(self, node: NodeProto, kind: int) -> tuple[float, int]:
        """Scale and zero point of a QuantizeLinear or DequantizeLinear, stored and one for the tensor."""
        label = f"{node.op_type} ('{node.name}')"
        scale = self.view.stored(node.input[1])
        zero = self.view.stored(node.input[2]) if len(node.input) > 2 else np.array(0)
        if scale is None or zero is None or scale.size != 1 or zero.size != 1 or node.attribute:
            raise _NotInt8Error(f"{label} must have one stored scale and zero point")
        held = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
        if self.view.element_type(held) != kind:
            raise _NotInt8Error(f"{label} must hold {TensorProto.DataType.Name(kind)}")
        step = float(scale.reshape(()))
        if step <= 0 or np.frexp(step)[0] != 0.5:
            raise _NotInt8Error(f"the scale of {label} must be a power of two, not {step:g}")
        return step, int(zero.reshape(()))


class _NotInt8Error(Exception):
    """Why a product is not in the form it must have."""
