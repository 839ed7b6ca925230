"""Both phases of the method, to be read from top to bottom: the plan of an epoch, then one step of each.

Learning: the forward pass is soft.  Alignment: the forward pass is the deployed, digital one and the
backward pass goes through the soft surrogate, while a consistency loss ties the soft system to the hard.

A link of several modes trains some of them in each step, every sample in each of these.  The router's own
loss is their expected loss under its shares; how far the modes, too, learn most from the samples that it
gives to them is a setting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from twophase.link.modes import Mode
from twophase.training.config import TrainConfig
from twophase.training.losses import (
    commitment_loss,
    consistency_loss,
    distillation_loss,
    entropy,
    latent_loss,
    margin_loss,
    task_loss,
    usage_entropy_loss,
)
from twophase.training.model.network import HardSignal, LinkModel, SoftSignal
from twophase.training.model.router import balance_loss, mode_shares
from twophase.training.model.soft_symbols import point_probabilities, straight_through

__all__ = [
    "ENERGY_GROUPS",
    "Batch",
    "EpochPlan",
    "Pass",
    "StepResult",
    "alignment_step",
    "charged_energy",
    "learning_rate",
    "learning_step",
    "plan_of",
    "training_snr",
]

COOLING = 0.97
"""Factor per epoch of the learning phase's temperature."""
WARM_ENTROPY = 0.05
"""Entropy weight at which the warm-up starts."""
ENERGY_GROUPS = 8
"""A batch is charged in groups of similar SNR, as the simulator charges each SNR point of its own."""


@dataclass(frozen=True)
class EpochPlan:
    """How one epoch is trained."""

    epoch: int
    """From 1."""
    phase: Literal["learning", "alignment"]
    temperature: float
    """Of the codebook assignment."""
    symbol_temperature: float
    """Of the symbol map; 1 for the product surrogate, which has none."""
    hardness: float
    """Share of the hard symbols in the forward pass: 0 soft, 1 hard."""
    lambda_entropy: float
    router_noise: float
    """Standard deviation of the noise on the router's scores, on top of the Gumbel draws."""


def plan_of(config: TrainConfig, epoch: int) -> EpochPlan:
    """The plan of ``epoch``, a function of the epoch alone, so that a resumed run agrees."""
    aligned = max(0, epoch - config.last_learning_epoch)
    temperature = _temperature(config, epoch)
    return EpochPlan(
        epoch=epoch,
        phase="alignment" if aligned else "learning",
        temperature=temperature,
        symbol_temperature=temperature if config.surrogate == "reported" else 1.0,
        hardness=min(1.0, aligned / (config.hardening_epochs + 1)),
        lambda_entropy=_lambda_entropy(config, epoch),
        router_noise=config.router_noise * max(0.0, 1 - (epoch - 1) / max(1, config.last_learning_epoch)),
    )


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Rate at ``step`` (from 0) of all ``steps`` of a run.

    Linear warm-up over 100 steps (at most a tenth of all), then a cosine to zero or a constant.
    """
    warm_up = min(100, max(1, steps // 10))
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    falling = cosine if config.learning_rate_schedule == "cosine" else 1.0
    return config.learning_rate * min(1.0, (step + 1) / warm_up) * falling


def _temperature(config: TrainConfig, epoch: int) -> float:
    if config.method == "single-phase":
        return float(config.anneal_temp_end ** ((epoch - 1) / max(1, config.epochs - 1)))
    if epoch > config.last_learning_epoch:
        return config.temp_freeze_floor
    return float(max(config.temp_freeze_floor, COOLING ** (epoch - 1)))


def _lambda_entropy(config: TrainConfig, epoch: int) -> float:
    if epoch > config.entropy_warmup_epochs:
        return config.lambda_entropy
    start = max(WARM_ENTROPY, config.lambda_entropy)
    return start + (config.lambda_entropy - start) * (epoch - 1) / config.entropy_warmup_epochs


@dataclass(frozen=True)
class Batch:
    """Samples and the channel that they meet."""

    features: Tensor
    """(batch, *input_shape)."""
    labels: Tensor
    """(batch,)."""
    esn0_db: Tensor
    """(batch,), ascending."""
    noise: Tensor
    """(batch, max_symbols, 2): standard normal draws."""
    gate_noise: Tensor
    """(batch, modes): what the router's scores are perturbed by; unused in a link of one mode."""
    teacher: Tensor | None = None
    """(batch, classes): class probabilities by another classifier; None if there is none."""


@dataclass(frozen=True)
class Pass:
    """One mode's way through the link."""

    mode: Mode
    loss: Tensor
    """(batch,): cross-entropy of each sample."""
    terms: dict[str, Tensor]
    """Other terms, unweighted scalars."""
    correct: Tensor
    """(batch,) bool: right decisions of the forward pass."""
    llr: Tensor
    """(batch, channel_bits) of the forward pass."""
    hard: HardSignal
    latents: Tensor
    """(batch, N, C)."""


@dataclass(frozen=True)
class StepResult:
    """What a step yields: the loss to descend, its terms, and what the monitor wants to see."""

    loss: Tensor
    terms: dict[str, Tensor]
    """Unweighted terms, scalars."""
    accuracy: Tensor
    """Share of right decisions of the forward pass, each mode weighted as the router does."""
    router_entropy: Tensor
    """Mean entropy of the router's choice in nats; 0 without a router."""
    passes: tuple[Pass, ...]


def learning_step(
    model: LinkModel, modes: Sequence[Mode], batch: Batch, config: TrainConfig, plan: EpochPlan
) -> StepResult:
    """Phase 1: soft symbols over the channel, gradients through everything."""
    return _step(model, modes, batch, config, plan, _soft_pass)


def alignment_step(
    model: LinkModel, modes: Sequence[Mode], batch: Batch, config: TrainConfig, plan: EpochPlan
) -> StepResult:
    """Phase 2: hard symbols over the channel, gradients through the soft surrogate, consistency of both."""
    return _step(model, modes, batch, config, plan, _hard_pass)


def _soft_pass(
    model: LinkModel, content: Tensor, mode: Mode, batch: Batch, config: TrainConfig, plan: EpochPlan
) -> Pass:
    noise = batch.noise[:, : mode.symbols]
    latents = model.latents(content, mode)
    scores = model.codebook(mode).scores(latents)
    soft = model.soft_transmit(scores, mode, plan.temperature)
    hard = model.hard_transmit(scores, mode)

    llr = model.llr(soft.symbols, charged_energy(soft.symbols), noise, batch.esn0_db, mode)
    seen = model.receive(llr, mode)
    logits = model.classify(model.features(seen.embedding, seen.soft_bits, mode))

    terms = _signal_terms(model, mode, latents, scores, soft, hard)
    correct = logits.argmax(1) == batch.labels
    return Pass(mode, _loss(logits, batch, config), terms, correct, llr, hard, latents)


def _hard_pass(
    model: LinkModel, content: Tensor, mode: Mode, batch: Batch, config: TrainConfig, plan: EpochPlan
) -> Pass:
    codebook, noise = model.codebook(mode), batch.noise[:, : mode.symbols]
    latents = model.latents(content, mode)
    scores = codebook.scores(latents)
    soft = model.soft_transmit(scores, mode, plan.temperature)
    hard = model.hard_transmit(scores, mode)
    soft_codewords = soft.assignment @ codebook.words

    forward = torch.lerp(soft.symbols, hard.symbols, plan.hardness)
    sent = straight_through(forward, soft.symbols)
    llr = model.llr(sent, charged_energy(sent), noise, batch.esn0_db, mode)
    seen = model.receive(llr, mode)
    embedding, soft_bits = seen.embedding, seen.soft_bits
    if config.bridge:
        # Adds zero to the value and the soft codeword mix to the gradient, which a saturated LLR blocks.
        embedding = embedding + (soft_codewords - soft_codewords.detach())
        expected_bits = 2 * soft.bit_probs[:, : mode.information_bits]
        soft_bits = soft_bits + (expected_bits - expected_bits.detach())
    features = model.features(embedding, soft_bits, mode)
    logits = model.classify(features)

    soft_llr = model.llr(soft.symbols, charged_energy(soft.symbols), noise, batch.esn0_db, mode)
    soft_seen = model.receive(soft_llr, mode)
    soft_features = model.features(soft_seen.embedding, soft_seen.soft_bits, mode)
    terms = {
        "consistency": consistency_loss(soft_seen.embedding, seen.embedding),
        "auxiliary": consistency_loss(soft_codewords, codebook.lookup(hard.indices))
        + consistency_loss(soft.symbols, hard.symbols)
        + consistency_loss(soft_features, features),
    } | _signal_terms(model, mode, latents, scores, soft, hard)
    correct = logits.argmax(1) == batch.labels
    return Pass(mode, _loss(logits, batch, config), terms, correct, llr, hard, latents)


def _loss(logits: Tensor, batch: Batch, config: TrainConfig) -> Tensor:
    """What a decision costs each sample, by its label and by its teacher's probabilities: (batch,)."""
    labelled = task_loss(logits, batch.labels)
    if batch.teacher is None:
        return labelled
    return torch.lerp(labelled, distillation_loss(logits, batch.teacher), config.distillation)


def _step(
    model: LinkModel,
    modes: Sequence[Mode],
    batch: Batch,
    config: TrainConfig,
    plan: EpochPlan,
    pass_of: Callable[..., Pass],
) -> StepResult:
    """Weigh the modes of a step by the router, add the router's own terms, and sum up."""
    content = model.content(batch.features)
    passes = tuple(pass_of(model, content, mode, batch, config, plan) for mode in modes)
    losses = torch.stack([entry.loss for entry in passes], 1)
    routed: dict[str, Tensor] = {}
    shares, uncertainty = torch.ones_like(losses), torch.zeros(())
    if model.router is not None:
        every = model.router.scores(content, batch.esn0_db)
        members = [model.modes.modes.index(entry.mode) for entry in passes]
        noise = batch.gate_noise[:, members]
        shares = mode_shares(every[:, members], noise, config.router_temperature, hard=plan.hardness == 1)
        uncertainty = entropy(torch.softmax(every.detach(), 1)).mean()
        symbols = torch.tensor([float(mode.symbols) for mode in model.modes], device=every.device)
        routed = {
            "routing": (shares * losses.detach()).sum(1).mean(),
            "rate": (torch.softmax(every, 1) @ symbols).mean(),
            "balance": balance_loss(every),
        }
    weights = torch.lerp(torch.full_like(losses, 1 / len(passes)), shares.detach(), config.router_focus)
    terms = {"task": (weights * losses).sum(1).mean()}
    for name in passes[0].terms:
        terms[name] = torch.stack([entry.terms[name] for entry in passes]).mean()
    terms |= routed
    correct = torch.stack([entry.correct for entry in passes], 1)
    accuracy = (shares.detach() * correct).sum(1).mean()
    return StepResult(_weighted(terms, config, plan), terms, accuracy, uncertainty, passes)


def charged_energy(symbols: Tensor) -> Tensor:
    """Average energy that each sample's symbols are charged for: the mean over its group of similar SNR.

    (batch, n, 2), in ascending order of SNR -> (batch,).
    """
    energy = symbols.square().sum(-1).mean(-1)
    groups = energy.tensor_split(min(ENERGY_GROUPS, len(energy)))
    return torch.cat([group.mean().expand(len(group)) for group in groups]).clamp_min(1e-4)


def training_snr(batch: int, config: TrainConfig, generator: torch.Generator) -> Tensor:
    """Es/N0 in dB of each sample, one in each of ``batch`` equal parts of the training range, ascending."""
    place = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
    return config.train_snr_low_db + (config.train_snr_high_db - config.train_snr_low_db) * place


def _signal_terms(
    model: LinkModel, mode: Mode, latents: Tensor, scores: Tensor, soft: SoftSignal, hard: HardSignal
) -> dict[str, Tensor]:
    codebook = model.codebook(mode)
    points = point_probabilities(soft.bit_probs, model.tables(mode))
    return {
        "commitment": commitment_loss(latents, codebook.lookup(hard.indices)),
        "entropy": usage_entropy_loss(soft.assignment) + usage_entropy_loss(points),
        "latent": latent_loss(latents),
        "margin": margin_loss(scores, codebook.words),
    }


def _weighted(terms: dict[str, Tensor], config: TrainConfig, plan: EpochPlan) -> Tensor:
    weights = {
        "task": 1.0,
        "commitment": config.lambda_commitment,
        "entropy": plan.lambda_entropy,
        "latent": config.lambda_latent,
        "margin": config.lambda_margin,
        "consistency": config.lambda_consistency,
        "auxiliary": config.lambda_auxiliary,
        "routing": 1.0,
        "rate": config.lambda_rate,
        "balance": config.lambda_balance,
    }
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()
