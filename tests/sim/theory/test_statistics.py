"""Intervals against published numbers and against their own promise: coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from twophase.sim.theory.decision import decide, judge
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
    repetitions = 2000
    results = [paired_gap(_clustered(rng, samples, trials, gap, agreement)[0]) for _ in range(repetitions)]
    inside = np.mean([result.interval[0] <= truth <= result.interval[1] for result in results])
    # True coverage of 95 % falls below 93 % in 2000 repetitions with probability 4e-5; eight comparisons.
    assert inside > 0.93
    assert np.mean([result.lower_bound <= truth for result in results]) > 0.93
    # ... and an interval that always covers would be worthless.
    assert not sharp or inside < 0.975


def test_no_discordance_still_leaves_doubt() -> None:
    result = paired_gap(np.zeros(540))
    assert result.gap == 0
    # Not shorter than the exact bound, 1 - 0.05^(1/n), and not much longer.
    assert 1 - 0.05 ** (1 / 540) < -result.lower_bound < 1.25 * (1 - 0.05 ** (1 / 540))
    assert result.interval[0] == -result.interval[1] < result.lower_bound


def _bisected_bound(differences: np.ndarray, quantile: float) -> float:
    """The slow twin of the closed form: walk up from -1 until a mean is no longer rejected."""
    n, mean_square = differences.size, float(np.mean(differences**2))
    centre = float(differences.mean()) - 0.5 / n
    g = np.linspace(-1.0, 1.0, 200_001)
    variance = np.maximum.reduce(
        [
            np.full_like(g, (n * mean_square + 1) / (n + 2) - (differences.sum() / (n + 2)) ** 2),
            np.abs(g) - g * g,
            mean_square + (centre - g) / 2 - g * g,
        ]
    )
    rejected = (g < centre) & ((centre - g) ** 2 * n > quantile**2 * variance)
    return float(g[~rejected][0])


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
@pytest.mark.parametrize(
    ("samples", "opposite"), [(200, 0.0), (200, 0.01), (540, 0.0), (540, 0.002), (540, 0.01), (3000, 0.0)]
)
@pytest.mark.parametrize(
    ("wrong", "comparisons", "level"), [("PASS", 1, 0.05), ("FAIL", 1, 0.05), ("FAIL", 42, 0.05 / 42)]
)
def test_a_system_at_the_tolerance_seldom_passes_or_fails(
    samples, opposite, wrong, comparisons, level
) -> None:
    tolerance = 0.02
    alarm = 0.0
    for better in range(int(samples * opposite * 3) + 8 if opposite else 1):
        share = binom.pmf(better, samples, opposite) if opposite else 1.0
        # The more are worse, the lower the bounds: find the most that still pass, or that do not fail yet.
        few, many = -1, samples - better
        while many - few > 1:
            worse = (few + many) // 2
            differences = np.zeros(samples)
            differences[:better], differences[samples - worse :] = 1.0, -1.0
            verdict = judge(differences, tolerance, comparisons)
            on = verdict == "PASS" if wrong == "PASS" else verdict != "FAIL"
            few, many = (worse, many) if on else (few, worse)
        rate = (tolerance + opposite) / (1 - opposite)
        below = float(binom.cdf(few, samples - better, rate))
        alarm += share * (below if wrong == "PASS" else 1 - below)
    # A bound that never decides would be worthless.
    assert level / 30 < alarm < level


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from([-1.0, -0.25, 0.0, 0.0, 0.0, 0.5, 1.0]), min_size=8, max_size=40),
    st.integers(1, 42),
)
def test_so_many_samples_alike_decide_and_no_fewer(differences: list[float], comparisons: int) -> None:
    found = decide(differences, 0.1, comparisons)
    assert found.upper_bound >= paired_gap(differences).gap
    if found.verdict != "UNDECIDED":
        assert found.samples is None
        return
    if found.samples is None:  # the gap is the tolerance itself
        assert np.mean(differences) == pytest.approx(-0.1, abs=0.002)
        return
    enough = -(-found.samples // len(differences))
    verdict = decide(differences * enough, 0.1, comparisons).verdict if enough < 2000 else None
    assert verdict in (None, "PASS" if np.mean(differences) > -0.1 else "FAIL")
    if enough > 2:
        assert decide(differences * min(enough - 1, 2000), 0.1, comparisons).verdict == "UNDECIDED"


def test_published_values() -> None:
    """Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263 and 15 of 148."""
    large, small = (np.arange(total) < count for count, total in ((81, 263), (15, 148)))
    assert wilson_by_sample(large) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert clopper_pearson(81, 263) == pytest.approx((0.2527, 0.3676), abs=5e-5)
    assert clopper_pearson(15, 148) == pytest.approx((0.0578, 0.1617), abs=5e-5)
    # If all discordance goes one way: Wilson's bound with continuity correction, method 4.
    assert paired_gap(-1.0 * large).interval[0] == pytest.approx(-0.3682, abs=6e-5)
    assert paired_gap(-1.0 * small).interval[0] == pytest.approx(-0.1644, abs=6e-5)


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
    for low, high in (clopper_pearson(count, total), wilson_by_sample(np.arange(total) < count)):
        assert 0 <= low <= count / total <= high <= 1
