"""The stop rule: its rounds, its reasons, and intervals that keep their promise although it looks at them."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.toy_sweep import ToyCounts, ToyDecisions
from twophase.link.errors import InputError
from twophase.sim.sweep.blocks import trial_blocks
from twophase.sim.sweep.stopping import BlockSquares, StopRule, _gap_limit
from twophase.sim.theory.statistics import paired_gap, wilson_by_sample


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

    def truth(self) -> tuple[float, float]:
        """Accuracy of the first system, and gap to the second, over many samples."""
        chance = self.draw(np.random.default_rng(99), 400_000).mean(axis=0)
        return float(chance[1] + chance[3]), float(chance[1] - chance[2])


def _counts(rng: np.random.Generator, chances: np.ndarray, trials: int) -> ToyCounts:
    outcome = rng.multinomial(trials, chances / chances.sum(axis=1, keepdims=True))
    return ToyCounts(
        trials,
        ToyDecisions(outcome[:, 1] + outcome[:, 3]),
        {"soft": ToyDecisions(outcome[:, 2] + outcome[:, 3])},
    )


def _measure(rng: np.random.Generator, chances: np.ndarray, rule: StopRule) -> tuple[ToyCounts, str]:
    counts, squares, first = None, BlockSquares(), 0
    for end in rule.rounds():
        for block in trial_blocks(("", 0.0), first, end):
            more = _counts(rng, chances, block.count)
            squares.add(more)
            if counts is None:
                counts = more
            else:
                counts.merge(more)
        first = end
        assert counts is not None
        reason = rule.reason(counts, squares)
        if reason is not None:
            return counts, reason
    raise AssertionError("a sweep without an end")


def _merged(parts: list[ToyCounts], squares: BlockSquares) -> ToyCounts:
    """The sum of blocks, which are counted in ``squares`` as well."""
    for part in parts:
        squares.add(part)
    counts = copy.deepcopy(parts[0])
    for part in parts[1:]:
        counts.merge(part)
    return counts


def _of(deployed: list[int], soft: list[int], trials: int) -> ToyCounts:
    return ToyCounts(trials, ToyDecisions(np.array(deployed)), {"soft": ToyDecisions(np.array(soft))})


@given(st.integers(1, 60), st.integers(0, 500))
def test_rounds_double_up_to_the_most(trials: int, more: int) -> None:
    rounds = list(StopRule(trials, 0.01, trials + more).rounds())
    assert rounds[0] == trials
    assert rounds[-1] == trials + more
    assert rounds[:-1] == [trials * 2**number for number in range(len(rounds) - 1)]
    assert len(rounds) < 2 or rounds[-2] < rounds[-1] <= 2 * rounds[-2]


def test_without_a_precision_there_is_one_round() -> None:
    rule = StopRule(20, max_trials=5)
    assert list(rule.rounds()) == [20]
    assert rule.reason(_of([20, 0], [0, 20], 20), BlockSquares()) == "trials asked for"


def test_the_reason_names_what_was_reached() -> None:
    agree = _of([10] * 1000, [10] * 1000, 10)
    # Both intervals are short here; Wilson's is the shorter one.
    reached = StopRule(10, 0.006, 100).reason(agree, BlockSquares())
    half = (1 - wilson_by_sample([1.0] * 1000)[0]) / 2
    assert reached == f"precision reached: accuracy +-{half:.3g}"
    # One of the two suffices: the gap of two systems that err together is known well.
    together = _of([10] * 700 + [0] * 300, [10] * 700 + [0] * 300, 10)
    half = paired_gap([0.0] * 1000).interval[1]
    assert StopRule(10, 0.006, 100).reason(together, BlockSquares()) == f"precision reached: gap +-{half:.3g}"


def test_the_largest_gap_decides() -> None:
    counts = _of([10] * 700 + [0] * 300, [10] * 700 + [0] * 300, 10)
    counts.references["surrogate"] = ToyDecisions(np.array([0] * 200 + [10] * 800))
    half = paired_gap([1.0] * 200 + [0.0] * 500 + [-1.0] * 300).interval
    assert half[1] - half[0] > 2 * 0.02
    rule = StopRule(10, 0.02, 10)
    assert (rule.reason(counts, BlockSquares()) or "").startswith("max trials: accuracy")
    del counts.references["surrogate"]
    assert (rule.reason(counts, BlockSquares()) or "").startswith("precision reached: gap")


def test_a_sweep_without_references_goes_by_accuracy() -> None:
    counts = ToyCounts(10, ToyDecisions(np.array([10] * 90 + [0] * 10)), {})
    low, high = wilson_by_sample([1.0] * 90 + [0.0] * 10)
    half = (high - low) / 2
    assert StopRule(10, half + 1e-6, 100).reason(counts, BlockSquares()) == (
        f"precision reached: accuracy +-{half:.3g}"
    )
    assert (
        StopRule(10, half - 1e-6, 10).reason(counts, BlockSquares()) == f"max trials: accuracy +-{half:.3g}"
    )
    # No sample ever changes: more trials give the same interval.
    assert StopRule(10, half - 1e-6, 100).reason(counts, BlockSquares()) == (
        f"limited by samples: accuracy +-{half:.3g}, at best +-{half:.3g}"
    )


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
    rng = np.random.default_rng(17)
    accuracy, gap = population.truth()
    repetitions = 600
    inside = below = accurate = 0
    reasons = []
    for _ in range(repetitions):
        counts, reason = _measure(rng, population.draw(rng, samples), rule)
        difference = (counts.deployed.correct - counts.references["soft"].correct) / counts.trials
        found = paired_gap(difference)
        inside += found.interval[0] <= gap <= found.interval[1]
        below += found.lower_bound <= gap
        low, high = wilson_by_sample(counts.deployed.correct / counts.trials)
        accurate += low <= accuracy <= high
        reasons.append(reason)
    # True coverage of 95 % falls below 91.5 % in 600 repetitions with probability 2e-4; twelve comparisons,
    # so a false alarm has probability 2.4e-3, once and for all since the generator is seeded.
    assert inside / repetitions > 0.915
    assert below / repetitions > 0.915
    assert accurate / repetitions > 0.915
    assert sum(reason.startswith(usual) for reason in reasons) > 0.5 * repetitions
    # What is reported was reached.
    for reason in reasons:
        width = float(re.findall(r"\+-([\d.e-]+)", reason)[0])
        # The width is told to three digits.
        if reason.startswith("precision reached"):
            assert width <= rule.precision * 1.005
        else:
            assert width >= rule.precision * 0.995


@pytest.mark.parametrize("trials", [10, 40])
def test_within_and_between_are_told_apart(trials: int) -> None:
    population, samples = Population(8.0, 3.0, 0.05, 0.5, 0.1), 20_000
    rng = np.random.default_rng(trials)
    chances = population.draw(rng, samples)
    # Blocks of unequal size: the formula weighs them.
    sizes = [5] * ((trials - 4) // 5) + [3, trials - 3 - 5 * ((trials - 4) // 5)]
    squares, parts = BlockSquares(), [_counts(rng, chances, size) for size in sizes]
    counts = _merged(parts, squares)
    assert counts.trials == trials
    difference = (counts.deployed.correct - counts.references["soft"].correct) / trials
    total = trials * float(difference @ difference)
    within = (squares.squares["soft"] - total) / (samples * (len(parts) - 1))
    mean = chances[:, 1] - chances[:, 2]
    expected = float((chances[:, 1] + chances[:, 2] - mean**2).mean())
    # Five standard errors of a mean of squares of kurtosis below 9: probability below 1e-6.
    assert within == pytest.approx(expected, rel=5 * np.sqrt(8 / samples))
    between = float(difference.var(ddof=1)) - within / trials
    assert between == pytest.approx(float(mean.var()), rel=0.05)


def test_the_limit_is_what_many_trials_reach() -> None:
    """Put low, but not by much, and never above what is reached in the end."""
    rng = np.random.default_rng(4)
    rule = StopRule(20, 0.5, 20)
    for population in (Population(9.0, 0.7, 0.03, 0.8), Population(9.0, 0.7, 0.0, 0.9, 0.05)):
        ratios = []
        for _ in range(150):
            chances = population.draw(rng, 400)
            squares, blocks = BlockSquares(), trial_blocks(("", 0.0), 0, rule.most)
            counts = _merged([_counts(rng, chances, block.count) for block in blocks], squares)
            interval = paired_gap(chances[:, 1] - chances[:, 2]).interval
            ratios.append(_gap_limit(counts, "soft", squares) / ((interval[1] - interval[0]) / 2))
        # Three standard errors: each of 300 exceeds with probability 1.4e-3, six or more of them 2e-6.
        assert sum(ratio > 1 for ratio in ratios) < 6
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


@pytest.mark.parametrize(
    "rounds",
    [
        [_of([1, 0] * 30, [0, 1] * 30, 1)],
        [_of([3], [2], 4), _of([3], [2], 4)],
    ],
    ids=["one block", "one sample"],
)
def test_nothing_is_given_up_before_it_is_known(rounds) -> None:
    """No estimate of what is within samples."""
    squares = BlockSquares()
    for counts in rounds:
        squares.add(counts)
    assert StopRule(1, 0.001, 100).reason(rounds[-1], squares) is None


def test_extreme_differences_have_a_limit() -> None:
    rng = np.random.default_rng(0)
    squares = BlockSquares()
    parts = [_of([5] * 20 + [0] * 3, [*rng.integers(0, 2, 20), *[5] * 3], 5) for _ in range(4)]
    assert 0 < _gap_limit(_merged(parts, squares), "soft", squares) <= 1


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((0,), "trials"), ((5, 0.0), "precision"), ((5, 1.0), "precision"), ((5, 0.1, 4), "max_trials")],
)
def test_bad_rules_are_refused(arguments: tuple[float, ...], name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' must"):
        StopRule(*arguments)
