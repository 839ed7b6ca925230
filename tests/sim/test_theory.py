"""Closed forms against references, against each other and against direct simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.link.constellation import qam
from twophase.link.demap import hard_decisions
from twophase.link.errors import InputError
from twophase.sim.theory import ber_for_usage, qam_ber

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


@pytest.mark.parametrize("channel", ["awgn", "rayleigh"])
@pytest.mark.parametrize("order", ORDERS)
def test_uniform_usage_gives_cho_and_yoon(order, channel) -> None:
    esn0_db = np.arange(-10.0, 31.0, 2.5)
    uniform = ber_for_usage(np.full(order, 3), order, esn0_db, channel)
    np.testing.assert_allclose(uniform, qam_ber(order, esn0_db, channel), rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("order", ORDERS)
def test_rayleigh_is_the_average_of_awgn(order) -> None:
    # Trapezoidal rule over log power, which converges fast on this smooth integrand.
    log_power = np.linspace(-30.0, 5.0, 4001)
    power = np.exp(log_power)
    weight = np.exp(-power) * power * (log_power[1] - log_power[0])
    esn0_db = 14.0
    averaged = weight @ qam_ber(order, esn0_db + 10 * np.log10(power))
    assert averaged == pytest.approx(float(qam_ber(order, esn0_db, "rayleigh")), rel=1e-6)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.sampled_from((4, 16, 64)), st.integers(0, 2**32 - 1), st.floats(-5, 25))
def test_usage_is_the_mean_over_points(order: int, seed: int, esn0_db: float) -> None:
    counts = np.random.default_rng(seed).integers(0, 50, order) + np.eye(order, dtype=int)[0]
    each = [float(ber_for_usage(np.eye(order)[point], order, esn0_db)) for point in range(order)]
    expected = float(np.average(each, weights=counts))
    assert float(ber_for_usage(counts, order, esn0_db)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("channel", ["awgn", "rayleigh"])
def test_usage_of_one_point_matches_simulation(channel) -> None:
    rng = np.random.default_rng(11)
    order, esn0_db, count = 16, 9.0, 200_000
    noise_var = 10 ** (-esn0_db / 10)
    for point in (0, 15, 6):
        noise = math.sqrt(noise_var / 2) * (rng.standard_normal(count) + 1j * rng.standard_normal(count))
        fading = (rng.standard_normal(count) + 1j * rng.standard_normal(count)) / math.sqrt(2)
        gain = fading if channel == "rayleigh" else np.ones(count)
        decided = hard_decisions(gain * qam(order).points[point] + noise, qam(order), gain)
        wrong = np.array([int(number).bit_count() for number in range(order)])[decided ^ point]
        expected = 4 * float(ber_for_usage(np.eye(order)[point], order, esn0_db, channel))
        z = (wrong.mean() - expected) / (wrong.std() / math.sqrt(count))
        assert abs(z) < 4.5  # six comparisons: a false alarm in 4e-5 of all seeds


def test_shapes_follow_the_snr() -> None:
    grid = np.zeros((2, 3))
    for values in (
        qam_ber(16, grid),
        ber_for_usage(np.ones(16), 16, grid, "rayleigh"),
    ):
        assert values.shape == (2, 3)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: qam_ber(8, 0.0), "order"),
        (lambda: qam_ber(16, np.nan), "esn0_db"),
        (lambda: qam_ber(16, 0.0, "rice"), "channel"),
        (lambda: ber_for_usage(np.ones(4), 16, 0.0), "histogram"),
        (lambda: ber_for_usage(np.zeros(16), 16, 0.0), "histogram"),
        (lambda: ber_for_usage(-np.ones(16), 16, 0.0), "histogram"),
    ],
)
def test_bad_arguments_are_named(call, name) -> None:
    with pytest.raises(InputError, match=f"'{name}' must"):
        call()
