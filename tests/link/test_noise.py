import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.link.errors import InputError
from twophase.link.noise import (
    MAX_SNR_POINTS,
    ebn0_db_to_esn0_db,
    esn0_db_to_ebn0_db,
    esn0_db_to_noise_var,
    esn0_float32,
    is_float32,
    noise_var_to_esn0_db,
    snr_grid,
)

SETTINGS = settings(deadline=None, max_examples=60, derandomize=True)


@SETTINGS
@given(st.floats(-200, 200), st.floats(1e-6, 1e6))
def test_ratios_follow_their_definitions_and_come_back(decibels, factor):
    """N0 is that of the energy of the stream; Eb/N0 divides it among the information bits."""
    noise_var = esn0_db_to_noise_var(decibels, factor)
    assert float(noise_var) == pytest.approx(factor * 10 ** (-decibels / 10), rel=1e-15)
    assert float(noise_var_to_esn0_db(noise_var, factor)) == pytest.approx(decibels, abs=1e-10)
    ebn0_db = esn0_db_to_ebn0_db(decibels, factor)
    assert float(ebn0_db) == pytest.approx(decibels - 10 * math.log10(factor), abs=1e-12)
    assert float(ebn0_db_to_esn0_db(ebn0_db, factor)) == pytest.approx(decibels, abs=1e-12)
    assert esn0_db_to_noise_var([[decibels], [0]], symbol_energy=[1, 2, 3]).shape == (2, 3)


@pytest.mark.parametrize("value", [math.nan, -math.inf, [0, math.nan], "ten", 4000, -4000])
def test_a_ratio_that_gives_no_noise_variance_is_refused(value):
    with pytest.raises(InputError, match="'esn0_db' must"):
        esn0_db_to_noise_var(value)


@pytest.mark.parametrize("value", [0, -1, math.nan])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("symbol_energy", lambda value: esn0_db_to_noise_var(0, value)),
        ("noise_var", noise_var_to_esn0_db),
        ("bits_per_symbol", lambda value: esn0_db_to_ebn0_db(0, value)),
        ("bits_per_symbol", lambda value: ebn0_db_to_esn0_db(0, value)),
    ],
)
def test_energies_variances_and_bits_must_be_positive(name, call, value):
    with pytest.raises(InputError, match=f"'{name}' must be (positive|finite)"):
        call(value)


def test_an_snr_becomes_what_a_graph_takes():
    for value in (3, [1, 2], np.array([[0.1]]), np.float16(1.5), np.zeros(0)):
        single = esn0_float32(value)
        assert (single.dtype, single.shape) == (np.float32, np.shape(value))
        np.testing.assert_array_equal(single, np.asarray(value).astype(np.float32))
    for value in (math.nan, [0, -math.inf], 1e39, "ten", True):
        with pytest.raises(InputError, match=r"'snr_db' must be (finite|real numbers)"):
            esn0_float32(value)


@SETTINGS
@given(st.floats(width=32))
def test_every_finite_float32_is_one_and_its_float64_neighbours_are_not(value):
    assert is_float32(value) == math.isfinite(value)
    if math.isfinite(value):
        assert not is_float32(math.nextafter(value, math.inf))
        assert not is_float32(math.nextafter(value, -math.inf))


def test_numbers_beyond_float32_and_what_json_cannot_hold_are_none():
    assert not any(map(is_float32, (1e39, 10**400, 2**24 + 1, np.float32(1), True, "1", None)))
    assert all(map(is_float32, (-1.25, 3, np.float64(0.5))))


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("7.5", [7.5]),
        ("4:4", [4]),
        ("0:2.5", [0, 1, 2]),
        ("1e0:5e-1:+2.", [1, 1.5, 2]),
        (" -100 : 100 : 100 ", [-100, 0, 100]),
        ("0:0.333333333334:1", [0, 1 / 3, 2 / 3, 1]),  # a step that is rounded still reaches the end
    ],
)
def test_grid(text, points):
    grid = snr_grid(text).tolist()
    assert grid == pytest.approx(points, abs=1e-11)
    assert grid[-1] == points[-1]


@SETTINGS
@given(st.integers(-4000, 4000), st.integers(1, 99), st.integers(0, 59), st.data())
def test_stop_is_included_when_it_is_a_whole_number_of_steps_away(start, step, count, data):
    rest = data.draw(st.integers(0, step - 1)) if count else 0
    stop = start + step * count + rest
    grid = snr_grid(f"{start / 100}:{step / 100}:{stop / 100}")
    assert len(grid) == count + 1
    assert grid[0] == start / 100
    np.testing.assert_allclose(np.diff(grid), step / 100, atol=1e-12)
    if rest == 0:
        assert grid[-1] == stop / 100
    else:
        assert 0 < stop / 100 - grid[-1] < step / 100


NO_GRIDS = "|20:|:20|20:0|0:0:20|0:-1:20|0:1:2:3|a|nan:1|-inf:0|1_0|0x1|1,5|0-20|--1|1e400|\u0663"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        *(("be START:STOP or START:STEP:STOP", text) for text in NO_GRIDS.split("|")),
        ("be START:STEP:STOP, perhaps -5:5:20, not", "-5:20:5"),
        ("be START:STEP:STOP, perhaps 5:1:20, not", "5:20:1"),
        ("be START:STEP:STOP with STEP <= STOP - START", "-9:3:-8"),
        *(("hold at most 10,000 points", text) for text in (f"0:{MAX_SNR_POINTS}", "0:1e-99:1")),
        *(("stay within -100 to 100 dB", text) for text in ("-100.1", "0:10:110", "-101:0")),
    ],
)
def test_what_is_no_grid_is_refused(rule, text):
    with pytest.raises(InputError, match=f"'snr' must {rule}") as caught:
        snr_grid(text)
    assert caught.value.value == text


def test_a_grid_may_be_long():
    assert len(snr_grid("-50:0.01:49.99")) == MAX_SNR_POINTS
