"""Surgery on ONNX graphs: the wrong transmitters that a proof must reject."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper


def producer(model: ModelProto, name: str) -> NodeProto:
    """The node that makes a tensor."""
    return next(node for node in model.graph.node if name in node.output)


def first(model: ModelProto, operator: str) -> NodeProto:
    """The first node of an operator."""
    return next(node for node in model.graph.node if node.op_type == operator)


def only(model: ModelProto, operator: str) -> NodeProto:
    """The one node of an operator."""
    (node,) = [node for node in model.graph.node if node.op_type == operator]
    return node


def constant(model: ModelProto, name: str) -> NDArray[Any]:
    """A stored tensor."""
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    return numpy_helper.to_array(tensor).copy()


def store(model: ModelProto, name: str, value: NDArray[Any]) -> str:
    """Add a stored tensor or replace one."""
    kept = [tensor for tensor in model.graph.initializer if tensor.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, numpy_helper.from_array(value, name)])
    # the exporter writes down the types of stored tensors too; they must not contradict the new value
    values = [entry for entry in model.graph.value_info if entry.name != name]
    del model.graph.value_info[:]
    model.graph.value_info.extend(values)
    return name


def insert_before(model: ModelProto, node: NodeProto, position: int, new: list[NodeProto]) -> None:
    """Put ``new`` in front of ``node``; its input ``position`` becomes the last output of ``new``."""
    nodes = list(model.graph.node)
    at = next(number for number, entry in enumerate(nodes) if entry.output == node.output)
    nodes[at].input[position] = new[-1].output[0]
    _replace_nodes(model, [*nodes[:at], *new, *nodes[at:]])


def insert_behind(model: ModelProto, name: str, new: list[NodeProto]) -> None:
    """Let the graph's output ``name`` be made by ``new``, the first of which reads ``name + '_before'``.

    Other readers of ``name`` see the altered values as well.
    """
    maker = producer(model, name)
    maker.output[list(maker.output).index(name)] = f"{name}_before"
    nodes = list(model.graph.node)
    at = next(number for number, entry in enumerate(nodes) if f"{name}_before" in entry.output)
    _replace_nodes(model, [*nodes[: at + 1], *new, *nodes[at + 1 :]])


def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    """A node with one output, named after it."""
    return helper.make_node(operator, inputs, [output], name=f"node_{output}", **attributes)


def scalar(model: ModelProto, name: str, value: float | int, dtype: Any) -> str:
    """Store a number."""
    return store(model, name, np.array(value, dtype=dtype))


def _replace_nodes(model: ModelProto, nodes: list[NodeProto]) -> None:
    # copies, because clearing the graph's list invalidates the nodes that came out of it
    copies = [NodeProto.FromString(entry.SerializeToString()) for entry in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def nodes(text: str) -> list[NodeProto]:
    """Nodes in the notation of ``onnx.parser``, with ``;`` in between, each named after its last output."""
    made = [onnx.parser.parse_node(entry) for entry in text.split(";")]
    for entry in made:
        entry.name = f"node_{entry.output[-1]}"
    return made


def model_of(
    inputs: str, text: str, outputs: str, stored: Mapping[str, Any], opset: int = 18, ir_version: int = 8
) -> ModelProto:
    """A graph in the notation of ``onnx.parser``; of ``stored`` it holds what it reads."""
    graph = onnx.parser.parse_graph(f"small ({inputs}) => ({outputs}) {{ }}")
    graph.node.extend(nodes(text))
    read = {name for entry in graph.node for name in entry.input}
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items() if name in read
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


# --- alterations as values


Alteration = Callable[[ModelProto], object]
Place = Callable[[ModelProto], tuple[NodeProto, int]]
"""A node and which of its inputs is meant."""


def altered(model: ModelProto, *alterations: Alteration) -> ModelProto:
    """A copy, with alterations made one after the other."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for alter in alterations:
        alter(copy)
    return copy


def operand(operator: str, position: int = 0) -> Place:
    """An input of the first node of an operator."""
    return lambda model: (first(model, operator), position)


def reader_of(name: str) -> Place:
    """Where a tensor is read first."""

    def find(model: ModelProto) -> tuple[NodeProto, int]:
        reader = next(entry for entry in model.graph.node if name in entry.input)
        return reader, list(reader.input).index(name)

    return find


def ahead(place: Place, text: str, **stored: Any) -> Alteration:
    """Put nodes ahead of an input of a node; in ``text`` it is called ``it``, the last output replaces it."""

    def alter(model: ModelProto) -> None:
        reader, position = place(model)
        insert_before(model, reader, position, _with(model, text, reader.input[position], stored))

    return alter


def after(output: str, text: str, **stored: Any) -> Alteration:
    """Make an output of the graph by ``text``, from what it was, called ``it``."""
    return lambda model: insert_behind(model, output, _with(model, text, f"{output}_before", stored))


def changed(name: str, change: Callable[[NDArray[Any]], Any]) -> Alteration:
    """Replace a stored tensor by what ``change`` makes of it."""
    return lambda model: store(model, name, np.asarray(change(constant(model, name))))


def _with(model: ModelProto, text: str, it: str, stored: dict[str, Any]) -> list[NodeProto]:
    for name, value in stored.items():
        store(model, name, np.asarray(value))
    made = nodes(text)
    for entry in made:
        entry.input[:] = [it if name == "it" else name for name in entry.input]
    return made


def cases(**table: tuple[Any, ...]) -> list[Any]:
    """Parameters of a test: an alteration and the parts of problems that it must give, by name."""
    return [pytest.param(alter, reasons, id=name) for name, (alter, *reasons) in table.items()]
