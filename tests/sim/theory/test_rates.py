"""Error rates and information rates against references, closed forms, direct sums and exact laws."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import exp1

from twophase.link.bits import indices_to_bits
from twophase.link.constellation import qam
from twophase.sim.analytic.laws import symbol_transitions
from twophase.sim.theory.power_gain import power_gain_nodes
from twophase.sim.theory.rates import (
    ber_for_usage,
    bicm_mutual_information,
    capacity,
    cm_mutual_information,
    qam_ber,
)

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


@pytest.mark.parametrize("rician_k_db", [-100.0, -10.0, 0.0, 6.0, 12.0, 20.0, 60.0])
@pytest.mark.parametrize("order", [4, 64])
def test_fading_is_the_average_of_awgn_over_the_gain(order, rician_k_db) -> None:
    """Another integral than Craig's form, over the density of the gain."""
    esn0_db = np.array([-20.0, 0.0, 8.0, 15.0, 30.0])
    power, weight = power_gain_nodes((1.0,), 10 ** (rician_k_db / 10))
    averaged = qam_ber(order, esn0_db[:, np.newaxis] + 10 * np.log10(power)) @ weight
    # Fades of probability 1e-15 are no nodes.
    np.testing.assert_allclose(
        qam_ber(order, esn0_db, "rician", rician_k_db), averaged, rtol=1e-9, atol=1e-15
    )
    if rician_k_db == -100.0:
        for channel in ("rayleigh", "tdl-a", "tdl-c"):
            np.testing.assert_allclose(qam_ber(order, esn0_db, channel), averaged, rtol=1e-8)


def test_a_strong_direct_path_is_awgn_and_any_snr_is_finite() -> None:
    esn0_db = np.array([[-10.0, 0.0], [10.0, 16.8]])
    strong = qam_ber(4, esn0_db, "rician", 100.0)
    np.testing.assert_allclose(strong, qam_ber(4, esn0_db), rtol=3e-7)
    assert strong[1, 1] < 1e-11
    for rician_k_db in (-100.0, 6.0, 100.0):
        rates = qam_ber(16, [-3000.0, 3000.0], "rician", rician_k_db)
        assert rates[0] == pytest.approx(0.5, rel=1e-12)
        assert 0 <= rates[1] < 1e-100


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    st.sampled_from(ORDERS),
    st.sampled_from(("awgn", "rayleigh", "rician")),
    st.integers(0, 2**32 - 1),
    st.floats(-5, 25),
)
def test_usage_weighs_the_errors_of_each_point(order: int, channel, seed: int, esn0_db: float) -> None:
    counts = np.random.default_rng(seed).integers(0, 50, order) + np.eye(order, dtype=int)[0]
    bits = indices_to_bits(np.arange(order), order.bit_length() - 1)
    wrong = (bits[:, np.newaxis] != bits).mean(axis=-1)
    of_point = (symbol_transitions(order, 10 ** (-esn0_db / 10), channel) * wrong).sum(axis=1)
    found = ber_for_usage(counts, order, [[esn0_db]], channel)
    assert found.shape == (1, 1)
    assert found.item() == pytest.approx(np.average(of_point, weights=counts), rel=1e-9)
    assert float(qam_ber(order, esn0_db, channel)) == pytest.approx(of_point.mean(), rel=1e-9)


def test_capacity_of_rayleigh_fading_is_its_closed_form() -> None:
    # Lee, IEEE Trans. Vehicular Technology 39, 1990: exp(1/r) E1(1/r) / ln 2.
    esn0_db = np.arange(-20.0, 41.0, 5.0)
    inverse = 10 ** (-esn0_db / 10)
    expected = np.exp(inverse) * exp1(inverse) / np.log(2)
    np.testing.assert_allclose(capacity(esn0_db, "rayleigh"), expected, rtol=1e-12)
    np.testing.assert_allclose(capacity(esn0_db), np.log2(1 + 1 / inverse), rtol=1e-14)


def slow_rates(order: int, esn0_db: float) -> tuple[float, float]:
    """CM and BICM by log-sum-exp over all levels on a fine grid of noise, nothing tabulated."""
    constellation = qam(order)
    noise, step = np.linspace(-9.0, 9.0, 2001, retstep=True)
    density = np.exp(-noise * noise / 2) * step / math.sqrt(2 * math.pi)
    levels = constellation.axis_levels / math.sqrt(10 ** (-esn0_db / 10) / 2)
    metric = -0.5 * (noise[:, None] + (levels[:, None] - levels)[:, None, :]) ** 2
    total = np.logaddexp.reduce(metric, axis=-1)
    cm = constellation.bits_per_symbol - 2 * ((total + noise**2 / 2) @ density).mean() / math.log(2)
    bicm = 0.0
    for label in constellation.axis_labels.T:
        alike = np.where(label == label[:, None], 0.0, -np.inf)
        same = np.logaddexp.reduce(metric + alike[:, None], axis=-1)
        bicm += 2 * (1 - ((total - same) @ density).mean() / math.log(2))
    return float(cm), float(bicm)


@pytest.mark.parametrize(
    ("order", "published"),
    [(4, (1.994, 1.994)), (16, (3.164, 3.164)), (64, (3.269, 3.169)), (256, (3.284, 3.031))],
)
def test_fast_rates_are_the_published_and_the_slow_ones(order, published) -> None:
    found = cm_mutual_information(order, 10.0), bicm_mutual_information(order, 10.0)
    np.testing.assert_allclose(found, published, rtol=0, atol=5e-4)
    for esn0_db in (-36.3, -15.7, 0.3, 7.7, 12.4, 19.2, 25.8, 35.2):
        cm, bicm = slow_rates(order, esn0_db)
        assert float(cm_mutual_information(order, esn0_db)) == pytest.approx(cm, abs=1e-7)
        assert float(bicm_mutual_information(order, esn0_db)) == pytest.approx(bicm, abs=1e-7)


@pytest.mark.parametrize("channel", ["awgn", "rayleigh", "rician"])
def test_order_of_the_rates(channel) -> None:
    esn0_db = np.arange(-60.0, 81.0, 2.0)
    slack = 1e-8  # of a spline of 0.5 dB and a table that ends at -40 dB
    below = capacity(esn0_db, channel)
    assert (below <= capacity(esn0_db) + slack).all()
    for order in reversed(ORDERS):
        cm = cm_mutual_information(order, esn0_db, channel)
        bicm = bicm_mutual_information(order, esn0_db, channel)
        assert (cm <= below + slack).all()
        assert (bicm <= cm + slack).all()
        assert (bicm >= 0).all()
        assert (np.diff(cm) >= -slack).all()
        assert cm[-1] == pytest.approx(math.log2(order), abs=1e-3)
        below = cm


def test_limits_of_rician_fading() -> None:
    esn0_db = np.arange(-20.0, 31.0, 10.0).reshape(3, 2)
    modulated = (partial(rate, 16) for rate in (cm_mutual_information, bicm_mutual_information))
    for rate in (capacity, *modulated):
        np.testing.assert_allclose(rate(esn0_db, "rician", -100.0), rate(esn0_db, "rayleigh"), rtol=1e-8)
        np.testing.assert_allclose(rate(esn0_db, "rician", 100.0), rate(esn0_db), rtol=0, atol=1e-7)
        assert np.array_equal(rate(esn0_db, "tdl-c"), rate(esn0_db, "rayleigh"))
