"""Accuracy of the hard and of the soft system, measured alike but run apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from twophase.link.modes import Mode
from twophase.training.config import TrainConfig
from twophase.training.data import Split
from twophase.training.losses import entropy
from twophase.training.model import LinkModel
from twophase.training.phases import charged_energy, training_snr

__all__ = ["Evaluation", "evaluate_hard", "evaluate_soft", "symbol_energy", "usage_entropies"]

NOISE_SEED = 20_111
"""All evaluations of a split see the same noise, so that epochs are compared in pairs."""


@dataclass(frozen=True)
class Evaluation:
    """Averages over the training range of SNR, every sample at each of ``repeats`` SNRs."""

    accuracy: float
    loss: float
    """Cross-entropy in nats."""


def evaluate_hard(
    model: LinkModel, mode: Mode, split: Split, config: TrainConfig, repeats: int
) -> Evaluation:
    """The digital system: argmax, label bits, constellation points.  No softmax before the channel."""

    def symbols(features: Tensor) -> Tensor:
        scores = model.codebook(mode).scores(model.latents(features, mode))
        return model.hard_transmit(scores, mode).symbols

    return _evaluate(model, mode, split, config, repeats, symbols)


def evaluate_soft(
    model: LinkModel, mode: Mode, split: Split, config: TrainConfig, repeats: int, temperature: float
) -> Evaluation:
    """The soft surrogate at ``temperature``, over the same channel."""

    def symbols(features: Tensor) -> Tensor:
        scores = model.codebook(mode).scores(model.latents(features, mode))
        return model.soft_transmit(scores, mode, temperature).symbols

    return _evaluate(model, mode, split, config, repeats, symbols)


@torch.no_grad()
def usage_entropies(model: LinkModel, mode: Mode, split: Split) -> tuple[float, float]:
    """Entropies in nats of the codewords and of the constellation points that the hard transmitter sends."""
    scores = model.codebook(mode).scores(model.latents(split.features, mode))
    hard = model.hard_transmit(scores, mode)

    def of(values: Tensor, size: int) -> float:
        return float(entropy(torch.bincount(values.flatten(), minlength=size) / values.numel()))

    return of(hard.indices, mode.codebook_size), of(hard.points, mode.order)


@torch.no_grad()
def symbol_energy(model: LinkModel, mode: Mode, split: Split) -> float:
    """Average energy of the symbols that the hard transmitter sends for a split; 1 for evenly used points."""
    scores = model.codebook(mode).scores(model.latents(split.features, mode))
    return float(model.hard_transmit(scores, mode).symbols.square().sum(-1).mean())


@torch.no_grad()
def _evaluate(
    model: LinkModel,
    mode: Mode,
    split: Split,
    config: TrainConfig,
    repeats: int,
    symbols_of: Callable[[Tensor], Tensor],
) -> Evaluation:
    generator = torch.Generator().manual_seed(NOISE_SEED)
    device = split.features.device
    sent = symbols_of(split.features)
    right = loss = 0.0
    for _ in range(repeats):
        # Each round deals the SNRs of the training range to the samples anew, ascending along `order`.
        order = torch.randperm(len(split), generator=generator)
        esn0_db = training_snr(len(split), config, generator).to(device)
        noise = torch.randn(len(split), mode.symbols, 2, generator=generator).to(device)
        dealt, labels = sent[order.to(device)], split.labels[order.to(device)]
        seen = model.receive(model.llr(dealt, charged_energy(dealt), noise, esn0_db, mode), mode)
        logits = model.classify(model.features(seen.embedding, seen.soft_bits, mode))
        right += float((logits.argmax(1) == labels).float().mean())
        loss += float(torch.nn.functional.cross_entropy(logits, labels))
    return Evaluation(right / repeats, loss / repeats)
