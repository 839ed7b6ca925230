"""Laws of decided symbols, words and codewords: against closed forms, quadrature, slow sums and noise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import qam
from twophase.link.demap import hard_decisions
from twophase.link.errors import InputError
from twophase.link.modes import Mode
from twophase.sim.analytic.laws import (
    axis_transitions,
    codeword_success,
    gain_nodes,
    symbol_transitions,
    word_law,
)

ORDERS = (4, 16, 64, 256)
# Labels of 2 and 3 bits in symbols of 2, 4 and 6: whole symbols, parts of symbols, padding.
MODES = (
    Mode(codebook=0, codebook_size=4, tokens=2, order=4),
    Mode(codebook=0, codebook_size=8, tokens=2, order=4),
    Mode(codebook=0, codebook_size=8, tokens=2, order=16),
    Mode(codebook=0, codebook_size=4, tokens=2, order=64),
)
THREE = Mode(codebook=0, codebook_size=4, tokens=3, order=4)


@given(order=st.sampled_from(ORDERS), esn0_db=st.floats(-30, 60))
def test_rows_are_laws_and_mirror_images(order: int, esn0_db: float) -> None:
    law = axis_transitions(order, 10 ** (-esn0_db / 10))
    assert law.min() >= 0
    np.testing.assert_allclose(law.sum(axis=1), 1, rtol=0, atol=1e-14)
    # The levels lie symmetrically to zero.
    np.testing.assert_allclose(law, law[::-1, ::-1], rtol=1e-12)


def test_far_tails_keep_their_relative_accuracy() -> None:
    # From the lowest level of 16-QAM to the highest: beyond 5 half-distances, Q(5 sqrt(2 / (10 N0))).
    law, expected = axis_transitions(16, 0.02), norm.sf(5 / np.sqrt(10) / np.sqrt(0.01))
    assert expected < 1e-50
    assert [law[0, 3], law[3, 0]] == pytest.approx([expected, expected], rel=1e-10)


@pytest.mark.parametrize("k_db", [-100.0, -3.0, 0.0, 6.0, 15.0, 18.5, 19.0, 30.0, 60.0, 100.0])
def test_gain_nodes_have_the_moments_of_a_rician_gain(k_db: float) -> None:
    k = 10 ** (k_db / 10)
    amplitude, weight = gain_nodes("rician", k_db)
    assert weight.sum() == pytest.approx(1, abs=1e-12)
    assert weight @ amplitude**2 == pytest.approx(1, abs=1e-11)
    assert weight @ amplitude**4 == pytest.approx(1 + (1 + 2 * k) / (1 + k) ** 2, abs=1e-10)


@pytest.mark.parametrize("order", [16, 64])
@pytest.mark.parametrize(("channel", "k"), [("awgn", 1e30), ("rayleigh", 0.0), ("rician", 10**0.6)])
def test_law_is_that_of_decisions_on_drawn_noise(order, channel, k) -> None:
    """Both axes share the gain: a mean of products, not a product of means."""
    rng = np.random.default_rng(order)
    draws, noise_var = 40_000, 0.1
    law = symbol_transitions(order, noise_var, channel)
    for sent in (0, order - 1, 7):
        noise, scattered = rng.standard_normal((2, draws, 2)) @ [1, 1j] * np.sqrt(0.5)
        gain = (np.sqrt(k) + scattered) / np.sqrt(1 + k)
        received = gain * qam(order).points[sent] + np.sqrt(noise_var) * noise
        counts = np.bincount(hard_decisions(received, qam(order), gain), minlength=order)
        # At most 720 cells of 20 or more: |z| < 5, false alarm below 720 x 6e-7 = 4e-4 if normal.
        expected = law[sent] * draws
        z = (counts - expected) / np.sqrt(expected * (1 - law[sent]) + 1e-12)
        assert np.abs(z[expected > 20]).max() < 5


@pytest.mark.parametrize(
    ("coherence", "lengths"), [("symbol", [1, 1, 1]), (2, [2, 1]), (3, [3]), ("sample", [3])]
)
def test_a_word_is_a_law_whatever_shares_a_gain(coherence, lengths) -> None:
    law = word_law(THREE, 0.4, "rayleigh", coherence)
    assert law.is_memoryless == (coherence == "symbol")
    words = np.stack(np.unravel_index(np.arange(4**3), (4, 4, 4)), axis=-1)
    probability = law.probability(words[:, np.newaxis], words)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-12)
    assert [block.stop - block.start for block in law.blocks] == lengths
    # Whatever is shared, one symbol by itself has the same law.
    first = probability.reshape(64, 4, 16).sum(axis=-1)[::16]
    np.testing.assert_allclose(first, symbol_transitions(4, 0.4, "rayleigh"), atol=1e-12)
    # Sharing makes words without any error likelier.
    fast = word_law(THREE, 0.4, "rayleigh").probability(words[0], words[0])
    assert (probability[0, 0] > fast + 1e-3) == (coherence != "symbol")


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: f"{mode.tokens}x{mode.name}")
@pytest.mark.parametrize(
    ("channel", "coherence"), [("awgn", "symbol"), ("rayleigh", 2), ("rician", "sample")]
)
def test_a_codeword_is_right_if_all_its_bits_are(mode, channel, coherence) -> None:
    """Against the sum over all pairs of sent and received words."""
    law = word_law(mode, 0.2, channel, coherence)
    words = np.array(list(itertools.product(range(mode.order), repeat=mode.symbols)))
    spelled = symbols_to_bits(words, mode.bits_per_symbol)[:, : mode.information_bits]
    labels = spelled.reshape(len(words), mode.tokens, mode.bits_per_index)
    right = (labels[:, np.newaxis] == labels).all(axis=-1)  # (sent, received, token)
    probability = law.probability(words[:, np.newaxis], words)
    expected = (probability[..., np.newaxis] * right).sum(axis=1)
    np.testing.assert_allclose(codeword_success(law, mode, words), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: word_law(THREE, 0.4, "tdl-a"), "channel"),
        (lambda: word_law(THREE, 0.4, "rayleigh", 0), "coherence"),
        (lambda: axis_transitions(4, [0.1, 0.0]), "noise_var"),
        (lambda: axis_transitions(8, 0.1), "order"),
    ],
)
def test_bad_arguments_are_named(call, name) -> None:
    with pytest.raises(InputError, match=name):
        call()
