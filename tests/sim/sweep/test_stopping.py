"""The stop rule: its rounds, its reasons, and intervals that keep their promise although it looks at them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.toy_sweep import merged, toy_tally
from twophase.sim.counts import SystemCounts, Tally
from twophase.sim.sweep.job import trial_blocks
from twophase.sim.sweep.stopping import BlockSquares, StopRule, _gap_limit
from twophase.sim.theory.statistics import paired_gap, wilson_by_sample


@given(st.integers(1, 60), st.integers(0, 500))
def test_rounds_double_up_to_the_most(trials: int, more: int) -> None:
    rounds = list(StopRule(trials, 0.01, trials + more).rounds())
    assert rounds[:-1] == [trials * 2**number for number in range(len(rounds) - 1)]
    assert rounds[-1] == trials + more
    assert len(rounds) < 2 or rounds[-2] < rounds[-1] <= 2 * rounds[-2]


def test_without_a_precision_there_is_one_round() -> None:
    rule = StopRule(20, max_trials=5)
    assert list(rule.rounds()) == [20]
    assert rule.reason(toy_tally(20, [20, 0], [0, 20]), BlockSquares()) == "trials asked for"


ALL, MOST = [10] * 1000, [10] * 700 + [0] * 300
NINETY = [10] * 90 + [0] * 10
SURE = (1 - wilson_by_sample([1.0] * 1000)[0]) / 2
ALIKE = paired_gap([0.0] * 1000).interval[1]
"""Half-widths for a thousand samples: of an accuracy of one, and of a gap between equals."""
WILSON = np.diff(wilson_by_sample([1.0] * 90 + [0.0] * 10))[0] / 2
"""Half-width for nine samples of ten that are always right."""


@pytest.mark.parametrize(
    ("counts", "precision", "most", "reason"),
    [
        # Both intervals are short; Wilson's is the shorter one.
        (toy_tally(10, ALL, ALL), 0.006, 100, f"precision reached: accuracy +-{SURE:.3g}"),
        # One of the two suffices: the gap of two systems that err together is known well.
        (toy_tally(10, MOST, MOST), 0.006, 100, f"precision reached: gap +-{ALIKE:.3g}"),
        # Without references accuracy alone decides; no sample ever changes, so that trials cannot help.
        (toy_tally(10, NINETY), WILSON + 1e-6, 100, f"precision reached: accuracy +-{WILSON:.3g}"),
        (toy_tally(10, NINETY), WILSON - 1e-6, 10, f"max trials: accuracy +-{WILSON:.3g}"),
        (
            toy_tally(10, NINETY),
            WILSON - 1e-6,
            100,
            f"limited by samples: accuracy +-{WILSON:.3g}, at best +-{WILSON:.3g}",
        ),
    ],
)
def test_the_reason_names_what_was_reached(counts: Tally, precision: float, most: int, reason: str) -> None:
    assert StopRule(10, precision, most).reason(counts, BlockSquares()) == reason


def test_the_largest_gap_decides() -> None:
    counts, rule = toy_tally(10, MOST, MOST), StopRule(10, 0.02, 10)
    assert (rule.reason(counts, BlockSquares()) or "").startswith("precision reached: gap")
    counts.references["surrogate"] = SystemCounts(np.array([0] * 200 + [10] * 800))
    assert (rule.reason(counts, BlockSquares()) or "").startswith("max trials: accuracy")


@dataclass(frozen=True)
class Population:
    """Samples that differ in how easy they are, and two systems that share a part of their noise."""

    alpha: float
    """The first system's chance of a sample is Beta(alpha, beta)."""
    beta: float
    gap: float
    """By how much the second system's chance is lower, but at least 0."""
    common: float
    """Share of the trials in which both systems meet the same noise."""
    fixed: float = 0.0
    """Share of the samples that the second system never gets right."""

    def draw(self, rng: np.random.Generator, samples: int) -> np.ndarray:
        """Chance of each joint outcome (neither, first, second, both), shape (samples, 4)."""
        first = rng.beta(self.alpha, self.beta, samples)
        second = np.maximum(first - self.gap, 0.0)
        second = np.where(rng.random(samples) < self.fixed, 0.0, second)
        both = self.common * np.minimum(first, second) + (1 - self.common) * first * second
        return np.stack([1 - first - second + both, first - both, second - both, both], axis=1).clip(0)


def _counts(rng: np.random.Generator, chances: np.ndarray, trials: int) -> Tally:
    outcome = rng.multinomial(trials, chances / chances.sum(axis=1, keepdims=True))
    return toy_tally(trials, outcome[:, 1] + outcome[:, 3], outcome[:, 2] + outcome[:, 3])


def _measure(rng: np.random.Generator, chances: np.ndarray, rule: StopRule) -> tuple[Tally, str]:
    counts, squares, first = toy_tally(0, [0] * len(chances), [0] * len(chances)), BlockSquares(), 0
    for end in rule.rounds():
        for block in trial_blocks(("", 0.0), first, end):
            more = _counts(rng, chances, block.count)
            squares.add(more)
            counts.merge(more)
        first = end
        reason = rule.reason(counts, squares)
        if reason is not None:
            return counts, reason
    raise AssertionError("a sweep without an end")


POPULATIONS = [
    # Noise within samples dominates: rounds are many, and the rule looks often.
    pytest.param(Population(8.0, 8.0, 0.0, 0.3), 500, StopRule(2, 0.02, 100), "precision", id="noise"),
    # High accuracy, common noise, small gap: as at the knee of a curve.
    pytest.param(Population(9.0, 0.7, 0.03, 0.8), 540, StopRule(1, 0.016, 200), "precision", id="knee"),
    # Some samples are always lost by one of the two: the samples limit the interval.
    pytest.param(Population(9.0, 0.7, 0.0, 0.9, 0.05), 300, StopRule(5, 0.015, 200), "limited", id="fixed"),
    # Bounded by the most trials.
    pytest.param(Population(2.0, 2.0, 0.1, 0.0), 200, StopRule(1, 0.03, 6), "max", id="most"),
]


@pytest.mark.parametrize(("population", "samples", "rule", "usual"), POPULATIONS)
def test_intervals_cover_under_the_stop_rule(population, samples, rule, usual) -> None:
    chance = population.draw(np.random.default_rng(99), 400_000).mean(axis=0)
    accuracy, gap = chance[1] + chance[3], chance[1] - chance[2]
    rng, repetitions = np.random.default_rng(17), 600
    covered = np.zeros(3)
    reasons = []
    for _ in range(repetitions):
        counts, reason = _measure(rng, population.draw(rng, samples), rule)
        found = paired_gap((counts.deployed.correct - counts.references["soft"].correct) / counts.trials)
        low, high = wilson_by_sample(counts.deployed.correct / counts.trials)
        covered += (
            found.interval[0] <= gap <= found.interval[1],
            found.lower_bound <= gap,
            low <= accuracy <= high,
        )
        # What is reported was reached; it is printed to three digits.
        width = float(re.findall(r"\+-([\d.e-]+)", reason)[0])
        reached = reason.startswith("precision reached")
        assert width <= rule.precision * 1.005 if reached else width >= rule.precision * 0.995
        reasons.append(reason)
    # True coverage of 95 % falls below 91.5 % in 600 repetitions with probability 2e-4; twelve comparisons,
    # so a false alarm has probability 2.4e-3, once and for all since the generator is seeded.
    assert (covered / repetitions > 0.915).all()
    assert sum(reason.startswith(usual) for reason in reasons) > 0.5 * repetitions


def _limit_of(parts: list[Tally]) -> float:
    squares = BlockSquares()
    for part in parts:
        squares.add(part)
    return _gap_limit(merged(parts), "soft", squares)


@pytest.mark.parametrize(
    "population", [Population(9.0, 0.7, 0.03, 0.8), Population(9.0, 0.7, 0.0, 0.9, 0.05)], ids=str
)
def test_the_limit_is_what_many_trials_reach(population: Population) -> None:
    """Put low, but not by much, and never above what is reached in the end; blocks are of unequal size."""
    rng = np.random.default_rng(4)
    ratios = []
    for _ in range(150):
        chances = population.draw(rng, 400)
        limit = _limit_of([_counts(rng, chances, trials) for trials in (5, 5, 5, 3, 2)])
        ratios.append(limit / (np.diff(paired_gap(chances[:, 1] - chances[:, 2]).interval)[0] / 2))
    # Three standard errors: each of 150 exceeds with probability 1.4e-3, four or more of them 7e-5.
    assert sum(ratio > 1 for ratio in ratios) < 4
    assert np.mean(ratios) > 0.6


def test_a_precision_in_reach_is_seldom_given_up() -> None:
    """Within 5 % of what samples alone leave, so that only the last rounds can reach it."""
    rng = np.random.default_rng(6)
    population, given_up, repetitions = Population(9.0, 0.7, 0.03, 0.3), 0, 200
    for _ in range(repetitions):
        chances = population.draw(rng, 400)
        low, high = paired_gap(chances[:, 1] - chances[:, 2]).interval
        _, reason = _measure(rng, chances, StopRule(5, 1.05 * (high - low) / 2, 2560))
        given_up += reason.startswith("limited")
    # Ten looks of probability 1.4e-3 each would give up three times; ten or more with probability 1e-3.
    assert given_up < 10


def test_nothing_is_given_up_before_it_is_known() -> None:
    """One block, and blocks of one sample, give no estimate of what is within samples."""
    one_block, one_sample = [toy_tally(1, [1, 0] * 30, [0, 1] * 30)], [toy_tally(4, [3], [2])] * 2
    assert _limit_of(one_block) == _limit_of(one_sample) == 0
    assert StopRule(1, 0.001, 100).reason(one_block[0], BlockSquares()) is None
    # Differences of one and beyond, moved outwards, stay differences.
    rng = np.random.default_rng(0)
    extreme = [toy_tally(5, [5] * 20 + [0] * 3, [*rng.integers(0, 2, 20), *[5] * 3]) for _ in range(4)]
    assert 0 < _limit_of(extreme) <= 1
