"""The air and the receiver's knowledge of it, as a sweep uses them."""

from __future__ import annotations

import math
import subprocess
import sys

import commpy.channels
import numpy as np
import pytest
from commpy.channels import SISOFlatChannel

from twophase.link.constellation import qam
from twophase.link.demap import llr_exact
from twophase.link.errors import InputError
from twophase.sim.channel.commpy import fading, seeded_channel
from twophase.sim.channel.radio import Radio, check_radio, pilot_symbols
from twophase.sim.settings import Settings

ROWS, WIDTH = 50, 20
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
    {"channel": "rician", "coherence": "sample", "pilots": 1, "noise_mismatch_db": 2.0, **PILOT},
    {"channel": "tdl-a", "pilots": 4, "noise_estimate": "pilot", **PILOT},
    {"channel": "tdl-c", "pilots": 3, "estimator": "ls", **PILOT},
    {"channel": "rayleigh", "coherence": "sample", "csi": "none"},
)


def _radio(seed: int = 0, esn0_db: float = 6.0, rows: int = ROWS, width: int = WIDTH, **settings) -> Radio:
    radio = Radio(Settings(**settings), esn0_db, np.random.default_rng(seed))
    radio.draw(rows, width)
    return radio


def _points(rows: int = ROWS, width: int = WIDTH, order: int = 16) -> np.ndarray:
    return qam(order).modulate(np.random.default_rng(9).integers(0, order, (rows, width)))


@pytest.mark.parametrize("name", ["awgn", "rayleigh", "rician"])
def test_perfect_knowledge_of_a_flat_channel_is_bit_identical_with_commpy(name, monkeypatch) -> None:
    arrival = _radio(seed=3, channel=name).send(_points())
    monkeypatch.setattr(commpy.channels, "standard_normal", np.random.default_rng(3).standard_normal)
    theirs = SISOFlatChannel(None, fading(name))
    theirs.set_SNR_dB(6.0, 1, 1)
    assert np.array_equal(arrival.received, theirs.propagate(_points().ravel()).reshape(ROWS, WIDTH))
    assert np.array_equal(arrival.gains, theirs.channel_gains.reshape(ROWS, WIDTH))
    assert np.array_equal(arrival.noise_var, np.full((ROWS, WIDTH), 10**-0.6))


def test_a_gain_for_each_frame_is_drawn_as_one_for_each_symbol_of_fewer() -> None:
    """Reports of block fading that were made before there were pilots stay what they are."""
    channel = seeded_channel(np.random.default_rng(3), 6.0, fading("rayleigh"))
    channel.coherence = WIDTH
    expected = channel.propagate(_points().ravel()).reshape(ROWS, WIDTH)
    arrival = _radio(seed=3, channel="rayleigh", coherence="sample").send(_points())
    assert np.array_equal(arrival.received, expected)
    assert np.array_equal(arrival.gains.ravel(), channel.channel_gains)


@pytest.mark.parametrize("settings", EVERY_AIR)
def test_every_system_goes_through_the_same_air(settings) -> None:
    check_radio(Settings(**settings))
    radio = _radio(seed=5, **settings)
    first, again = radio.send(_points()), radio.send(_points())
    other = radio.send(0.5j * _points())
    assert np.array_equal(first.received, again.received)
    for name in ("gains", "noise_var", "true_gains"):
        assert np.array_equal(getattr(first, name), getattr(other, name))
        assert getattr(first, name).shape == (ROWS, WIDTH)
    noise = first.received - first.true_gains * _points()
    np.testing.assert_allclose(other.received, other.true_gains * 0.5j * _points() + noise, atol=1e-12)
    assert np.array_equal(first.true_gains, radio.true_gains)
    assert first.received.dtype == first.gains.dtype == np.complex128
    assert (first.noise_var > 0).all()
    # The seed alone decides, and draws follow one another.
    assert np.array_equal(first.received, _radio(seed=5, **settings).send(_points()).received)
    radio.draw(400, WIDTH)
    assert not np.isclose(first.received, radio.send(_points(400)).received[:ROWS]).any()
    power, count = radio.energy_sums()
    assert count >= 400 * WIDTH
    # |n|^2 is exponential; 5 sigma: a false alarm in 7e-6 of all seeds.
    assert power / count == pytest.approx(10**-0.6, rel=5 / math.sqrt(count))
    assert radio.noise_var == pytest.approx(10**-0.6)


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
    assert arrival.noise_var.min() > 10**-0.6 * 1.02


@pytest.mark.parametrize("esn0_db", [0.0, 12.0])
def test_llrs_of_an_estimated_channel_are_calibrated(esn0_db) -> None:
    """P(b = 1 | LLR) is the logistic of LLR when the gain is an MMSE estimate, QPSK having one energy."""
    rows = 20_000
    sent = np.random.default_rng(1).integers(0, 4, (rows, 4))
    radio = _radio(esn0_db=esn0_db, rows=rows, width=4, channel="rayleigh", coherence=5, pilots=1, **PILOT)
    arrival = radio.send(qam(4).modulate(sent))
    llr = llr_exact(arrival.received[:, 0], qam(4), arrival.noise_var[:, 0], arrival.gains[:, 0])
    llr = llr.reshape(rows, 2)
    bits = np.stack([sent[:, 0] >> 1, sent[:, 0] & 1], axis=1)
    for low, high in ((-8, -3), (-3, -1), (-1, 0), (0, 1), (1, 3), (3, 8)):
        inside = (llr >= low) & (llr < high)
        expected = 1 / (1 + np.exp(-llr[inside]))
        # Sums of independent bits; 4.5 sigma in 12 bins: a false alarm in 8e-5 of all seeds.
        deviation = math.sqrt((expected * (1 - expected)).sum())
        assert abs(bits[inside].sum() - expected.sum()) < 4.5 * deviation
        assert inside.sum() > 500


@pytest.mark.parametrize("settings", EVERY_AIR)
def test_a_mismatch_scales_what_the_receiver_takes_for_n0(settings) -> None:
    settings = {**settings, "estimator": "ls", "noise_mismatch_db": 0.0}
    fair = _radio(**settings).send(_points())
    wrong = _radio(**{**settings, "noise_mismatch_db": 3.0}).send(_points())
    np.testing.assert_allclose(wrong.noise_var, fair.noise_var * 10**0.3, rtol=1e-12)
    assert np.array_equal(wrong.received, fair.received)
    assert np.array_equal(wrong.gains, fair.gains)


def test_an_mmse_receiver_that_overrates_the_noise_trusts_its_pilots_less() -> None:
    settings = {"channel": "rayleigh", "coherence": "sample", **PILOT}
    fair, wrong = (_radio(noise_mismatch_db=shift, **settings).send(_points()).gains for shift in (0.0, 10.0))
    n0 = 10**-0.6 / 2
    np.testing.assert_allclose(wrong / fair, (1 + n0) / (1 + 10 * n0), rtol=1e-12)


def test_without_knowledge_the_gain_is_one() -> None:
    arrival = _radio(channel="rayleigh", csi="none", noise_mismatch_db=-1.0).send(_points())
    assert np.array_equal(arrival.gains, np.ones((ROWS, WIDTH)))
    np.testing.assert_allclose(arrival.noise_var, 10**-0.7)
    assert np.abs(arrival.true_gains - 1).min() > 0


@pytest.mark.parametrize(
    ("settings", "block"),
    [
        ({"channel": "rayleigh", "coherence": 6, "pilots": 2}, 4),
        ({"channel": "rician", "coherence": 3, "pilots": 2}, 1),
        ({"channel": "tdl-a", "pilots": 4}, 8),
        ({"channel": "rayleigh", "coherence": "sample"}, WIDTH),
    ],
)
def test_blocks_are_estimated_by_themselves(settings, block) -> None:
    arrival = _radio(estimator="ls", **PILOT, **settings).send(_points())
    error = arrival.gains - arrival.true_gains
    for start in range(0, WIDTH, block):
        part = arrival.gains[:, start : start + block]
        assert np.isclose(part, part[:, :1]).all() == (settings["channel"] != "tdl-a" or part.shape[1] == 1)
        if start:
            assert not np.isclose(error[:, start], error[:, start - 1]).any()


def test_n0_is_estimated_from_the_first_block_alone() -> None:
    radio = _radio(channel="rayleigh", coherence=6, pilots=3, noise_estimate="pilot", estimator="ls", **PILOT)
    expected = np.var(radio._air.pilots[:, 0], axis=1, ddof=1)
    np.testing.assert_allclose(radio.send(_points()).noise_var, np.tile(expected[:, None] * 4 / 3, WIDTH))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"channel": "rayleigh", "coherence": 6}, [0, 0, 0, 0]),
        ({"channel": "rayleigh", "csi": "none"}, [0, 0, 0, 0]),
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
        ({"channel": "rayleigh", "coherence": 4, "pilots": 4, **PILOT}, "pilots"),
        ({"channel": "tdl-c", "pilots": 12, **PILOT}, "pilots"),
        ({"channel": "awgn", "noise_estimate": "pilot"}, "noise_estimate"),
        ({"channel": "awgn", "noise_estimate": "pilot", "csi": "none"}, "noise_estimate"),
        ({"channel": "awgn", "noise_estimate": "pilot", "pilots": 1, **PILOT}, "pilots"),
        ({"channel": "tdl-a", "noise_estimate": "pilot", "pilots": 2, **PILOT}, "pilots"),
        ({"channel": "tdl-a", "delay_spread_ns": 870.0}, "delay_spread_ns"),
    ],
)
def test_what_no_receiver_could_do_is_refused(settings, argument) -> None:
    for refuse in (check_radio, lambda chosen: Radio(chosen, 3.0, np.random.default_rng(0))):
        with pytest.raises(InputError, match=f"'{argument}' must"):
            refuse(Settings(**settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"channel": "rayleigh", "coherence": 4, "pilots": 3, **PILOT},
        {"channel": "tdl-c", "pilots": 11, **PILOT},
        {"channel": "tdl-a", "pilots": 99},
        {"channel": "awgn", "noise_estimate": "pilot", "pilots": 2, **PILOT},
        {"channel": "tdl-a", "noise_estimate": "pilot", "pilots": 3, **PILOT},
    ],
)
def test_what_can_be_done_is_not_refused(settings) -> None:
    check_radio(Settings(**settings))


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
