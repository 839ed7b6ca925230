"""Proof that the receiver can know the mode: it is a function of the SNR, which both ends know.

No header is sent in this version of the link, and the receiver is told the mode.  A mode chosen from the
features would be information about them that crosses the channel free of charge and without errors.
"""

from __future__ import annotations

import onnx
from onnx import ModelProto
from onnx.shape_inference import InferenceError

from twophase.export.graph import GraphView

__all__ = ["check_mode", "problems_of_mode"]

_KNOWN = frozenset({"snr_db"})
"""Inputs of a transmitter that the receiver knows too."""


def check_mode(model: ModelProto) -> list[str]:
    """Problems of how a transmitter chooses the mode: one sentence each."""
    try:
        view = GraphView(model)
    except (onnx.checker.ValidationError, InferenceError) as error:
        return [f"the graph does not type-check: {error}"]
    if "mode" not in view.outputs:
        return ["output 'mode' is missing"]
    return problems_of_mode(view)


def problems_of_mode(view: GraphView) -> list[str]:
    """As ``check_mode``, for a graph that is known to have the output ``mode``."""
    secret = sorted(view.sources(["mode"], shapes="computed") - _KNOWN)
    return [
        f"'mode' is computed from '{name}', which the receiver does not know: it must follow from 'snr_db' "
        "alone, for no header tells the mode"
        for name in secret
    ]
