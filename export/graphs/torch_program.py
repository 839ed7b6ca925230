"""From a saved program of the run folder to an ONNX model with reproducible bytes.

The class of the trained model is not needed: training saves ``torch.export`` programs, which hold the
operations and the weights.  :func:`checked_archive` makes sure that loading one runs no code of its own.

``torch.export.load`` of torch 2.13 reads plain tensors as raw bytes next to a JSON description of the
operations: no pickle.  It does run code of the file's choosing in these cases, each found in its source:

- weights or constants stored as pickles (tensor subclasses, script and opaque objects; files of torch 2.8 and
  older), which it loads with ``weights_only=False``;
- example inputs that ``torch.load(weights_only=True)`` refuses: it then loads them without that protection;
- compiled libraries in the archive;
- symbolic sizes, which go through ``sympy.sympify``, that is ``eval``; guards, which become Python source;
- operations named by a dotted path below ``torch`` (``torch.os.system``), which run with the program.

None of these is needed for a trained link, so an archive with one of them is refused here.  Of two records
of one name Python's reader takes the last and torch's the first: an archive with such a pair is refused, and
torch is given another archive, written from what was checked.  This is no sandbox, and a hash in a manifest
does not say who wrote the file: export runs that you trained or trust.
"""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper
from torch.export import ExportedProgram

from twophase.export.graphs.run import GraphRunError, Runner, Values, joined, rows_of
from twophase.export.graphs.signature import BATCH_AXIS, Port, Signature
from twophase.export.graphs.view import subgraphs
from twophase.link.errors import ArtifactError, first_line
from twophase.link.files import read_plain
from twophase.link.graphs import MODE_REQUEST
from twophase.link.routing import SnrTable

__all__ = [
    "IR_VERSION",
    "OPSET",
    "TorchProgram",
    "canonical",
    "checked_archive",
    "freeze",
    "load_program",
]


_RECORDS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|\.format_version"
    r"|\.storage_alignment|models/model\.json|data/sample_inputs/model\.pt"
    r"|data/(weights/weight|constants/tensor)_\d+|data/(weights/model_weights|constants/model_constants)_config\.json"
)
_TARGETS = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+|torch\.sym_\w+"
    r"|_operator\.(add|and_|eq|floordiv|ge|getitem|gt|le|lt|mod|mul|ne|neg|or_|pow|sub|truediv)"
)
_NAMES = frozenset(
    {
        *("Symbol", "Integer", "Add", "Mul", "Pow", "Max", "Min"),
        *("Mod", "PythonMod", "FloorDiv", "CeilDiv", "CleanDiv"),
        *("integer", "positive", "nonnegative", "nonzero", "True", "False"),
    }
)
_EXPRESSION = re.compile(r"('[su]\d+'|[A-Za-z_]\w*|\d+|[-+*/(),= ])*")
_GUARD = re.compile(r"(L\['\w+'\]|\.size\(\)\[\d+\]|\d+|[<>=!]=|[<>]|\b(and|or|not)\b|[-+*%() ])*")


def checked_archive(path: Path, content: bytes | None = None) -> io.BytesIO:
    """The program archive ``path``, written anew from its records: plain tensors and standard operations.

    ``content`` is what the file holds, where it has been read and checked.

    Raises
    ------
    ArtifactError
        If it is missing, damaged or would run code of its own when loaded.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(read_plain(path) if content is None else content)) as archive:
            problem, records = next(_ambiguities(archive.infolist()), None), {}
            if problem is None:
                records = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
                problem = next(_problems(records), None)
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
        raise ArtifactError(f"'{path}' is no saved program: truncated or altered ({error})") from error
    if problem is not None:
        raise ArtifactError(f"'{path}' is refused: {problem}")
    checked = io.BytesIO()
    with zipfile.ZipFile(checked, "w") as archive:
        for record, content in records.items():
            archive.writestr(f"archive/{record}", content)
    checked.seek(0)
    return checked


def _ambiguities(entries: Sequence[zipfile.ZipInfo]) -> Iterator[str]:
    """What another reader may take for something else, or is far larger than the file."""
    names = [entry.filename for entry in entries]
    if not any(name.endswith("/models/model.json") for name in names):
        raise KeyError("models/model.json")
    if len({name.partition("/")[0] for name in names}) > 1:
        yield "its records are not in one folder"
    for entry in entries:
        if names.count(entry.filename) > 1:
            yield f"it holds '{entry.filename}' more than once"
        if entry.compress_type != zipfile.ZIP_STORED:
            yield f"its '{entry.filename}' is compressed, which torch does not"
        if entry.flag_bits & 1:
            yield f"its '{entry.filename}' is encrypted"
        if not _RECORDS.fullmatch(record := entry.filename.partition("/")[2]):
            yield f"it holds '{record}', which a program of plain tensors has not (saved by another torch?)"


def _problems(records: Mapping[str, bytes]) -> Iterator[str]:
    program = json.loads(records["models/model.json"])
    for record, content in records.items():
        if record.endswith("_config.json"):
            for tensor, entry in json.loads(content)["config"].items():
                if entry["use_pickle"]:
                    yield f"'{tensor}' is stored as a pickle, which can run code"
    try:
        torch.load(io.BytesIO(records["data/sample_inputs/model.pt"]), weights_only=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, torch.export.load would go on without protection
        yield f"its example inputs are no plain tensors ({type(error).__name__})"
    for key, text in _strings(program):
        if key == "target" and not _TARGETS.fullmatch(text):
            yield f"it calls '{text}', which is no standard tensor operation"
        if key == "expr_str" and not (
            _EXPRESSION.fullmatch(text) and _NAMES.issuperset(re.findall(r"(?<!')\b[A-Za-z_]\w*", text))
        ):
            yield f"its symbolic size {text!r} is more than arithmetic"
        if key == "guards_code" and not _GUARD.fullmatch(text):
            yield f"its guard {text!r} is more than a comparison of sizes"


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string in a JSON value with the key that it, or the list around it, stands under."""
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from _strings(entry, name)
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry, key)
    elif isinstance(value, str):
        yield key, value


OPSET = 18
"""Operator set of the graphs."""

IR_VERSION = 8
"""Version of the file format: the oldest for opset 18, so that ONNX Runtime 1.15 loads it too."""

_CHATTY = ("onnx_ir", "onnxscript", "torch.export", "torch.onnx")


def load_program(path: Path, content: bytes | None = None) -> ExportedProgram:
    """Load a program that ``torch.export.save`` wrote; ``content`` as for :func:`checked_archive`.

    Raises
    ------
    ArtifactError
        If the file is no such program, was written by a torch that this one cannot read, or would need
        code of its own to load.
    """
    archive = checked_archive(path, content)
    try:
        with _quiet():
            return torch.export.load(archive)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ArtifactError(
            f"'{path}' is no program that torch {torch.__version__} can load: {lines[0]}"
        ) from error


def freeze(name: str, program: ExportedProgram, signature: Signature) -> ModelProto:
    """Convert a program to ONNX, with the names of ``signature`` and nothing that shows where it was made.

    Its tensors have a free leading batch axis; an input that may be left out has the shape (1,) there.
    ``name`` is what errors call it.

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
        raise ArtifactError(f"'{name}' cannot be converted to ONNX: {first_line(error)}") from error
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
    input is ``batch``, those after it are called as ``ports`` has them.
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


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """So many threads of torch for what runs inside; as many as there were for None."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TorchProgram(Runner):
    """The operations of a saved program, run by torch; tensors are the outputs of the signature.

    ``table`` chooses the mode where none is requested, in the place of the program's own router.
    ``threads`` of torch share the work, None for all: those of a small model wait for one another longer than
    they work.
    """

    called = "the program"

    def __init__(
        self,
        program: ExportedProgram,
        signature: Signature,
        table: SnrTable | None = None,
        *,
        threads: int | None = 1,
    ) -> None:
        super().__init__(signature)
        self._module = program.module()
        self._threads = threads
        self._inputs, self._outputs = signature.inputs, signature.output_names
        self._table = table

    def run(self, names: Sequence[str], feed: Values) -> list[NDArray[Any]]:
        """As for ``Runner``."""
        if self._table is None or MODE_REQUEST in feed:
            values = self._run(feed)
        else:
            modes = self._table.choose(feed["snr_db"])
            groups = [np.flatnonzero(modes == mode) for mode in np.unique(modes)]
            parts = [self._run(rows_of(feed, rows) | {MODE_REQUEST: modes[rows[:1]]}) for rows in groups]
            values = rows_of(joined(parts), np.argsort(np.concatenate(groups)))
        return [values[name] for name in names]

    def _run(self, feed: Values) -> Values:
        arrays = [
            np.array([port.default])
            if port.default is not None and port.name not in feed
            else feed[port.name]
            for port in self._inputs
        ]
        inputs = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        try:
            with torch.inference_mode(), _threads(self._threads):
                outputs = self._module(*inputs)
        except Exception as error:
            raise GraphRunError(f"the program fails under torch: {first_line(error)}") from error
        if isinstance(outputs, torch.Tensor):
            outputs = (outputs,)
        return {name: value.numpy() for name, value in zip(self._outputs, outputs, strict=True)}
