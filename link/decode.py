"""LLRs to codewords, and scores to classes: posteriors, hard decisions, MMSE embedding.

With independent bits, P(k | llr) is proportional to P(k) prod_b P(bit b of label k | llr_b), and
log sigmoid(+-llr) = +-llr/2 - log(2 cosh(llr/2)), whose second term does not depend on k: the whole codebook
is one matrix product with the labels written as +-1/2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import InputError

__all__ = ["class_posterior", "codeword_log_posterior", "hard_indices", "mmse_embedding"]


def codeword_log_posterior(
    llr: ArrayLike, label_bits: ArrayLike, log_prior: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Log posterior of every codeword for every token, shape (..., N, K); normalised.

    Parameters
    ----------
    llr
        log P(b=1)/P(b=0), shape (..., N * b): N labels of b bits side by side, channel padding cut off.
    label_bits
        Bits of each codeword's label, shape (K, b).
    log_prior
        log P(k), shape (K,), up to a constant; minus infinity excludes a codeword.  Uniform if not given.

    Raises
    ------
    InputError
        If a shape does not fit, an LLR is not finite or the prior excludes every codeword.
    """
    labels = np.asarray(label_bits)
    if labels.ndim != 2 or 0 in labels.shape or not ((labels == 0) | (labels == 1)).all():
        raise InputError("label_bits", "be zeros and ones of shape (K, b)", f"shape {labels.shape}")
    size, width = labels.shape
    values = np.asarray(llr, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] % width:
        raise InputError(
            "llr", f"hold a multiple of {width} values on its last axis", f"shape {values.shape}"
        )
    if not np.isfinite(values).all():
        raise InputError("llr", "be finite", "an array with NaN or infinity")
    tokens = values.reshape(*values.shape[:-1], values.shape[-1] // width, width)
    scores = np.asarray(tokens @ (labels.astype(np.float64) - 0.5).T, dtype=np.float64)
    if log_prior is not None:
        scores = scores + _checked_prior(log_prior, size)
    scores = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True)), dtype=np.float64)


def hard_indices(log_posterior: ArrayLike) -> NDArray[np.int64]:
    """Most probable codeword of each token: (..., K) to (...,); of equals the lowest index.

    Raises
    ------
    InputError
        If there is no codeword or a value is NaN.
    """
    return np.asarray(np.argmax(_checked_posterior(log_posterior), axis=-1), dtype=np.int64)


def mmse_embedding(log_posterior: ArrayLike, codebook: ArrayLike) -> NDArray[np.float64]:
    """Posterior mean of the codeword, (..., N, C): the estimate of least mean squared error.

    Parameters
    ----------
    log_posterior
        Normalised, shape (..., N, K).
    codebook
        Shape (K, C).

    Raises
    ------
    InputError
        If a shape does not fit or a codeword is not finite.
    """
    posterior = np.exp(_checked_posterior(log_posterior))
    codewords = np.asarray(codebook, dtype=np.float64)
    if codewords.ndim != 2 or codewords.shape[0] != posterior.shape[-1]:
        raise InputError("codebook", f"have shape ({posterior.shape[-1]}, C)", codewords.shape)
    if not np.isfinite(codewords).all():
        raise InputError("codebook", "be finite", "an array with NaN or infinity")
    return np.asarray(posterior @ codewords, dtype=np.float64)


def class_posterior(
    logits: ArrayLike, frequency: ArrayLike, prior: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities of the classes, and the most probable one, from the scores of a trained classifier.

    The softmax of the scores is P(class | received) under the frequencies of the classes in training.  Other
    frequencies change it by Bayes' rule: P'(c | y) is proportional to P(c | y) P'(c) / P(c).

    Parameters
    ----------
    logits
        Scores, shape (batch, classes).
    frequency
        Frequencies of the classes in training, shape (classes,), above 0.
    prior
        Weights of the classes in use, at least 0 with one above in each row, shape (classes,) or (batch,
        classes); those of training if not given.

    Returns
    -------
    tuple
        Shape (batch, classes), each row sums to 1, and shape (batch,); of equals the lowest class.

    Raises
    ------
    InputError
        If the prior has another shape, a negative or infinite weight, or none above 0.
    """
    scores = np.asarray(logits, dtype=np.float64)
    if prior is not None:
        weights = np.asarray(prior)
        if weights.dtype.kind not in "biuf" or weights.shape not in (scores.shape[-1:], scores.shape):
            rule = f"be weights of shape {scores.shape[-1:]} or {scores.shape}"
            raise InputError("prior", rule, f"an array of {weights.dtype} of shape {weights.shape}")
        weights = weights.astype(np.float64)
        if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any(axis=-1).all():
            raise InputError("prior", "be finite, at least 0 and not all 0", weights.tolist())
        with np.errstate(divide="ignore"):
            scores = scores + np.log(weights) - np.log(np.asarray(frequency, dtype=np.float64))
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True), np.argmax(scores, axis=-1)


def _checked_prior(log_prior: ArrayLike, size: int) -> NDArray[np.float64]:
    prior = np.asarray(log_prior, dtype=np.float64)
    if prior.shape != (size,):
        raise InputError("log_prior", f"have shape ({size},)", prior.shape)
    if np.isnan(prior).any() or (prior == np.inf).any() or not np.isfinite(prior).any():
        raise InputError("log_prior", "be finite or minus infinity, not all of it", prior.tolist())
    return prior


def _checked_posterior(log_posterior: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(log_posterior, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise InputError("log_posterior", "have codewords on its last axis", f"shape {values.shape}")
    if np.isnan(values).any():
        raise InputError("log_posterior", "be free of NaN", f"an array of shape {values.shape}")
    return values
