"""Links with random weights and made-up batches, for one step of training or one look at a program."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from twophase.link.modes import LinkConfig, Mode
from twophase.training.config import TrainConfig
from twophase.training.model.network import LinkModel
from twophase.training.model.router import gumbel_noise
from twophase.training.phases import Batch, StepResult, alignment_step, learning_step, training_snr
from twophase.training.schedule import plan


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
) -> LinkModel:
    """A model whose codebooks have labels in random order."""
    torch.manual_seed(seed)
    model = LinkModel(link, (features,), classes, hidden, surrogate, content_router=content, on_grid=on_grid)
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
    now = plan(config, epoch)
    if hardness is not None:
        now = replace(now, hardness=hardness)
    step_of = alignment_step if now.phase == "alignment" else learning_step
    chosen = list(model.modes) if modes is None else modes
    return step_of(model, chosen, make_batch(model, config) if batch is None else batch, config, now)
