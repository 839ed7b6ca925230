"""The same bytes for the same graph in ONNX Runtime's own format.

ONNX Runtime keeps the table that tells kernels the types of their arguments in a hash map whose order is
drawn anew for each table, and writes its entries in that order: each conversion gives other bytes.  All
else in the file is in a fixed order.  A flatbuffer is built from its end, so that table, which is built
last, stands before the model: here it is built again, in the order of its keys, in front of the model as it
is.
"""

from __future__ import annotations

from typing import Any

import flatbuffers  # type: ignore[import-untyped]
from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs import (
    ArgTypeAndIndex,
    InferenceSession,
    KernelTypeStrArgsEntry,
    KernelTypeStrResolver,
    OpIdKernelTypeStrArgsEntry,
)

__all__ = ["canonical_ort"]

_IDENTIFIER = b"ORTM"
_ALIGNMENT = 16
_ROOM = 1 << 16

_Arguments = list[tuple[bytes, list[tuple[int, int]]]]
"""For each name of a type the arguments that have it: kind and position."""


def canonical_ort(content: bytes) -> bytes:
    """The bytes of a graph in ONNX Runtime's format with its table of kernel types in a fixed order.

    Raises
    ------
    ValueError
        If the content is no such graph, or is laid out in another way than described above.
    """
    buffer = bytearray(content)
    if not InferenceSession.InferenceSession.InferenceSessionBufferHasIdentifier(buffer, 0):
        raise ValueError("no graph in ONNX Runtime's format")
    session = InferenceSession.InferenceSession.GetRootAs(buffer, 0)
    table, model = session._tab, session.Model()._tab  # the readers tell no positions
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
