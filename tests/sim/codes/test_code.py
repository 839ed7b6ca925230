"""Interleavers and lanes: small tools with simple laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.link.errors import InputError
from twophase.sim.codes import conv_kernels, ldpc_kernels
from twophase.sim.codes.code import LANES, from_lanes, rotating_interleaver, row_column_interleaver, to_lanes


@settings(max_examples=40, deadline=None, derandomize=True)
@given(width=st.sampled_from([2, 4, 6, 8]), symbols=st.integers(1, 50))
def test_interleavers_use_every_bit_once(width, symbols) -> None:
    n = width * symbols
    for interleaver in (rotating_interleaver, row_column_interleaver):
        np.testing.assert_array_equal(np.sort(interleaver(n, width)), np.arange(n))
    # The first bits take the most reliable places, 38.212: f(i + j Qm) = e(i E / Qm + j).
    expected = np.arange(n).reshape(width, symbols).T.ravel()
    np.testing.assert_array_equal(row_column_interleaver(n, width), expected)


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


@pytest.mark.parametrize("frames", [0, 1, LANES - 1, LANES, LANES + 1, 3 * LANES])
def test_lanes_come_back(frames) -> None:
    assert conv_kernels.LANES == ldpc_kernels.LANES == LANES
    values = np.arange(frames * 5, dtype=np.float32).reshape(frames, 5)
    lanes = to_lanes(values)
    assert lanes.shape == (-(-frames // LANES), 5, LANES)
    np.testing.assert_array_equal(from_lanes(lanes, frames), values)
    if frames % LANES:  # idle lanes compute on something harmless
        np.testing.assert_array_equal(
            lanes[-1, :, frames % LANES :].T, np.tile(values[-1], (-frames % LANES, 1))
        )
