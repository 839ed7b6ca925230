"""Reading an ONNX graph: who makes a tensor, what it depends on, and the part between two sets of tensors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.shape_inference import InferenceError

__all__ = [
    "INTEGER_TYPES",
    "REAL_TYPES",
    "SHAPE_ONLY",
    "GraphError",
    "GraphView",
    "all_nodes",
    "attribute",
    "node_inputs",
    "problem_of_cut",
    "serialize",
    "subgraphs",
]

INTEGER_TYPES = frozenset(
    {
        TensorProto.BOOL,
        *(TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64),
        *(TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
    }
)
"""Types of ONNX that hold whole numbers or truth values."""

REAL_TYPES = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})
"""Types of ONNX that hold real numbers."""

RESHAPING = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that move values and change none."""

SHAPE_ONLY = frozenset({"Shape", "Size"})
"""Operators that see how large a tensor is, and nothing of its values."""


class GraphError(ValueError):
    """A graph breaks the ONNX standard, its types do not fit together, or a part cannot be cut out."""


class GraphView:
    """A checked model with its types inferred anew and its tensors by name.

    Parameters
    ----------
    model
        The model; it is not changed.  Types that it states itself, other than those of its inputs and
        outputs, are not believed.

    Raises
    ------
    GraphError
        If the model breaks the ONNX standard or its types do not fit together.
    """

    def __init__(self, model: ModelProto) -> None:
        bare = ModelProto()
        bare.CopyFrom(model)
        del bare.graph.value_info[:]
        with _checking():
            onnx.checker.check_model(bare, full_check=True)
            self.model = onnx.shape_inference.infer_shapes(
                bare, check_type=True, strict_mode=True, data_prop=True
            )
        graph = self.model.graph
        self._producers = {name: node for node in graph.node for name in node.output if name}
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._types = {
            value.name: value.type.tensor_type for value in (*graph.value_info, *graph.input, *graph.output)
        }
        self.inputs = frozenset(value.name for value in graph.input)
        self._given_axes = {
            axis.dim_param for value in graph.input for axis in value.type.tensor_type.shape.dim
        } - {""}
        self.outputs = frozenset(value.name for value in graph.output)

    def producer(self, name: str) -> NodeProto | None:
        """The node that makes a tensor; None for a graph input or a stored constant."""
        return self._producers.get(name)

    def element_type(self, name: str) -> int:
        """``TensorProto.DataType`` of a tensor; UNDEFINED if it cannot be inferred."""
        kind = TensorProto.UNDEFINED
        if name in self._initializers:
            kind = self._initializers[name].data_type
        elif name in self._types:
            kind = self._types[name].elem_type
        return int(kind)

    def stored(self, name: str) -> NDArray[Any] | None:
        """Values of a stored constant; None for anything else, inputs with a default included."""
        if name in self.inputs or name not in self._initializers:
            return None
        values: NDArray[Any] = numpy_helper.to_array(self._initializers[name])
        return values

    def blank(self, name: str, batch: int) -> NDArray[Any]:
        """Zeros with the type and shape of a tensor, free axes of size ``batch``."""
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.element_type(name))
        shape = [batch if size is None else size for size in self.shape(name) or ()]
        return np.zeros(shape, dtype)

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """Shape of a tensor, None for a free axis; None if not even the number of axes is known."""
        if name not in self._types or not self._types[name].HasField("shape"):
            return None
        axes = self._types[name].shape.dim
        return tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in axes)

    def sources(
        self,
        names: Collection[str],
        stop: Collection[str] = (),
        *,
        shapes: Literal["all", "computed", "none"] = "all",
    ) -> frozenset[str]:
        """Graph inputs that ``names`` depend on by a way that does not pass a tensor of ``stop``.

        ``shapes`` says which dependences on a tensor's shape alone count: all, none, or those on a shape that
        may be computed from values, as the number of non-zero entries is.  Shapes whose axes are fixed or
        known to be those of the graph's inputs are not.
        """
        found: set[str] = set()
        seen = set(stop)
        stack = [name for name in names if name not in seen]
        while stack:
            name = stack.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self.inputs:
                found.add(name)
            node = self.producer(name)
            if node is not None and not self._takes_shape(node, shapes):
                stack.extend(node_inputs(node))
        return frozenset(found)

    def _takes_shape(self, node: NodeProto, shapes: str) -> bool:
        """Whether a node reads nothing but a shape that does not count."""
        if shapes == "all" or node.op_type not in SHAPE_ONLY:
            return False
        if shapes == "none":
            return True
        if node.input[0] not in self._types:
            return False
        shape = self._types[node.input[0]]
        return shape.HasField("shape") and all(
            axis.HasField("dim_value") or axis.dim_param in self._given_axes for axis in shape.shape.dim
        )

    def makers(
        self, names: Iterable[str], stop: Collection[str] = (), last: Collection[str] = ()
    ) -> list[NodeProto]:
        """Nodes that tensors are made from, in the order of the graph.

        The way back ends at the tensors ``stop``, and at nodes of the operators ``last``, which belong to it.
        """
        found: set[str] = set()
        seen = set(stop)
        stack = list(names)
        while stack:
            name = stack.pop()
            node = self.producer(name)
            if name in seen or node is None:
                continue
            seen.add(name)
            found.add(name)
            if node.op_type not in last:
                stack.extend(node_inputs(node))
        return [node for node in self.model.graph.node if not found.isdisjoint(node.output)]

    def is_constant(self, name: str, given: Collection[str] = ()) -> bool:
        """Whether a tensor's values depend on nothing but the tensors ``given`` (and on shapes)."""
        return not self.sources([name], given, shapes="none")

    def cut(self, inputs: list[str], outputs: list[str]) -> ModelProto:
        """The part of the model that makes ``outputs`` from ``inputs`` and nothing else, checked.

        Raises
        ------
        GraphError
            If ``outputs`` need more than ``inputs``.
        """
        with _checking():
            part = onnx.utils.Extractor(self.model).extract_model(inputs, outputs)
            onnx.checker.check_model(part, full_check=True)
        return part


def problem_of_cut(view: GraphView, inputs: list[str], outputs: list[str]) -> str | None:
    """Say why ``outputs`` cannot be cut off after ``inputs``; None if they can."""
    leaks = view.sources(outputs, inputs)
    if leaks:
        by_value = view.sources(outputs, inputs, shapes="none")
        how = "take values from" if by_value else "take their batch size from"
        named = sorted(by_value or leaks)
        return (
            f"{_listed(outputs)} {how} {_listed(named)} past {_listed(inputs)}: "
            f"they must be functions of {_listed(inputs)} alone"
        )
    try:
        view.cut(inputs, outputs)
    except GraphError as error:
        return f"the part from {_listed(inputs)} to {_listed(outputs)} does not type-check: {error}"
    return None


@contextmanager
def _checking() -> Iterator[None]:
    """Turn what onnx raises into one error."""
    try:
        yield
    except (ValueError, onnx.checker.ValidationError, InferenceError) as error:
        raise GraphError(str(error)) from error


def all_nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Every node of a model, those of subgraphs and of functions included."""
    for node in model.graph.node:
        yield from _with_subgraphs(node)
    for function in model.functions:
        for node in function.node:
            yield from _with_subgraphs(node)


def attribute(node: NodeProto, name: str, default: int) -> int:
    """An integer attribute of a node."""
    return next((item.i for item in node.attribute if item.name == name), default)


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Graphs that a node holds: branches, loop bodies."""
    for item in node.attribute:
        if item.type == AttributeProto.GRAPH:
            yield item.g
        yield from item.graphs


def node_inputs(node: NodeProto) -> set[str]:
    """Inputs of a node; those that its subgraphs capture from around them are in it."""
    names = {name for name in node.input if name}
    for graph in subgraphs(node):
        inside = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
        inside.update(name for inner in graph.node for name in inner.output)
        for inner in graph.node:
            names |= node_inputs(inner) - inside
        names |= {value.name for value in graph.output} - inside
    return names


def _with_subgraphs(node: NodeProto) -> Iterator[NodeProto]:
    yield node
    for graph in subgraphs(node):
        for inner in graph.node:
            yield from _with_subgraphs(inner)


def _listed(names: Collection[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)


def serialize(model: ModelProto) -> bytes:
    """The bytes of a model; equal models give equal bytes."""
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized
