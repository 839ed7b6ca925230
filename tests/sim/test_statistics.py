"""Intervals against published numbers and against their own promise: coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from twophase.link.errors import InputError
from twophase.sim.theory.statistics import clopper_pearson, paired_gap, wilson_by_sample


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
        (0.5, 0.1, 400, 1, True),
        (0.3, 0.05, 300, 2, True),
        # Where many trials leave little spread between samples the variance of single trials dominates.
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
    # Not shorter than the exact bound, 1 - 0.05^(1/n), and not much longer.
    assert 1 - 0.05 ** (1 / 540) < -result.lower_bound < 1.25 * (1 - 0.05 ** (1 / 540))
    assert result.interval[0] == -result.interval[1] < result.lower_bound


def test_one_sided_discordance_gives_wilson_with_continuity_correction() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 4: 81 of 263 and 15 of 148.
    for count, total, upper in ((81, 263, 0.3682), (15, 148, 0.1644)):
        differences = np.concatenate([-np.ones(count), np.zeros(total - count)])
        assert paired_gap(differences).interval[0] == pytest.approx(-upper, abs=6e-5)


def _bisected_bound(differences: np.ndarray, quantile: float) -> float:
    """The slow twin of the closed form: walk down from far below until a mean is no longer rejected."""
    n, mean_square = differences.size, float(np.mean(differences**2))
    centre = float(differences.mean()) - 0.5 / n
    adjusted = (n * mean_square + 1) / (n + 2) - (differences.sum() / (n + 2)) ** 2

    def rejected(g: np.ndarray) -> np.ndarray:
        variance = np.maximum(adjusted, np.abs(g) - g * g)
        variance = np.maximum(variance, mean_square + (centre - g) / 2 - g * g)
        return (g < centre) & ((centre - g) ** 2 * n > quantile**2 * variance)

    grid = np.linspace(-1.0, 1.0, 200_001)
    kept = grid[~rejected(grid)]
    return float(kept[0])


@pytest.mark.parametrize("trials", [1, 4, 20])
@pytest.mark.parametrize("shift", [-0.3, -0.02, 0.0, 0.002, 0.4])
def test_the_closed_form_inverts_the_test(trials, shift) -> None:
    rng = np.random.default_rng(trials)
    for samples in (40, 300):
        lower, higher = max(0.0, -shift) + 0.01, max(0.0, shift) + 0.01
        outcome = rng.choice([-1, 0, 1], (samples, trials), p=[lower, 1 - lower - higher, higher])
        differences = outcome.mean(axis=1)
        bound = paired_gap(differences).lower_bound
        assert bound == pytest.approx(_bisected_bound(differences, 1.6448536), abs=1.1e-5)


# Exact probabilities, not simulated: no false alarm.  The gap is -2 points; "opposite" of the samples differ
# the other way.  The Wald interval of Agresti and Min, used before, gave up to 8.9 %.
@pytest.mark.parametrize("samples", [200, 300, 540, 1000, 3000])
@pytest.mark.parametrize("opposite", [0.0, 0.002, 0.005, 0.01])
def test_a_system_at_the_tolerance_seldom_passes(samples, opposite) -> None:
    tolerance = 0.02
    false_pass = 0.0
    for better in range(int(samples * opposite * 3) + 8 if opposite else 1):
        share = binom.pmf(better, samples, opposite) if opposite else 1.0
        # The more are worse, the lower the bound: find the most that still pass.
        passing, failing = -1, samples - better
        while failing - passing > 1:
            worse = (passing + failing) // 2
            differences = np.zeros(samples)
            differences[:better], differences[samples - worse :] = 1.0, -1.0
            if paired_gap(differences).lower_bound >= -tolerance:
                passing = worse
            else:
                failing = worse
        rate = (tolerance + opposite) / (1 - opposite)
        false_pass += share * float(binom.cdf(passing, samples - better, rate))
    assert false_pass < 0.05
    # ... and a bound that never passes would be worthless.
    assert false_pass > 0.01


def test_a_system_at_the_tolerance_seldom_passes_with_many_trials() -> None:
    # 1.5 % of the samples always wrong, 2 % wrong half of the time, noise to both sides in all others.
    rng = np.random.default_rng(8)
    passed, repetitions = 0, 2500
    for _ in range(repetitions):
        kind = rng.random(540)
        noise = (rng.binomial(20, 0.05, 540) - rng.binomial(20, 0.05, 540)) / 20
        half = -rng.binomial(20, 0.25 / 0.5, 540) / 20
        differences = np.where(kind < 0.015, -1.0, np.where(kind < 0.025, half, noise))
        passed += paired_gap(differences).lower_bound >= -0.02
    # If the true probability were 5 %, more than 6.8 % would be seen with probability 4e-5.
    assert passed / repetitions < 0.068


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
