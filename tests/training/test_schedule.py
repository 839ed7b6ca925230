"""Temperature, hardness, entropy weight and learning rate from epoch to epoch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from twophase.training.config import TrainConfig
from twophase.training.schedule import learning_rate, plan


def planned(name: str, **settings: Any) -> list[Any]:
    """A quantity in each of the 30 epochs; the alignment starts at the 20th."""
    return [getattr(plan(TrainConfig(**settings), epoch), name) for epoch in range(1, 31)]


def test_two_phase_cools_to_the_floor_and_freezes() -> None:
    assert planned("temperature") == pytest.approx([max(0.7, 0.97**step) for step in range(30)])
    assert planned("phase") == ["learning"] * 19 + ["alignment"] * 11
    assert planned("hardness") == [0] * 19 + [1] * 11
    assert planned("hardness", hardening_epochs=3) == [0] * 19 + [0.25, 0.5, 0.75] + [1] * 8


def test_single_phase_anneals_to_its_end_and_never_hardens() -> None:
    for settings, end in (({}, 0.1), ({"anneal_temp_end": 0.02}, 0.02)):
        found = planned("temperature", method="single-phase", **settings)
        assert found == pytest.approx([end ** (step / 29) for step in range(30)])
    assert set(planned("phase", method="single-phase")) == {"learning"}
    assert set(planned("hardness", method="single-phase")) == {0}


def test_hard_only_is_hard_from_the_start() -> None:
    first = plan(TrainConfig(method="hard-only"), 1)
    assert (first.phase, first.hardness, first.temperature) == ("alignment", 1.0, 0.7)


def test_entropy_warm_up_falls_from_the_guides_weight() -> None:
    weights = planned("lambda_entropy", entropy_warmup_epochs=4)
    assert weights == pytest.approx([0.05, 0.04, 0.03, 0.02] + [0.01] * 26)


def test_only_the_reported_surrogate_has_a_symbol_temperature() -> None:
    assert planned("symbol_temperature") == [1.0] * 30
    assert planned("symbol_temperature", surrogate="reported") == planned("temperature")


def test_learning_rate_warms_up_and_ends_near_zero_or_stays() -> None:
    config = TrainConfig(learning_rate=1.0)
    rates = [learning_rate(config, step, 2000) for step in range(2000)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(0.994, abs=0.01)
    assert 0 <= rates[-1] < 1e-5
    assert all(later <= now for now, later in pairwise(rates[100:]))
    assert learning_rate(TrainConfig(learning_rate_schedule="constant", learning_rate=0.5), 1999, 2000) == 0.5


def test_the_routers_noise_falls_to_zero_over_the_learning_phase() -> None:
    expected = [0.5 * max(0, 1 - step / 19) for step in range(30)]
    assert planned("router_noise", router_noise=0.5) == pytest.approx(expected)
    assert planned("router_noise", router_noise=0.5, method="single-phase")[-1] == pytest.approx(0.5 / 30)
