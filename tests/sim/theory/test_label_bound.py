"""What an ideal sender of the label reaches, against closed forms and direct simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from twophase.sim.channel.tdl import CARRIERS, FFT_SIZE, power_delay_profile
from twophase.sim.theory.label_bound import label_accuracy, simplex_success


def simulated_gains(channel, coherence, symbols, count, rng) -> np.ndarray:
    """Gains of each symbol of ``count`` frames."""
    if channel.startswith("tdl"):
        profile = power_delay_profile(channel, 300.0)
        taps = rng.standard_normal((count, profile.powers.size, 2)) @ np.array([1, 1j])
        taps *= np.sqrt(profile.powers / 2)
        carriers = np.arange(symbols) % CARRIERS
        return taps @ np.exp(-2j * np.pi * profile.delays[:, None] * carriers / FFT_SIZE)
    length = {"symbol": 1, "sample": symbols}.get(coherence, coherence)
    scattered = rng.standard_normal((count, -(-symbols // length), 2)) @ np.array([1, 1j]) / math.sqrt(2)
    factor = {"awgn": 1e30, "rayleigh": 0.0, "rician": 2.0}[channel]
    gains = (math.sqrt(factor) + scattered) / math.sqrt(1 + factor)
    return np.repeat(gains, length, axis=1)[:, :symbols]


@pytest.mark.parametrize(
    ("channel", "coherence", "symbols", "esn0_db"),
    [
        ("awgn", "symbol", 6, -4.0),
        *(
            (channel, length, 6, -4.0)
            for channel in ("rayleigh", "rician")
            for length in ("symbol", "sample", 4)
        ),
        ("tdl-a", "symbol", 24, -12.0),
        # More than the 192 subcarriers of one OFDM symbol: the first ones meet their gains twice.
        ("tdl-c", "symbol", 200, -12.0),
    ],
)
def test_label_bound_matches_a_simulated_simplex(channel, coherence, symbols, esn0_db) -> None:
    rng = np.random.default_rng(3)
    classes, count = 10, 50_000
    energy = (np.abs(simulated_gains(channel, coherence, symbols, count, rng)) ** 2).sum(axis=1)
    simplex = np.eye(classes) - 1 / classes
    simplex /= np.linalg.norm(simplex[0])
    noise = math.sqrt(10 ** (-esn0_db / 10) / 2) * rng.standard_normal((classes, count))
    received = np.sqrt(energy) * simplex[0][:, None] + noise
    right = float(np.mean(np.argmax(simplex @ received, axis=0) == 0))
    expected = float(simplex_success(classes, symbols, esn0_db, channel, coherence, 10 * math.log10(2)))
    # False alarm 7e-6 for each of the nine.
    assert abs(right - expected) < 4.5 * math.sqrt(expected * (1 - expected) / count)


def test_a_delay_spread_below_a_sample_is_block_fading_and_a_long_one_is_better() -> None:
    esn0_db = np.arange(-15.0, 11.0, 5.0).reshape(2, 3)
    flat = simplex_success(10, 24, esn0_db, "tdl-c", delay_spread_ns=1.0)
    np.testing.assert_allclose(flat, simplex_success(10, 24, esn0_db, "rayleigh", "sample"), rtol=1e-12)
    spread = simplex_success(10, 24, 0.0, "tdl-c", delay_spread_ns=800.0)
    assert flat[1, 0] < float(spread) < float(simplex_success(10, 24, 0.0, "rayleigh"))


@pytest.mark.parametrize("channel", ["rayleigh", "rician"])
def test_how_long_a_gain_holds(channel) -> None:
    found = [simplex_success(10, 12, 0.0, channel, length).item() for length in ("symbol", 2, 5, 11, 12, 100)]
    assert found == sorted(found, reverse=True)
    # A block that no frame fills; one symbol does not ask.
    assert found[-2] == found[-1] == simplex_success(10, 12, 0.0, channel, "sample")
    assert simplex_success(10, 1, 0.0, channel) == simplex_success(10, 1, 0.0, channel, "sample")


def test_limits() -> None:
    # The references were simulated; 0.691 is 0.6899 by the integral.
    for symbols, expected in ((6, (0.691, 0.967, 1.000)), (12, (0.888, 0.999, 1.000))):
        np.testing.assert_allclose(simplex_success(10, symbols, [-5.0, 0.0, 5.0]), expected, atol=1.5e-3)
    assert float(simplex_success(10, 6, -60.0)) == pytest.approx(0.1, abs=2e-3)
    assert float(simplex_success(10, 6, 40.0, "rayleigh")) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("symbols", [1, 6, 24])
def test_two_labels_are_antipodal_signalling(symbols) -> None:
    esn0_db = np.arange(-10.0, 45.0, 5.0)
    ratio = symbols * 10 ** (esn0_db / 10)
    expected = [1 - 0.5 * math.erfc(math.sqrt(value)) for value in ratio]
    np.testing.assert_allclose(simplex_success(2, symbols, esn0_db), expected, rtol=0, atol=1e-12)
    # All symbols share one gain: the mean over it of Q(sqrt(2 n |h|^2 Es/N0)) is a closed form.
    expected = 1 - 0.5 / ((1 + ratio) * (1 + np.sqrt(ratio / (1 + ratio))))
    found = simplex_success(2, symbols, esn0_db, "rayleigh", "sample")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


def test_label_accuracy_is_linear_in_both_probabilities_and_exact_at_their_ends() -> None:
    ends = [[label_accuracy(clean, delivered, 5) for delivered in (0.0, 1.0)] for clean in (0.0, 1.0)]
    assert ends == [[0.25, 0.0], [0.0, 1.0]]
    for clean, delivered in ((0.5, 0.5), (0.8, 0.6), (0.98, 0.2)):
        expected = np.array([1 - clean, clean]) @ ends @ [1 - delivered, delivered]
        assert label_accuracy(clean, delivered, 5) == pytest.approx(expected)
    assert label_accuracy(0.98, 0.1, 10) == pytest.approx(0.1)  # in mere noise it is chance
