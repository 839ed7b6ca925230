"""How large the tensors of a graph become, inferred before it is run: a small file can ask for any memory.

Who has ``onnx`` passes what infers shapes; nothing is imported here, and a device goes without.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from twophase.link.errors import first_line
from twophase.link.manifest import Manifest

__all__ = ["problem_of_sizes"]

_BATCHES, _LENGTH = (1, 4096), 16
"""Samples, and tokens of a text, for which sizes are inferred: no tensor may grow with their square."""
_ROOM = 1 << 18
"""Entries of a tensor for each sample, besides what the manifest's sizes ask for."""
_FIXED = 1 << 20
"""Entries of a tensor of whatever batch, besides twice those of the stored tensors."""


def problem_of_sizes(
    model: Any, manifest: Manifest, infer_shapes: Callable[..., Any], *, may_be_unknown: bool = False
) -> str | None:
    """Why a graph is not to be run, as the words after its name; None if its tensors have sizes to expect.

    What cannot be inferred counts as too large, unless it ``may_be_unknown``.  The operators of ``model``, an
    ``onnx.ModelProto``, are checked already (:mod:`twophase.link.wire`); ``infer_shapes`` is the function of
    ``onnx.shape_inference``.
    """
    modes = manifest.modes
    each = _ROOM + 64 * len(modes) * modes.max_tokens * modes.max_codebook_size
    fixed = _FIXED + 2 * sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    found = (
        _problem_of(model, batch, fixed + batch * each, infer_shapes, may_be_unknown) for batch in _BATCHES
    )
    return next(filter(None, found), None)


def _problem_of(
    model: Any, batch: int, most: int, infer_shapes: Callable[..., Any], may_be_unknown: bool
) -> str | None:
    """The same for so many samples, of which no tensor may have more entries than ``most``."""
    sized = type(model)()
    sized.CopyFrom(model)
    del sized.graph.value_info[:]
    optional = {tensor.name for tensor in sized.graph.initializer}
    for value in (*sized.graph.input, *sized.graph.output):
        for place, axis in enumerate(value.type.tensor_type.shape.dim):
            if axis.HasField("dim_param"):
                axis.dim_value = 1 if value.name in optional else _LENGTH if place else batch
    try:
        sized = infer_shapes(sized, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # noqa: BLE001 - onnx raises its own errors, ValueError and what C++ throws
        return f"does not type-check: {first_line(error)}"
    types = {value.name: value.type.tensor_type for value in (*sized.graph.value_info, *sized.graph.output)}
    for name in (name for node in sized.graph.node for name in node.output if name):
        axes = types[name].shape.dim if name in types and types[name].HasField("shape") else None
        if axes is None or not all(axis.HasField("dim_value") for axis in axes):
            if not may_be_unknown:
                return f"computes how large '{name}' is in a way that cannot be followed"
        elif (size := math.prod(axis.dim_value for axis in axes)) > most:
            return f"makes '{name}' of {size:,} entries for {batch:,} samples; at most {most:,} are needed"
    return None
