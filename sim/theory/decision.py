"""Whether a paired difference is shown to keep a tolerance, shown to break it, or neither.

``PASS`` goes by the score bound of :func:`~twophase.sim.theory.statistics.paired_gap`, which is careful about
discordances that were not seen.  For ``FAIL`` these would be counted twice, and a link that is plainly worse
would stay undecided.  It asks how likely so low a mean is if the true one is g: the differences that were
seen are tilted exponentially until their mean is g, with Agresti and Min's half an observation in each cell
of the 2 x 2 table, and the tail of n draws from that law is Lugannani and Rice's, with half a sample of
continuity correction.  If all discordance goes one way this is the tail of a binomial.

H. E. Daniels, "Tail probability approximations", International Statistical Review 55, 1987.  B. Efron,
"Nonparametric standard errors and confidence intervals", Canadian Journal of Statistics 9, 1981 (tilting).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from twophase.link.errors import InputError
from twophase.sim.theory.statistics import CONFIDENCE, lower_bound, per_sample

__all__ = ["Decision", "Verdict", "decide", "judge", "overall"]

Verdict = Literal["PASS", "FAIL", "UNDECIDED"]

_MOST_SAMPLES = 10_000_000
"""More is taken for never."""
_LARGEST_TILT = 100.0
_STEPS = 60
"""At most; Newton's need a handful, a bisection's so many."""


@dataclass(frozen=True)
class Decision:
    """Whether a mean difference is shown to keep a tolerance, or to break it."""

    verdict: Verdict
    upper_bound: float
    """One-sided upper confidence bound at the level at which ``FAIL`` is decided, to 1e-5."""
    samples: int | None
    """UNDECIDED: how many samples would decide if they had the mean and the spread of these; None if no
    number would."""


def decide(differences: ArrayLike, tolerance: float, comparisons: int = 1) -> Decision:
    """Whether the mean of per-sample differences is shown to be at least ``-tolerance``, or shown to be less.

    ``PASS`` if the one-sided lower bound at 95 % is not below ``-tolerance``; ``FAIL`` if the upper bound at
    the level ``1 - 0.05 / comparisons`` is; ``UNDECIDED`` if neither is shown.  Of so many comparisons that
    together PASS if all do and FAIL if one does, a whole that is worse somewhere then passes with a
    probability of at most 5 % (an intersection-union test), and one that is worse nowhere fails with one of
    at most 5 % (Bonferroni), whatever the comparisons have to do with each other.

    ``differences`` hold for each sample the mean over its trials of (correct for the first - correct for the
    second), shape (samples,), in [-1, 1]; ``tolerance`` lies in [0, 1).

    Examples
    --------
    >>> found = decide([0.0] * 100, 0.02)
    >>> found.verdict, found.samples
    ('UNDECIDED', 180)
    >>> decide([0.0] * 180, 0.02).verdict
    'PASS'
    """
    law, level = _law(differences, comparisons)
    n = law.samples
    verdict, needed = law.verdict(n, tolerance, level), None
    if verdict == "UNDECIDED":
        low, high = n, 2 * n
        while high <= _MOST_SAMPLES and law.verdict(high, tolerance, level) == "UNDECIDED":
            low, high = high, 2 * high
        while high <= _MOST_SAMPLES and high - low > 1:
            middle = (low + high) // 2
            undecided = law.verdict(middle, tolerance, level) == "UNDECIDED"
            low, high = (middle, high) if undecided else (low, middle)
        needed = high if high <= _MOST_SAMPLES else None
    below, above = law.mean, 1.0
    while above - below > 1e-5:
        bound = (below + above) / 2
        below, above = (below, bound) if law.tail(n, bound) < level else (bound, above)
    return Decision(verdict, above, needed)


def judge(differences: ArrayLike, tolerance: float, comparisons: int = 1) -> Verdict:
    """The verdict of :func:`decide` alone, in a tenth of the time."""
    law, level = _law(differences, comparisons)
    return law.verdict(law.samples, tolerance, level)


def overall(verdicts: Iterable[str]) -> Verdict:
    """``FAIL`` if one is, ``PASS`` if all are, else ``UNDECIDED``."""
    found = set(verdicts)
    return "FAIL" if "FAIL" in found else "UNDECIDED" if "UNDECIDED" in found else "PASS"


class _Law:
    """What was seen of the differences, and what it says of any number of samples like these."""

    def __init__(self, differences: NDArray[np.float64]) -> None:
        self.samples, self.mean = differences.size, float(differences.mean())
        self._squares = float(differences @ differences) / differences.size
        self._values, counts = np.unique(differences, return_counts=True)
        self._shares = counts / differences.size

    def lower_bound(self, samples: float) -> float:
        """That of ``paired_gap`` at 95 %."""
        quantile = float(ndtri(CONFIDENCE))
        return lower_bound(samples, samples * self.mean, samples * self._squares, quantile)

    def verdict(self, samples: float, tolerance: float, level: float) -> Verdict:
        """What so many samples like these would show; ``level`` is that of a false FAIL."""
        if self.lower_bound(samples) >= -tolerance:
            return "PASS"
        return "FAIL" if self.tail(samples, -tolerance) < level else "UNDECIDED"

    def tail(self, samples: float, mean: float) -> float:
        """Probability of a mean as low as was seen, if the true one is ``mean``."""
        seen = self.mean + 0.5 / samples
        if seen >= mean:
            return 1.0
        values = np.concatenate([self._values, [-1.0, 0.0, 1.0]])
        shares = np.concatenate([samples * self._shares, [0.5, 1.0, 0.5]]) / (samples + 2)
        (first, start, _), (last, stop, variance) = (_tilted(values, shares, at) for at in (mean, seen))
        tilt = last - first
        root = -math.sqrt(max(0.0, 2 * samples * (tilt * seen - (stop - start))))
        width = tilt * math.sqrt(samples * variance)
        if root > -1e-3 or width > -1e-3:
            return float(ndtr(root))
        density = math.exp(-root * root / 2) / math.sqrt(2 * math.pi)
        return float(ndtr(root)) + density * (1 / root - 1 / width)


def _law(differences: ArrayLike, comparisons: int) -> tuple[_Law, float]:
    if comparisons < 1:
        raise InputError("comparisons", "be at least 1", comparisons)
    return _Law(per_sample("differences", differences, -1.0)), (1 - CONFIDENCE) / comparisons


def _tilted(
    values: NDArray[np.float64], shares: NDArray[np.float64], mean: float
) -> tuple[float, float, float]:
    """The tilt that gives a law this mean, its cumulant generating function and its variance there."""
    low, high, tilt = -_LARGEST_TILT, _LARGEST_TILT, 0.0
    squares = values * values
    for _ in range(_STEPS):
        weights = shares * np.exp(tilt * values)
        total = float(weights.sum())
        found = float(weights @ values) / total
        variance = float(weights @ squares) / total - found * found
        if abs(found - mean) < 1e-13:
            break
        low, high = (tilt, high) if found < mean else (low, tilt)
        # Newton's step, where it stays between what is known to be too little and too much.
        step = tilt + (mean - found) / variance if variance > 0 else low
        tilt = step if low < step < high else (low + high) / 2
    return tilt, math.log(total), variance
