"""Confidence intervals that stay honest when the same sample is sent many times.

A sample that is sent in twenty noise trials gives twenty correlated outcomes, not twenty samples.  Every
interval on an accuracy is therefore built on per-sample fractions, with the sample as the unit; only
channel bits and codewords, whose noise is drawn afresh every time, are counted one by one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import beta

from twophase.link.errors import InputError

__all__ = ["CONFIDENCE", "Interval", "PairedGap", "clopper_pearson", "paired_gap", "wilson_by_sample"]

CONFIDENCE = 0.95
"""Level of every interval in a report: two-sided for intervals, one-sided for the verdict's bound."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class PairedGap:
    """Difference of two accuracies measured on the same samples and the same noise."""

    gap: float
    """Mean over samples of (first minus second); the plain, unadjusted estimate."""
    interval: Interval
    """Two-sided confidence interval."""
    lower_bound: float
    """One-sided lower confidence bound at the same level."""


def wilson_by_sample(fractions: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Wilson score interval of a mean of per-sample fractions.

    The effective count is the number of samples.  A fraction in [0, 1] has at most the variance
    p (1 - p) of a single yes or no, so the interval covers at least as often as for one trial per sample.

    Parameters
    ----------
    fractions
        Share of each sample's trials that succeeded, shape (samples,), in [0, 1].
    confidence
        Two-sided level.

    Raises
    ------
    InputError
        If there is no sample or a fraction lies outside [0, 1].

    Notes
    -----
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Examples
    --------
    >>> low, high = wilson_by_sample([1.0] * 50)
    >>> round(low, 3), high
    (0.929, 1.0)
    """
    values = _per_sample("fractions", fractions, 0.0)
    level = _level(confidence)
    n, p = values.size, float(values.mean())
    z2 = _quantile((1 + level) / 2) ** 2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # The exact ends at p = 0 and p = 1 are 0 and 1; rounding must not move them.
    low = 0.0 if p == 0 else max(0.0, centre - half)
    high = 1.0 if p == 1 else min(1.0, centre + half)
    return low, high


def paired_gap(differences: ArrayLike, confidence: float = CONFIDENCE) -> PairedGap:
    """Mean of per-sample differences with an interval that does not collapse without discordance.

    Agresti and Min add half an observation to each cell of the 2 x 2 table of a matched pair, two
    pseudo-observations in all, and use the Wald interval of the table that results.  Cell for cell that is
    one pseudo-sample without difference and half a one each with difference +1 and -1: the sum of squares
    grows by one, the count by two.  Written so, it carries over to per-sample mean differences, where the
    sample is the cluster and the spread between samples holds all correlation within a sample.  If no trial
    of n samples disagrees, the one-sided 95 % bound is -1.645 / (n + 2) rather than 0.  Where samples hardly
    differ from one another the added square dominates and the interval is conservative, by no more than that.

    Parameters
    ----------
    differences
        For each sample, mean over its trials of (correct for the first - correct for the second), shape
        (samples,), in [-1, 1].
    confidence
        Level of the two-sided interval and of the one-sided bound.

    Raises
    ------
    InputError
        If there is no sample or a difference lies outside [-1, 1].

    Notes
    -----
    A. Agresti and Y. Min, "Simple improved confidence intervals for comparing matched proportions",
    Statistics in Medicine 24, 2005.

    Examples
    --------
    >>> result = paired_gap([0.0] * 540)
    >>> result.gap, round(result.lower_bound, 4)
    (0.0, -0.003)
    """
    values = _per_sample("differences", differences, -1.0)
    level = _level(confidence)
    n = values.size + 2
    total = float(values.sum())
    centre = total / n
    error = math.sqrt(max(0.0, float(values @ values) + 1.0 - total * total / n)) / n
    two_sided = _quantile((1 + level) / 2) * error
    return PairedGap(
        gap=float(values.mean()),
        interval=(max(-1.0, centre - two_sided), min(1.0, centre + two_sided)),
        lower_bound=max(-1.0, centre - _quantile(level) * error),
    )


def clopper_pearson(count: int, total: int, confidence: float = CONFIDENCE) -> Interval:
    """Exact binomial interval of ``count`` events in ``total`` independent trials.

    Raises
    ------
    InputError
        If ``total`` is not positive or ``count`` lies outside 0..total.

    Notes
    -----
    C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of
    the binomial", Biometrika 26, 1934.

    Examples
    --------
    >>> low, high = clopper_pearson(0, 100)
    >>> low, round(high, 4)
    (0.0, 0.0362)
    """
    if total < 1:
        raise InputError("total", "be at least 1", total)
    if not 0 <= count <= total:
        raise InputError("count", f"lie in 0..{total}", count)
    tail = (1 - _level(confidence)) / 2
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, total - count + 1))
    high = 1.0 if count == total else float(beta.isf(tail, count + 1, total - count))
    return low, high


def _per_sample(name: str, values: ArrayLike, lowest: float) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise InputError(name, "hold one number per sample, for at least one sample", array.shape)
    # Written so that NaN fails too.
    if not (array.min() >= lowest and array.max() <= 1.0):
        raise InputError(name, f"lie in [{lowest:g}, 1]", (float(array.min()), float(array.max())))
    return array


def _level(confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        raise InputError("confidence", "lie between 0 and 1", confidence)
    return confidence


def _quantile(probability: float) -> float:
    return float(ndtri(probability))
