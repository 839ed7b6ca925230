"""OFDM: places of subcarriers, energy, the cyclic prefix and what it is there for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twophase.sim.channel.tdl import (
    BLOCK_CARRIERS,
    CARRIERS,
    FFT_SIZE,
    PREFIX,
    SAMPLE_NS,
    from_time,
    slots,
    to_time,
)

SYMBOLS = 3
EVERYWHERE = np.arange(SYMBOLS * CARRIERS)


def _points(rows: int, count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, count)) + 1j * rng.standard_normal((rows, count))


def _silence(rows: int) -> np.ndarray:
    return np.zeros((rows, SYMBOLS, FFT_SIZE), dtype=complex)


def _respond(samples: np.ndarray, impulse: np.ndarray) -> np.ndarray:
    return np.array([np.convolve(row, impulse)[: samples.shape[1]] for row in samples])


def test_the_numerology() -> None:
    assert pytest.approx(1e9 / 7.68e6) == SAMPLE_NS
    assert CARRIERS % BLOCK_CARRIERS == 0
    assert CARRIERS < FFT_SIZE


def test_slots_are_distinct_and_rise_in_frequency_around_the_carrier() -> None:
    places = slots(EVERYWHERE)
    assert len(set(places.tolist())) == places.size
    for symbol, part in enumerate(places.reshape(SYMBOLS, CARRIERS)):
        frequency = np.fft.fftfreq(FFT_SIZE, 1 / FFT_SIZE)[part - symbol * FFT_SIZE]
        assert np.array_equal(frequency, np.arange(-CARRIERS // 2, CARRIERS // 2))


@given(st.sets(st.sampled_from(EVERYWHERE.tolist()), min_size=1, max_size=40), st.integers(1, 3))
def test_round_trip(carriers, rows) -> None:
    places = slots(np.array(sorted(carriers)))
    points = _points(rows, places.size)
    samples = to_time(points, places, SYMBOLS)
    np.testing.assert_allclose(from_time(samples, _silence(rows), places), points, atol=1e-13)
    # Nothing strays to other subcarriers.
    others = np.setdiff1d(np.arange(SYMBOLS * FFT_SIZE), places)
    np.testing.assert_allclose(from_time(samples, _silence(rows), others), 0, atol=1e-13)


def test_each_symbol_stands_behind_a_copy_of_its_end_and_keeps_its_energy() -> None:
    points = _points(2, EVERYWHERE.size)
    samples = to_time(points, slots(EVERYWHERE), SYMBOLS).reshape(2, SYMBOLS, PREFIX + FFT_SIZE)
    assert np.array_equal(samples[..., :PREFIX], samples[..., FFT_SIZE:])
    energy = (np.abs(samples[..., PREFIX:]) ** 2).sum(axis=-1)
    np.testing.assert_allclose(energy, (np.abs(points.reshape(2, SYMBOLS, -1)) ** 2).sum(axis=-1))


@pytest.mark.parametrize("delay", [0, 1, 17, PREFIX])
def test_an_echo_within_the_prefix_turns_each_subcarrier_by_itself(delay) -> None:
    points, places = _points(2, EVERYWHERE.size), slots(EVERYWHERE)
    impulse = np.zeros(delay + 1, dtype=complex)
    impulse[0], impulse[delay] = 0.6, impulse[delay] + 0.8j
    received = from_time(_respond(to_time(points, places, SYMBOLS), impulse), _silence(2), places)
    response = np.fft.fft(impulse, FFT_SIZE)[places % FFT_SIZE]
    np.testing.assert_allclose(received, response * points, atol=1e-12)


def test_an_echo_beyond_the_prefix_makes_subcarriers_and_symbols_interfere() -> None:
    points, places = _points(2, EVERYWHERE.size), slots(EVERYWHERE)
    impulse = np.zeros(PREFIX + 9, dtype=complex)
    impulse[0], impulse[-1] = 0.6, 0.8
    received = from_time(_respond(to_time(points, places, SYMBOLS), impulse), _silence(2), places)
    response = np.fft.fft(impulse, FFT_SIZE)[places % FFT_SIZE]
    # Eight samples of 256 come from the wrong symbol, with 0.64 of the power, in and out.
    stray = np.mean(np.abs(received - response * points) ** 2) / np.mean(np.abs(points) ** 2)
    assert 0.01 < stray < 2 * 0.64 * 8 / 256


def test_white_noise_in_time_is_white_noise_on_every_subcarrier() -> None:
    rows = 3000
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((rows, 1, FFT_SIZE)) + 1j * rng.standard_normal((rows, 1, FFT_SIZE))
    noise *= math.sqrt(0.25 / 2)
    places = slots(np.arange(CARRIERS))
    heard = from_time(np.zeros((rows, PREFIX + FFT_SIZE), dtype=complex), noise, places)
    # Powers are exponential.  5 sigma at 192 subcarriers and their 191 neighbours: below 3e-4 of all seeds.
    assert np.abs((np.abs(heard) ** 2).mean(axis=0) / 0.25 - 1).max() < 5 / math.sqrt(rows)
    lagged = (heard[:, 1:] * heard[:, :-1].conj()).mean(axis=0)
    assert np.abs(lagged).max() < 5 * 0.25 / math.sqrt(rows)
