"""How good a labelling is: the squared error that flipped label bits cause.

The channel behind a labelling is modelled as independent bit flips with the probabilities q_b, so that label
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

__all__ = ["labelling_distortion", "labelling_gain_db"]

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

    Parameters
    ----------
    codebook, labels, usage, bit_error_prob
        As in :func:`labelling_distortion`.

    Returns
    -------
    float
        Zero if all codewords are equal, as no labelling then matters.

    Raises
    ------
    InputError
        As :func:`labelling_distortion`.
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
