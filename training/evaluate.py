"""Accuracy of the hard and of the soft system, measured alike but run apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from twophase.link.modes import Mode
from twophase.training.config import TrainConfig
from twophase.training.data import Split
from twophase.training.losses import entropy
from twophase.training.model.network import HardSignal, LinkModel
from twophase.training.phases import ENERGY_GROUPS, training_snr

__all__ = [
    "Choice",
    "Evaluation",
    "evaluate_hard",
    "evaluate_soft",
    "mode_accuracies",
    "router_choice",
    "symbol_energy",
    "usage_entropies",
]

NOISE_SEED = 20_111
"""All evaluations of a split see the same noise, so that epochs are compared in pairs."""

ROWS = 2048
"""Samples that are computed at once: with a large codebook each takes many scores."""

Choice = Callable[[Tensor, Tensor], Tensor]
"""Content (batch, width) and Es/N0 in dB (batch,) to mode numbers (batch,)."""


@dataclass(frozen=True)
class Evaluation:
    """Averages over the training range of SNR, every sample at each of ``repeats`` SNRs."""

    accuracy: float
    loss: float
    """Cross-entropy in nats."""
    mode_usage: tuple[float, ...]
    """Share of the samples that each mode has."""


def router_choice(model: LinkModel) -> Choice:
    """The mode with the best score of the model's router; the only one where there is no router."""

    def choose(content: Tensor, esn0_db: Tensor) -> Tensor:
        if model.router is None:
            return torch.zeros_like(esn0_db, dtype=torch.int64)
        return model.router.scores(content, esn0_db).argmax(1)

    return choose


def evaluate_hard(
    model: LinkModel, split: Split, config: TrainConfig, repeats: int, choose: Choice | None = None
) -> Evaluation:
    """The digital system: argmax, label bits, constellation points.  No softmax before the channel.

    ``choose`` is the router's argmax if not given; the receiver knows the mode.
    """
    symbols = partial(_hard_symbols, model)
    return _evaluate(model, split, config, repeats, symbols, choose or router_choice(model))


def evaluate_soft(
    model: LinkModel,
    split: Split,
    config: TrainConfig,
    repeats: int,
    temperature: float,
    choose: Choice | None = None,
) -> Evaluation:
    """The soft surrogate at ``temperature``, over the same channel."""

    def symbols(mode: Mode, content: Tensor) -> Tensor:
        scores = model.codebook(mode).scores(model.latents(content, mode))
        return model.soft_transmit(scores, mode, temperature).symbols

    return _evaluate(model, split, config, repeats, symbols, choose or router_choice(model))


@torch.no_grad()
def mode_accuracies(model: LinkModel, split: Split, esn0_db: Tensor, repeats: int) -> Tensor:
    """Accuracy of the hard system in each mode at each Es/N0, all under the same noise: (modes, points)."""
    content = model.content(split.features)
    generator = torch.Generator().manual_seed(NOISE_SEED)
    count = repeats * len(split)
    noise = torch.randn(count, model.modes.max_symbols, 2, generator=generator).to(content.device)
    labels = split.labels.repeat(repeats)
    right = torch.zeros(len(model.modes), len(esn0_db), dtype=torch.float64)
    for number, mode in enumerate(model.modes):
        sent = _in_parts(partial(_hard_symbols, model, mode), content).repeat(repeats, 1, 1)
        energy = sent.square().sum(-1).mean().expand(count)
        for point, level in enumerate(esn0_db.tolist()):
            logits = _logits(
                model, mode, sent, energy, noise[:, : mode.symbols], torch.full_like(energy, level)
            )
            right[number, point] = int((logits.argmax(1) == labels).sum())
    return right / count


@torch.no_grad()
def usage_entropies(model: LinkModel, split: Split) -> tuple[list[float], list[float]]:
    """Entropies in nats of the codewords of each codebook and of the points of each mode, when hard."""
    content = model.content(split.features)
    codewords: dict[int, float] = {}
    points = []
    for mode in model.modes:
        parts = [_hard(model, mode, part) for part in content.split(ROWS)]
        indices = torch.cat([part.indices for part in parts])
        codewords[mode.codebook] = _usage_entropy(indices, mode.codebook_size)
        points.append(_usage_entropy(torch.cat([part.points for part in parts]), mode.order))
    return [codewords[index] for index in sorted(codewords)], points


@torch.no_grad()
def symbol_energy(model: LinkModel, mode: Mode, split: Split) -> float:
    """Average energy of the symbols that the hard transmitter sends for a split; 1 for evenly used points."""
    content = model.content(split.features)
    sent = _in_parts(partial(_hard_symbols, model, mode), content)
    return float(sent.square().sum(-1).mean())


@torch.no_grad()
def _evaluate(
    model: LinkModel,
    split: Split,
    config: TrainConfig,
    repeats: int,
    symbols_of: Callable[[Mode, Tensor], Tensor],
    choose: Choice,
) -> Evaluation:
    generator = torch.Generator().manual_seed(NOISE_SEED)
    device, modes = split.features.device, model.modes
    content = model.content(split.features)
    every: dict[int, Tensor] = {}
    counts = torch.tensor([mode.symbols for mode in modes], device=device)
    right = loss = 0.0
    usage = torch.zeros(len(modes))
    for _ in range(repeats):
        # Each round deals the SNRs of the training range to the samples anew, ascending along `order`.
        order = torch.randperm(len(split), generator=generator).to(device)
        esn0_db = training_snr(len(split), config, generator).to(device)
        noise = torch.randn(len(split), modes.max_symbols, 2, generator=generator).to(device)
        chosen, labels = choose(content[order], esn0_db), split.labels[order]
        sent = torch.zeros_like(noise)
        groups = [(number, (chosen == number).nonzero().flatten()) for number in chosen.unique().tolist()]
        for number, rows in groups:
            if number not in every:
                every[number] = _in_parts(partial(symbols_of, modes[number]), content)
            sent[rows, : modes[number].symbols] = every[number][order[rows]]
        energy = _charged(sent, counts[chosen])
        for number, rows in groups:
            mode = modes[number]
            part = (sent[rows, : mode.symbols], energy[rows], noise[rows, : mode.symbols], esn0_db[rows])
            logits = _logits(model, mode, *part)
            right += float((logits.argmax(1) == labels[rows]).sum())
            loss += float(F.cross_entropy(logits, labels[rows], reduction="sum"))
        usage += torch.bincount(chosen.cpu(), minlength=len(modes))
    total = repeats * len(split)
    return Evaluation(right / total, loss / total, tuple((usage / total).tolist()))


def _charged(sent: Tensor, counts: Tensor) -> Tensor:
    """Average energy per symbol over each group of similar SNR, whatever the modes in it: (batch,)."""
    groups = min(ENERGY_GROUPS, len(sent))
    energies = sent.square().sum((1, 2)).tensor_split(groups)
    symbols = counts.tensor_split(groups)
    means = [(e.sum() / n.sum()).expand(len(e)) for e, n in zip(energies, symbols, strict=True)]
    return torch.cat(means).clamp_min(1e-4)


def _hard_symbols(model: LinkModel, mode: Mode, content: Tensor) -> Tensor:
    return _hard(model, mode, content).symbols


def _hard(model: LinkModel, mode: Mode, content: Tensor) -> HardSignal:
    return model.hard_transmit(model.codebook(mode).scores(model.latents(content, mode)), mode)


def _logits(
    model: LinkModel, mode: Mode, sent: Tensor, energy: Tensor, noise: Tensor, esn0_db: Tensor
) -> Tensor:
    def logits(sent: Tensor, energy: Tensor, noise: Tensor, esn0_db: Tensor) -> Tensor:
        seen = model.receive(model.llr(sent, energy, noise, esn0_db, mode), mode)
        return model.classify(model.features(seen.embedding, seen.soft_bits, mode))

    return _in_parts(logits, sent, energy, noise, esn0_db)


def _in_parts(compute: Callable[..., Tensor], *values: Tensor) -> Tensor:
    """What ``compute`` gives for all rows, computed for ``ROWS`` of them at a time."""
    parts = zip(*(value.split(ROWS) for value in values), strict=True)
    return torch.cat([compute(*part) for part in parts])


def _usage_entropy(values: Tensor, size: int) -> float:
    return float(entropy(torch.bincount(values.flatten(), minlength=size) / values.numel()))
