"""Transition matrices of codewords: against a sum over all words, with padding, overlaps and shared gains."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from twophase.link.bits import (
    bits_to_indices,
    bits_to_symbols,
    indices_to_bits,
    pad_bits,
    symbols_to_bits,
)
from twophase.link.errors import InputError
from twophase.link.modes import Mode
from twophase.sim.analytic.laws import (
    MAX_CODEWORDS,
    codeword_success,
    codeword_transitions,
    word_law,
)

# Labels of 2 and 3 bits in symbols of 2, 4 and 6: whole symbols, parts of symbols, padding.
MODES = (
    Mode(codebook=0, codebook_size=4, tokens=2, order=4),
    Mode(codebook=0, codebook_size=8, tokens=2, order=4),
    Mode(codebook=0, codebook_size=8, tokens=2, order=16),
    Mode(codebook=0, codebook_size=4, tokens=2, order=64),
)


def _slow(law, mode: Mode, labels: np.ndarray, usage: np.ndarray) -> np.ndarray:
    """Sum over all pairs of sent and received words."""
    size, width = mode.codebook_size, mode.bits_per_index
    sent = np.array(list(itertools.product(range(size), repeat=mode.tokens)))
    share = (usage / usage.sum())[sent].prod(axis=1)
    bits = indices_to_bits(labels[sent], width).reshape(len(sent), -1)
    words = bits_to_symbols(pad_bits(bits, mode.bits_per_symbol), mode.bits_per_symbol)
    received = np.array(list(itertools.product(range(mode.order), repeat=mode.symbols)))
    spelled = symbols_to_bits(received, mode.bits_per_symbol)[:, : mode.information_bits]
    decided = np.argsort(labels)[bits_to_indices(spelled.reshape(len(received), mode.tokens, width))]
    probability = law.probability(words[:, np.newaxis], received)
    matrices = np.zeros((mode.tokens, size, size))
    for token in range(mode.tokens):
        joint = share[:, np.newaxis] * probability
        rows = np.broadcast_to(sent[:, token, np.newaxis], joint.shape)
        columns = np.broadcast_to(decided[:, token], joint.shape)
        np.add.at(matrices[token], (rows, columns), joint)
    return matrices / (usage / usage.sum())[:, np.newaxis]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: f"{mode.tokens}x{mode.name}")
@pytest.mark.parametrize(
    ("channel", "coherence"), [("awgn", "symbol"), ("rayleigh", 2), ("rician", "sample")]
)
def test_equals_the_sum_over_all_words(mode, channel, coherence) -> None:
    rng = np.random.default_rng(0)
    labels = rng.permutation(mode.codebook_size)
    usage = rng.uniform(0.1, 1, mode.codebook_size)
    law = word_law(mode, 0.2, channel, coherence)
    matrices = codeword_transitions(law, mode, labels, usage)
    np.testing.assert_allclose(matrices, _slow(law, mode, labels, usage), atol=1e-12)
    np.testing.assert_allclose(np.sum(matrices, axis=-1), 1, atol=1e-12)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: f"{mode.tokens}x{mode.name}")
@pytest.mark.parametrize(
    ("channel", "coherence"), [("awgn", "symbol"), ("rayleigh", 2), ("rician", "sample")]
)
def test_success_is_the_diagonal_for_the_word_that_is_sent(mode, channel, coherence) -> None:
    law = word_law(mode, 0.2, channel, coherence)
    size, width = mode.codebook_size, mode.bits_per_index
    sent = np.array(list(itertools.product(range(size), repeat=mode.tokens)))
    bits = indices_to_bits(sent, width).reshape(len(sent), -1)
    words = bits_to_symbols(pad_bits(bits, mode.bits_per_symbol), mode.bits_per_symbol)
    success = codeword_success(law, mode, words)
    matrices = codeword_transitions(law, mode, np.arange(size))
    for token in range(mode.tokens):
        # Averaged over what the other tokens send, it is the diagonal.
        mean = [success[sent[:, token] == codeword, token].mean() for codeword in range(size)]
        np.testing.assert_allclose(mean, np.diag(matrices[token]), atol=1e-12)


def test_usage_of_neighbours_matters_only_inside_a_symbol() -> None:
    shared, apart = MODES[2], MODES[0]
    for mode, matters in ((shared, True), (apart, False)):
        law = word_law(mode, 0.3)
        labels = np.arange(mode.codebook_size)
        skewed = np.full(mode.codebook_size, 1e-6)
        skewed[0] = 1.0
        plain = np.array(codeword_transitions(law, mode, labels))
        other = np.array(codeword_transitions(law, mode, labels, skewed))
        assert (np.abs(plain - other).max() > 1e-3) == matters


def test_without_noise_nothing_moves() -> None:
    law = word_law(MODES[1], 1e-3)
    for matrix in codeword_transitions(law, MODES[1], np.arange(8)):
        np.testing.assert_allclose(matrix, np.eye(8), atol=1e-15)


def test_bad_arguments_are_named() -> None:
    mode = MODES[0]
    law = word_law(mode, 0.3)
    with pytest.raises(InputError, match="labels"):
        codeword_transitions(law, mode, np.arange(8))
    with pytest.raises(InputError, match="usage"):
        codeword_transitions(law, mode, np.arange(4), [1, 1, 1])
    large = Mode(codebook=0, codebook_size=2 * MAX_CODEWORDS, tokens=1, order=4)
    with pytest.raises(InputError, match="codebook_size"):
        codeword_transitions(word_law(large, 0.3), large, np.arange(2 * MAX_CODEWORDS))
