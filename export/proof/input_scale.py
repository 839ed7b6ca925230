"""Whether a transmitter scales its input as the manifest says: what its graph does to it first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from twophase.export.graphs.view import RESHAPING, SHAPE_ONLY, GraphView
from twophase.link.manifest import Manifest

__all__ = ["check_input_scale"]


@dataclass(frozen=True, eq=False)
class _Scaled:
    """A tensor that holds (input - offset) * factor."""

    name: str
    offset: NDArray[np.float64]
    factor: NDArray[np.float64]


def check_input_scale(view: GraphView, manifest: Manifest) -> list[str]:
    """Problems of the offsets and powers of two between ``input`` and what is computed of it.

    On an integer grid the powers of two may all be those of the manifest in another unit, that of the grid.
    """
    zero, one = np.zeros(1), np.ones(1)
    ends = _ends(view, _Scaled("input", zero, one))
    if not ends:
        return ["nothing is computed of 'input'"]
    offset = np.asarray(manifest.input.offset, dtype=np.float32).astype(np.float64)
    factor = 2.0 ** -np.asarray(manifest.input.exponent, dtype=np.float64)
    for end in ends:
        if (end.offset != offset).any():
            return [f"'{end.name}' has other offsets than 'input' of the manifest"]
        unit = end.factor / factor
        if (unit != unit[0]).any() or unit[0] <= 0 or (manifest.grid is None and unit[0] != 1):
            return [f"'{end.name}' has other powers of two than 'input' of the manifest"]
    return []


def _ends(view: GraphView, start: _Scaled) -> list[_Scaled]:
    """What the input has become where something else is computed of it, on every way that it takes."""
    found = []
    for node in view.model.graph.node:
        if start.name in node.input and node.op_type not in SHAPE_ONLY:
            following = _after(view, node, start)
            found += [start] if following is None else _ends(view, following)
    return found


def _after(view: GraphView, node: NodeProto, before: _Scaled) -> _Scaled | None:
    """The output of a node that reshapes, saturates or scales; None for any other."""
    output = str(node.output[0])
    if node.op_type in (*RESHAPING, "Clip"):
        return _Scaled(output, before.offset, before.factor)
    stored = None if len(node.input) < 2 else view.stored(node.input[1])
    if stored is None or node.input[0] != before.name:
        return None
    values = np.atleast_1d(np.asarray(stored, dtype=np.float64).squeeze())
    if node.op_type == "Sub":
        return _Scaled(output, before.offset + values / before.factor, before.factor)
    if node.op_type in ("Mul", "Div", "QuantizeLinear") and (values > 0).all():
        factor = before.factor * values if node.op_type == "Mul" else before.factor / values
        return _Scaled(output, before.offset, factor)
    return None
