"""Binary switching: exchange pairs of labels while that lowers the distortion.

Zeger and Gersho, "Pseudo-Gray coding", IEEE Trans. Commun. 38(12), 1990.  Each codeword in turn, the
costliest first, exchanges labels with the one that lowers the distortion most; when no exchange helps, some
labels are rotated at random and the descent starts again from there (iterated local search; it gains another
0.1 to 0.3 dB).

Nothing of size K^2 is ever built.  With F[k, j] = P(label j received | label k sent) and the symmetric
weights W[k, j] = (P(k) + P(j)) |c_k - c_j|^2, the distortion is half the sum of W * F, and exchanging the
labels of r and s changes it by

    (F W)[r, s] + (F W)[s, r] - (F W)[r, r] - (F W)[s, s] - 2 W[r, s] (F[r, r] - F[r, s]).

W = left @ right.T has rank 4 + 2C, and after an exchange F is the same with rows and columns r and s
exchanged, so that ``F @ left`` follows by a rank-one update: O(K C) for all partners of one codeword.

How good a labelling is: the squared error that flipped label bits cause.

The channel after a labelling is modelled as independent bit flips with the probabilities q_b, so that label
i is received as label j with probability prod_b (q_b where bit b differs, 1 - q_b where it does not).  This
depends on i xor j alone: averaging over what is received is a convolution over xor, done bit by bit in
O(K log K).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.bits import label_bits
from twophase.link.errors import InputError

__all__ = ["binary_switching", "default_sweeps", "labelling_distortion", "labelling_gain_db"]


DEFAULT_BIT_ERROR_PROB = 0.05

_Float = NDArray[np.float64]


def labelling_distortion(
    codebook: ArrayLike,
    labels: ArrayLike,
    usage: ArrayLike | None = None,
    bit_error_prob: ArrayLike = DEFAULT_BIT_ERROR_PROB,
) -> float:
    """Mean squared Euclidean distance between the sent and the received codeword; lower is better.

    ``sum_k P(k) sum_j P(label j received | label k sent) |c_k - c_j|^2``, exact over all K^2 transitions; the
    channel distortion of Zeger and Gersho, "Pseudo-Gray coding", IEEE Trans. Commun. 38(12), 1990.

    Parameters
    ----------
    codebook
        Codewords, shape (K, C), K a power of two from 2.
    labels
        ``labels[k]`` is the label of codeword k: a permutation of 0..K-1.
    usage
        How often each codeword is sent, shape (K,), up to a factor; uniform if not given.
    bit_error_prob
        Probability that a label bit is received wrong, above 0 and at most 0.5: one number, or one for each
        of the log2 K bits, MSB first.

    Raises
    ------
    InputError
        If a shape does not fit or a value breaks its rule.
    """
    codewords = checked_codebook(codebook)
    numbers = checked_labels(labels, len(codewords))
    shares = checked_usage(usage, len(codewords))
    flips = checked_flips(bit_error_prob, len(codewords))
    centred = codewords - shares @ codewords  # the differences do not change, their rounding does
    norms = (centred**2).sum(axis=1)
    received = received_mean(np.column_stack([norms, centred]), numbers, flips)
    errors = norms + received[:, 0] - 2.0 * (centred * received[:, 1:]).sum(axis=1)
    return max(float(shares @ errors), 0.0)


def labelling_gain_db(
    codebook: ArrayLike,
    labels: ArrayLike,
    usage: ArrayLike | None = None,
    bit_error_prob: ArrayLike = DEFAULT_BIT_ERROR_PROB,
) -> float:
    """How many dB less distortion than a random labelling has on average; free of scale.

    0 dB is no better than random, negative is worse.  The mean over all K! labellings is exact: a random
    labelling makes every wrong codeword equally likely.  Two labellings of one codebook compare by the
    difference of their gains.

    Arguments and errors of :func:`labelling_distortion`.  Zero if all codewords are equal, as no labelling
    then matters.
    """
    distortion = labelling_distortion(codebook, labels, usage, bit_error_prob)
    codewords = checked_codebook(codebook)
    size = len(codewords)
    expected = _random_distortion(codewords, checked_usage(usage, size), checked_flips(bit_error_prob, size))
    if expected == 0.0 or distortion == 0.0:
        return 0.0
    return 10.0 * math.log10(expected / distortion)


def received_mean(values: _Float, labels: NDArray[np.int64], flips: _Float) -> _Float:
    """Mean over what is received, of rows given per codeword: (K, R) to (K, R), exact."""
    size, width = values.shape
    by_label = np.empty_like(values)
    by_label[labels] = values
    for bit, flip in enumerate(flips):  # MSB first: bit 0 splits the labels into halves
        pairs = by_label.reshape(1 << bit, 2, size >> (bit + 1), width)
        by_label = ((1.0 - flip) * pairs + flip * pairs[:, ::-1]).reshape(size, width)
    return by_label[labels]


def flip_kernel(flips: _Float) -> _Float:
    """Probability of each xor between sent and received label, shape (K,)."""
    kernel = np.ones(1)
    for flip in flips:
        kernel = np.kron(kernel, [1.0 - flip, flip])
    return kernel


def checked_codebook(codebook: ArrayLike) -> _Float:
    """Codewords as float64 of shape (K, C)."""
    array = np.asarray(codebook, dtype=np.float64)
    size = array.shape[0] if array.ndim == 2 else 0
    if size < 2 or size & (size - 1) or array.shape[1] < 1:
        raise InputError("codebook", "have shape (K, C) with K a power of two from 2", f"shape {array.shape}")
    if not np.isfinite(array).all():
        raise InputError("codebook", "be finite", "an array with NaN or infinity")
    return array


def checked_labels(labels: ArrayLike, size: int) -> NDArray[np.int64]:
    """Labels as int64 of shape (K,)."""
    table = label_bits(labels)
    if len(table) != size:
        raise InputError("labels", f"be a permutation of 0..{size - 1}", f"{len(table)} numbers")
    return np.asarray(labels).astype(np.int64)


def checked_usage(usage: ArrayLike | None, size: int) -> _Float:
    """Usage as probabilities of shape (K,)."""
    if usage is None:
        return np.full(size, 1.0 / size)
    shares = np.asarray(usage, dtype=np.float64)
    if shares.shape != (size,):
        raise InputError("usage", f"have shape ({size},)", f"shape {shares.shape}")
    if not np.isfinite(shares).all() or (shares < 0).any() or not shares.sum() > 0:
        raise InputError("usage", "be finite, not negative and not all zero", shares.tolist())
    return np.asarray(shares / shares.sum(), dtype=np.float64)


def checked_flips(bit_error_prob: ArrayLike, size: int) -> _Float:
    """Flip probabilities of shape (log2 K,), MSB first."""
    width = size.bit_length() - 1
    flips = np.asarray(bit_error_prob, dtype=np.float64)
    if flips.shape not in ((), (width,)):
        raise InputError("bit_error_prob", f"be one number or {width} numbers", f"shape {flips.shape}")
    if not ((flips > 0) & (flips <= 0.5)).all():
        raise InputError("bit_error_prob", "lie above 0 and at most at 0.5", flips.tolist())
    return np.broadcast_to(flips, (width,))


def _random_distortion(codewords: _Float, shares: _Float, flips: _Float) -> float:
    """Mean of the distortion over all labellings: every other codeword is then equally likely."""
    size = len(codewords)
    centred = codewords - codewords.mean(axis=0)
    norms = (centred**2).sum(axis=1)
    wrong = 1.0 - float(np.prod(1.0 - flips))
    return wrong / (size - 1) * float(size * (shares @ norms) + norms.sum())


_SMALLEST_GAIN = 1e-12  # relative to the distortion; below it an exchange is rounding


def default_sweeps(size: int) -> int:
    """Sweeps that :func:`binary_switching` takes by default: 128 up to K=724, then falling as 1 / K^2."""
    return int(np.clip(2**26 // size**2, 2, 128))


def binary_switching(
    codebook: ArrayLike,
    labels: ArrayLike,
    usage: ArrayLike | None = None,
    bit_error_prob: ArrayLike = DEFAULT_BIT_ERROR_PROB,
    *,
    rng: np.random.Generator,
    sweeps: int | None = None,
) -> NDArray[np.int64]:
    """Labels, (K,), that are at least as good as the given ones under ``labelling_distortion``.

    Parameters
    ----------
    codebook, labels, usage, bit_error_prob
        As in :func:`labelling_distortion`; ``labels`` are where to start.
    rng
        Draws the restarts.
    sweeps
        Passes over all codewords, all restarts together, each of O(K^2 C); by default ``default_sweeps(K)``.

    Raises
    ------
    InputError
        If a shape does not fit or a value breaks its rule.
    """
    codewords = checked_codebook(codebook)
    size = len(codewords)
    best = checked_labels(labels, size)
    shares = checked_usage(usage, size)
    flips = checked_flips(bit_error_prob, size)
    remaining = default_sweeps(size) if sweeps is None else sweeps
    if remaining < 1:
        raise InputError("sweeps", "be at least 1", sweeps)

    descent = _Descent(codewords, shares, flips)
    least = labelling_distortion(codewords, best, shares, flips)
    candidate = best
    while remaining > 0:
        candidate, used = descent.run(candidate, remaining)
        remaining -= used
        distortion = labelling_distortion(codewords, candidate, shares, flips)
        if distortion < least:
            best, least = candidate, distortion
        candidate = _kicked(best, rng)
    return best


def _kicked(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Rotate the labels of an eighth of the codewords, four at least."""
    size = len(labels)
    chosen = rng.choice(size, size=min(size, max(4, size // 8)), replace=False)
    kicked = labels.copy()
    kicked[chosen] = labels[np.roll(chosen, 1)]
    return kicked


class _Descent:
    """Steepest exchanges until none helps, for one codebook."""

    def __init__(self, codewords: _Float, shares: _Float, flips: _Float) -> None:
        centred = codewords - shares @ codewords
        norms = (centred**2).sum(axis=1)
        ones = np.ones(len(codewords))
        charged = shares[:, np.newaxis] * centred
        # (p_k + p_j)(n_k + n_j - 2 c_k.c_j), one column pair for each product of a k-term and a j-term
        self.left = np.column_stack([shares * norms, shares, -2.0 * charged, ones, norms, -2.0 * centred])
        self.right = np.column_stack([ones, norms, centred, shares * norms, shares, charged])
        self.flips = flips
        self.kernel = flip_kernel(flips)

    def run(self, labels: NDArray[np.int64], max_sweeps: int) -> tuple[NDArray[np.int64], int]:
        """Labels at a local optimum, or where the sweeps ran out, and the number of sweeps used."""
        labels = labels.copy()
        spread = received_mean(self.left, labels, self.flips)  # F @ left
        for sweep in range(max_sweeps):
            costs = np.einsum("kr,kr->k", spread, self.right)
            exchanged = False
            for first in np.argsort(-costs, kind="stable"):
                exchanged |= self._exchange(int(first), labels, spread, costs)
            if not exchanged:
                return labels, sweep + 1
        return labels, max_sweeps

    def _exchange(self, first: int, labels: NDArray[np.int64], spread: _Float, costs: _Float) -> bool:
        """Exchange the label of ``first`` with its best partner, in place; False if no partner helps."""
        column = self.kernel[labels ^ labels[first]]
        change = spread @ self.right[first] + self.right @ spread[first] - costs - costs[first]
        change -= 2.0 * (self.left @ self.right[first]) * (self.kernel[0] - column)
        change[first] = 0.0
        second = int(np.argmin(change))
        if change[second] >= -_SMALLEST_GAIN * costs.sum():
            return False
        spread += np.outer(
            column - self.kernel[labels ^ labels[second]], self.left[second] - self.left[first]
        )
        spread[[first, second]] = spread[[second, first]]
        labels[[first, second]] = labels[[second, first]]
        np.einsum("kr,kr->k", spread, self.right, out=costs)
        return True
