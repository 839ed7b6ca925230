"""The transmitter from token ids on: the backbone, and after it the head as it is.

The whole is proved hard by proving that it contains the proved head node for node: the same nodes on the same
stored numbers, in which ``features`` stands where ``input`` stood, and besides them nothing but what makes
``features`` from token ids and mask.  What was proved of the head holds whatever it is given, so all of it
holds of the whole: mode, search, cut, every codeword, exactness.  Proving the cut on the whole again would
prove less, the part after the indices alone, and walk through every node of the backbone to do so.

Nothing is taken from names: they only say which nodes to compare.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper

from twophase.export.graphs.signature import (
    FEATURES,
    WHOLE_FILE,
    Port,
    backbone_signature,
    check_interface,
    check_operators,
    signature_of,
)
from twophase.export.graphs.view import GraphError, GraphView, subgraphs
from twophase.link.errors import ArtifactError, first_line
from twophase.link.manifest import Manifest

__all__ = ["check_whole", "merge", "unlike_proved"]

_PREFIX = "backbone/"
"""Ahead of every name of the backbone but those of its inputs and its output."""

_GIVEN = "input"
"""What the head calls its features."""


def merge(backbone: ModelProto, head: ModelProto, manifest: Manifest) -> ModelProto:
    """One graph of both, of one operator set; neither is changed.

    The backbone goes from ``input_ids`` and ``attention_mask`` to ``features``, the head from ``input`` on.
    ArtifactError if the two cannot stand in one graph.
    """
    versions = [
        sorted((entry.domain, entry.version) for entry in part.opset_import) for part in (backbone, head)
    ]
    if versions[0] != versions[1] or backbone.functions or head.functions:
        raise ArtifactError(
            f"backbone and head must be of one operator set without functions, not {versions}"
        )
    kept = {value.name for value in (*backbone.graph.input, *backbone.graph.output)}
    names = {name: _PREFIX + name for name in _names(backbone.graph) - kept}
    taken = (_names(head.graph) - {_GIVEN}) & {*names.values(), *kept}
    if taken:
        raise ArtifactError(f"the head has a tensor '{min(taken)}', which the whole needs for the backbone")
    result = ModelProto(ir_version=head.ir_version)
    result.producer_name, result.producer_version = head.producer_name, head.producer_version
    result.opset_import.extend(head.opset_import)
    graph = result.graph
    graph.name = head.graph.name
    for tensor in backbone.graph.initializer:
        copy = graph.initializer.add()
        copy.CopyFrom(tensor)
        copy.name = names[tensor.name]
    graph.initializer.extend(head.graph.initializer)
    for node in backbone.graph.node:
        copy = graph.node.add()
        copy.CopyFrom(node)
        copy.name = _PREFIX + node.name if node.name else ""
        _rename(copy, names)
    graph.node.extend(_placed(head))
    signature = signature_of(WHOLE_FILE, manifest)
    graph.input.extend(map(_stated, signature.inputs))
    graph.output.extend(map(_stated, signature.outputs))
    return result


def check_whole(whole: ModelProto, head: ModelProto, manifest: Manifest) -> list[str]:
    """Problems of a transmitter that takes token ids, one sentence each; see the module on what is proved."""
    try:
        view = GraphView(whole)
    except GraphError as error:
        return [f"the graph does not type-check: {first_line(error)}"]
    problems = check_interface(whole, signature_of(WHOLE_FILE, manifest)) + check_operators(whole)
    return problems + unlike_proved(view, head, manifest)


def unlike_proved(whole: GraphView, head: ModelProto, manifest: Manifest) -> list[str]:
    """Why a type-checked whole is not the head after something that makes features of tokens alone."""
    ours = {node.output[0]: node for node in whole.model.graph.node}
    stored = {tensor.name: tensor for tensor in whole.model.graph.initializer}
    problems = []
    parts = {node.output[0] for node in head.graph.node}
    for node in _placed(head):
        own = ours.get(node.output[0])
        if own is None or own.SerializeToString() != node.SerializeToString():
            problems.append(f"{node.op_type} ('{node.name}') of the head is not in it as it is")
    for tensor in head.graph.initializer:
        own_tensor = stored.get(tensor.name)
        if own_tensor is None or own_tensor.SerializeToString() != tensor.SerializeToString():
            problems.append(f"'{tensor.name}', which the head stores, is not in it as it is")
    made = {node.output[0] for node in whole.makers([FEATURES])}
    if shared := made & parts:
        problems.append(f"'{FEATURES}' are made from '{min(shared)}' of the head")
    foreign = whole.sources([FEATURES]) - set(backbone_signature(manifest).input_names)
    if foreign:
        problems.append(
            f"'{FEATURES}' depend on {', '.join(map(repr, sorted(foreign)))}, not on tokens alone"
        )
    rest = [node for output, node in ours.items() if output not in made | parts]
    problems += [f"{node.op_type} ('{node.name}') belongs to neither backbone nor head" for node in rest]
    return problems


def _placed(head: ModelProto) -> list[NodeProto]:
    """The nodes of the head as they read ``features``."""
    copies = []
    for node in head.graph.node:
        copy = NodeProto()
        copy.CopyFrom(node)
        _rename(copy, {_GIVEN: FEATURES})
        copies.append(copy)
    return copies


def _names(graph: GraphProto) -> set[str]:
    """Every name of a tensor; those of branches and loop bodies are in it."""
    found = {value.name for value in (*graph.input, *graph.output)}
    found.update(tensor.name for tensor in graph.initializer)
    for node in graph.node:
        found.update(name for name in (*node.input, *node.output) if name)
        for inner in subgraphs(node):
            found |= _names(inner)
    return found


def _rename(node: NodeProto, names: Mapping[str, str]) -> None:
    """Give tensors other names, in branches and loop bodies too."""
    for side in (node.input, node.output):
        for position, name in enumerate(side):
            side[position] = names.get(name, name)
    for graph in subgraphs(node):
        named: Iterable[onnx.ValueInfoProto | onnx.TensorProto] = (
            *graph.input,
            *graph.output,
            *graph.value_info,
            *graph.initializer,
        )
        for entry in named:
            entry.name = names.get(entry.name, entry.name)
        for inner in graph.node:
            _rename(inner, names)


def _stated(port: Port) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype))
    return helper.make_tensor_value_info(port.name, kind, port.axes)
