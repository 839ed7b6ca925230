"""What an ideal sender of the label reaches, against closed forms and direct simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from twophase.link.errors import InputError
from twophase.sim.channel.tdl import CARRIERS, FFT_SIZE, power_delay_profile
from twophase.sim.theory.label_bound import label_accuracy, simplex_success


def faded_energy(channel, coherence, symbols, count, rng) -> np.ndarray:
    """Energy that each of ``count`` simulated frames receives, gain by gain."""
    if channel == "awgn":
        return np.full(count, float(symbols))
    length = {"symbol": 1, "sample": symbols}.get(coherence, coherence)
    blocks = -(-symbols // length)
    scattered = rng.standard_normal((count, blocks, 2)) @ np.array([1, 1j]) / math.sqrt(2)
    factor = 2.0 if channel == "rician" else 0.0
    gains = (math.sqrt(factor) + scattered) / math.sqrt(1 + factor)
    return (np.abs(np.repeat(gains, length, axis=1)[:, :symbols]) ** 2).sum(axis=1)


def success_share(classes, energy, noise_var, rng) -> float:
    """Share of simplex codewords of these energies that a maximum-likelihood receiver decides right."""
    simplex = np.eye(classes) - 1 / classes
    simplex /= np.linalg.norm(simplex[0])
    noise = math.sqrt(noise_var / 2) * rng.standard_normal((classes, energy.size))
    received = np.sqrt(energy) * simplex[0][:, None] + noise
    return float(np.mean(np.argmax(simplex @ received, axis=0) == 0))


@pytest.mark.parametrize(
    ("channel", "coherence"),
    [
        ("awgn", "symbol"),
        ("rayleigh", "symbol"),
        ("rayleigh", "sample"),
        ("rayleigh", 4),
        ("rician", "symbol"),
        ("rician", "sample"),
        ("rician", 4),
    ],
)
def test_label_bound_matches_a_simulated_simplex(channel, coherence) -> None:
    rng = np.random.default_rng(3)
    classes, symbols, esn0_db, count = 10, 6, -4.0, 100_000
    energy = faded_energy(channel, coherence, symbols, count, rng)
    right = success_share(classes, energy, 10 ** (-esn0_db / 10), rng)
    expected = float(simplex_success(classes, symbols, esn0_db, channel, coherence, 10 * math.log10(2)))
    # False alarm 7e-6 for each of the seven.
    assert abs(right - expected) < 4.5 * math.sqrt(expected * (1 - expected) / count)


@pytest.mark.parametrize(("channel", "symbols"), [("tdl-a", 24), ("tdl-c", 200)])
def test_label_bound_on_correlated_subcarriers(channel, symbols) -> None:
    # 200 symbols take more than one OFDM symbol of 192 subcarriers: the first ones meet their gains twice.
    rng = np.random.default_rng(8)
    classes, esn0_db, count = 10, -12.0, 50_000
    profile = power_delay_profile(channel, 300.0)
    taps = rng.standard_normal((count, profile.powers.size, 2)) @ np.array([1, 1j])
    taps *= np.sqrt(profile.powers / 2)
    carriers = np.arange(symbols) % CARRIERS
    response = taps @ np.exp(-2j * np.pi * profile.delays[:, None] * carriers / FFT_SIZE)
    right = success_share(classes, (np.abs(response) ** 2).sum(axis=1), 10 ** (-esn0_db / 10), rng)
    expected = float(simplex_success(classes, symbols, esn0_db, channel))
    # False alarm 7e-6 for each of the two.
    assert abs(right - expected) < 4.5 * math.sqrt(expected * (1 - expected) / count)


def test_a_short_delay_spread_is_block_fading_and_a_long_one_is_better() -> None:
    esn0_db = np.arange(-15.0, 11.0, 5.0)
    # All taps fall on the first sample.
    flat = simplex_success(10, 24, esn0_db, "tdl-c", delay_spread_ns=1.0)
    np.testing.assert_allclose(flat, simplex_success(10, 24, esn0_db, "rayleigh", "sample"), rtol=1e-12)
    spread = simplex_success(10, 24, 0.0, "tdl-c", delay_spread_ns=800.0)
    assert flat[3] < float(spread) < float(simplex_success(10, 24, 0.0, "rayleigh"))


def test_longer_coherence_costs_diversity() -> None:
    found = [float(simplex_success(10, 12, 0.0, "rician", length, 3.0)) for length in ("symbol", 2, 5, 11)]
    found.append(float(simplex_success(10, 12, 0.0, "rician", "sample", 3.0)))
    assert found == sorted(found, reverse=True)
    # One symbol does not ask how long a gain holds.
    esn0_db = np.arange(-10.0, 31.0, 4.0)
    each, shared = (simplex_success(10, 1, esn0_db, "rayleigh", name) for name in ("symbol", "sample"))
    assert np.array_equal(each, shared)
    each, shared = (simplex_success(10, 6, esn0_db, "rayleigh", name) for name in ("symbol", "sample"))
    assert (shared < each).all()
    # A block that no frame fills.
    for channel in ("rayleigh", "rician"):
        longer, whole = (simplex_success(10, 12, 0.0, channel, length) for length in (100, "sample"))
        assert longer == whole


def test_rician_lies_between_its_limits() -> None:
    esn0_db = np.arange(-10.0, 11.0, 5.0)
    for coherence in ("symbol", "sample", 4):
        words = (10, 6, esn0_db, "rician", coherence)
        weak, strong = simplex_success(*words, -100.0), simplex_success(*words, 100.0)
        np.testing.assert_allclose(weak, simplex_success(10, 6, esn0_db, "rayleigh", coherence), rtol=1e-9)
        np.testing.assert_allclose(strong, simplex_success(10, 6, esn0_db), rtol=1e-8)


def test_label_bound_limits() -> None:
    # The references were simulated; 0.691 is 0.6899 by the integral.
    for symbols, expected in ((6, (0.691, 0.967, 1.000)), (12, (0.888, 0.999, 1.000))):
        np.testing.assert_allclose(simplex_success(10, symbols, [-5.0, 0.0, 5.0]), expected, atol=1.5e-3)
    for words in (("awgn",), ("rayleigh", "sample"), ("rician", 3), ("tdl-a",)):
        assert simplex_success(4, 2, np.zeros((2, 3)), *words).shape == (2, 3)
    assert float(simplex_success(10, 6, -60.0)) == pytest.approx(0.1, abs=2e-3)
    assert float(simplex_success(10, 6, 40.0, "rayleigh")) == pytest.approx(1.0, abs=1e-9)
    # Two antipodal signals: 1 - Q(sqrt(2 E/N0)).
    ratio = 10**0.3
    expected = 1 - 0.5 * math.erfc(math.sqrt(ratio))
    assert float(simplex_success(2, 1, 3.0)) == pytest.approx(expected, abs=1e-12)
    # Fading can only hurt: the success probability is concave in the energy.
    assert float(simplex_success(10, 6, 0.0, "rayleigh")) < float(simplex_success(10, 6, 0.0))


def test_label_accuracy_matches_a_simulated_label() -> None:
    rng = np.random.default_rng(6)
    classes, clean, delivered, count = 5, 0.8, 0.6, 200_000
    true = rng.integers(0, classes, count)
    said = np.where(rng.random(count) < clean, true, (true + rng.integers(1, classes, count)) % classes)
    other = (said + rng.integers(1, classes, count)) % classes
    received = np.where(rng.random(count) < delivered, said, other)
    expected = label_accuracy(clean, delivered, classes)
    # False alarm 7e-6.
    assert abs(np.mean(received == true) - expected) < 4.5 * math.sqrt(expected * (1 - expected) / count)
    # In mere noise it is chance.
    assert label_accuracy(0.98, 0.1, 10) == pytest.approx(0.1)
    assert label_accuracy(0.98, 1.0, 10) == pytest.approx(0.98)


@pytest.mark.parametrize("symbols", [1, 6, 24])
def test_two_labels_under_block_fading_are_antipodal_signalling(symbols) -> None:
    # All symbols share one gain: the mean over it of Q(sqrt(2 n |h|^2 Es/N0)) is a closed form.
    esn0_db = np.arange(-10.0, 45.0, 5.0)
    ratio = symbols * 10 ** (esn0_db / 10)
    expected = 1 - 0.5 / ((1 + ratio) * (1 + np.sqrt(ratio / (1 + ratio))))
    found = simplex_success(2, symbols, esn0_db, "rayleigh", "sample")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: simplex_success(1, 6, 0.0), "classes"),
        (lambda: simplex_success(10, 0, 0.0), "symbols"),
        (lambda: simplex_success(10, 6, np.nan), "esn0_db"),
        (lambda: simplex_success(10, 6, 0.0, "rice"), "channel"),
        (lambda: simplex_success(10, 6, 0.0, "rayleigh", "frame"), "coherence"),
        (lambda: simplex_success(10, 6, 0.0, "rayleigh", 1), "coherence"),
        (lambda: simplex_success(10, 6, 0.0, "rician", "symbol", np.nan), "rician_k_db"),
        (lambda: simplex_success(10, 6, 0.0, "tdl-a", delay_spread_ns=1e4), "delay_spread_ns"),
        (lambda: label_accuracy(1.1, 0.5, 10), "clean"),
        (lambda: label_accuracy(0.9, np.nan, 10), "delivered"),
        (lambda: label_accuracy(0.9, 0.5, 1), "classes"),
    ],
)
def test_bad_arguments_are_named(call, name) -> None:
    with pytest.raises(InputError, match=f"'{name}' must"):
        call()
