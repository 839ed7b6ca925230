"""How good the link is, which the verdict does not say: it may do no worse than as trained, and be poor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from twophase.link.quality import POINTS_WARNED, at_majority, trained_quality
from twophase.link.samples import Samples
from twophase.sim.results.figures import Ceiling, Point, Quality
from twophase.sim.settings import Settings
from twophase.sim.theory.label_bound import label_accuracy
from twophase.sim.theory.statistics import wilson_by_sample

__all__ = ["ceiling_of", "quality_of", "with_ceiling"]


def ceiling_of(samples: Samples, settings: Settings) -> Ceiling | None:
    """The accuracy without a channel, where the samples hold its decisions; of sentences where asked for."""
    if samples.without_link is None:
        return None
    what = "the same encoder with a classifier"
    if samples.sentences is not None:
        if "no-channel" not in settings.baselines:
            return None
        what = "the classifier that the backbone was tuned with, on the sentence itself"
    right = (samples.without_link == samples.labels).astype(np.float64)
    return Ceiling("no channel", what, float(right.mean()), wilson_by_sample(right))


def with_ceiling(points: Sequence[Point], ceiling: Ceiling | None, classes: int) -> list[Point]:
    """Put into each point what an ideal sender of the ceiling's decisions reaches in as many symbols."""
    if ceiling is None:
        return list(points)
    return [
        replace(point, classify_and_send=label_accuracy(ceiling.accuracy, point.label_delivered, classes))
        for point in points
    ]


def quality_of(points: Sequence[Point], ceiling: Ceiling | None, training: Mapping[str, Any]) -> Quality:
    """The figures by which to read an accuracy; ``training`` is that of the manifest."""
    trained = trained_quality(training)
    frequency = np.sum(points[0].confusion, axis=1)
    majority = float(frequency.max() / frequency.sum())
    below, at_db = max((_ideal(point) - point.accuracy_hard, point.esn0_db) for point in points)
    best = max(points, key=lambda point: point.accuracy_hard)
    warnings = trained.warnings()
    if at_majority(best.accuracy_hard, majority, best.samples):
        warnings.append(
            "at no SNR is the link better than naming the most frequent class, which "
            f"{100 * majority:.1f} % of the samples have"
        )
    elif ceiling is not None and (gap := ceiling.accuracy - best.accuracy_hard) > POINTS_WARNED:
        warnings.append(
            f"even at its best ({best.esn0_db:g} dB) the link is {100 * gap:.1f} percentage points below "
            "what its encoder allows without a channel"
        )
    if below > POINTS_WARNED:
        warnings.append(
            f"whoever classifies first and sends the label could be up to {100 * below:.1f} percentage "
            f"points better with as many symbols ({at_db:g} dB; an ideal code)"
        )
    return Quality(majority, below, at_db, trained.train, trained.validation, tuple(warnings))


def _ideal(point: Point) -> float:
    return point.label_bound if point.classify_and_send is None else point.classify_and_send
