"""Intervals against published numbers and against their own promise: coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.link.errors import InputError
from twophase.sim.statistics import clopper_pearson, paired_gap, wilson_by_sample


def _clustered(
    rng: np.random.Generator, samples: int, trials: int, gap: float, agreement: float
) -> tuple[np.ndarray, float]:
    """Per-sample differences of two systems that agree on most trials; also their true mean.

    Each sample has its own difficulty, and a share of all outcomes is common to both systems.
    """
    easy = rng.beta(4.0, 0.8, samples)[:, None]
    worse = np.clip(easy - gap, 0.0, 1.0)
    common = rng.random((samples, trials)) < agreement
    draw = rng.random((samples, trials))
    first = np.where(common, draw, rng.random((samples, trials))) < easy
    second = np.where(common, draw, rng.random((samples, trials))) < worse
    return (first.mean(axis=1) - second.mean(axis=1)), float((easy - worse).mean())


@pytest.mark.parametrize(
    ("agreement", "gap", "samples", "trials", "sharp"),
    [
        (0.5, 0.1, 150, 1, True),
        (0.3, 0.05, 100, 2, True),
        # Where many trials leave little spread between samples the pseudo-samples dominate: conservative.
        (0.5, 0.1, 150, 20, False),
        (0.9, 0.0, 60, 5, False),
    ],
)
def test_paired_gap_covers_as_often_as_it_says(agreement, gap, samples, trials, sharp) -> None:
    rng = np.random.default_rng(5)
    # Mean over the population of samples, by simulation of 1e5 of them.
    truth = _clustered(rng, 100_000, 1, gap, agreement)[1]
    inside = above = 0
    repetitions = 2000
    for _ in range(repetitions):
        result = paired_gap(_clustered(rng, samples, trials, gap, agreement)[0])
        inside += result.interval[0] <= truth <= result.interval[1]
        above += result.lower_bound <= truth
    # True coverage of 95 % falls below 93 % in 2000 repetitions with probability 4e-5; eight comparisons.
    assert inside / repetitions > 0.93
    assert above / repetitions > 0.93
    # ... and an interval that always covers would be worthless.
    assert not sharp or inside / repetitions < 0.975


def test_many_trials_of_a_sample_do_not_count_as_samples() -> None:
    rng = np.random.default_rng(0)
    one = rng.choice([-1.0, 0.0, 0.0, 0.0, 1.0], 100)
    # The same differences, measured again and again without noise, say no more about the population.
    assert paired_gap(one).interval == paired_gap(np.repeat(one[:, None], 50, axis=1).mean(axis=1)).interval


def test_no_discordance_still_leaves_doubt() -> None:
    result = paired_gap(np.zeros(540))
    assert result.gap == 0
    assert result.lower_bound == pytest.approx(-1.6448536 / 542)
    assert result.interval == pytest.approx((-1.9599640 / 542, 1.9599640 / 542))


def test_single_trials_give_agresti_and_min() -> None:
    # b = 14, c = 5 of n = 100: half an observation in each cell, then Wald.
    b, c, n = 14.5, 5.5, 102
    differences = np.concatenate([np.ones(14), -np.ones(5), np.zeros(81)])
    error = np.sqrt(b + c - (b - c) ** 2 / n) / n
    centre = (b - c) / n
    expected = (centre - 1.959963985 * error, centre + 1.959963985 * error)
    assert paired_gap(differences).interval == pytest.approx(expected)


def test_wilson_reproduces_a_published_value() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, score method without correction.
    fractions = np.concatenate([np.ones(81), np.zeros(263 - 81)])
    assert wilson_by_sample(fractions) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_clopper_pearson_reproduces_a_published_value() -> None:
    # Newcombe 1998, table I: 81 of 263 and 15 of 148, exact method.
    assert clopper_pearson(81, 263) == pytest.approx((0.2527, 0.3676), abs=5e-5)
    assert clopper_pearson(15, 148) == pytest.approx((0.0578, 0.1617), abs=5e-5)


def test_wilson_covers_clustered_accuracy() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(2000):
        easy = rng.beta(8.0, 1.0, 80)
        low, high = wilson_by_sample(rng.binomial(10, easy) / 10)
        inside += low <= 8 / 9 <= high
    # True coverage of 95 % falls below 93 % with probability 4e-5; clusters only make it conservative.
    assert inside / 2000 > 0.93


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40))
def test_paired_gap_is_antisymmetric_and_ordered(differences: list[float]) -> None:
    result, mirrored = paired_gap(differences), paired_gap([-value for value in differences])
    assert result.interval[0] <= result.lower_bound <= result.interval[1]
    assert -1 <= result.interval[0] <= result.interval[1] <= 1
    assert mirrored.interval == pytest.approx((-result.interval[1], -result.interval[0]))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 500), st.data())
def test_binomial_intervals_hold_the_estimate(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    for low, high in (
        clopper_pearson(count, total),
        wilson_by_sample([1.0] * count + [0.0] * (total - count)),
    ):
        assert 0 <= low <= count / total <= high <= 1


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: paired_gap([]), "differences"),
        (lambda: paired_gap([1.5]), "differences"),
        (lambda: paired_gap([np.nan]), "differences"),
        (lambda: wilson_by_sample([[0.5]]), "fractions"),
        (lambda: wilson_by_sample([-0.1]), "fractions"),
        (lambda: wilson_by_sample([0.5], confidence=1.0), "confidence"),
        (lambda: clopper_pearson(0, 0), "total"),
        (lambda: clopper_pearson(3, 2), "count"),
    ],
)
def test_bad_arguments_are_named(call, name) -> None:
    with pytest.raises(InputError, match=f"'{name}' must"):
        call()
