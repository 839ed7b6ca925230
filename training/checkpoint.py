"""Checkpoints: weights in safetensors, state in JSON, replaced atomically; no pickle.

A checkpoint ``NAME`` is ``NAME.json`` and the tensor file that it names with its hash.  The JSON is renamed
into place last, so that a kill at any moment leaves the earlier checkpoint whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from twophase.link.command import require
from twophase.link.errors import ArtifactError, InputError
from twophase.link.files import atomic_path, read_json, read_plain, sha256, sha256_of, write_json

__all__ = [
    "Checkpoint",
    "load_checkpoint",
    "load_weights",
    "model_tensors",
    "optimizer_tensors",
    "restore_optimizer",
    "save_checkpoint",
]

FORMAT = "twophase-checkpoint"
VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name and everything else as plain values."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(folder: Path, name: str, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write checkpoint ``name``; the one before it stays valid until the last rename."""
    require("safetensors", "train", "training")
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    weights = folder / f"{name}-{state['epoch']:04d}.safetensors"
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    try:
        with atomic_path(weights) as temporary:
            save_file(plain, temporary)
    except SafetensorError as error:
        raise InputError("out", f"be writable ({error})", str(folder)) from error
    body = {
        "format": FORMAT,
        "version": VERSION,
        "weights": weights.name,
        "sha256": sha256_of(weights),
        **state,
    }
    write_json(folder / f"{name}.json", body)
    for stale in folder.glob(f"{name}-*.safetensors"):
        if stale != weights:
            stale.unlink()


def load_checkpoint(folder: Path, name: str) -> Checkpoint:
    """Read checkpoint ``name``; ArtifactError if it is missing, truncated, altered or of another version."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / f"{name}.json"
    state = read_json(path)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ArtifactError(f"'{path}' is not a {FORMAT}")
    if state.get("version") != VERSION:
        raise ArtifactError(
            f"'{path}' must be of version {VERSION}, not {state.get('version')!r}: train again"
        )
    weights = folder / str(state.get("weights"))
    if not weights.exists():
        raise ArtifactError(f"'{weights}' is missing; '{path.name}' names it")
    content = read_plain(weights, folder)
    if sha256(content).hexdigest() != state.get("sha256"):
        raise ArtifactError(
            f"'{weights}' is truncated or altered: its SHA-256 is not the one in '{path.name}'"
        )
    try:
        return Checkpoint(load(content), state)
    except SafetensorError as error:
        raise ArtifactError(f"'{weights}' is no safetensors file: {error}") from error


def load_weights(model: nn.Module, checkpoint: Checkpoint, where: Path) -> None:
    """Put a checkpoint's weights into a model of the same shape, or say what does not fit."""
    weights = {name[6:]: value for name, value in checkpoint.tensors.items() if name.startswith("model.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ArtifactError(f"the checkpoint in '{where}' belongs to another model: {error}") from error


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights, by the names that ``load_weights`` knows."""
    return {f"model.{name}": value for name, value in model.state_dict().items()}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of AdamW, named by parameter number."""
    return {
        f"optimizer.{number}.{key}": value
        for number, entries in optimizer.state_dict()["state"].items()
        for key, value in entries.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Inverse of ``optimizer_tensors``."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in checkpoint.tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".")
            state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
