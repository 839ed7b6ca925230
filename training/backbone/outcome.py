"""What a backbone makes of all texts of a task: features, and classes without a link."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from twophase.link.errors import ArtifactError
from twophase.training.backbone.baselines import best_logistic
from twophase.training.backbone.classifier import TextClassifier, pooled_in_batches
from twophase.training.backbone.hidden import HiddenStates
from twophase.training.backbone.parts import Pooled
from twophase.training.backbone.tokens import Source, Tokens
from twophase.training.backbone.tune import load_tuning
from twophase.training.checkpoint import save_checkpoint

__all__ = ["STORED", "Outcome", "frozen_outcome", "load_outcome", "save_outcome", "tuned_outcome"]

STORED = "features"
"""Checkpoint that holds it."""
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""C of the logistic regression on a frozen backbone, from which the validation split chooses."""


@dataclass(frozen=True)
class Outcome:
    """Of all texts: training, then validation, then test."""

    features: Tensor
    """(n, C): standardised means over the tokens."""
    probabilities: Tensor
    """(n, classes): by the linear classifier on them, without a link."""
    pooled: Pooled
    """The standardisation, fitted on the training texts."""
    record: dict[str, Any]
    """How it came about, as plain values."""


def tuned_outcome(
    model: TextClassifier, source: Source, tokens: Tokens, device: torch.device, record: dict[str, Any]
) -> Outcome:
    """The outcome of a tuned backbone and the classifier that it was tuned with."""
    everyone = np.arange(len(tokens.lengths))
    means = torch.empty(len(everyone), model.classifier.in_features)
    probabilities = torch.empty(len(everyone), model.classifier.out_features)
    for members, pooled in pooled_in_batches(model, source, everyone, device):
        with torch.inference_mode():
            means[members] = pooled.cpu()
            probabilities[members] = model.classifier(pooled).softmax(1).cpu()
    standard = _fitted(means, tokens)
    return Outcome(standard.standardise(means), probabilities, standard, record)


def frozen_outcome(states: HiddenStates, tokens: Tokens, classes: int, record: dict[str, Any]) -> Outcome:
    """The outcome of a frozen backbone, with a logistic regression fitted on the training texts.

    Parameters
    ----------
    states
        One row for each text: the mean over its tokens.
    """
    means = torch.from_numpy(states.states[states.starts])
    standard = _fitted(means, tokens)
    features = standard.standardise(means)
    plain, labels = features.numpy(), tokens.labels
    regression, accuracy = best_logistic(
        plain[tokens.train],
        labels[tokens.train],
        plain[tokens.validation],
        labels[tokens.validation],
        STRENGTHS,
    )
    probabilities = torch.zeros(len(labels), classes)
    known = torch.from_numpy(regression.classes_)
    probabilities[:, known] = torch.from_numpy(regression.predict_proba(plain)).float()
    return Outcome(features, probabilities, standard, record | {"validation_accuracy": accuracy})


def save_outcome(checkpoints: Path, outcome: Outcome, fingerprint: str) -> None:
    """Keep it in the run, so that a resumed run need not compute it again."""
    tensors = {
        "features": outcome.features,
        "probabilities": outcome.probabilities,
        "mean": outcome.pooled.mean,
        "deviation": outcome.pooled.deviation,
    }
    state = {"epoch": outcome.record["epochs"], "fingerprint": fingerprint, "record": outcome.record}
    save_checkpoint(checkpoints, STORED, tensors, state)


def load_outcome(checkpoints: Path, fingerprint: str) -> Outcome | None:
    """What the run keeps, or None if it had not come that far.

    Raises
    ------
    ArtifactError
        If it is altered, or of other sentences, settings or another backbone.
    """
    if not (checkpoints / f"{STORED}.json").is_file():
        return None
    checkpoint = load_tuning(checkpoints, STORED, fingerprint)
    try:
        tensors = checkpoint.tensors
        pooled = Pooled(len(tensors["mean"]))
        pooled.load_state_dict({name: tensors[name] for name in ("mean", "deviation")})
        return Outcome(tensors["features"], tensors["probabilities"], pooled, checkpoint.state["record"])
    except LookupError as error:
        raise ArtifactError(f"'{checkpoints / STORED}.json' is altered: {error} is missing") from error


def _fitted(means: Tensor, tokens: Tokens) -> Pooled:
    pooled = Pooled(means.shape[1])
    pooled.fit(means[tokens.train])
    return pooled
