"""Pilots: their places, and estimates that are those of the books, with the errors that formulas tell."""

from __future__ import annotations

import math
import tracemalloc

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

ROWS = 20_000
MEAN, VARIANCE = 0.8 + 0j, 0.36


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) * math.sqrt(0.5)


def _flat(pilots: int, noise_var: float, rows: int = ROWS, blocks: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Gains, (rows, blocks, 1), and received pilots."""
    rng = np.random.default_rng([pilots, rows])
    gain = MEAN + math.sqrt(VARIANCE) * _normal(rng, rows, blocks, 1)
    return gain, gain + math.sqrt(noise_var) * _normal(rng, rows, blocks, pilots)


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


@pytest.mark.parametrize("pilots", [1, 2, 5])
@pytest.mark.parametrize("noise_var", [0.01, 1.0])
@pytest.mark.parametrize("estimator", ["ls", "mmse"])
def test_errors_on_a_flat_channel_meet_the_formula(pilots, noise_var, estimator) -> None:
    gain, matched = _flat(pilots, noise_var)
    estimate, error_var = flat_estimator(pilots, MEAN, VARIANCE).gains(
        matched, np.array([noise_var]), estimator
    )
    ratio, mean = noise_var / pilots, matched.mean(axis=-1, keepdims=True)
    weight = 1.0 if estimator == "ls" else VARIANCE / (VARIANCE + ratio)
    np.testing.assert_allclose(estimate, MEAN + weight * (mean - MEAN), rtol=1e-12)
    assert error_var == pytest.approx(ratio * weight, rel=1e-12)
    error = estimate - gain
    # Exponential powers, 5 sigma; with the next line 24 comparisons: a false alarm in 2e-5 of all seeds.
    assert np.mean(np.abs(error) ** 2) == pytest.approx(ratio * weight, rel=5 / math.sqrt(ROWS))
    # What least squares errs by goes with its estimate; an MMSE error does not: N0 + E|e|^2 is exact.
    along = np.mean(error * (estimate - MEAN).conj())
    uncorrelated = 5 * math.sqrt(ratio * weight * np.mean(np.abs(estimate - MEAN) ** 2) / ROWS)
    assert abs(along - (ratio if estimator == "ls" else 0)) < uncorrelated


@pytest.mark.parametrize("pilots", [1, 2, 7, 64])
@pytest.mark.parametrize("variance", [0.0, 0.36, 1.0])
def test_the_flat_estimator_is_the_general_one_of_a_constant_covariance(pilots, variance) -> None:
    _, matched = _flat(pilots, 0.2, rows=5, blocks=3)
    covariance, ones = np.full((pilots, pilots), variance, dtype=complex), np.ones((1, pilots))
    general = BlockEstimator(MEAN, spectrum_of(covariance, covariance[:1]), variance, ones / pilots, ones)
    closed = flat_estimator(pilots, MEAN, variance)
    for noise_var in (1e-9, 0.2, 30.0):
        for estimator in ("ls", "mmse"):
            pair = (each.gains(matched, np.array([noise_var]), estimator) for each in (closed, general))
            for one, other in zip(*pair, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
    if pilots > 1:
        estimate = closed.noise_var(matched[:, 0])
        np.testing.assert_allclose(estimate, general.noise_var(matched[:, 0]))
        np.testing.assert_allclose(estimate, matched[:, 0].var(axis=1, ddof=1))
        assert closed.noise_var(np.full((1, pilots), 0.25 + 1j)) == pytest.approx(LEAST_NOISE_VAR)


def test_thousands_of_pilots_need_no_matrix_of_them() -> None:
    pilots = 10_000
    tracemalloc.start()
    gain, error = flat_estimator(pilots, 0j, 1.0).gains(np.full((1, 1, pilots), 2j), np.ones(1), "mmse")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert gain.item() == pytest.approx(2j * pilots / (pilots + 1))
    assert error.item() == pytest.approx(1 / (pilots + 1), rel=1e-9)
    assert peak < 100 * 16 * pilots


@pytest.mark.parametrize("name", ["tdl-a", "tdl-c"])
@pytest.mark.parametrize("pilots", [1, 2, 4, 11])
def test_the_wiener_filter_is_that_of_the_books(name, pilots) -> None:
    matched = _normal(np.random.default_rng(pilots), 3, 1, pilots)
    device, profile = tdl_estimator(name, 300.0, pilots), power_delay_profile(name, 300.0)
    at, data = pilot_carriers(pilots), data_carriers(pilots)
    cross = profile.correlation(data[:, None] - at)
    for n0 in (1e-6, 0.2, 50.0):
        gains, error = device.gains(matched, np.array([n0]), "mmse")
        wiener = cross @ np.linalg.inv(profile.correlation(at[:, None] - at) + n0 * np.eye(pilots))
        np.testing.assert_allclose(gains[:, 0], matched[:, 0] @ wiener.T, rtol=1e-6, atol=1e-7)
        expected = 1 - (wiener @ cross.conj().T).diagonal().real
        np.testing.assert_allclose(error[0, 0], expected, rtol=1e-6, atol=2e-9)
    # One N0 for each row gives what each row gives with its own.
    n0 = np.array([0.01, 0.1, 1.0])
    together = device.gains(matched, n0, "mmse")
    for row in range(3):
        alone = device.gains(matched[[row]], n0[[row]], "mmse")
        assert all(np.array_equal(part[[row]], one) for part, one in zip(together, alone, strict=True))


def test_straight_lines_between_pilots() -> None:
    device = tdl_estimator("tdl-a", 300.0, 3)
    at, data = pilot_carriers(3), data_carriers(3)
    line = (1 + 2j) + (0.3 - 0.1j) * at
    gains, error = device.gains(line[None, None], np.array([0.4]), "ls")
    np.testing.assert_allclose(gains[0, 0], (1 + 2j) + (0.3 - 0.1j) * data)
    # Between two pilots in the shares 1 - s and s, the variance is N0 ((1 - s)^2 + s^2).
    share = np.array([(carrier - max(at[at < carrier])) for carrier in data]) / np.array(
        [min(at[at > carrier]) - max(at[at < carrier]) for carrier in data]
    )
    np.testing.assert_allclose(error[0, 0], 0.4 * ((1 - share) ** 2 + share**2))
    single, _ = tdl_estimator("tdl-a", 300.0, 1).gains(np.full((1, 1, 1), 2j), np.array([0.4]), "ls")
    assert np.array_equal(single, np.full((1, 1, 11), 2j))
    # N0 is what strays from a line, over P - 2 degrees of freedom: a bend of the channel counts as noise.
    device, at = tdl_estimator("tdl-c", 300.0, 4), pilot_carriers(4)
    matched, lines = _normal(np.random.default_rng(0), 5, 4), np.array([np.ones(4), at]).T
    stray = matched.T - lines @ np.linalg.lstsq(lines.astype(complex), matched.T, rcond=None)[0]
    np.testing.assert_allclose(device.noise_var(matched), (np.abs(stray) ** 2).sum(axis=0) / 2)
    assert device.noise_var(((1 + 2j) + (0.3 - 0.1j) * at)[None]) == pytest.approx(LEAST_NOISE_VAR)


def test_estimates_do_not_depend_on_the_batch() -> None:
    _, matched = _flat(7, 0.3, rows=50, blocks=3)
    device = flat_estimator(7, MEAN, VARIANCE)
    for estimator in ("ls", "mmse"):
        together, _ = device.gains(matched, np.array([0.3]), estimator)
        for row in range(0, 50, 7):
            alone, _ = device.gains(matched[[row]], np.array([0.3]), estimator)
            assert np.array_equal(alone[0], together[row])
            assert device.noise_var(matched[[row], 0]) == device.noise_var(matched[:, 0])[row]


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_any_covariance_gives_the_wiener_filter(pilots, data, seed) -> None:
    """Against the plain formula, for covariances of any rank."""
    rng = np.random.default_rng(seed)
    factor = _normal(rng, pilots + data, rng.integers(1, 4))
    everything = factor @ factor.conj().T
    at_pilots, to_data = everything[:pilots, :pilots], everything[pilots:, :pilots]
    spectrum = spectrum_of(at_pilots, to_data)
    device = BlockEstimator(0.3j, spectrum, 1.0, np.ones((data, pilots)), np.ones((1, pilots)))
    matched = _normal(rng, 2, 3, pilots)
    gains, _ = device.gains(matched, np.array([0.1]), "mmse")
    wiener = to_data @ np.linalg.inv(at_pilots + 0.1 * np.eye(pilots))
    np.testing.assert_allclose(gains, 0.3j + (matched - 0.3j) @ wiener.T, rtol=1e-7, atol=1e-7)
