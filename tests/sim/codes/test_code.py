"""What the codes share: interleavers, lanes, and decoders that decide alike wherever they run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.sim.codes import kernels
from twophase.sim.codes.code import LANES, from_lanes, rotating_interleaver, row_column_interleaver, to_lanes
from twophase.sim.codes.conv import ConvCode
from twophase.sim.codes.ldpc import LdpcCode
from twophase.sim.codes.message_passing import RULES


@settings(max_examples=40, deadline=None, derandomize=True)
@given(width=st.sampled_from([2, 4, 6, 8]), symbols=st.integers(1, 50))
def test_interleavers_use_every_bit_once(width, symbols) -> None:
    n = width * symbols
    np.testing.assert_array_equal(np.sort(rotating_interleaver(n, width)), np.arange(n))
    # The first bits take the most reliable places, 38.212: f(i + j Qm) = e(i E / Qm + j).
    expected = np.arange(n).reshape(width, symbols).T.ravel()
    np.testing.assert_array_equal(row_column_interleaver(n, width), expected)


def test_neighbours_part() -> None:
    symbol, level = np.divmod(np.argsort(rotating_interleaver(48, 8)), 8)
    assert (np.diff(symbol) != 0).all()
    assert (np.diff(level) != 0).all()
    # Of any eight neighbours at most two share a level.
    assert max(np.bincount(level[start : start + 8]).max() for start in range(40)) <= 2


@pytest.mark.parametrize("frames", [0, 1, LANES - 1, LANES, LANES + 1, 3 * LANES])
def test_lanes_come_back(frames) -> None:
    assert kernels.LANES == LANES
    values = np.arange(frames * 5, dtype=np.float32).reshape(frames, 5)
    lanes = to_lanes(values)
    assert lanes.shape == (-(-frames // LANES), 5, LANES)
    np.testing.assert_array_equal(from_lanes(lanes, frames), values)
    if frames % LANES:  # idle lanes compute on something harmless
        np.testing.assert_array_equal(
            lanes[-1, :, frames % LANES :].T, np.tile(values[-1], (-frames % LANES, 1))
        )


def coders(k: int, n: int, kernel: str) -> list[tuple[Callable, Callable]]:
    """Encoder and decoder of every code."""
    conv = ConvCode(k, n, kernel)
    ldpc = [LdpcCode(k, n, rule=rule, kernel=kernel) for rule in RULES]
    return [
        (conv.encode, conv.decode),
        (conv.encode, conv.viterbi),
        *((each.encode, each.decode) for each in ldpc),
    ]


@given(
    k=st.sampled_from([1, 9, 34, 70]),
    extra=st.sampled_from([0.0, 0.4, 1.3, 3.0]),
    frames=st.integers(1, 70),
    scale=st.sampled_from([0.0, 1e-30, 0.1, 3.0, 200.0, 1e30]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_both_kernels_give_the_same_numbers_in_any_batch(k, extra, frames, scale, seed) -> None:
    n = k + int(extra * k)
    llr = scale * np.random.default_rng(seed).standard_normal((frames, n))
    row = seed % frames
    for (_, slow), (_, fast) in zip(coders(k, n, "numpy"), coders(k, n, "numba"), strict=True):
        together = slow(llr)
        assert np.isfinite(together).all()
        np.testing.assert_array_equal(fast(llr[np.newaxis]), together[np.newaxis])
        np.testing.assert_array_equal(fast(llr[::-1]), together[::-1])
        for alone in (slow(llr[row]), fast(llr[row])):
            np.testing.assert_array_equal(alone, together[row])


@pytest.mark.parametrize("kernel", ["numpy", "numba"])
@pytest.mark.parametrize(("k", "n"), [(1, 12), (12, 16), (28, 40), (60, 900), (200, 412)])
def test_a_clear_word_is_understood(k, n, kernel) -> None:
    bits = np.random.default_rng(k).integers(0, 2, (4, k))
    for encode, decode in coders(k, n, kernel):
        for size in (30.0, 1e30):
            np.testing.assert_array_equal(decode(size * (2.0 * encode(bits) - 1)) > 0, bits)
            # All say one with the same force, which is far from every word.
            assert np.isfinite(decode(np.full(n, size))).all()
