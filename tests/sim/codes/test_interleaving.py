"""Interleavers, rate matching and lanes: small tools with simple laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.link.errors import InputError
from twophase.sim.codes.code import LANES, from_lanes, rotating_interleaver, row_column_interleaver, to_lanes
from twophase.sim.codes.ldpc import collect


@settings(max_examples=40, deadline=None, derandomize=True)
@given(width=st.sampled_from([2, 4, 6, 8]), symbols=st.integers(1, 50))
def test_interleavers_use_every_bit_once(width, symbols) -> None:
    n = width * symbols
    for interleaver in (rotating_interleaver, row_column_interleaver):
        order = interleaver(n, width)
        np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_the_first_bits_take_the_most_reliable_places() -> None:
    # 38.212: f(i + j Qm) = e(i E / Qm + j).
    order = row_column_interleaver(24, 4)
    for place in range(24):
        symbol, level = divmod(place, 4)
        assert order[place] == level * 6 + symbol


def test_neighbours_part() -> None:
    order = rotating_interleaver(48, 8)
    place = np.argsort(order)
    symbol, level = np.divmod(place, 8)
    assert (np.diff(symbol) != 0).all()
    assert (np.diff(level) != 0).all()
    # Of any eight neighbours at most two share a level.
    for start in range(40):
        assert np.bincount(level[start : start + 8]).max() <= 2


@pytest.mark.parametrize(("n", "width"), [(0, 4), (10, 4), (4, 0)])
def test_whole_symbols_only(n, width) -> None:
    for interleaver in (rotating_interleaver, row_column_interleaver):
        with pytest.raises(InputError, match="'n' must"):
            interleaver(n, width)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(width=st.integers(1, 30), n=st.integers(0, 90), seed=st.integers(0, 1000))
def test_collecting_adds_what_was_sent(width, n, seed) -> None:
    rng = np.random.default_rng(seed)
    pattern = rng.integers(0, width, n)
    llr = rng.integers(-50, 50, (3, n)).astype(np.float32)
    expected = np.zeros((3, width), dtype=np.float32)
    np.add.at(expected, (slice(None), pattern), llr)
    np.testing.assert_array_equal(collect(llr, pattern, width), expected)


@pytest.mark.parametrize("frames", [0, 1, LANES - 1, LANES, LANES + 1, 3 * LANES])
def test_lanes_come_back(frames) -> None:
    values = np.arange(frames * 5, dtype=np.float32).reshape(frames, 5)
    lanes = to_lanes(values)
    assert lanes.shape == (-(-frames // LANES), 5, LANES)
    np.testing.assert_array_equal(from_lanes(lanes, frames), values)
    if frames % LANES:  # idle lanes compute on something harmless
        np.testing.assert_array_equal(
            lanes[-1, :, frames % LANES :].T, np.tile(values[-1], (-frames % LANES, 1))
        )


def test_kernels_know_the_number_of_lanes() -> None:
    from twophase.sim.codes import conv_kernels, ldpc_kernels

    assert conv_kernels.LANES == ldpc_kernels.LANES == LANES
