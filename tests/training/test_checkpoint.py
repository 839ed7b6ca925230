"""Checkpoints hold every bit, replace one another, and survive being cut off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from twophase.link.errors import ArtifactError
from twophase.training.checkpoint import (
    load_checkpoint,
    load_weights,
    model_tensors,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.full((1, 3), float(step))).square().sum().backward()
        optimizer.step()


def test_weights_and_optimiser_continue_where_they_were(tmp_path: Path) -> None:
    model, fresh = nn.Linear(3, 2), nn.Linear(3, 2)
    optimizer, again = torch.optim.AdamW(model.parameters()), torch.optim.AdamW(fresh.parameters())
    descend(model, optimizer, 3)
    save_checkpoint(tmp_path, "last", model_tensors(model) | optimizer_tensors(optimizer), {"epoch": 3})
    checkpoint = load_checkpoint(tmp_path, "last")
    load_weights(fresh, checkpoint, tmp_path)
    restore_optimizer(again, checkpoint)
    descend(model, optimizer, 2)
    descend(fresh, again, 2)
    assert all(map(torch.equal, model.parameters(), fresh.parameters()))


def test_only_the_newest_weights_stay_and_half_a_checkpoint_changes_nothing(tmp_path: Path) -> None:
    for epoch in (1, 2):
        save_checkpoint(tmp_path, "last", {"model.w": torch.full((2,), float(epoch))}, {"epoch": epoch})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last-0002.safetensors", "last.json"]
    (tmp_path / "last-0003.safetensors").write_bytes(b"half")  # as a kill between the two renames leaves it
    assert load_checkpoint(tmp_path, "last").state["epoch"] == 2
    assert load_checkpoint(tmp_path, "last").tensors["model.w"].tolist() == [2.0, 2.0]


def test_another_model_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "best", {"model.weight": torch.ones(2, 2)}, {"epoch": 1})
    with pytest.raises(ArtifactError, match="belongs to another model"):
        load_weights(nn.Linear(3, 2), load_checkpoint(tmp_path, "best"), tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("best.json", b'{"format": "other"}', "best.json' is not a twophase-checkpoint"),
        ("best.json", b'{"epoch": 1', "best.json' is not JSON"),
        ("best.json", {"version": 99}, "best.json' must be of version 1, not 99: train again"),
        ("best-0001.safetensors", b"half", "is truncated or altered: its SHA-256"),
        ("best-0001.safetensors", None, "is missing; 'best.json' names it"),
    ],
)
def test_a_damaged_checkpoint_is_refused(name: str, content: Any, message: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "best", {"model.w": torch.ones(2)}, {"epoch": 1})
    path = tmp_path / name
    if isinstance(content, dict):
        content = json.dumps(json.loads(path.read_text()) | content).encode()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        load_checkpoint(tmp_path, "best")
