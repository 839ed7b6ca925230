"""The air and the receiver's knowledge of it, as a sweep uses them; flat channels draw by draw."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from twophase.link.constellation import qam
from twophase.link.errors import InputError
from twophase.sim.channel.commpy import fading, seeded_channel
from twophase.sim.channel.pilots import Layout, pilot_points
from twophase.sim.channel.radio import FlatAir, Radio, check_radio, pilot_symbols
from twophase.sim.settings import Settings

ROWS, WIDTH = 50, 20
N0 = 10**-0.6
PILOT = {"csi": "pilot"}
EVERY_AIR = (
    {"channel": "awgn"},
    {"channel": "rayleigh"},
    {"channel": "rayleigh", "coherence": "sample"},
    {"channel": "rician", "coherence": 6},
    {"channel": "tdl-a"},
    {"channel": "tdl-c", "delay_spread_ns": 100.0},
    {"channel": "awgn", "estimator": "ls", "pilots": 4, "noise_estimate": "pilot", **PILOT},
    {"channel": "rayleigh", "coherence": 6, "estimator": "ls", **PILOT},
    {"channel": "tdl-a", "pilots": 4, "noise_estimate": "pilot", "estimator": "ls", **PILOT},
    {"channel": "rayleigh", "coherence": "sample", "csi": "none"},
)


def _radio(seed: int = 0, esn0_db: float = 6.0, rows: int = ROWS, width: int = WIDTH, **settings) -> Radio:
    radio = Radio(Settings(**settings), esn0_db, np.random.default_rng(seed))
    radio.draw(rows, width)
    return radio


def _points(rows: int = ROWS, width: int = WIDTH, order: int = 16) -> np.ndarray:
    return qam(order).modulate(np.random.default_rng(9).integers(0, order, (rows, width)))


def _complex(rng: np.random.Generator, *shape: int) -> np.ndarray:
    real = rng.standard_normal(shape)
    return real + 1j * rng.standard_normal(shape)


@pytest.mark.parametrize(("data", "blocks"), [(1, 7), (3, 3), (7, 1), (None, 1), (12, 1)])
def test_a_flat_channel_draws_noise_then_gains_of_blocks_then_noise_of_pilots(data, blocks) -> None:
    rows, width, pilots = 4, 7, 2
    air = FlatAir(seeded_channel(np.random.default_rng(5), 6.0, fading("rician")), Layout(data, pilots))
    air.draw(rows, width)
    twin = np.random.default_rng(5)
    mean, variance = fading("rician")
    noise = _complex(twin, rows, width) * math.sqrt(N0 / 2)
    of_block = mean + _complex(twin, rows, blocks) * math.sqrt(variance / 2)
    pilot_noise = _complex(twin, rows, blocks, pilots) * math.sqrt(N0 / 2)
    np.testing.assert_allclose(air.noise, noise, rtol=1e-14)
    gains = np.array([[of_block[row, at // (data or width)] for at in range(width)] for row in range(rows)])
    np.testing.assert_allclose(air.gains, gains, rtol=1e-14)
    matched = of_block[..., np.newaxis] + pilot_noise * pilot_points(pilots).conj()
    np.testing.assert_allclose(air.pilots, matched, rtol=1e-13)
    points = _complex(twin, rows, width)
    np.testing.assert_allclose(air.receive(points), gains * points + noise, rtol=1e-13)


def test_a_channel_without_fading_draws_no_gains() -> None:
    rng, twin = np.random.default_rng(2), np.random.default_rng(2)
    air = FlatAir(seeded_channel(rng, 3.0, fading("awgn")), Layout(None, 0))
    air.draw(3, 4)
    twin.standard_normal(24)
    assert rng.standard_normal() == twin.standard_normal()
    assert np.array_equal(air.gains, np.ones((3, 4)))
    assert np.array_equal(air.receive(np.zeros((3, 4), dtype=complex)), air.noise)


@pytest.mark.parametrize("settings", EVERY_AIR)
def test_every_system_goes_through_the_same_air(settings) -> None:
    radio = _radio(seed=5, **settings)
    first, other = radio.send(_points()), radio.send(0.5j * _points())
    for name in ("gains", "noise_var", "true_gains"):
        assert np.array_equal(getattr(first, name), getattr(other, name))
        assert getattr(first, name).shape == (ROWS, WIDTH)
    if settings.get("csi") != "pilot":
        perfect = "csi" not in settings
        assert np.array_equal(first.gains, first.true_gains if perfect else np.ones((ROWS, WIDTH)))
        assert np.array_equal(first.noise_var, np.full((ROWS, WIDTH), N0))
    noise = first.received - first.true_gains * _points()
    np.testing.assert_allclose(other.received, other.true_gains * 0.5j * _points() + noise, atol=1e-12)
    # The seed alone decides, and draws follow one another.
    assert np.array_equal(first.received, _radio(seed=5, **settings).send(_points()).received)
    radio.draw(400, WIDTH)
    assert not np.isclose(first.received, radio.send(_points(400)).received[:ROWS]).any()
    power, count = radio.energy_sums()
    assert count >= 400 * WIDTH
    # |n|^2 is exponential; 5 sigma: a false alarm in 6e-6 of all seeds.
    assert power / count == pytest.approx(N0, rel=5 / math.sqrt(count))
    # A mismatch scales what the receiver takes for N0, and nothing else of a receiver by least squares.
    wrong = _radio(seed=5, noise_mismatch_db=3.0, **settings).send(_points())
    np.testing.assert_allclose(wrong.noise_var, first.noise_var * 10**0.3, rtol=1e-12)
    assert np.array_equal(wrong.received, first.received)
    assert np.array_equal(wrong.gains, first.gains)


@pytest.mark.parametrize(
    "settings",
    [
        {"channel": "awgn", "estimator": "ls"},
        {"channel": "rayleigh", "coherence": "sample", "estimator": "ls"},
        {"channel": "rayleigh", "coherence": 6, "pilots": 3},
        {"channel": "rician", "coherence": "sample", "pilots": 1, "rician_k_db": 0.0},
        {"channel": "tdl-a", "pilots": 1},
        {"channel": "tdl-c", "pilots": 6, "estimator": "ls"},
    ],
)
def test_the_receiver_demaps_with_the_noise_that_it_has(settings) -> None:
    """With symbols of unit energy, y - h'x has the variance that the receiver takes for N0."""
    rows = 4000
    arrival = _radio(rows=rows, **PILOT, **settings).send(_points(rows, order=4))
    residual = np.abs(arrival.received - arrival.gains * _points(rows, order=4)) ** 2
    ratio = residual.mean(axis=1) / arrival.noise_var.mean(axis=1)
    # The row is the unit.  5 sigma each: a false alarm in 4e-6 of all seeds.  Straight lines between six
    # pilots leave a bend of the channel that the receiver does not know of, here below 1e-3 of N0.
    assert ratio.mean() == pytest.approx(1.0, abs=5 * ratio.std() / math.sqrt(rows) + 1e-3)
    assert arrival.noise_var.min() > N0 * 1.02


def test_an_mmse_receiver_that_overrates_the_noise_trusts_its_pilots_less() -> None:
    settings = {"channel": "rayleigh", "coherence": "sample", **PILOT}
    fair, wrong = (_radio(noise_mismatch_db=shift, **settings).send(_points()).gains for shift in (0.0, 10.0))
    np.testing.assert_allclose(wrong / fair, (1 + N0 / 2) / (1 + 10 * N0 / 2), rtol=1e-12)


def test_n0_is_estimated_from_the_first_block_alone() -> None:
    radio = _radio(channel="rayleigh", coherence=6, pilots=3, noise_estimate="pilot", estimator="ls", **PILOT)
    expected = np.var(radio._air.pilots[:, 0], axis=1, ddof=1)
    np.testing.assert_allclose(radio.send(_points()).noise_var, np.tile(expected[:, None] * 4 / 3, WIDTH))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"channel": "rayleigh", "coherence": 6}, [0, 0, 0, 0]),
        ({"channel": "rayleigh", "coherence": 6, **PILOT}, [0, 2, 2, 4]),
        ({"channel": "rayleigh", "coherence": "sample", "pilots": 3, **PILOT}, [0, 3, 3, 3]),
        ({"channel": "awgn", "pilots": 1, **PILOT}, [0, 1, 1, 1]),
        ({"channel": "tdl-a", "pilots": 9, **PILOT}, [0, 9, 18, 18]),
    ],
)
def test_pilots_are_counted(settings, expected) -> None:
    counted = pilot_symbols(Settings(**settings), [[0, 1], [4, 5]])
    assert counted.tolist() == [expected[:2], expected[2:]]


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"channel": "rayleigh", **PILOT}, "coherence"),
        ({"channel": "rician", **PILOT}, "coherence"),
        ({"channel": "rayleigh", "coherence": 4, "pilots": 3, **PILOT}, None),
        ({"channel": "rayleigh", "coherence": 4, "pilots": 4, **PILOT}, "pilots"),
        ({"channel": "tdl-c", "pilots": 11, **PILOT}, None),
        ({"channel": "tdl-c", "pilots": 12, **PILOT}, "pilots"),
        ({"channel": "tdl-a", "pilots": 99}, None),
        ({"channel": "awgn", "noise_estimate": "pilot"}, "noise_estimate"),
        ({"channel": "awgn", "noise_estimate": "pilot", "pilots": 2, **PILOT}, None),
        ({"channel": "awgn", "noise_estimate": "pilot", "pilots": 1, **PILOT}, "pilots"),
        ({"channel": "tdl-a", "noise_estimate": "pilot", "pilots": 3, **PILOT}, None),
        ({"channel": "tdl-a", "noise_estimate": "pilot", "pilots": 2, **PILOT}, "pilots"),
        ({"channel": "tdl-a", "delay_spread_ns": 870.0}, "delay_spread_ns"),
    ],
)
def test_what_no_receiver_could_do_is_refused(settings, argument) -> None:
    for check in (check_radio, lambda chosen: Radio(chosen, 3.0, np.random.default_rng(0))):
        if argument is None:
            check(Settings(**settings))
        else:
            with pytest.raises(InputError, match=f"'{argument}' must"):
                check(Settings(**settings))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: _radio(channel="awgn").send(np.ones((50, 19))), "points"),
        (lambda: _radio(rows=0), "rows and width"),
        (lambda: _radio(width=0), "rows and width"),
        (lambda: _radio(esn0_db=math.nan), "esn0_db"),
        (lambda: _radio(esn0_db=3200.0), "esn0_db"),
    ],
)
def test_bad_arguments_are_named(call, name) -> None:
    with pytest.raises(InputError, match=f"'{name}' must"):
        call()


def test_checking_does_not_import_commpy() -> None:
    code = """
import sys
from twophase.sim.channel.radio import check_radio, pilot_symbols
from twophase.sim.settings import Settings
check_radio(Settings(channel="tdl-a", csi="pilot"))
pilot_symbols(Settings(), 3)
assert not {"commpy", "scipy.signal", "matplotlib", "scipy.fft"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
