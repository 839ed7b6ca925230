"""What an ideal sender of the label reaches, against closed forms and direct simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from twophase.link.errors import InputError
from twophase.sim.label_bound import label_accuracy, simplex_success


@pytest.mark.parametrize(("symbols", "expected"), [(6, (0.691, 0.967, 1.000)), (12, (0.888, 0.999, 1.000))])
def test_label_bound_reference_values(symbols, expected) -> None:
    # The references were simulated; 0.691 is 0.6899 by the integral.
    found = simplex_success(10, symbols, [-5.0, 0.0, 5.0])
    np.testing.assert_allclose(found, expected, atol=1.5e-3)


@pytest.mark.parametrize(
    ("channel", "coherence"), [("awgn", "symbol"), ("rayleigh", "symbol"), ("rayleigh", "sample")]
)
def test_label_bound_matches_a_simulated_simplex(channel, coherence) -> None:
    rng = np.random.default_rng(3)
    classes, symbols, esn0_db, count = 10, 6, -4.0, 200_000
    faded = rng.gamma(symbols, size=count) if coherence == "symbol" else symbols * rng.exponential(size=count)
    energy = symbols if channel == "awgn" else faded
    simplex = np.eye(classes) - 1 / classes
    simplex /= np.linalg.norm(simplex[0])
    deviation = math.sqrt(10 ** (-esn0_db / 10) / 2)
    received = np.sqrt(energy) * simplex[0][:, None] + deviation * rng.standard_normal((classes, count))
    right = np.mean(np.argmax(simplex @ received, axis=0) == 0)
    expected = float(simplex_success(classes, symbols, esn0_db, channel, coherence))
    # False alarm 7e-6 for each of the three.
    assert abs(right - expected) < 4.5 * math.sqrt(expected * (1 - expected) / count)


def test_label_bound_limits() -> None:
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
    heard = np.where(rng.random(count) < delivered, said, other)
    expected = label_accuracy(clean, delivered, classes)
    # False alarm 7e-6.
    assert abs(np.mean(heard == true) - expected) < 4.5 * math.sqrt(expected * (1 - expected) / count)


def test_label_accuracy_is_chance_in_mere_noise() -> None:
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


def test_one_symbol_does_not_ask_how_long_a_gain_holds() -> None:
    esn0_db = np.arange(-10.0, 31.0, 2.0)
    each, shared = (simplex_success(10, 1, esn0_db, "rayleigh", name) for name in ("symbol", "sample"))
    assert np.array_equal(each, shared)
    # More symbols bring diversity only where each fades by itself.
    each, shared = (simplex_success(10, 6, esn0_db, "rayleigh", name) for name in ("symbol", "sample"))
    assert (shared < each).all()


def test_shapes_follow_the_snr() -> None:
    grid = np.zeros((2, 3))
    for words in (("awgn",), ("rayleigh",), ("rayleigh", "sample")):
        assert simplex_success(4, 2, grid, *words).shape == (2, 3)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: simplex_success(1, 6, 0.0), "classes"),
        (lambda: simplex_success(10, 0, 0.0), "symbols"),
        (lambda: simplex_success(10, 6, np.nan), "esn0_db"),
        (lambda: simplex_success(10, 6, 0.0, "rice"), "channel"),
        (lambda: simplex_success(10, 6, 0.0, "rayleigh", "frame"), "coherence"),
        (lambda: label_accuracy(1.1, 0.5, 10), "clean"),
        (lambda: label_accuracy(0.9, np.nan, 10), "delivered"),
        (lambda: label_accuracy(0.9, 0.5, 1), "classes"),
    ],
)
def test_bad_arguments_are_named(call, name) -> None:
    with pytest.raises(InputError, match=f"'{name}' must"):
        call()
