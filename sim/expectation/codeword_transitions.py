"""P(decided codeword | sent codeword) of a token under hard decisions, from the law of the symbols.

A codeword is decided by its label, bit by bit, which is what the receiver's posterior comes to when every LLR
is the clip with the sign of the nearest point's bit.  A label may cover symbols only in part; what stands in
the rest, other tokens or padding, moves the symbol and with it the law, and is averaged over by its usage.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.bits import indices_to_bits, label_bits
from twophase.link.errors import InputError
from twophase.link.modes import Mode
from twophase.sim.expectation.transitions import WordLaw

__all__ = ["MAX_CODEWORDS", "codeword_success", "codeword_transitions"]

_Float = NDArray[np.float64]

MAX_CODEWORDS = 4096
"""Largest codebook whose transition matrix is given: 128 MiB for each token."""


def codeword_transitions(
    law: WordLaw, mode: Mode, labels: ArrayLike, usage: ArrayLike | None = None
) -> list[_Float]:
    """Transition matrix of every token of a mode.

    Parameters
    ----------
    law
        Of the mode's words (:func:`~twophase.sim.expectation.transitions.word_law`).
    mode
        K codewords, N tokens, the constellation.
    labels
        Label of each codeword, a permutation of 0..K-1, shape (K,).
    usage
        How often each codeword is sent, shape (K,), any positive scale; tokens are taken for independent.
        Equally often if not given.  It weighs only what shares a symbol with the token.

    Returns
    -------
    list
        N arrays of shape (K, K), [sent, decided]; rows sum to 1.

    Raises
    ------
    InputError
        If labels or usage do not fit the codebook, or K exceeds :data:`MAX_CODEWORDS`.

    Examples
    --------
    >>> from twophase.sim.expectation.transitions import word_law
    >>> mode = Mode(codebook=0, codebook_size=4, tokens=1, order=4)
    >>> matrix = codeword_transitions(word_law(mode, 0.5), mode, [0, 1, 3, 2])[0]
    >>> [round(float(value), 4) for value in matrix[0]]  # one bit error: Q(sqrt(2)) = 0.0786
    [0.8489, 0.0725, 0.0062, 0.0725]
    """
    size, width = mode.codebook_size, mode.bits_per_index
    if size > MAX_CODEWORDS:
        raise InputError("codebook_size", f"be at most {MAX_CODEWORDS}", size)
    spelled = label_bits(labels)
    if len(spelled) != size:
        raise InputError("labels", f"hold {size} numbers", len(spelled))
    weight = np.ones(size) if usage is None else np.asarray(usage, dtype=np.float64)
    if weight.shape != (size,) or not np.isfinite(weight).all() or weight.min() < 0 or weight.sum() <= 0:
        raise InputError("usage", f"hold {size} numbers, none negative, not all zero", usage)
    by_label = np.empty(size)
    by_label[np.asarray(labels)] = weight / weight.sum()

    matrices = []
    for token in range(mode.tokens):
        first, last = token * width, (token + 1) * width - 1
        factors = []
        for block in law.blocks:
            touched = range(
                max(block.start, first // mode.bits_per_symbol),
                min(block.stop, last // mode.bits_per_symbol + 1),
            )
            if touched:
                parts = (_marginal(law.matrices, mode, token, symbol, by_label) for symbol in touched)
                factors.append(np.tensordot(law.weights, reduce(_kron, parts), axes=1))
        by_bits = reduce(_kron, (factor[np.newaxis] for factor in factors))[0]
        matrices.append(by_bits[np.ix_(np.asarray(labels), np.asarray(labels))])
    return matrices


def codeword_success(law: WordLaw, mode: Mode, words: ArrayLike) -> _Float:
    """P(codeword decided right) of every token, given the whole word that is sent; no usage is needed.

    Parameters
    ----------
    law, mode
        As for :func:`codeword_transitions`.
    words
        Point numbers, shape (words, symbols).

    Returns
    -------
    NDArray
        Shape (words, tokens).
    """
    sent = np.asarray(words)
    points = np.arange(mode.order)
    differ = points[:, np.newaxis] ^ points
    success = np.ones((len(sent), mode.tokens))
    for token in range(mode.tokens):
        for block in law.blocks:
            given = np.ones((len(law.weights), len(sent)))
            for symbol in range(block.start, block.stop):
                place = symbol * mode.bits_per_symbol + np.arange(mode.bits_per_symbol)
                own = (place // mode.bits_per_index == token) @ (1 << np.arange(len(place) - 1, -1, -1))
                if own:
                    right = (law.matrices * ((differ & own) == 0)).sum(axis=-1)
                    given = given * right[:, sent[:, symbol]]
            success[:, token] *= law.weights @ given
    return success


def _marginal(matrices: _Float, mode: Mode, token: int, symbol: int, by_label: _Float) -> _Float:
    """Law of the bits that ``token`` has in ``symbol``, (nodes, patterns, patterns), the rest averaged."""
    width, per_symbol = mode.bits_per_index, mode.bits_per_symbol
    points = np.arange(mode.order)
    bits = indices_to_bits(points, per_symbol)
    label_digits = indices_to_bits(np.arange(len(by_label)), width)
    place = symbol * per_symbol + np.arange(per_symbol)
    owner = place // width
    prior = np.ones(mode.order)
    own = np.zeros(mode.order, dtype=np.int64)
    for other in np.unique(owner):
        columns = np.flatnonzero(owner == other)
        pattern = bits[:, columns] @ (1 << np.arange(len(columns) - 1, -1, -1))
        if other == token:
            own = pattern
        elif other >= mode.tokens:
            prior = prior * (pattern == 0)  # padding
        else:
            shown = label_digits[:, place[columns] - other * width]
            codes = shown @ (1 << np.arange(len(columns) - 1, -1, -1))
            prior = prior * np.bincount(codes, by_label, minlength=1 << len(columns))[pattern]
    member = (own == np.arange(own.max() + 1)[:, np.newaxis]).astype(np.float64)  # (patterns, M)
    return np.asarray((member * prior) @ matrices @ member.T)


def _kron(first: _Float, second: _Float) -> _Float:
    """Kronecker product node by node: (nodes, A, A) and (nodes, B, B) to (nodes, AB, AB)."""
    side = first.shape[-1] * second.shape[-1]
    product = first[:, :, np.newaxis, :, np.newaxis] * second[:, np.newaxis, :, np.newaxis, :]
    return product.reshape(-1, side, side)
