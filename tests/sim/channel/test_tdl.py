"""Tapped delay lines: the tables, their scaling, and fading that is selective as the profile says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import fftconvolve

from twophase.link.errors import InputError
from twophase.sim.channel import tdl
from twophase.sim.channel.commpy import fading, seeded_channel
from twophase.sim.channel.pilots import Layout, pilot_points
from twophase.sim.channel.tdl import (
    PROFILES,
    TdlAir,
    data_carriers,
    pilot_carriers,
    power_delay_profile,
    simulated_spread_ns,
    tdl_estimator,
)

NAMES = ("tdl-a", "tdl-c")


def _air(
    name: str = "tdl-a",
    rows: int = 3,
    width: int = 20,
    pilots: int = 0,
    esn0_db: float = 10.0,
    spread: float = 300.0,
) -> TdlAir:
    channel = seeded_channel(np.random.default_rng(4), esn0_db, fading("rayleigh"))
    layout = Layout(tdl.BLOCK_CARRIERS - pilots, pilots)
    air = TdlAir(channel, layout, power_delay_profile(name, spread))
    air.draw(rows, width)
    return air


def _spread(delays: np.ndarray, powers: np.ndarray) -> float:
    mean = (powers * delays).sum() / powers.sum()
    return math.sqrt((powers * (delays - mean) ** 2).sum() / powers.sum())


@pytest.mark.parametrize(("name", "taps"), [("tdl-a", 23), ("tdl-c", 24)])
def test_the_tables_have_unit_delay_spread(name, taps) -> None:
    """TR 38.901 normalises its profiles, so a wrong digit in a delay or a power shows here."""
    delays, power_db = np.array(PROFILES[name]).T
    assert len(delays) == taps
    assert power_db.max() == 0
    assert _spread(delays, 10 ** (power_db / 10)) == pytest.approx(1.0, abs=2e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spread_ns", [100.0, 300.0, 800.0])
def test_a_profile_is_scaled_to_the_delay_spread(name, spread_ns) -> None:
    profile = power_delay_profile(name, spread_ns)
    assert profile.powers.sum() == pytest.approx(1.0)
    assert profile.powers.min() > 0
    assert np.all(np.diff(profile.delays) > 0)
    # Rounding shifts a tap by at most half a sample, and so the deviation.
    scaled = _spread(profile.delays * tdl.SAMPLE_NS, profile.powers)
    assert simulated_spread_ns(name, spread_ns) == pytest.approx(scaled)
    assert scaled == pytest.approx(spread_ns, abs=tdl.SAMPLE_NS / 2)


def test_taps_that_fall_into_one_sample_add_their_powers() -> None:
    flat = power_delay_profile("tdl-c", 1.0)
    assert flat.delays.tolist() == [0]
    assert flat.powers.tolist() == [1.0]
    assert simulated_spread_ns("tdl-c", 1.0) == 0
    delays, power_db = np.array(PROFILES["tdl-a"]).T
    profile = power_delay_profile("tdl-a", 300.0)
    in_second = (delays * 300 / tdl.SAMPLE_NS >= 0.5) & (delays * 300 / tdl.SAMPLE_NS < 1.5)
    share = (10 ** (power_db[in_second] / 10)).sum() / (10 ** (power_db / 10)).sum()
    assert np.count_nonzero(in_second) > 3
    assert profile.powers[profile.delays == 1] == pytest.approx(share)


@pytest.mark.parametrize(("name", "limit"), [("tdl-a", 869), ("tdl-c", 970)])
def test_echoes_must_end_within_the_prefix(name, limit) -> None:
    assert power_delay_profile(name, float(limit)).delays[-1] == tdl.PREFIX
    with pytest.raises(InputError, match=f"'delay_spread_ns' must be at most {limit} ns on {name}"):
        power_delay_profile(name, limit + 1.0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("width", "spread"), [(1, 300.0), (20, 300.0), (192, 100.0), (400, 860.0)])
def test_the_samples_in_time_give_the_product_in_frequency(name, width, spread) -> None:
    air = _air(name, width=width, spread=spread, pilots=2)
    rng = np.random.default_rng(0)
    points = rng.standard_normal((3, width)) + 1j * rng.standard_normal((3, width))
    silent = air.receive(np.zeros_like(points))
    np.testing.assert_allclose(air.receive(points), air.gains * points + silent, atol=1e-12)
    # That noise is the transform of what was drawn in time.
    spectrum = np.fft.fft(air.noise, norm="ortho").reshape(3, -1)
    assert np.isin(np.round(silent, 9), np.round(spectrum, 9)).all()
    assert air.noise.shape == (3, -(-width // 160), tdl.FFT_SIZE)


def test_the_convolution_is_that_of_scipy() -> None:
    air = _air(width=200)
    points = np.ones((3, 200), dtype=complex)
    impulse = np.fft.ifft(air._impulse)[:, : tdl.PREFIX + 1]
    sent = tdl.to_time(points, air._data, 2)
    echoes = fftconvolve(sent, impulse, axes=-1)[:, : sent.shape[1]]
    np.testing.assert_allclose(air.receive(points), tdl.from_time(echoes, air.noise, air._data), atol=1e-12)


def test_gains_are_the_transform_of_the_taps() -> None:
    air = _air(width=12)
    taps = np.fft.ifft(air._impulse)[:, : tdl.PREFIX + 1]
    frequency = np.arange(-96, -84)
    for row in range(3):
        for at, carrier in enumerate(frequency):
            turns = np.exp(-2j * np.pi * carrier * np.arange(tdl.PREFIX + 1) / tdl.FFT_SIZE)
            assert air.gains[row, at] == pytest.approx((taps[row] * turns).sum())


@pytest.mark.parametrize("name", NAMES)
def test_power_and_correlation_in_frequency_meet_the_closed_form(name) -> None:
    rows = 6000
    air = _air(name, rows=rows, width=193)
    delays, power_db = np.array(PROFILES[name]).T
    power = 10 ** (power_db / 10) / (10 ** (power_db / 10)).sum()
    rounded = np.rint(delays * 300 / tdl.SAMPLE_NS)
    first = air.gains[:, :1]
    measured = (air.gains[:, :192] * first.conj()).mean(axis=0)
    apart = np.arange(192)
    expected = (power * np.exp(-2j * np.pi * apart[:, None] * rounded / tdl.FFT_SIZE)).sum(axis=1)
    # A product of unit complex Gaussians has a deviation of at most sqrt(2).  5 sigma in each of 192 numbers
    # that move together: a false alarm in fewer than 2e-4 of all seeds.
    assert np.abs(measured - expected).max() < 5 * math.sqrt(2 / rows)
    profile = power_delay_profile(name, 300.0)
    np.testing.assert_allclose(profile.correlation(apart), expected, atol=1e-12)
    assert np.mean(np.abs(first) ** 2) == pytest.approx(1.0, abs=5 / math.sqrt(rows))
    # Rayleigh: P(|h|^2 > 1) = 1/e.
    assert np.mean(np.abs(first) ** 2 > 1) == pytest.approx(math.exp(-1), abs=2.5 / math.sqrt(rows))
    # Selective in frequency, yet the taps hold for the next OFDM symbol.
    assert np.abs(expected).min() < (0.6 if name == "tdl-a" else 0.3)
    assert np.array_equal(air.gains[:, 192], air.gains[:, 0])


def test_noise_has_n0_on_every_subcarrier() -> None:
    rows = 4000
    air = _air(rows=rows, width=24, esn0_db=10.0)
    heard = air.receive(np.zeros((rows, 24), dtype=complex))
    # Exponential powers; 5 sigma at 24 subcarriers: a false alarm in 1.4e-5 of all seeds.
    assert np.abs((np.abs(heard) ** 2).mean(axis=0) / 0.1 - 1).max() < 5 / math.sqrt(rows)


@pytest.mark.parametrize("pilots", range(12))
def test_pilots_and_data_share_a_resource_block(pilots) -> None:
    at = pilot_carriers(pilots) if pilots else np.array([], dtype=int)
    assert sorted([*at, *data_carriers(pilots)]) == list(range(12))
    assert len(at) == pilots
    if pilots > 1:
        assert (at[0], at[-1]) == (0, 11)
        assert np.ptp(np.diff(at)) <= 1


def test_pilots_are_received_beside_the_data() -> None:
    """Pilots and data sent in one go give what they give apart."""
    pilots, width = 3, 25
    air = _air(rows=2, width=width, pilots=pilots)
    starts = 12 * np.arange(3)[:, np.newaxis]
    where = tdl.slots(starts + pilot_carriers(pilots))
    points = np.random.default_rng(1).standard_normal((2, width)) + 0j
    sent = np.broadcast_to(pilot_points(pilots), (2, 3, pilots))
    everything = np.concatenate([points, sent.reshape(2, -1)], axis=1)
    together = air._through(everything, np.concatenate([air._data, where.ravel()]))
    np.testing.assert_allclose(together[:, :width], air.receive(points), atol=1e-12)
    matched = together[:, width:].reshape(2, 3, pilots) * pilot_points(pilots).conj()
    np.testing.assert_allclose(matched, air.pilots, atol=1e-12)
    assert not np.isin(air._data, where).any()


def test_the_estimator_has_the_covariance_of_the_gains() -> None:
    """Without noise and with many pilots the Wiener filter finds what stands between them."""
    rows = 200
    air = _air("tdl-c", rows=rows, width=6, pilots=6, esn0_db=80.0)
    gains, error = tdl_estimator("tdl-c", 300.0, 6).gains(air.pilots, np.array([1e-8]), "mmse")
    assert np.abs(gains[:, 0] - air.gains).max() < 5e-2
    # Gaussian errors of 200 x 6 symbols, alike within a row: 5 sigma of 200 exponential powers.
    assert np.mean(np.abs(gains[:, 0] - air.gains) ** 2) == pytest.approx(
        error.mean(), rel=5 * math.sqrt(1 / rows)
    )
