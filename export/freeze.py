"""From a saved program of the run folder to an ONNX model with reproducible bytes.

The class of the trained model is not needed: training saves ``torch.export`` programs, which hold the
operations and the weights.  ``archive.check_archive`` says what loading one may do and what is refused.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from onnx import GraphProto, ModelProto, NodeProto, helper
from torch.export import ExportedProgram

from twophase.export.archive import check_archive
from twophase.export.graph import subgraphs
from twophase.export.signature import BATCH_AXIS, Port, Signature
from twophase.link.errors import ArtifactError

__all__ = ["IR_VERSION", "OPSET", "canonical", "freeze", "load_program", "serialize"]

OPSET = 18
"""Operator set of the graphs."""

IR_VERSION = 8
"""Version of the file format: the oldest for opset 18, so that ONNX Runtime 1.15 loads it too."""

_CHATTY = ("onnx_ir", "onnxscript", "torch.export", "torch.onnx")


def load_program(path: Path) -> ExportedProgram:
    """Load a program that ``torch.export.save`` wrote.

    Raises
    ------
    ArtifactError
        If the file is no such program, was written by a torch that this one cannot read, or would need
        code of its own to load.
    """
    check_archive(path)
    try:
        with _quiet():
            return torch.export.load(path)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ArtifactError(
            f"'{path}' is no program that torch {torch.__version__} can load: {lines[0]}"
        ) from error


def freeze(name: str, program: ExportedProgram, signature: Signature) -> ModelProto:
    """Convert a program to ONNX, with the names of ``signature`` and nothing that tells where it was made.

    Parameters
    ----------
    name
        What errors call the program.
    program
        A program whose tensors have a free leading batch axis; an input that may be left out has the shape
        (1,) there.
    signature
        Names of its inputs and outputs, in order.

    Raises
    ------
    ArtifactError
        If the numbers of inputs or outputs differ, an input that may be left out is of another shape, or the
        exporter fails.
    """
    counts = (len(program.graph_signature.user_inputs), len(program.graph_signature.user_outputs))
    wanted = (len(signature.inputs), len(signature.outputs))
    if counts != wanted:
        raise ArtifactError(
            f"'{name}' must take {wanted[0]} and give {wanted[1]} tensors "
            f"({', '.join(signature.input_names)} -> {', '.join(signature.output_names)}), "
            f"not {counts[0]} and {counts[1]}"
        )
    try:
        with _quiet():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                verbose=False,
                input_names=signature.input_names,
                output_names=signature.output_names,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ArtifactError(f"'{name}' cannot be converted to ONNX: {str(error).splitlines()[0]}") from error
    if exported is None:
        raise ArtifactError(f"'{name}' cannot be converted to ONNX: torch.onnx gave no graph")
    model = canonical(exported.model_proto, signature.inputs)
    for port in signature.inputs:
        if port.default is not None:
            _make_optional(name, model, port, port.default)
    return model


def canonical(model: ModelProto, ports: Iterable[Port] = ()) -> ModelProto:
    """A copy that is the same wherever it was made.

    The exporter writes stack traces, and with them paths, into the metadata; those and all doc strings
    go.  Free axes, whose names a saved program does not keep, get theirs again: the leading one of every
    input is ``batch``, those behind it are called as ``ports`` has them.
    """
    result = ModelProto()
    result.CopyFrom(model)
    result.ir_version = IR_VERSION
    del result.metadata_props[:]
    result.ClearField("doc_string")
    optional = {tensor.name for tensor in result.graph.initializer}
    free = {port.name: port.free for port in ports}
    symbols: dict[str, str] = {}
    for value in result.graph.input:
        axes = value.type.tensor_type.shape.dim if value.name not in optional else ()
        for axis, name in zip(axes, (BATCH_AXIS, *free.get(value.name, ())), strict=False):
            symbols[axis.dim_param] = name
    symbols.pop("", None)
    _strip_graph(result.graph, symbols)
    for function in result.functions:
        del function.metadata_props[:]
        del function.value_info[:]
        function.ClearField("doc_string")
        _strip_nodes(function.node, symbols)
    return result


def serialize(model: ModelProto) -> bytes:
    """The bytes of a model; equal models give equal bytes."""
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def _make_optional(name: str, model: ModelProto, port: Port, default: int) -> None:
    """Free the leading axis of an input and store its default: an overridable initializer of ONNX."""
    graph = model.graph
    shape = next(value for value in graph.input if value.name == port.name).type.tensor_type.shape
    sizes = [axis.dim_value for axis in shape.dim]
    if sizes != [1]:
        raise ArtifactError(f"'{name}' must take '{port.name}' with shape (1,), not {tuple(sizes)}")
    shape.dim[0].dim_param = port.axis
    graph.initializer.append(
        helper.make_tensor(port.name, helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype)), [1], [default])
    )
    # written down for one request; a reader infers them for any number
    del graph.value_info[:]


def _strip_graph(graph: GraphProto, symbols: dict[str, str]) -> None:
    graph.ClearField("doc_string")
    del graph.metadata_props[:]
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.ClearField("doc_string")
        del value.metadata_props[:]
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = re.sub(r"\w+", lambda word: symbols.get(word[0], word[0]), axis.dim_param)
    for tensor in graph.initializer:
        tensor.ClearField("doc_string")
        del tensor.metadata_props[:]
    _strip_nodes(graph.node, symbols)


def _strip_nodes(nodes: Iterable[NodeProto], symbols: dict[str, str]) -> None:
    for node in nodes:
        node.ClearField("doc_string")
        del node.metadata_props[:]
        for inner in subgraphs(node):
            _strip_graph(inner, symbols)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the chatter of the exporter off the terminal: the commands print their own lines only."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        # torch 2.13 copies its own tree specifications in a way that its pytree module calls deprecated
        warnings.filterwarnings(
            "ignore", message=r".*isinstance\(treespec, LeafSpec\)", category=FutureWarning
        )
        try:
            for logger in loggers:
                # "torchvision is not installed" and the optimiser's list of what it folded
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
