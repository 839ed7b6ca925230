"""The backbone of a run as an ONNX graph: tokens to features."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto
from onnx.shape_inference import InferenceError
from torch.export import ExportedProgram

from twophase.export.freeze import freeze, load_program
from twophase.export.graph import GraphView
from twophase.export.interface import check_interface
from twophase.export.operators import check_operators
from twophase.export.signature import backbone_signature
from twophase.link.errors import ArtifactError, first_line
from twophase.link.manifest import BACKBONE_PROGRAM, Manifest

__all__ = ["freeze_backbone"]

_MOST_BYTES = 2_000_000_000
"""Of the weights: an ONNX file holds at most 2 GiB."""


def freeze_backbone(run: Path, manifest: Manifest) -> tuple[ExportedProgram, ModelProto, list[str]]:
    """Convert the backbone of a run.

    Returns
    -------
    tuple
        The program, its graph, and one sentence for each problem of the graph.

    Raises
    ------
    ArtifactError
        If the program cannot be loaded or converted, or is too large for one file.
    """
    path = run / BACKBONE_PROGRAM
    program = load_program(path)
    size = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    if size > _MOST_BYTES:
        raise ArtifactError(f"'{path}' holds {size / 1e9:.1f} GB, and an ONNX file at most 2")
    signature = backbone_signature(manifest)
    model = freeze(str(path), program, signature)
    try:
        GraphView(model)
    except (onnx.checker.ValidationError, InferenceError) as error:
        return program, model, [f"the graph does not type-check: {first_line(error)}"]
    return program, model, check_interface(model, signature) + check_operators(model)
