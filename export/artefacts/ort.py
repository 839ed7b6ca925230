"""The deployed graphs in ONNX Runtime's own format, which builds without the ONNX parser load.

The wheel's converter saves what is left of a graph after optimisation, in one of two styles: ``Runtime``
adds notes on what may be optimised when the graph is loaded, ``Fixed`` saves it as it is.  Its default
level, ``all``, fuses nodes into such as suit the machine that converts.  Here it is ``Fixed`` at ``basic``:
constants are folded and nodes that do nothing go, alike for all machines, and what remains are operators of
ONNX.  Of a backbone in INT8 the weights of products are restored to float32 by that, and the file grows.
``required_operators.config`` lists those that a reduced build of ONNX Runtime must have
(``--include_ops_by_config``).

The same graph gives the same bytes.  ONNX Runtime keeps the table that gives kernels the types of their
arguments in a hash map whose order is drawn anew for each table, and writes its entries in that order; all
else in the file is in a fixed order.  A flatbuffer is built from its end, so that table, which is built last,
stands before the model: ``canonical_ort`` builds it again, in the order of its keys, in front of the model as
it is.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs import (
    ArgTypeAndIndex,
    InferenceSession,
    KernelTypeStrArgsEntry,
    KernelTypeStrResolver,
    OpIdKernelTypeStrArgsEntry,
)

from twophase.export.graphs.run import OnnxRuntime, Values
from twophase.link.errors import ArtifactError, first_line
from twophase.link.listing import Listed, read_listed
from twophase.link.wire import problem_of_ort

__all__ = ["CONFIG_FILE", "ORT_FOLDER", "canonical_ort", "ort_runner", "write_ort"]


_IDENTIFIER = b"ORTM"
_ALIGNMENT = 16
_ROOM = 1 << 16

_Arguments = list[tuple[bytes, list[tuple[int, int]]]]
"""For each name of a type the arguments that have it: kind and position."""


def canonical_ort(content: bytes) -> bytes:
    """The bytes of a graph in ONNX Runtime's format with its table of kernel types in a fixed order.

    ValueError if the content is no such graph, or is laid out in another way than described above.
    """
    buffer = bytearray(content)
    if not InferenceSession.InferenceSession.InferenceSessionBufferHasIdentifier(buffer, 0):
        raise ValueError("no graph in ONNX Runtime's format")
    session = InferenceSession.InferenceSession.GetRootAs(buffer, 0)
    table, model = session._tab, session.Model()._tab  # the readers give no positions
    version = table.Indirect(table.Pos + table.Offset(4))
    start = min(model.Pos, model.Pos - table.Get(flatbuffers.number_types.SOffsetTFlags, model.Pos), version)
    entries = _entries(session.KernelTypeStrResolver())
    if table.Pos >= start or session.KernelTypeStrResolver()._tab.Pos >= start:
        raise ValueError("the table of kernel types does not stand before the model")
    builder = flatbuffers.Builder(len(content) - start + _ROOM)
    builder.Bytes[len(builder.Bytes) - len(content) + start :] = buffer[start:]
    builder.head = len(builder.Bytes) - len(content) + start
    builder.minalign = _ALIGNMENT
    resolver = _build(builder, entries)
    InferenceSession.Start(builder)
    # offsets count from the end, where nothing has moved
    InferenceSession.AddOrtVersion(builder, len(content) - version)
    InferenceSession.AddModel(builder, len(content) - model.Pos)
    InferenceSession.AddKernelTypeStrResolver(builder, resolver)
    builder.Finish(InferenceSession.End(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _entries(resolver: Any) -> list[tuple[bytes, _Arguments]]:
    """The table as Python has it, by operator and in the order of the keys."""
    found = []
    for number in range(resolver.OpKernelTypeStrArgsLength()):
        entry = resolver.OpKernelTypeStrArgs(number)
        kinds: _Arguments = []
        for position in range(entry.KernelTypeStrArgsLength()):
            kind = entry.KernelTypeStrArgs(position)
            places = (kind.Args(place) for place in range(kind.ArgsLength()))
            kinds.append((kind.KernelTypeStr(), [(place.ArgType(), place.Index()) for place in places]))
        found.append((entry.OpId(), sorted(kinds)))
    return sorted(found)


def _build(builder: Any, entries: list[tuple[bytes, _Arguments]]) -> int:
    """Build the table; returns its offset."""
    operators = []
    for operator, kinds in entries:
        built = []
        for kind, places in kinds:
            arguments = []
            for side, index in places:
                ArgTypeAndIndex.Start(builder)
                ArgTypeAndIndex.AddArgType(builder, side)
                ArgTypeAndIndex.AddIndex(builder, index)
                arguments.append(ArgTypeAndIndex.End(builder))
            vector, name = _vector(builder, arguments), builder.CreateString(kind)
            KernelTypeStrArgsEntry.Start(builder)
            KernelTypeStrArgsEntry.AddKernelTypeStr(builder, name)
            KernelTypeStrArgsEntry.AddArgs(builder, vector)
            built.append(KernelTypeStrArgsEntry.End(builder))
        vector, name = _vector(builder, built), builder.CreateString(operator)
        OpIdKernelTypeStrArgsEntry.Start(builder)
        OpIdKernelTypeStrArgsEntry.AddOpId(builder, name)
        OpIdKernelTypeStrArgsEntry.AddKernelTypeStrArgs(builder, vector)
        operators.append(OpIdKernelTypeStrArgsEntry.End(builder))
    vector = _vector(builder, operators)
    KernelTypeStrResolver.Start(builder)
    KernelTypeStrResolver.AddOpKernelTypeStrArgs(builder, vector)
    offset: int = KernelTypeStrResolver.End(builder)
    return offset


def _vector(builder: Any, offsets: list[int]) -> int:
    """A vector of tables."""
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    end: int = builder.EndVector()
    return end


_PAIR = ("tx.onnx", "rx.onnx")

ORT_FOLDER = "ort"
"""Where they stand in a bundle."""

CONFIG_FILE = "required_operators.config"


def write_ort(bundle: Path, folder: Path, graphs: Sequence[str] = _PAIR) -> tuple[str, ...]:
    """Convert graphs of a bundle into ``folder``, list the operators that they need, name the files made.

    ArtifactError if a graph is missing or cannot be converted.
    """
    # the converter's own function takes its level from the environment, prints, and names its files by it
    from onnxruntime.tools.ort_format_model import create_config_from_models

    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / Path(name).with_suffix(".ort") for name in graphs]
    for path in files:
        _convert(bundle / f"{path.stem}.onnx", path)
        path.write_bytes(canonical_ort(path.read_bytes()))
    config = folder / CONFIG_FILE
    with _quiet():
        create_config_from_models(files, config, enable_type_reduction=False)
    # its comments hold the paths of the machine
    plain = re.sub(r"^# - .*?([^/\\]+)$", r"# - \1", config.read_text(encoding="utf-8"), flags=re.MULTILINE)
    config.write_text(plain, encoding="utf-8")
    return (*(path.name for path in files), CONFIG_FILE)


def ort_runner(
    folder: Path, graphs: Sequence[str] = _PAIR, files: Listed = MappingProxyType({})
) -> Callable[[str, list[str], Values], list[NDArray[Any]]]:
    """Run what ``write_ort`` wrote by the names of the original graphs, as ``conformance.replay`` asks for.

    ``files`` are those that the manifest lists, of a bundle that is made already; ``folder`` is in it.
    ArtifactError if a file is missing, altered or asks for more than a link needs, GraphRunError if ONNX
    Runtime cannot load one.
    """
    sessions = {}
    for name in graphs:
        file = f"{folder.name}/{Path(name).with_suffix('.ort')}"
        content = read_listed(folder.parent, file, files)
        if (problem := problem_of_ort(content)) is not None:
            raise ArtifactError(f"'{folder.parent / file}' {problem}")
        sessions[name] = OnnxRuntime(content)
    return lambda graph, names, feed: sessions[graph].run(names, feed)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the wheel's tools say of themselves off the terminal, and that they leave files open."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            yield
    finally:
        logging.disable(before)


def _convert(source: Path, target: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.save_model_format", "ORT")
    # as the converter sets it for every target but ARM
    options.add_session_config_entry("session.qdqisint8allowed", "0")
    try:
        onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ArtifactError(
            f"'{source}' cannot be converted to ONNX Runtime's format: {first_line(error)}"
        ) from error
