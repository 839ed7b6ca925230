"""Flat channels in blocks: what is drawn, in which order, and which symbols share a gain."""

from __future__ import annotations

import math

import numpy as np
import pytest

from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import qam
from twophase.link.demap import hard_decisions
from twophase.sim.channel.commpy import fading, seeded_channel
from twophase.sim.channel.flat import FlatAir
from twophase.sim.channel.pilots import Layout, pilot_points
from twophase.sim.theory.ber import qam_ber


def _air(name: str, layout: Layout, rows: int, width: int, seed: int = 0, esn0_db: float = 3.0) -> FlatAir:
    air = FlatAir(seeded_channel(np.random.default_rng(seed), esn0_db, fading(name)), layout)
    air.draw(rows, width)
    return air


def _complex(rng: np.random.Generator, *shape: int) -> np.ndarray:
    real = rng.standard_normal(shape)
    return real + 1j * rng.standard_normal(shape)


@pytest.mark.parametrize(("data", "blocks"), [(1, 7), (3, 3), (7, 1), (None, 1), (12, 1)])
def test_the_order_of_the_draws(data, blocks) -> None:
    rows, width, pilots = 4, 7, 2
    air = _air("rician", Layout(data, pilots), rows, width, seed=5)
    twin = np.random.default_rng(5)
    mean, variance = fading("rician")
    noise = _complex(twin, rows, width) * math.sqrt(10**-0.3 / 2)
    gain = mean + _complex(twin, rows, blocks) * math.sqrt(variance / 2)
    pilot_noise = _complex(twin, rows, blocks, pilots) * math.sqrt(10**-0.3 / 2)
    np.testing.assert_allclose(air.noise, noise, rtol=1e-14)
    expected = np.array([[gain[row, at // (data or width)] for at in range(width)] for row in range(rows)])
    np.testing.assert_allclose(air.gains, expected, rtol=1e-14)
    matched = gain[..., np.newaxis] + pilot_noise * pilot_points(pilots).conj()
    np.testing.assert_allclose(air.pilots, matched, rtol=1e-13)
    points = _complex(twin, rows, width)
    np.testing.assert_allclose(air.receive(points), expected * points + noise, rtol=1e-13)


def test_a_channel_without_fading_draws_no_gains() -> None:
    rng = np.random.default_rng(2)
    air = FlatAir(seeded_channel(rng, 3.0, fading("awgn")), Layout(None, 0))
    air.draw(3, 4)
    twin = np.random.default_rng(2)
    twin.standard_normal(24)
    assert rng.standard_normal() == twin.standard_normal()
    assert np.array_equal(air.gains, np.ones((3, 4)))
    assert np.array_equal(air.receive(np.zeros((3, 4), dtype=complex)), air.noise)


def test_block_fading_has_the_mean_bit_error_rate_of_fading() -> None:
    rng = np.random.default_rng(12)
    constellation, esn0_db = qam(16), 12.0
    sent = rng.integers(0, 16, (30_000, 6))
    air = _air("rayleigh", Layout(None, 0), *sent.shape, seed=12, esn0_db=esn0_db)
    decided = hard_decisions(air.receive(constellation.modulate(sent)), constellation, air.gains)
    wrong = (symbols_to_bits(sent, 4) != symbols_to_bits(decided, 4)).mean(axis=1)
    expected = float(qam_ber(16, esn0_db, "rayleigh"))
    # The row is the unit, for its bits err together.  4.5 sigma: a false alarm in 7e-6 of all seeds.
    assert abs(wrong.mean() - expected) < 4.5 * wrong.std() / math.sqrt(len(wrong))
    # Intervals for independent bits would be half as long as they should be.
    assert wrong.std() > 1.8 * math.sqrt(expected * (1 - expected) / 24)
