"""What changes from epoch to epoch, as functions of the epoch alone, so that a resumed run agrees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from twophase.training.config import TrainConfig

__all__ = ["EpochPlan", "learning_rate", "plan"]

COOLING = 0.97
"""Factor per epoch of the learning phase's temperature."""
WARM_ENTROPY = 0.05
"""Entropy weight at which the warm-up starts."""


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


def plan(config: TrainConfig, epoch: int) -> EpochPlan:
    """The plan of ``epoch`` (from 1)."""
    aligning = epoch > config.last_learning_epoch
    temperature = _temperature(config, epoch)
    return EpochPlan(
        epoch=epoch,
        phase="alignment" if aligning else "learning",
        temperature=temperature,
        symbol_temperature=temperature if config.surrogate == "reported" else 1.0,
        hardness=_hardness(config, epoch) if aligning else 0.0,
        lambda_entropy=_lambda_entropy(config, epoch),
        router_noise=config.router_noise * max(0.0, 1 - (epoch - 1) / max(1, config.last_learning_epoch)),
    )


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Linear warm-up over 100 steps (at most a tenth of all), then a cosine to zero or a constant.

    Parameters
    ----------
    step
        From 0.
    steps
        Of the whole run.
    """
    warm_up = min(100, max(1, steps // 10))
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    falling = cosine if config.learning_rate_schedule == "cosine" else 1.0
    return config.learning_rate * min(1.0, (step + 1) / warm_up) * falling


def _temperature(config: TrainConfig, epoch: int) -> float:
    if config.method == "single-phase":
        return float(config.anneal_temp_end ** ((epoch - 1) / max(1, config.epochs - 1)))
    if config.method == "hard-only" or epoch > config.last_learning_epoch:
        return config.temp_freeze_floor
    return float(max(config.temp_freeze_floor, COOLING ** (epoch - 1)))


def _hardness(config: TrainConfig, epoch: int) -> float:
    aligned_epochs = epoch - config.last_learning_epoch
    return min(1.0, aligned_epochs / (config.hardening_epochs + 1))


def _lambda_entropy(config: TrainConfig, epoch: int) -> float:
    if epoch > config.entropy_warmup_epochs:
        return config.lambda_entropy
    start = max(WARM_ENTROPY, config.lambda_entropy)
    return start + (config.lambda_entropy - start) * (epoch - 1) / config.entropy_warmup_epochs
