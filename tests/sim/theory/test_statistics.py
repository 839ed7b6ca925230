"""Intervals against published numbers and against their own promise: coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from twophase.link.errors import InputError
from twophase.sim.theory.statistics import clopper_pearson, paired_gap, wilson_by_sample


def test_no_discordance_still_leaves_doubt() -> None:
    result = paired_gap(np.zeros(540))
    assert result.gap == 0
    # Not shorter than the exact bound, 1 - 0.05^(1/n), and not much longer.
    assert 1 - 0.05 ** (1 / 540) < -result.lower_bound < 1.25 * (1 - 0.05 ** (1 / 540))
    assert result.interval[0] == -result.interval[1] < result.lower_bound


def test_published_intervals() -> None:
    """Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263 and 15 of 148."""
    # Method 4, score with continuity correction: what one-sided discordance gives.
    for count, total, upper in ((81, 263, 0.3682), (15, 148, 0.1644)):
        differences = np.concatenate([-np.ones(count), np.zeros(total - count)])
        assert paired_gap(differences).interval[0] == pytest.approx(-upper, abs=6e-5)
    # Score without correction, and exact.
    fractions = np.concatenate([np.ones(81), np.zeros(263 - 81)])
    assert wilson_by_sample(fractions) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert clopper_pearson(81, 263) == pytest.approx((0.2527, 0.3676), abs=5e-5)
    assert clopper_pearson(15, 148) == pytest.approx((0.0578, 0.1617), abs=5e-5)


def _bisected_bound(differences: np.ndarray, quantile: float) -> float:
    """The slow twin of the closed form: walk up from far below until a mean is no longer rejected."""
    n, mean_square = differences.size, float(np.mean(differences**2))
    centre = float(differences.mean()) - 0.5 / n
    adjusted = (n * mean_square + 1) / (n + 2) - (differences.sum() / (n + 2)) ** 2

    def rejected(g: np.ndarray) -> np.ndarray:
        variance = np.maximum(adjusted, np.abs(g) - g * g)
        variance = np.maximum(variance, mean_square + (centre - g) / 2 - g * g)
        return (g < centre) & ((centre - g) ** 2 * n > quantile**2 * variance)

    grid = np.linspace(-1.0, 1.0, 200_001)
    return float(grid[~rejected(grid)][0])


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
# the other way.
@pytest.mark.parametrize("samples", [200, 540, 3000])
@pytest.mark.parametrize("opposite", [0.0, 0.002, 0.01])
def test_a_system_at_the_tolerance_seldom_passes(samples, opposite) -> None:
    tolerance = 0.02
    false_pass = 0.0
    for better in range(int(samples * opposite * 3) + 8 if opposite else 1):
        share = binom.pmf(better, samples, opposite) if opposite else 1.0
        # The more are worse, the lower the bound: find the most that still pass.
        passing, failing = -1, samples - better
        while failing - passing > 1:
            worse = (passing + failing) // 2
            differences = np.repeat([1.0, 0.0, -1.0], [better, samples - better - worse, worse])
            if paired_gap(differences).lower_bound >= -tolerance:
                passing = worse
            else:
                failing = worse
        rate = (tolerance + opposite) / (1 - opposite)
        false_pass += share * float(binom.cdf(passing, samples - better, rate))
    # A bound that never passes would be worthless.
    assert 0.01 < false_pass < 0.05


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40))
def test_paired_gap_is_antisymmetric_and_ordered(differences: list[float]) -> None:
    result, mirrored = paired_gap(differences), paired_gap([-value for value in differences])
    assert -1 <= result.interval[0] <= result.lower_bound <= result.interval[1] <= 1
    assert mirrored.interval == pytest.approx((-result.interval[1], -result.interval[0]))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 500), st.data())
def test_binomial_intervals_hold_the_estimate(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    fractions = [1.0] * count + [0.0] * (total - count)
    for low, high in (clopper_pearson(count, total), wilson_by_sample(fractions)):
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
