"""Tapped delay lines and OFDM: tables, subcarriers, prefix, and fading selective as the profile says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twophase.link.errors import InputError
from twophase.sim.channel import tdl
from twophase.sim.channel.commpy import fading, seeded_channel
from twophase.sim.channel.pilots import Layout, pilot_points
from twophase.sim.channel.tdl import (
    CARRIERS,
    FFT_SIZE,
    PREFIX,
    PROFILES,
    SAMPLE_NS,
    TdlAir,
    data_carriers,
    from_time,
    pilot_carriers,
    power_delay_profile,
    simulated_spread_ns,
    slots,
    to_time,
)

NAMES = ("tdl-a", "tdl-c")
SYMBOLS = 3
EVERYWHERE = np.arange(SYMBOLS * CARRIERS)


def _points(count: int, rows: int) -> np.ndarray:
    real, imaginary = np.random.default_rng(0).standard_normal((2, rows, count))
    return real + 1j * imaginary


def _air(name: str, rows: int, width: int, pilots: int = 0, spread: float = 300.0) -> TdlAir:
    channel = seeded_channel(np.random.default_rng(4), 10.0, fading("rayleigh"))
    layout = Layout(tdl.BLOCK_CARRIERS - pilots, pilots)
    air = TdlAir(channel, layout, power_delay_profile(name, spread))
    air.draw(rows, width)
    return air


def _spread(delays: np.ndarray, powers: np.ndarray) -> float:
    mean = (powers * delays).sum() / powers.sum()
    return math.sqrt((powers * (delays - mean) ** 2).sum() / powers.sum())


def test_slots_are_distinct_and_rise_in_frequency_around_the_carrier() -> None:
    assert pytest.approx(1e9 / 7.68e6) == SAMPLE_NS
    places = slots(EVERYWHERE)
    assert len(set(places.tolist())) == places.size
    for symbol, part in enumerate(places.reshape(SYMBOLS, CARRIERS)):
        frequency = np.fft.fftfreq(FFT_SIZE, 1 / FFT_SIZE)[part - symbol * FFT_SIZE]
        assert np.array_equal(frequency, np.arange(-CARRIERS // 2, CARRIERS // 2))


@given(st.sets(st.sampled_from(EVERYWHERE.tolist()), min_size=1, max_size=40), st.integers(0, PREFIX))
def test_an_echo_within_the_prefix_turns_each_subcarrier_by_itself(carriers, delay) -> None:
    places = slots(np.array(sorted(carriers)))
    points = _points(places.size, 2)
    samples = to_time(points, places, SYMBOLS)
    # A symbol stands after a copy of its end, and keeps its energy.
    symbols = samples.reshape(2, SYMBOLS, PREFIX + FFT_SIZE)
    assert np.array_equal(symbols[..., :PREFIX], symbols[..., FFT_SIZE:])
    energy = (np.abs(symbols[..., PREFIX:]) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(energy, (np.abs(points) ** 2).sum(axis=1))
    impulse = np.zeros(delay + 1, dtype=complex)
    impulse[0], impulse[delay] = 0.6, impulse[delay] + 0.8j
    echoes = np.array([np.convolve(row, impulse)[: samples.shape[1]] for row in samples])
    silence = np.zeros((2, SYMBOLS, FFT_SIZE), dtype=complex)
    response = np.fft.fft(impulse, FFT_SIZE)[places % FFT_SIZE]
    np.testing.assert_allclose(from_time(echoes, silence, places), response * points, atol=1e-12)
    # Nothing strays to other subcarriers.
    others = np.setdiff1d(np.arange(SYMBOLS * FFT_SIZE), places)
    np.testing.assert_allclose(from_time(echoes, silence, others), 0, atol=1e-12)


@pytest.mark.parametrize(("name", "taps", "limit"), [("tdl-a", 23, 869), ("tdl-c", 24, 970)])
def test_the_tables_have_unit_delay_spread_and_are_scaled_to_what_is_asked(name, taps, limit) -> None:
    """TR 38.901 normalises its profiles, so a wrong digit in a delay or a power shows here."""
    delays, power_db = np.array(PROFILES[name]).T
    assert len(delays) == taps
    assert power_db.max() == 0
    assert _spread(delays, 10 ** (power_db / 10)) == pytest.approx(1.0, abs=2e-4)
    for spread_ns in (100.0, 300.0, 800.0):
        profile = power_delay_profile(name, spread_ns)
        assert profile.powers.sum() == pytest.approx(1.0)
        assert profile.powers.min() > 0
        assert np.all(np.diff(profile.delays) > 0)
        # Rounding shifts a tap by at most half a sample, and so the deviation.
        scaled = _spread(profile.delays * SAMPLE_NS, profile.powers)
        assert simulated_spread_ns(name, spread_ns) == pytest.approx(scaled)
        assert scaled == pytest.approx(spread_ns, abs=SAMPLE_NS / 2)
    # Echoes end within the prefix.
    assert power_delay_profile(name, float(limit)).delays[-1] == PREFIX
    with pytest.raises(InputError, match=f"'delay_spread_ns' must .* {limit} ns on {name}"):
        power_delay_profile(name, limit + 1.0)


def test_taps_that_fall_into_one_sample_are_one() -> None:
    flat = power_delay_profile("tdl-c", 1.0)
    assert (flat.delays.tolist(), flat.powers.tolist()) == ([0], [1.0])
    assert simulated_spread_ns("tdl-c", 1.0) == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("width", "spread"), [(1, 300.0), (20, 300.0), (192, 100.0), (400, 860.0)])
def test_the_samples_in_time_give_the_product_in_frequency(name, width, spread) -> None:
    air = _air(name, 3, width, pilots=2, spread=spread)
    points = _points(width, 3)
    silent = air.receive(np.zeros_like(points))
    np.testing.assert_allclose(air.receive(points), air.gains * points + silent, atol=1e-12)
    # That noise is the transform of what was drawn in time.
    spectrum = np.fft.fft(air.noise, norm="ortho").reshape(3, -1)
    assert np.isin(np.round(silent, 9), np.round(spectrum, 9)).all()
    assert air.noise.shape == (3, -(-width // 160), FFT_SIZE)


@pytest.mark.parametrize("name", NAMES)
def test_power_and_correlation_in_frequency_meet_the_closed_form(name) -> None:
    rows = 6000
    air = _air(name, rows, width=193)
    delays, power_db = np.array(PROFILES[name]).T
    power = 10 ** (power_db / 10) / (10 ** (power_db / 10)).sum()
    rounded = np.rint(delays * 300 / SAMPLE_NS)
    first = air.gains[:, :1]
    measured = (air.gains[:, :192] * first.conj()).mean(axis=0)
    apart = np.arange(192)
    expected = (power * np.exp(-2j * np.pi * apart[:, None] * rounded / FFT_SIZE)).sum(axis=1)
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


def test_pilots_and_data_share_a_resource_block() -> None:
    for pilots in range(12):
        at = pilot_carriers(pilots) if pilots else np.array([], dtype=int)
        assert sorted([*at, *data_carriers(pilots)]) == list(range(12))
        assert len(at) == pilots
        if pilots > 1:
            assert (at[0], at[-1]) == (0, 11)
            assert np.ptp(np.diff(at)) <= 1


def test_pilots_are_received_next_to_the_data() -> None:
    """Pilots and data sent in one go give what they give apart."""
    pilots, width = 3, 25
    air = _air("tdl-a", 2, width, pilots)
    where = slots(12 * np.arange(3)[:, np.newaxis] + pilot_carriers(pilots))
    points = _points(width, 2)
    sent = np.broadcast_to(pilot_points(pilots), (2, 3, pilots))
    everything = np.concatenate([points, sent.reshape(2, -1)], axis=1)
    together = air._through(everything, np.concatenate([air._data, where.ravel()]))
    np.testing.assert_allclose(together[:, :width], air.receive(points), atol=1e-12)
    matched = together[:, width:].reshape(2, 3, pilots) * pilot_points(pilots).conj()
    np.testing.assert_allclose(matched, air.pilots, atol=1e-12)
    assert not np.isin(air._data, where).any()
