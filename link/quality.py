"""What training found of a link's quality, and when to warn: a link can work as trained and be a poor one.

The entry ``training`` of a manifest holds accuracies of the hard system over the SNRs of training, the share
of the most frequent class of the validation split, and, under ``ceiling``, what the same encoder with a
classifier reaches without a channel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["POINTS_WARNED", "TrainedQuality", "at_majority", "trained_quality"]

POINTS_WARNED = 0.05
"""Difference of two accuracies from which on it is warned of."""


@dataclass(frozen=True)
class TrainedQuality:
    """Accuracies as training measured them; None where a manifest does not say."""

    train: float | None = None
    validation: float | None = None
    majority_share: float | None = None
    """Of the validation split."""
    ceiling_train: float | None = None
    ceiling_validation: float | None = None
    samples: int | None = None
    """Of the validation split."""

    @property
    def collapsed(self) -> bool:
        """Whether the link decides no better than whoever names the most frequent class."""
        known = self.validation is not None and self.majority_share is not None and self.samples
        return bool(known) and at_majority(
            self.validation or 0.0, self.majority_share or 0.0, self.samples or 1
        )

    def warnings(self) -> list[str]:
        """What is wrong with the link, with the remedy, one sentence each without a full stop."""
        train, validation = self.train, self.validation
        if train is None or validation is None:
            return []
        found = []
        without, fitted = self.ceiling_validation, self.ceiling_train
        majority, samples = self.majority_share, self.samples
        if (
            without is not None
            and majority is not None
            and samples
            and at_majority(without, majority, samples)
        ):
            return [
                f"even without a channel a classifier reaches {_percent(without)} in validation, as does "
                "naming the most frequent class: look at the labels and at the scale of the inputs"
            ]
        if self.collapsed:
            found.append(
                f"the link has collapsed: {_percent(validation)} in validation, where naming the most "
                f"frequent class gives {_percent(majority or 0.0)}; train longer (--epochs, a later "
                "--alignment-start-epoch), raise --lambda-entropy"
            )
        elif fitted is not None and fitted - train > POINTS_WARNED:
            found.append(
                f"undertrained: {_percent(train)} on its own training samples, {_percent(fitted)} without a "
                "channel; train longer (--epochs), give it more bits (--tokens, --codebook-sizes), or leave "
                "out the lowest SNRs (--train-snr-low-db)"
            )
        if train - validation > POINTS_WARNED and not self.collapsed:
            found.append(
                f"overfitted: {_percent(train)} on its training samples, {_percent(validation)} in "
                "validation; more samples, --augmentation (images), --input-noise, --weight-decay or a "
                "smaller --hidden help"
            )
        return found


def trained_quality(training: Mapping[str, Any]) -> TrainedQuality:
    """What the entry ``training`` of a manifest says; what is missing there, or no share, is None."""

    def share(*path: str) -> float | None:
        value: Any = training
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(value) if number and 0 <= value <= 1 else None

    parts = training.get("samples")
    count = parts.get("validation") if isinstance(parts, Mapping) else None
    return TrainedQuality(
        train=share("deployed", "train_accuracy_hard"),
        validation=share("deployed", "validation_accuracy_hard"),
        majority_share=share("majority_share"),
        ceiling_train=share("ceiling", "train_accuracy"),
        ceiling_validation=share("ceiling", "validation_accuracy"),
        samples=count if isinstance(count, int) and count > 0 else None,
    )


def at_majority(accuracy: float, majority_share: float, samples: int) -> bool:
    """Whether an accuracy on so many samples is no standard error above the share of the largest class."""
    return accuracy <= majority_share + math.sqrt(majority_share * (1 - majority_share) / samples)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
