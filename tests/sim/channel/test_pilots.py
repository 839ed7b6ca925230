"""Pilots: their places, and estimates that are those of the books, with the errors that formulas tell."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twophase.sim.channel.pilots import (
    LEAST_NOISE_VAR,
    BlockEstimator,
    Layout,
    flat_estimator,
    pilot_points,
    spectrum_of,
)
from twophase.sim.channel.tdl import data_carriers, pilot_carriers, power_delay_profile, tdl_estimator

MEAN = 0.8 + 0.1j


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) * math.sqrt(0.5)


@given(st.integers(1, 6) | st.none(), st.integers(0, 3), st.integers(1, 20))
def test_blocks_and_what_holds_in_them(data, pilots, width) -> None:
    layout = Layout(data, pilots)
    of_symbol = [0 if data is None else at // data for at in range(width)]
    blocks = int(layout.blocks(width))
    assert blocks == of_symbol[-1] + 1
    assert layout.blocks([[0, width]]).tolist() == [[0, blocks]]
    alike = np.arange(2.0 * blocks).reshape(2, blocks, 1)
    assert np.array_equal(layout.spread(alike, width), alike[:, of_symbol, 0])
    if data is not None:
        own = np.arange(2.0 * blocks * data).reshape(2, blocks, data)
        assert np.array_equal(layout.spread(own, width), own.reshape(2, -1)[:, :width])


def test_pilots_are_qpsk_of_unit_energy() -> None:
    points = pilot_points(9)
    np.testing.assert_allclose(np.abs([points.real, points.imag]), math.sqrt(0.5))
    assert np.unique(np.round(points, 9)).size == 4
    assert np.array_equal(points[:8], np.tile(points[:4], 2))


@pytest.mark.parametrize("pilots", [1, 2, 7, 10_000])  # a matrix of so many pilots would not fit
@pytest.mark.parametrize("variance", [0.0, 0.36, 1.0])
def test_a_flat_channel_is_estimated_by_the_mean_of_its_pilots(pilots, variance) -> None:
    matched = MEAN + _normal(np.random.default_rng(pilots), 3, 2, pilots)
    mean = matched.mean(axis=-1, keepdims=True)
    device = flat_estimator(pilots, MEAN, variance)
    for noise_var in (1e-9, 0.2, 30.0):
        for estimator in ("ls", "mmse"):
            ratio = noise_var / pilots
            weight = 1.0 if estimator == "ls" else variance / (variance + ratio)
            gain, error_var = device.gains(matched, np.array([noise_var]), estimator)
            np.testing.assert_allclose(gain, MEAN + weight * (mean - MEAN), rtol=1e-12)
            np.testing.assert_allclose(error_var, [[[ratio * weight]]], rtol=1e-9, atol=1e-15)
    if pilots > 1:
        np.testing.assert_allclose(device.noise_var(matched[:, 0]), matched[:, 0].var(axis=1, ddof=1))
        assert device.noise_var(np.full((1, pilots), 0.25 + 1j)) == pytest.approx(LEAST_NOISE_VAR)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_an_estimator_of_any_covariance_is_the_wiener_filter(pilots, data, seed) -> None:
    rng = np.random.default_rng(seed)
    factor = _normal(rng, pilots + data, rng.integers(1, 4))  # of any rank
    everything = factor @ factor.conj().T
    at_pilots, to_data = everything[:pilots, :pilots], everything[pilots:, :pilots]
    spectrum = spectrum_of(at_pilots, to_data)
    device = BlockEstimator(0.3j, spectrum, 1.0, np.ones((data, pilots)), np.ones((1, pilots)))
    matched = _normal(rng, 2, 3, pilots)
    gains, _ = device.gains(matched, np.array([0.1]), "mmse")
    wiener = to_data @ np.linalg.inv(at_pilots + 0.1 * np.eye(pilots))
    np.testing.assert_allclose(gains, 0.3j + (matched - 0.3j) @ wiener.T, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["tdl-a", "tdl-c"])
@pytest.mark.parametrize("pilots", [1, 2, 4, 11])
def test_and_so_is_that_of_a_delay_profile_with_its_error(name, pilots) -> None:
    matched = _normal(np.random.default_rng(pilots), 3, 1, pilots)
    device, profile = tdl_estimator(name, 300.0, pilots), power_delay_profile(name, 300.0)
    at, data = pilot_carriers(pilots), data_carriers(pilots)
    cross = profile.correlation(data[:, None] - at)
    every_n0 = np.array([1e-6, 0.2, 50.0])
    together = device.gains(matched, every_n0, "mmse")
    for row, n0 in enumerate(every_n0):
        wiener = cross @ np.linalg.inv(profile.correlation(at[:, None] - at) + n0 * np.eye(pilots))
        gains, error = device.gains(matched[[row]], every_n0[[row]], "mmse")
        np.testing.assert_allclose(gains[0], matched[row] @ wiener.T, rtol=1e-6, atol=1e-7)
        expected = 1 - (wiener @ cross.conj().T).diagonal().real
        np.testing.assert_allclose(error[0, 0], expected, rtol=1e-6, atol=2e-9)
        # One N0 for each row gives what each row gives with its own.
        assert np.array_equal(together[0][row], gains[0])
        assert np.array_equal(together[1][row], error[0])


def test_straight_lines_between_pilots() -> None:
    device = tdl_estimator("tdl-a", 300.0, 3)
    at, data = pilot_carriers(3), data_carriers(3)
    line = (1 + 2j) + (0.3 - 0.1j) * at
    gains, error = device.gains(line[None, None], np.array([0.4]), "ls")
    np.testing.assert_allclose(gains[0, 0], (1 + 2j) + (0.3 - 0.1j) * data)
    # Between two pilots in the shares 1 - s and s, the variance is N0 ((1 - s)^2 + s^2).
    after = np.searchsorted(at, data)
    share = (data - at[after - 1]) / (at[after] - at[after - 1])
    np.testing.assert_allclose(error[0, 0], 0.4 * ((1 - share) ** 2 + share**2))
    single, _ = tdl_estimator("tdl-a", 300.0, 1).gains(np.full((1, 1, 1), 2j), np.array([0.4]), "ls")
    assert np.array_equal(single, np.full((1, 1, 11), 2j))


def test_n0_is_what_strays_from_a_straight_line() -> None:
    """Over P - 2 degrees of freedom: a bend of the channel counts as noise."""
    device, at = tdl_estimator("tdl-c", 300.0, 4), pilot_carriers(4)
    matched, lines = _normal(np.random.default_rng(0), 5, 4), np.array([np.ones(4), at]).T
    stray = matched.T - lines @ np.linalg.lstsq(lines.astype(complex), matched.T, rcond=None)[0]
    np.testing.assert_allclose(device.noise_var(matched), (np.abs(stray) ** 2).sum(axis=0) / 2)
