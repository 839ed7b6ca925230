"""Bit labels of codewords, placed so that a flipped bit leads to a codeword near by.

``labels[k]`` is the label of codeword k, a number whose binary digits, MSB first, are sent.  How good a
labelling is, is measured by :func:`labelling_distortion` and :func:`labelling_gain_db`;
``benchmarks/labelling.py`` prints a table.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import InputError
from twophase.link.labelling_search import (
    DEFAULT_BIT_ERROR_PROB,
    binary_switching,
    checked_codebook,
    checked_flips,
    checked_usage,
    labelling_distortion,
    labelling_gain_db,
)

__all__ = [
    "LABELLINGS",
    "binary_switching",
    "identity_labels",
    "kdtree_gray_labels",
    "kdtree_natural_labels",
    "labelling_distortion",
    "labelling_gain_db",
    "make_labels",
    "pca_gray_labels",
]

LABELLINGS = ("identity", "pca", "kdtree", "bsa")
"""Methods of :func:`make_labels`, from the simplest to the best."""

_Float = NDArray[np.float64]


def make_labels(
    method: str,
    codebook: ArrayLike,
    usage: ArrayLike | None = None,
    bit_error_prob: ArrayLike = DEFAULT_BIT_ERROR_PROB,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Labels of a codebook by one of ``LABELLINGS``: shape (K,), a permutation of 0..K-1.

    Parameters
    ----------
    method
        ``identity``, ``pca`` (Gray code along the first principal axis), ``kdtree`` (Gray code over several
        axes) or ``bsa`` (binary switching from the better of the two kd-tree labellings).
    codebook
        Codewords, shape (K, C), K a power of two from 2.
    usage, bit_error_prob
        What ``bsa`` optimises for, see :func:`labelling_distortion`; the others look at geometry alone.
    seed
        Of the restarts of ``bsa``.

    Raises
    ------
    InputError
        If the method is unknown or an argument breaks its rule.
    """
    codewords = checked_codebook(codebook)
    shares = checked_usage(usage, len(codewords))
    flips = checked_flips(bit_error_prob, len(codewords))
    match method:
        case "identity":
            return identity_labels(len(codewords))
        case "pca":
            return pca_gray_labels(codewords)
        case "kdtree":
            return kdtree_gray_labels(codewords)
        case "bsa":
            start = min(
                (kdtree_natural_labels(codewords), kdtree_gray_labels(codewords)),
                key=lambda labels: labelling_distortion(codewords, labels, shares, flips),
            )
            return binary_switching(codewords, start, shares, flips, rng=np.random.default_rng(seed))
    raise InputError("labelling", f"be one of {', '.join(LABELLINGS)}", method)


def identity_labels(size: int) -> NDArray[np.int64]:
    """Labels that are the codewords' own numbers, shape (K,).

    Raises
    ------
    InputError
        If ``size`` is not a power of two from 2.
    """
    if size < 2 or size & (size - 1):
        raise InputError("size", "be a power of two from 2", size)
    return np.arange(size, dtype=np.int64)


def pca_gray_labels(codebook: ArrayLike) -> NDArray[np.int64]:
    """Reflected Gray code along the first principal axis; blind to all other axes.

    Codebook and errors of :func:`make_labels`.
    """
    codewords = checked_codebook(codebook)
    ascending = np.argsort(codewords @ _oriented(_principal_axis(codewords), None), kind="stable")
    ranks = np.arange(len(codewords), dtype=np.int64)
    labels = np.empty_like(ranks)
    labels[ascending] = ranks ^ (ranks >> 1)
    return labels


def kdtree_gray_labels(codebook: ArrayLike) -> NDArray[np.int64]:
    """Gray code over several axes: median splits, each half labelled as the mirror image of the other.

    A kd-tree (Bentley, "Multidimensional binary search trees", Commun. ACM 18(9), 1975) whose nodes split at
    the median along their own principal axis, one bit per split, MSB first.  After a split the upper half is
    folded over onto the lower one, so that codewords on either side of the split differ in that bit alone: on
    a line this is the reflected Gray code, on a grid the product of one for each axis.

    Codebook and errors of :func:`make_labels`.
    """
    return _kdtree_labels(checked_codebook(codebook), fold=True)


def kdtree_natural_labels(codebook: ArrayLike) -> NDArray[np.int64]:
    """Labels of the tree of :func:`kdtree_gray_labels` without folding: on a line the natural code.

    No Gray code, yet its mean squared error under independent bit flips is lower (0.1 to 0.6 dB on Gaussian
    codebooks): a Gray code pays for its single-bit neighbours with longer jumps when a leading bit flips.  It
    is where binary switching starts.  Codebook and errors of :func:`make_labels`.
    """
    return _kdtree_labels(checked_codebook(codebook), fold=False)


def _kdtree_labels(codewords: _Float, fold: bool) -> NDArray[np.int64]:
    """Grow the tree breadth first; node i of a level holds the codewords whose leading bits spell i."""
    size = len(codewords)
    places = codewords - codewords.mean(axis=0)
    nodes = [np.arange(size)]
    for depth in range(size.bit_length() - 1):
        axes: list[_Float] = []
        halves: list[NDArray[np.intp]] = []
        for number, members in enumerate(nodes):
            # Zeros and ones must lie the same way as in the nodes one bit away, as far as they are known.
            neighbours = [axes[number ^ (1 << bit)] for bit in range(depth) if number >> bit & 1]
            axis = _oriented(_principal_axis(places[members]), sum(neighbours) if neighbours else None)
            axes.append(axis)
            along = places[members] @ axis
            ascending = np.argsort(along, kind="stable")
            lower, upper = np.split(ascending, 2)
            if fold:
                median = (along[lower[-1]] + along[upper[0]]) / 2
                places[members[upper]] -= 2.0 * np.outer(along[upper] - median, axis)
            halves += [members[lower], members[upper]]
        nodes = halves
    labels = np.empty(size, dtype=np.int64)
    labels[np.concatenate(nodes)] = np.arange(size)
    return labels


def _principal_axis(points: _Float) -> _Float:
    """Return the unit vector along which (n, C) points vary most."""
    axis: _Float = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][0]
    return axis


def _oriented(axis: _Float, reference: _Float | int | None) -> _Float:
    """Turn the axis to agree with the reference; without one, to make its largest component positive."""
    agreement = 0.0 if reference is None else float(np.dot(axis, reference))
    if agreement == 0.0:
        agreement = float(axis[np.argmax(np.abs(axis))])
    return -axis if agreement < 0 else axis
