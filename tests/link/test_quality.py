"""What training found of a link's quality, and the warning for each way in which it is poor."""

from __future__ import annotations

import pytest

from twophase.link.quality import trained_quality


def _training(
    train: float, validation: float, fitted: float = 0.99, without: float = 0.97
) -> dict[str, object]:
    return {
        "deployed": {"train_accuracy_hard": train, "validation_accuracy_hard": validation},
        "ceiling": {"train_accuracy": fitted, "validation_accuracy": without},
        "majority_share": 0.5,
        "samples": {"validation": 400},
    }


@pytest.mark.parametrize(
    ("training", "said"),
    [
        (_training(0.97, 0.96), []),
        (_training(0.976, 0.55), ["overfitted: 97.6 % on its training samples, 55.0 % in validation"]),
        (_training(0.8, 0.79), ["undertrained: 80.0 % on its own training samples, 99.0 % without"]),
        (_training(0.6, 0.524), ["the link has collapsed: 52.4 % in validation"]),  # a standard error above
        (_training(0.9, 0.5, 0.55, 0.51), ["even without a channel a classifier reaches 51.0 %"]),
        # Nothing is said of what a manifest does not say, or says wrong.
        ({}, []),
        ({"deployed": {"train_accuracy_hard": True, "validation_accuracy_hard": 7}}, []),
        (
            {"deployed": {"train_accuracy_hard": 0.9, "validation_accuracy_hard": 0.2}, "samples": 3},
            ["overfitted"],
        ),
    ],
)
def test_each_way_of_being_poor_has_its_warning(training: dict[str, object], said: list[str]) -> None:
    found = trained_quality(training)
    assert len(found.warnings()) == len(said)
    assert all(text.startswith(begin) for text, begin in zip(found.warnings(), said, strict=True))
    assert found.collapsed == any("collapsed" in text for text in said) or "even without" in str(said)
