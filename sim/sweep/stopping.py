"""When a point has enough trials.

Without a precision it has as many as were asked for.  With one, trials come in rounds that double, and after
each the point ends if an interval is short enough.  More trials shorten it only so far: what the samples
differ by among themselves stays.  A point whose samples alone keep the interval too long ends as well, and
says so.

How far trials can help.  Let d_i be the mean over T trials of sample i's paired difference, n the number of
samples, g and s_d^2 mean and variance of the d_i.  The T trials are B blocks of n_b trials with means d_ib.
One trial's variance within samples is by the analysis of variance, whatever the correlation of the systems,

    s_w^2 = (sum_b n_b sum_i d_ib^2 - T sum_i d_i^2) / (n (B - 1)),

and that between samples, all that is left after infinitely many trials, s_b^2 = s_d^2 - s_w^2 / T.  With
v = s_w^2 / T the noise moves s_b^2 by a standard error of sqrt((4 s_b^2 v + 2 v^2) / n + 2 v^2 / (n (B - 1)))
and g by sqrt(v / n).  The limit of the interval is the interval of the d_i drawn towards their mean until
their variance is s_b^2 less three such errors, with the mean moved by three towards zero, where the interval
is shortest.  Wilson's interval by sample knows no trials at all: its limit is its length now, with the
accuracy moved by three of its errors towards its nearer end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twophase.sim.counts import Tally
from twophase.sim.theory.statistics import Interval, paired_gap, wilson_by_sample

__all__ = ["BlockSquares", "StopRule"]

_CAUTION = 3.0
"""Standard errors by which a limit must exceed the precision to end a point: each round is one more chance to
err."""


@dataclass
class BlockSquares:
    """Spread of the paired differences from block to block, for the variance within samples."""

    blocks: int = 0
    squares: dict[str, float] = field(default_factory=dict)
    """For each reference, the sum over blocks and samples of n_b d_ib^2."""

    def add(self, counts: Tally) -> None:
        """Take in one block's counts; in the order of the trials, since it sums real numbers."""
        self.blocks += 1
        for name in counts.references:
            difference = _differences(counts, name)
            more = counts.trials * float(np.sum(difference * difference))
            self.squares[name] = self.squares.get(name, 0.0) + more


@dataclass(frozen=True)
class StopRule:
    """Rounds of trials, and when they end; the numbers are those of the settings, which check them."""

    trials: int
    """Trials of the first round; of all, if there is no precision."""
    precision: float | None = None
    """Half-width at which a point ends: of the 95 % interval of the paired gap, the largest over references,
    or of the accuracy's, whichever comes first."""
    max_trials: int = 1000
    """Most trials of a point, if there is a precision."""

    @property
    def most(self) -> int:
        """Trials after which a point ends in any case."""
        return self.trials if self.precision is None else self.max_trials

    def rounds(self) -> Iterator[int]:
        """Trials at the end of each round: ``trials``, twice as many, ..., :attr:`most`."""
        reached = self.trials
        while reached < self.most:
            yield reached
            reached *= 2
        yield self.most

    def reason(self, counts: Tally, squares: BlockSquares) -> str | None:
        """Why a point ends after a round, in words; None if it goes on.

        ``counts`` are of all its trials so far, ``squares`` of the same, block by block.
        """
        if self.precision is None:
            return "trials asked for"
        accuracy = _half_width(wilson_by_sample(counts.deployed.correct / counts.trials))
        gaps = [
            _half_width(paired_gap(_differences(counts, name)).interval) for name in sorted(counts.references)
        ]
        name, width = "accuracy", accuracy
        if gaps and max(gaps) <= accuracy:
            name, width = "gap", max(gaps)
        if width <= self.precision:
            return f"precision reached: {name} +-{width:.3g}"
        if counts.trials >= self.most:
            return f"max trials: {name} +-{width:.3g}"
        limits = {"accuracy": _accuracy_limit(counts)}
        if gaps:
            limits["gap"] = max(_gap_limit(counts, name, squares) for name in counts.references)
        if min(limits.values()) > self.precision:
            return f"limited by samples: {name} +-{width:.3g}, at best +-{limits[name]:.3g}"
        return None


def _differences(counts: Tally, name: str) -> NDArray[np.float64]:
    difference: NDArray[Any] = counts.deployed.correct - counts.references[name].correct
    return difference / counts.trials


def _half_width(interval: Interval) -> float:
    return (interval[1] - interval[0]) / 2


def _gap_limit(counts: Tally, name: str, squares: BlockSquares) -> float:
    """Half-width of the gap's interval after infinitely many trials, put low; 0 where nothing is known."""
    values = _differences(counts, name)
    samples, blocks, trials = values.size, squares.blocks, counts.trials
    if blocks < 2 or samples < 2:
        return 0.0
    spread = float(values.var(ddof=1))
    if spread == 0:
        return _half_width(paired_gap(values).interval)
    within = (squares.squares[name] - trials * float(np.sum(values * values))) / (samples * (blocks - 1))
    noise = max(0.0, within) / trials
    between = max(0.0, spread - noise)
    variance = (4 * between * noise + 2 * noise * noise) / samples
    variance += 2 * noise * noise / (samples * (blocks - 1))
    kept = max(0.0, between - _CAUTION * math.sqrt(variance)) / spread
    mean = float(values.mean())
    nearer = math.copysign(max(0.0, abs(mean) - _CAUTION * math.sqrt(noise / samples)), mean)
    moved = nearer + (values - mean) * math.sqrt(kept)
    return _half_width(paired_gap(moved.clip(-1, 1)).interval)


def _accuracy_limit(counts: Tally) -> float:
    """Half-width of the accuracy's interval after infinitely many trials, put low; 0 after one trial."""
    share = counts.deployed.correct / counts.trials
    if counts.trials < 2:
        return 0.0
    error = math.sqrt(float(np.sum(share * (1 - share))) / (counts.trials - 1)) / share.size
    accuracy = float(share.mean())
    moved = accuracy + math.copysign(_CAUTION * error, accuracy - 0.5)
    return _half_width(wilson_by_sample(np.full(share.size, min(1.0, max(0.0, moved)))))
