"""Laws of hard decisions: against closed forms, other quadrature, and decisions on drawn noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from scipy.stats import norm, rice

from twophase.link.bits import indices_to_bits
from twophase.link.constellation import qam
from twophase.link.demap import hard_decisions
from twophase.link.errors import InputError
from twophase.link.modes import Mode
from twophase.sim.analytic.laws import axis_transitions, gain_nodes, symbol_transitions, word_law
from twophase.sim.theory.ber import qam_ber

ORDERS = (4, 16, 64, 256)


@given(order=st.sampled_from(ORDERS), esn0_db=st.floats(-30, 60))
def test_rows_are_laws_and_mirror_images(order: int, esn0_db: float) -> None:
    law = axis_transitions(order, 10 ** (-esn0_db / 10))
    assert law.min() >= 0
    np.testing.assert_allclose(law.sum(axis=1), 1, rtol=0, atol=1e-14)
    # The levels lie symmetrically to zero.
    np.testing.assert_allclose(law, law[::-1, ::-1], rtol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("channel", ["awgn", "rayleigh"])
@pytest.mark.parametrize("esn0_db", [-10.0, 5.0, 15.0, 30.0])
def test_bit_error_rate_is_the_closed_form(order, channel, esn0_db) -> None:
    law = symbol_transitions(order, 10 ** (-esn0_db / 10), channel)
    bits = indices_to_bits(np.arange(order), order.bit_length() - 1)
    wrong = (bits[:, np.newaxis] != bits).mean(axis=-1)
    expected = float(qam_ber(order, esn0_db, channel))
    assert float((law * wrong).sum() / order) == pytest.approx(expected, rel=1e-11)


def test_far_tails_keep_their_relative_accuracy() -> None:
    # From the lowest level of 16-QAM to the highest: beyond 5 half-distances, Q(5 sqrt(2 / (10 N0))).
    noise_var = 0.02
    law = axis_transitions(16, noise_var)
    expected = norm.sf(5 / np.sqrt(10) / np.sqrt(noise_var / 2))
    assert expected < 1e-50
    assert law[0, 3] == pytest.approx(expected, rel=1e-10)
    assert law[3, 0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("k_db", [-100.0, -3.0, 0.0, 6.0, 15.0, 18.5, 19.0, 30.0, 60.0, 100.0])
def test_gain_nodes_have_the_moments_of_a_rician_gain(k_db: float) -> None:
    k = 10 ** (k_db / 10)
    amplitude, weight = gain_nodes("rician", k_db)
    assert weight.sum() == pytest.approx(1, abs=1e-12)
    assert weight @ amplitude**2 == pytest.approx(1, abs=1e-11)
    assert weight @ amplitude**4 == pytest.approx(1 + (1 + 2 * k) / (1 + k) ** 2, abs=1e-10)


def test_rician_law_is_the_integral_over_the_amplitude() -> None:
    k, noise_var = 10**0.6, 0.3
    amplitude = rice(np.sqrt(2 * k), scale=np.sqrt(0.5 / (1 + k)))
    law = symbol_transitions(16, noise_var, "rician", 6.0)
    for sent, decided in ((0, 0), (0, 15), (7, 2), (15, 14)):

        def integrand(r: float, sent: int = sent, decided: int = decided) -> float:
            return float(amplitude.pdf(r) * symbol_transitions(16, noise_var / r**2)[sent, decided])

        expected, _ = integrate.quad(integrand, 1e-9, 5.0, epsabs=1e-12, epsrel=1e-10)
        assert law[sent, decided] == pytest.approx(expected, rel=1e-8)


def test_axes_share_the_gain() -> None:
    """P(both axes right) is the integral of the square, not the square of the integral."""
    noise_var = 0.5
    right = lambda power: axis_transitions(4, noise_var / power)[0, 0]  # noqa: E731
    both, _ = integrate.quad(lambda power: np.exp(-power) * right(power) ** 2, 0, np.inf, epsabs=1e-11)
    one, _ = integrate.quad(lambda power: np.exp(-power) * right(power), 0, np.inf, epsabs=1e-11)
    assert symbol_transitions(4, noise_var, "rayleigh")[0, 0] == pytest.approx(both, abs=1e-9)
    assert both - one**2 > 0.01


@pytest.mark.parametrize("order", [16, 64])
@pytest.mark.parametrize("channel", ["awgn", "rayleigh", "rician"])
def test_law_is_that_of_decisions_on_drawn_noise(order, channel) -> None:
    rng = np.random.default_rng(order)
    draws, noise_var = 40_000, 0.1
    law = symbol_transitions(order, noise_var, channel)
    for sent in (0, order - 1, 7):
        pair = rng.standard_normal((2, 2, draws))
        noise = (pair[0, 0] + 1j * pair[0, 1]) * np.sqrt(noise_var / 2)
        scattered = (pair[1, 0] + 1j * pair[1, 1]) * np.sqrt(0.5)
        k = 10**0.6
        gain = {
            "awgn": np.ones(draws),
            "rayleigh": scattered,
            "rician": np.sqrt(k / (1 + k)) + scattered / np.sqrt(1 + k),
        }[channel]
        decided = hard_decisions(gain * qam(order).points[sent] + noise, qam(order), gain)
        counts = np.bincount(decided, minlength=order)
        # At most 720 cells of 20 or more: |z| < 5, false alarm below 720 x 6e-7 = 4e-4 if normal.
        expected = law[sent] * draws
        z = (counts - expected) / np.sqrt(expected * (1 - law[sent]) + 1e-12)
        assert np.abs(z[expected > 20]).max() < 5


@pytest.mark.parametrize("coherence", ["symbol", 2, 3, "sample"])
def test_a_word_is_a_law_whatever_shares_a_gain(coherence) -> None:
    mode = Mode(codebook=0, codebook_size=4, tokens=3, order=4)
    law = word_law(mode, 0.4, "rayleigh", coherence)
    words = np.stack(np.unravel_index(np.arange(4**3), (4, 4, 4)), axis=-1)
    probability = law.probability(words[:, np.newaxis], words)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-12)
    assert [block.stop - block.start for block in law.blocks] == {
        "symbol": [1, 1, 1], 2: [2, 1], 3: [3], "sample": [3]
    }[coherence]  # fmt: skip
    # Whatever is shared, one symbol by itself has the same law.
    first = probability.reshape(64, 4, 16).sum(axis=-1)[::16]
    np.testing.assert_allclose(first, symbol_transitions(4, 0.4, "rayleigh"), atol=1e-12)
    # Sharing makes words without any error likelier.
    fast = word_law(mode, 0.4, "rayleigh").probability(words[0], words[0])
    assert (probability[0, 0] > fast + 1e-3) == (coherence != "symbol")


def test_what_has_no_law_is_refused() -> None:
    mode = Mode(codebook=0, codebook_size=4, tokens=3, order=4)
    with pytest.raises(InputError, match="channel"):
        word_law(mode, 0.4, "tdl-a")
    with pytest.raises(InputError, match="coherence"):
        word_law(mode, 0.4, "rayleigh", 0)
    with pytest.raises(InputError, match="noise_var"):
        axis_transitions(4, [0.1, 0.0])
    with pytest.raises(InputError, match="order"):
        axis_transitions(8, 0.1)
