"""Links with random weights, made-up batches, and a task of three noisy centres that trains in no time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from twophase.link.input_scale import InputScale
from twophase.link.modes import LinkConfig, Mode
from twophase.training.config import TrainConfig
from twophase.training.data import Split, Task
from twophase.training.model.network import LinkModel
from twophase.training.model.router import gumbel_noise
from twophase.training.phases import Batch, StepResult, alignment_step, learning_step, plan_of, training_snr

CLASSES, FEATURES = 3, 8
"""Of the blobs."""


def blobs(size: int, seed: int) -> Split:
    """Samples around three centres, in the range of the pixels of a real task."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (size,), generator=generator)
    centres = torch.rand(CLASSES, FEATURES, generator=torch.Generator().manual_seed(99))
    return Split(centres[labels] + 0.2 * torch.randn(size, FEATURES, generator=generator), labels)


class Sealed:
    """Stands for a split at which nobody may look."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the sealed split was asked for {name!r}")

    def __len__(self) -> int:
        raise AssertionError("the sealed split was measured")


def blob_task(train: int = 64, validation: int = 30, test: Any = None, **values: Any) -> Task:
    """A task of blobs whose test split is sealed unless one is given."""
    values = {"scaling": "none"} | values
    return Task("blobs", ("a", "b", "c"), blobs(train, 1), blobs(validation, 2), test or Sealed(), **values)


def small_config(out: Path, **values: Any) -> TrainConfig:
    """Four epochs of one small mode, half of them aligned."""
    small: dict[str, Any] = {"epochs": 4, "alignment_start_epoch": 3, "batch_size": 16, "hidden": 12}
    small |= {"codebook_sizes": (8,), "tokens": (2,), "qam_orders": (4,), "embedding_dim": 3}
    return TrainConfig(out=out, **(small | values))


def make_model(
    link: LinkConfig,
    features: int = 10,
    classes: int = 5,
    hidden: int = 20,
    seed: int = 0,
    *,
    surrogate: str = "product",
    content: bool = False,
    on_grid: bool = False,
    scale: InputScale | None = None,
) -> LinkModel:
    """A model whose codebooks have labels in random order."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {"content_router": content, "on_grid": on_grid, "scale": scale}
    model = LinkModel(link, (features,), classes, hidden, surrogate, **options)
    for mode in model.one_mode_per_codebook():
        model.codebook(mode).set_labels(torch.randperm(mode.codebook_size))
    return model


@torch.no_grad()
def give_opinions(model: LinkModel, features: Tensor, low: float, high: float, scale: float = 4) -> None:
    """Make an untrained router of two codebooks and two constellations choose each of its modes somewhere."""
    router = model.router
    assert router is not None
    for parameter in router.parameters():
        parameter *= scale
    if router.reads_content:
        router.content_input.weight *= 10
    levels = torch.linspace(low, high, len(features))
    scores = router.scores(model.content(features), levels).mean(0).unflatten(0, (2, 2))
    router.rate.bias -= scores.mean(1)
    router.modulation.bias -= scores.mean(0)


def normal(*shape: int, seed: int = 2) -> Tensor:
    """Normal draws."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_batch(model: LinkModel, config: TrainConfig, size: int = 24) -> Batch:
    """Random samples and labels over the channel of a configuration."""
    generator = torch.Generator().manual_seed(1)
    return Batch(
        features=torch.randn(size, 10, generator=generator),
        labels=torch.randint(5, (size,), generator=generator),
        esn0_db=training_snr(size, config, generator),
        noise=torch.randn(size, model.modes.max_symbols, 2, generator=generator),
        gate_noise=gumbel_noise((size, len(model.modes)), generator),
    )


def take(
    model: LinkModel,
    config: TrainConfig,
    epoch: int,
    modes: list[Mode] | None = None,
    batch: Batch | None = None,
    hardness: float | None = None,
) -> StepResult:
    """The step of an epoch, in all modes if none are given."""
    now = plan_of(config, epoch)
    if hardness is not None:
        now = replace(now, hardness=hardness)
    step_of = alignment_step if now.phase == "alignment" else learning_step
    chosen = list(model.modes) if modes is None else modes
    return step_of(model, chosen, make_batch(model, config) if batch is None else batch, config, now)
