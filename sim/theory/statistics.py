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

__all__ = [
    "CONFIDENCE",
    "Interval",
    "PairedGap",
    "clopper_pearson",
    "lower_bound",
    "paired_gap",
    "per_sample",
    "wilson_by_sample",
]

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

    ``fractions`` are the shares of each sample's trials that succeeded, shape (samples,), in [0, 1].  The
    effective count is the number of samples, at least 1.  A fraction in [0, 1] has at most the variance
    p (1 - p) of a single yes or no, so the interval covers at least as often as for one trial per sample.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Examples
    --------
    >>> low, high = wilson_by_sample([1.0] * 50)
    >>> round(low, 3), high
    (0.929, 1.0)
    """
    values = per_sample("fractions", fractions, 0.0)
    level = _level(confidence)
    n, p = values.size, float(values.mean())
    z2 = float(ndtri((1 + level) / 2)) ** 2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # The exact ends at p = 0 and p = 1 are 0 and 1; rounding must not move them.
    low = 0.0 if p == 0 else max(0.0, centre - half)
    high = 1.0 if p == 1 else min(1.0, centre + half)
    return low, high


def paired_gap(differences: ArrayLike, confidence: float = CONFIDENCE) -> PairedGap:
    """Mean of per-sample differences with bounds that hold where discordance is rare and one-sided.

    At high SNR two systems agree on nearly every sample and, where they do not, it is often always the same
    one that errs.  An interval built on the spread that was seen is then too short: the few discordances that
    happened to stay away would have raised the gap and the spread together.  So the bound is a score bound,
    the lowest mean g that a test at g's own variance does not reject, ``mean - 1/(2n) - g = z sqrt(v(g)/n)``,
    with the usual continuity correction of half a sample, where v(g) is the largest of

    1. the spread that was seen, with Agresti and Min's half an observation in each cell of the 2 x 2 table
       (sum of squares plus one, count plus two): it never vanishes;
    2. |g| - g^2, the least variance that outcomes -1, 0 and 1 of mean g can have; it is attained if all
       discordance goes one way, and the bound is Wilson's with continuity correction then;
    3. the mean square that was seen, plus half of the distance to g, minus g^2: a lower mean takes
       discordances that were not seen; half of the distance is put down to them, half to opposite ones seen
       by chance.

    The second and third follow the idea of Tango's score interval.  The mean over many trials of a sample can
    vary less than single outcomes do; there the second makes the bound longer than it need be.  The sample is
    the cluster: the spread between samples holds all correlation within a sample.  Every condition is
    quadratic in g, so the bounds are closed forms.

    ``differences`` hold for each sample the mean over its trials of (correct for the first - correct for the
    second), shape (samples,), in [-1, 1]; ``confidence`` is the level of the two-sided interval and of the
    one-sided bound.

    T. Tango, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17, 1998.  A. Agresti and Y. Min, "Simple improved
    confidence intervals for comparing matched proportions", Statistics in Medicine 24, 2005.

    Examples
    --------
    >>> result = paired_gap([0.0] * 540)
    >>> result.gap, round(result.lower_bound, 4)
    (0.0, -0.0067)
    """
    values = per_sample("differences", differences, -1.0)
    level = _level(confidence)
    two_sided = float(ndtri((1 + level) / 2))
    n, total, squares = values.size, float(values.sum()), float(values @ values)
    return PairedGap(
        gap=float(values.mean()),
        interval=(
            lower_bound(n, total, squares, two_sided),
            0.0 - lower_bound(n, -total, squares, two_sided),
        ),
        lower_bound=lower_bound(n, total, squares, float(ndtri(level))),
    )


def lower_bound(n: float, total: float, squares: float, quantile: float) -> float:
    """The bound of :func:`paired_gap` from the number of samples, their sum and the sum of their squares.

    It is the least g with n (centre - g)^2 <= quantile^2 v(g) for one of the three variances; ``quantile`` is
    that of the normal law at the level of the bound.
    """
    centre = (total - 0.5) / n
    k = quantile * quantile / n
    adjusted = max(0.0, (squares + 1) / (n + 2) - (total / (n + 2)) ** 2)
    ends = [
        centre - math.sqrt(k * adjusted),
        *_lower_root(1 + k, k / 2 - 2 * centre, centre * centre - k * (squares / n + centre / 2)),
    ]
    # |g| - g^2 is another quadratic on either side of zero; a root counts on its own side.
    for side in (-1, 1):
        ends += [g for g in _lower_root(1 + k, -side * k - 2 * centre, centre * centre) if side * g > 0]
    return max(-1.0, min(ends))


def _lower_root(a: float, b: float, c: float) -> list[float]:
    """The lower root of a x^2 + b x + c with a > 0, if there is one."""
    discriminant = b * b - 4 * a * c
    return [(-b - math.sqrt(discriminant)) / (2 * a)] if discriminant >= 0 else []


def clopper_pearson(count: int, total: int, confidence: float = CONFIDENCE) -> Interval:
    """Exact binomial interval of ``count`` events in ``total`` independent trials, at least 1.

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


def per_sample(name: str, values: ArrayLike, lowest: float) -> NDArray[np.float64]:
    """One number per sample in [lowest, 1], shape (samples,); InputError otherwise."""
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
