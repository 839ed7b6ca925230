"""Temperature, hardness, entropy weight and learning rate from epoch to epoch."""

from __future__ import annotations

from itertools import pairwise

import pytest

from twophase.training.config import TrainConfig
from twophase.training.schedule import learning_rate, plan


def test_two_phase_cools_to_the_floor_and_freezes() -> None:
    config = TrainConfig()
    temperatures = [plan(config, epoch).temperature for epoch in range(1, 31)]
    assert temperatures[0] == 1.0
    assert temperatures[9] == pytest.approx(0.97**9)
    assert temperatures[12:] == [0.7] * 18
    phases = [plan(config, epoch).phase for epoch in range(1, 31)]
    assert phases == ["learning"] * 19 + ["alignment"] * 11
    assert [plan(config, epoch).hardness for epoch in (1, 19, 20, 30)] == [0, 0, 1, 1]


def test_single_phase_anneals_to_its_end_and_never_hardens() -> None:
    config = TrainConfig(method="single-phase")
    plans = [plan(config, epoch) for epoch in range(1, 31)]
    assert plans[0].temperature == 1.0
    assert plans[-1].temperature == pytest.approx(0.1)
    ratios = [later.temperature / now.temperature for now, later in pairwise(plans)]
    assert ratios == pytest.approx([ratios[0]] * 29)
    assert all(entry.phase == "learning" and entry.hardness == 0 for entry in plans)
    colder = TrainConfig(method="single-phase", anneal_temp_end=0.02)
    assert plan(colder, 30).temperature == pytest.approx(0.02)


def test_hardness_begins_with_hard_only_and_can_rise_gradually() -> None:
    first = plan(TrainConfig(method="hard-only"), 1)
    assert (first.phase, first.hardness, first.temperature) == ("alignment", 1.0, 0.7)
    config = TrainConfig(hardening_epochs=3)
    assert [plan(config, epoch).hardness for epoch in (19, 20, 21, 22, 23, 30)] == [0, 0.25, 0.5, 0.75, 1, 1]


def test_entropy_warm_up_falls_from_the_guides_weight() -> None:
    config = TrainConfig(entropy_warmup_epochs=4)
    weights = [plan(config, epoch).lambda_entropy for epoch in range(1, 7)]
    assert weights == pytest.approx([0.05, 0.04, 0.03, 0.02, 0.01, 0.01])


def test_only_the_reported_surrogate_has_a_symbol_temperature() -> None:
    assert plan(TrainConfig(), 10).symbol_temperature == 1.0
    reported = plan(TrainConfig(surrogate="reported"), 10)
    assert reported.symbol_temperature == reported.temperature < 1


def test_learning_rate_warms_up_and_ends_near_zero_or_stays() -> None:
    config = TrainConfig(learning_rate=1.0)
    rates = [learning_rate(config, step, 2000) for step in range(2000)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(0.994, abs=0.01)
    assert 0 <= rates[-1] < 1e-5
    assert all(later <= now for now, later in pairwise(rates[100:]))
    assert learning_rate(TrainConfig(learning_rate_schedule="constant", learning_rate=0.5), 1999, 2000) == 0.5


def test_the_routers_noise_falls_to_zero_over_the_learning_phase() -> None:
    noise = [plan(TrainConfig(router_noise=0.5), epoch).router_noise for epoch in range(1, 31)]
    assert noise[:19] == pytest.approx([0.5 * (1 - step / 19) for step in range(19)])
    assert noise[19:] == [0.0] * 11
    soft = TrainConfig(method="single-phase", router_noise=0.5)
    assert plan(soft, 30).router_noise == pytest.approx(0.5 / 30)
    assert plan(TrainConfig(router_noise=0.0), 1).router_noise == 0.0
