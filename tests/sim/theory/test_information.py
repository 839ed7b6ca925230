"""Information rates against closed forms, published values, and direct sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import exp1

from twophase.link.constellation import qam
from twophase.sim.theory.information import bicm_mutual_information, capacity, cm_mutual_information

ORDERS = (4, 16, 64, 256)


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
    for rate in (capacity, lambda *words: cm_mutual_information(16, *words)):
        np.testing.assert_allclose(rate(esn0_db, "rician", -100.0), rate(esn0_db, "rayleigh"), rtol=1e-8)
        np.testing.assert_allclose(rate(esn0_db, "rician", 100.0), rate(esn0_db), rtol=0, atol=1e-7)
        assert np.array_equal(rate(esn0_db, "tdl-c"), rate(esn0_db, "rayleigh"))
