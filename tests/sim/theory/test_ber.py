"""Closed forms against references, against each other and against direct simulation."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import erfc, ive

from twophase.link.constellation import qam
from twophase.link.demap import hard_decisions
from twophase.link.errors import InputError
from twophase.sim.theory.ber import ber_for_usage, qam_ber
from twophase.sim.theory.power_gain import power_gain_nodes

ORDERS = (4, 16, 64, 256)


# AFF3CT's uncoded references (Eb/N0 axis), to the four digits that it prints.
@pytest.mark.parametrize(
    ("order", "ebn0_db", "channel", "expected"),
    [
        (4, 4.0, "awgn", 1.250e-2),
        (16, 10.0, "awgn", 1.754e-3),
        (64, 10.0, "awgn", 2.653e-2),
        (16, 10.0, "rayleigh", 4.237e-2),
        (64, 20.0, "rayleigh", 1.062e-2),
    ],
)
def test_reference_values(order, ebn0_db, channel, expected) -> None:
    esn0_db = ebn0_db + 10 * math.log10(math.log2(order))
    assert float(qam_ber(order, esn0_db, channel)) == pytest.approx(expected, rel=5e-4)


@pytest.mark.parametrize("channel", ["awgn", "rayleigh", "rician"])
@pytest.mark.parametrize("order", ORDERS)
def test_uniform_usage_gives_cho_and_yoon_and_fading_is_the_average_of_awgn(order, channel) -> None:
    esn0_db = np.arange(-10.0, 31.0, 2.5)
    uniform, closed = (
        ber_for_usage(np.full(order, 3), order, esn0_db, channel),
        qam_ber(order, esn0_db, channel),
    )
    np.testing.assert_allclose(uniform, closed, rtol=1e-9, atol=1e-18)
    if channel != "awgn":
        power, weight = power_gain_nodes((1.0,), 10**0.6 if channel == "rician" else 0.0)
        averaged = weight @ qam_ber(order, 15.0 + 10 * np.log10(power))
        assert averaged == pytest.approx(closed[10], rel=1e-9)


def rician_tail(ratio: float, factor: float) -> float:
    """Mean of erfc(sqrt(r g)) / 2 over the density of the gain: another integral than the source's."""

    def term(amplitude: float) -> float:
        # |h|^2 = amplitude^2 / (1 + K); ive is the Bessel function times exp(-x), so nothing overflows.
        bessel = ive(0, 2 * math.sqrt(factor) * amplitude)
        density = 2 * amplitude * math.exp(-((amplitude - math.sqrt(factor)) ** 2)) * bessel
        return float(density * erfc(math.sqrt(ratio / (1 + factor)) * amplitude) / 2)

    # The peak of the product: the direct path pulled towards zero by the noise.
    peak = math.sqrt(factor) / (1 + ratio / (1 + factor))
    steps = (-2.0, -1.0, -0.3, 0.0, 0.3, 1.0, 2.0, 4.0, 9.0)
    edges = sorted({0.0, *(max(0.0, peak + step) for step in steps)})
    return sum(quad(term, low, high, epsabs=0, epsrel=1e-12)[0] for low, high in pairwise(edges))


@pytest.mark.parametrize("rician_k_db", [-100.0, -10.0, 0.0, 6.0, 12.0, 20.0])
def test_rician_is_the_average_over_the_gain(rician_k_db) -> None:
    factor = 10 ** (rician_k_db / 10)
    for esn0_db in (-20.0, 0.0, 8.0, 15.0, 30.0):
        # QPSK has one threshold: its rate is the tail at r = Es/N0 / 2.
        expected = rician_tail(10 ** (esn0_db / 10) / 2, factor)
        found = float(qam_ber(4, esn0_db, "rician", rician_k_db))
        assert found == pytest.approx(expected, rel=1e-9)


def test_rician_lies_between_its_limits() -> None:
    esn0_db = np.arange(-10.0, 60.0, 5.0)
    # Without a direct path.
    weak = qam_ber(64, esn0_db, "rician", -100.0)
    np.testing.assert_allclose(weak, qam_ber(64, esn0_db, "rayleigh"), rtol=1e-8)
    # With next to nothing else, down to an error rate of 4e-12.
    esn0_db = np.array([-10.0, 0.0, 10.0, 13.6, 16.8])
    strong = qam_ber(4, esn0_db, "rician", 100.0)
    np.testing.assert_allclose(strong, qam_ber(4, esn0_db), rtol=3e-7)
    assert strong[-1] < 1e-11
    rates = [float(qam_ber(16, 20.0, "rician", k_db)) for k_db in (-20.0, 0.0, 6.0, 12.0, 30.0)]
    assert rates == sorted(rates, reverse=True)


def test_rician_is_finite_at_any_snr() -> None:
    for rician_k_db in (-100.0, 6.0, 100.0):
        rates = qam_ber(16, [-3000.0, 3000.0], "rician", rician_k_db)
        assert rates[0] == pytest.approx(0.5, rel=1e-12)
        assert 0 <= rates[1] < 1e-100


def test_subcarriers_have_the_rayleigh_rate_and_shapes_follow_the_snr() -> None:
    grid = np.arange(-5.0, 25.0, 5.0).reshape(2, 3)
    for rate in (lambda *words: qam_ber(16, *words), lambda *words: ber_for_usage(np.arange(16), 16, *words)):
        expected = rate(grid, "rayleigh")
        assert expected.shape == rate(grid).shape == rate(grid, "rician").shape == (2, 3)
        assert all(np.array_equal(rate(grid, name), expected) for name in ("tdl-a", "tdl-c"))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.sampled_from((4, 16, 64)), st.integers(0, 2**32 - 1), st.floats(-5, 25))
def test_usage_is_the_mean_over_points(order: int, seed: int, esn0_db: float) -> None:
    counts = np.random.default_rng(seed).integers(0, 50, order) + np.eye(order, dtype=int)[0]
    each = [float(ber_for_usage(np.eye(order)[point], order, esn0_db)) for point in range(order)]
    expected = float(np.average(each, weights=counts))
    assert float(ber_for_usage(counts, order, esn0_db)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("channel", ["awgn", "rayleigh", "rician"])
def test_usage_of_one_point_matches_simulation(channel) -> None:
    rng = np.random.default_rng(11)
    order, esn0_db, count = 16, 9.0, 200_000
    noise_var = 10 ** (-esn0_db / 10)
    for point in (0, 15, 6):
        noise = math.sqrt(noise_var / 2) * (rng.standard_normal(count) + 1j * rng.standard_normal(count))
        fading = (rng.standard_normal(count) + 1j * rng.standard_normal(count)) / math.sqrt(2)
        factor = {"awgn": np.inf, "rayleigh": 0.0, "rician": 2.0}[channel]
        direct = 1.0 if channel == "awgn" else math.sqrt(factor / (1 + factor))
        gain = direct + math.sqrt(1 / (1 + factor)) * fading
        decided = hard_decisions(gain * qam(order).points[point] + noise, qam(order), gain)
        wrong = np.array([int(number).bit_count() for number in range(order)])[decided ^ point]
        expected = 4 * float(ber_for_usage(np.eye(order)[point], order, esn0_db, channel, 10 * math.log10(2)))
        z = (wrong.mean() - expected) / (wrong.std() / math.sqrt(count))
        assert abs(z) < 4.5  # nine comparisons: a false alarm in 6e-5 of all seeds


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: qam_ber(8, 0.0), "order"),
        (lambda: qam_ber(16, np.nan), "esn0_db"),
        (lambda: qam_ber(16, 0.0, "rice"), "channel"),
        (lambda: qam_ber(16, 0.0, "rician", 101.0), "rician_k_db"),
        (lambda: ber_for_usage(np.ones(16), 16, 0.0, "rician", np.nan), "rician_k_db"),
        (lambda: ber_for_usage(np.ones(4), 16, 0.0), "histogram"),
        (lambda: ber_for_usage(np.zeros(16), 16, 0.0), "histogram"),
        (lambda: ber_for_usage(-np.ones(16), 16, 0.0), "histogram"),
    ],
)
def test_bad_arguments_are_named(call, name) -> None:
    with pytest.raises(InputError, match=f"'{name}' must"):
        call()
