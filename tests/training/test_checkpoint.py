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


def trained(steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    descend(model, optimizer, steps)
    return model, optimizer


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.full((1, 3), float(step))).square().sum().backward()
        optimizer.step()


def test_weights_and_optimiser_continue_where_they_were(tmp_path: Path) -> None:
    model, optimizer = trained(3)
    save_checkpoint(tmp_path, "last", model_tensors(model) | optimizer_tensors(optimizer), {"epoch": 3})
    fresh = nn.Linear(3, 2)
    again = torch.optim.AdamW(fresh.parameters())
    checkpoint = load_checkpoint(tmp_path, "last")
    load_weights(fresh, checkpoint, tmp_path)
    restore_optimizer(again, checkpoint)
    descend(model, optimizer, 2)
    descend(fresh, again, 2)
    for expected, found in zip(model.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(expected, found)


def test_only_the_newest_weights_stay(tmp_path: Path) -> None:
    for epoch in (1, 2):
        save_checkpoint(tmp_path, "last", {"model.w": torch.full((2,), float(epoch))}, {"epoch": epoch})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last-0002.safetensors", "last.json"]
    assert load_checkpoint(tmp_path, "last").tensors["model.w"].tolist() == [2.0, 2.0]


def test_weights_written_without_their_state_change_nothing(tmp_path: Path) -> None:
    """What a kill between the two renames leaves."""
    save_checkpoint(tmp_path, "last", {"model.w": torch.ones(2)}, {"epoch": 1})
    (tmp_path / "last-0002.safetensors").write_bytes(b"half")
    assert load_checkpoint(tmp_path, "last").state["epoch"] == 1


def test_another_model_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "best", {"model.weight": torch.ones(2, 2)}, {"epoch": 1})
    with pytest.raises(ArtifactError, match="belongs to another model"):
        load_weights(nn.Linear(3, 2), load_checkpoint(tmp_path, "best"), tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"best.json": b'{"format": "other"}'}, "best.json' is not a twophase-checkpoint"),
        ({"best.json": b'{"epoch": 1'}, "best.json' is not JSON"),
        ({"best-0001.safetensors": b"half"}, "is truncated or altered: its SHA-256"),
        ({"best-0001.safetensors": None}, "is missing; 'best.json' names it"),
        ({"version": 99}, "best.json' must be of version 1, not 99: train again"),
    ],
)
def test_a_damaged_checkpoint_is_refused(damage: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "best", {"model.w": torch.ones(2)}, {"epoch": 1})
    for name, content in damage.items():
        if name == "version":
            state = json.loads((tmp_path / "best.json").read_text()) | damage
            (tmp_path / "best.json").write_text(json.dumps(state))
        elif content is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        load_checkpoint(tmp_path, "best")
