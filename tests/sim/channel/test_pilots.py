"""Pilots: their places, and estimates whose errors are what the formulas say."""

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


def _block(name: str, pilots: int, noise_var: float, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Gains of the data of one resource block, (rows, 1, data), and its received pilots."""
    rng = np.random.default_rng([pilots, 1])
    profile = power_delay_profile(name, 300.0)
    taps = _normal(rng, rows, len(profile.delays)) * np.sqrt(profile.powers)
    gain = taps @ np.exp(-2j * np.pi * np.outer(profile.delays, np.arange(12)) / 256)
    at = pilot_carriers(pilots)
    heard = gain[:, at] + math.sqrt(noise_var) * _normal(rng, rows, pilots)
    return gain[:, np.newaxis, data_carriers(pilots)], heard[:, np.newaxis]


def _slow_wiener(name: str, pilots: int, noise_var: float) -> tuple[np.ndarray, np.ndarray]:
    """Filter and error variances as they stand in the books."""
    profile = power_delay_profile(name, 300.0)
    at, data = pilot_carriers(pilots), data_carriers(pilots)
    inner = profile.correlation(at[:, None] - at) + noise_var * np.eye(pilots)
    cross = profile.correlation(data[:, None] - at)
    wiener = cross @ np.linalg.inv(inner)
    return wiener, 1 - (wiener @ cross.conj().T).diagonal().real


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
    np.testing.assert_allclose(np.abs(points.real), math.sqrt(0.5))
    np.testing.assert_allclose(np.abs(points.imag), math.sqrt(0.5))
    assert np.array_equal(np.unique(np.round(points, 9)).size, 4)
    assert np.array_equal(points[:8], np.tile(points[:4], 2))


@pytest.mark.parametrize("pilots", [1, 2, 5])
@pytest.mark.parametrize("noise_var", [0.01, 1.0])
@pytest.mark.parametrize("estimator", ["ls", "mmse"])
def test_errors_on_a_flat_channel_meet_the_formula(pilots, noise_var, estimator) -> None:
    gain, matched = _flat(pilots, noise_var)
    estimate, error_var = flat_estimator(pilots, MEAN, VARIANCE).gains(
        matched, np.array([noise_var]), estimator
    )
    ratio = noise_var / pilots
    expected = ratio if estimator == "ls" else VARIANCE * ratio / (VARIANCE + ratio)
    assert error_var == pytest.approx(expected, rel=1e-12)
    error = estimate - gain
    # Exponential powers, 5 sigma; with the next line 24 comparisons: a false alarm in 2e-5 of all seeds.
    assert np.mean(np.abs(error) ** 2) == pytest.approx(expected, rel=5 / math.sqrt(ROWS))
    # What least squares errs by goes with its estimate; an MMSE error does not: N0 + E|e|^2 is exact.
    along = np.mean(error * (estimate - MEAN).conj())
    uncorrelated = 5 * math.sqrt(expected * np.mean(np.abs(estimate - MEAN) ** 2) / ROWS)
    assert abs(along - (ratio if estimator == "ls" else 0)) < uncorrelated


def test_flat_estimates_are_the_textbook_ones() -> None:
    _, matched = _flat(3, 0.5, rows=4, blocks=2)
    n0 = np.array([0.1, 0.5, 1.0, 3.0])
    mean = matched.mean(axis=-1)
    device = flat_estimator(3, MEAN, VARIANCE)
    least_squares, error = device.gains(matched, n0, "ls")
    np.testing.assert_allclose(least_squares[..., 0], mean)
    np.testing.assert_allclose(error[:, 0, 0], n0 / 3)
    bayes, error = device.gains(matched, n0, "mmse")
    weight = VARIANCE / (VARIANCE + n0 / 3)
    np.testing.assert_allclose(bayes[..., 0], MEAN + weight[:, None] * (mean - MEAN), rtol=1e-12)
    np.testing.assert_allclose(error[:, 0, 0], VARIANCE * (1 - weight), rtol=1e-12)


@pytest.mark.parametrize("pilots", [1, 2, 7, 64])
@pytest.mark.parametrize("variance", [0.0, 0.36, 1.0])
def test_the_flat_estimator_is_the_general_one_of_a_constant_covariance(pilots, variance) -> None:
    _, matched = _flat(pilots, 0.2, rows=5, blocks=3)
    covariance, ones = np.full((pilots, pilots), variance, dtype=complex), np.ones((1, pilots))
    general = BlockEstimator(MEAN, spectrum_of(covariance, covariance[:1]), variance, ones / pilots, ones)
    closed = flat_estimator(pilots, MEAN, variance)
    for noise_var in (1e-9, 0.2, 30.0):
        for estimator in ("ls", "mmse"):
            n0 = np.array([noise_var])
            for one, other in zip(
                closed.gains(matched, n0, estimator), general.gains(matched, n0, estimator), strict=True
            ):
                np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
    if pilots > 1:
        np.testing.assert_allclose(closed.noise_var(matched[:, 0]), general.noise_var(matched[:, 0]))


def test_thousands_of_pilots_need_no_matrix_of_them() -> None:
    pilots = 10_000
    tracemalloc.start()
    gain, error = flat_estimator(pilots, 0j, 1.0).gains(np.full((1, 1, pilots), 2j), np.ones(1), "mmse")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert gain.item() == pytest.approx(2j * pilots / (pilots + 1))
    assert error.item() == pytest.approx(1 / (pilots + 1), rel=1e-9)
    assert peak < 100 * 16 * pilots


def test_a_known_gain_needs_no_estimate() -> None:
    gain, error = flat_estimator(2, 1 + 0j, 0.0).gains(np.full((3, 1, 2), 0.3 + 1j), np.array([0.1]), "mmse")
    assert np.array_equal(gain, np.ones((3, 1, 1)))
    assert error.max() == 0


@pytest.mark.parametrize("name", ["tdl-a", "tdl-c"])
@pytest.mark.parametrize("pilots", [1, 2, 4, 11])
def test_the_wiener_filter_is_that_of_the_books(name, pilots) -> None:
    _, matched = _block(name, pilots, 0.2, rows=3)
    device = tdl_estimator(name, 300.0, pilots)
    for n0 in (1e-6, 0.2, 50.0):
        gains, error = device.gains(matched, np.array([n0]), "mmse")
        wiener, expected = _slow_wiener(name, pilots, n0)
        np.testing.assert_allclose(gains[:, 0], matched[:, 0] @ wiener.T, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(error[0, 0], expected, rtol=1e-6, atol=2e-9)
    # One N0 for each row gives what each row gives with its own.
    n0 = np.array([0.01, 0.1, 1.0])
    together = device.gains(matched, n0, "mmse")
    for row in range(3):
        alone = device.gains(matched[row : row + 1], n0[row : row + 1], "mmse")
        assert all(
            np.array_equal(part[row : row + 1], one) for part, one in zip(together, alone, strict=True)
        )


@pytest.mark.parametrize("pilots", [1, 2, 4])
@pytest.mark.parametrize("noise_var", [0.003, 0.3])
def test_errors_of_the_wiener_filter_meet_the_formula(pilots, noise_var) -> None:
    gain, matched = _block("tdl-c", pilots, noise_var)
    estimate, error_var = tdl_estimator("tdl-c", 300.0, pilots).gains(matched, np.array([noise_var]), "mmse")
    measured = np.mean(np.abs(estimate - gain) ** 2, axis=(0, 1))
    # Exponential powers at up to 11 subcarriers; 5 sigma in 58 comparisons: below 4e-5 of all seeds.
    np.testing.assert_allclose(measured, error_var[0, 0], rtol=5 / math.sqrt(ROWS))


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


@pytest.mark.parametrize("pilots", [2, 4])
def test_errors_of_straight_lines_are_noise_and_bend(pilots) -> None:
    """Least squares reports its noise; the bend of the channel comes on top, and is what statistics say."""
    noise_var = 0.02
    gain, matched = _block("tdl-c", pilots, noise_var)
    device = tdl_estimator("tdl-c", 300.0, pilots)
    estimate, known = device.gains(matched, np.array([noise_var]), "ls")
    profile = power_delay_profile("tdl-c", 300.0)
    at, data = pilot_carriers(pilots), data_carriers(pilots)
    cross = profile.correlation(data[:, None] - at)
    bend = (
        1
        - 2 * (device.weights * cross.conj()).sum(axis=1).real
        + np.einsum("dp,pq,dq->d", device.weights, profile.correlation(at[:, None] - at), device.weights).real
    )
    measured = np.mean(np.abs(estimate - gain) ** 2, axis=(0, 1))
    np.testing.assert_allclose(measured, known[0, 0] + bend, rtol=5 / math.sqrt(ROWS))
    assert bend.max() > 0.01 if pilots == 2 else bend.max() < 0.01


@pytest.mark.parametrize("pilots", [2, 3, 8])
@pytest.mark.parametrize("noise_var", [1e-4, 0.7])
def test_the_noise_estimate_of_a_flat_channel_is_unbiased(pilots, noise_var) -> None:
    _, matched = _flat(pilots, noise_var)
    estimate = flat_estimator(pilots, MEAN, VARIANCE).noise_var(matched[:, 0])
    # Chi-square of 2 (P - 1) degrees of freedom: relative deviation 1 / sqrt(P - 1).  5 sigma each; the
    # variance of a variance, too, at 7 sigma for its heavier tail.
    spread = 1 / math.sqrt(pilots - 1)
    assert estimate.mean() == pytest.approx(noise_var, rel=5 * spread / math.sqrt(ROWS))
    assert estimate.std() / noise_var == pytest.approx(spread, rel=0.07)


def test_the_noise_estimate_under_ofdm_takes_bend_for_noise() -> None:
    pilots, noise_var = 4, 0.05
    _, matched = _block("tdl-c", pilots, noise_var)
    device = tdl_estimator("tdl-c", 300.0, pilots)
    profile, at = power_delay_profile("tdl-c", 300.0), pilot_carriers(pilots)
    lines = np.array([np.ones(pilots), at]).T
    rest = np.eye(pilots) - lines @ np.linalg.pinv(lines)
    bend = np.trace(rest @ profile.correlation(at[:, None] - at)).real / (pilots - 2)
    estimate = device.noise_var(matched[:, 0])
    # Two complex degrees of freedom.  5 sigma: a false alarm in 6e-7 of all seeds.
    assert estimate.mean() == pytest.approx(noise_var + bend, rel=5 / math.sqrt(ROWS))
    assert 0.001 < bend < noise_var
    line = ((0.3 + 1j) + (0.1 - 0.2j) * at)[np.newaxis]
    assert device.noise_var(line) == pytest.approx(LEAST_NOISE_VAR)


def test_an_estimate_of_no_noise_stays_positive() -> None:
    device = flat_estimator(2, 0j, 1.0)
    assert device.noise_var(np.full((1, 2), 0.25 + 1j)) == pytest.approx(LEAST_NOISE_VAR)


def test_estimates_do_not_depend_on_the_batch() -> None:
    gain, matched = _flat(7, 0.3, rows=50, blocks=3)
    assert gain.shape == (50, 3, 1)
    device = flat_estimator(7, MEAN, VARIANCE)
    for estimator in ("ls", "mmse"):
        together, _ = device.gains(matched, np.array([0.3]), estimator)
        for row in range(0, 50, 7):
            alone, _ = device.gains(matched[row : row + 1], np.array([0.3]), estimator)
            assert np.array_equal(alone[0], together[row])
            assert device.noise_var(matched[row : row + 1, 0]) == device.noise_var(matched[:, 0])[row]


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_any_covariance_gives_the_wiener_filter(pilots, data, seed) -> None:
    """Against the plain formula, for covariances of any rank."""
    rng = np.random.default_rng(seed)
    factor = _normal(rng, pilots + data, rng.integers(1, 4))
    everything = factor @ factor.conj().T
    at_pilots, to_data = everything[:pilots, :pilots], everything[pilots:, :pilots]
    device = BlockEstimator(
        0.3j, spectrum_of(at_pilots, to_data), 1.0, np.ones((data, pilots)), np.ones((1, pilots))
    )
    matched = _normal(rng, 2, 3, pilots)
    gains, _ = device.gains(matched, np.array([0.1]), "mmse")
    wiener = to_data @ np.linalg.inv(at_pilots + 0.1 * np.eye(pilots))
    np.testing.assert_allclose(gains, 0.3j + (matched - 0.3j) @ wiener.T, rtol=1e-7, atol=1e-7)
