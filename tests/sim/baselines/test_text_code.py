"""Messages of any length over a code and QAM: what is sent is what the single block's code sends."""

from __future__ import annotations

import numpy as np
import pytest

from twophase.link.bits import symbols_to_bits
from twophase.sim.baselines.text import TABLE, scheme_at
from twophase.sim.baselines.text_code import Scheme, TextCode, largest_block, pieces_of
from twophase.sim.codes.code import rotating_interleaver, row_column_interleaver
from twophase.sim.codes.conv import ConvCode
from twophase.sim.codes.ldpc import LdpcCode, lifting_size

LENGTHS = (15, 47, 96, 193, 300, 301, 561, 641, 1023)
SCHEMES = (
    Scheme("conv", 1, 2, 4),
    Scheme("conv", 1, 2, 64, 2),
    Scheme("ldpc", 1, 5, 4, 4),
    Scheme("ldpc", 1, 2, 16),
    Scheme("ldpc", 5, 6, 256),
)


def _messages(lengths: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 2, length).astype(np.uint8) for length in lengths]


def _llr(scheme: Scheme, numbers: list[np.ndarray], scale: float = 4.0) -> list[np.ndarray]:
    bits = [symbols_to_bits(row, scheme.bits_per_symbol).ravel() for row in numbers]
    return [scale * (2.0 * row - 1) for row in bits]


def _alone(scheme: Scheme, k: int) -> tuple[ConvCode | LdpcCode, np.ndarray]:
    """The code of a block by itself, and its interleaver."""
    n, width = scheme.channel_bits(k), scheme.bits_per_symbol
    if scheme.code == "conv":
        return ConvCode(k, 2 * (k + 6)), rotating_interleaver(n, width)
    return LdpcCode(k, n, rule="sum-product"), row_column_interleaver(n, width)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_a_message_is_coded_as_a_block_by_itself_and_comes_back(scheme: Scheme) -> None:
    messages, code = _messages(LENGTHS), TextCode(scheme)
    sent = code.encode(messages)
    for message, numbers in zip(messages, sent, strict=True):
        assert len(numbers) == scheme.symbols(len(message))
        alone, order = _alone(scheme, len(message))
        coded = alone.encode(message)
        expected = np.tile(np.pad(coded, (0, len(order) - len(coded)))[order], scheme.repetitions)
        assert np.array_equal(symbols_to_bits(numbers, scheme.bits_per_symbol).ravel(), expected)
    decided = code.decode(_llr(scheme, sent), LENGTHS)
    assert all(np.array_equal(a, b) for a, b in zip(decided, messages, strict=True))


@pytest.mark.parametrize("scheme", [Scheme("conv", 1, 2, 4), Scheme("ldpc", 1, 3, 4)], ids=str)
def test_decisions_under_noise_are_those_of_the_block_by_itself(scheme: Scheme) -> None:
    rng, lengths = np.random.default_rng(1), (130, 200, 250)
    sent = _llr(scheme, TextCode(scheme).encode(_messages(lengths)), 1.0)
    llr = [2 * (row + rng.standard_normal(row.size)).astype(np.float32) for row in sent]
    for length, received, bits in zip(lengths, llr, TextCode(scheme).decode(llr, lengths), strict=True):
        alone, order = _alone(scheme, length)
        stream = np.empty(len(order))
        stream[order] = received
        expected = alone.viterbi(stream) if scheme.code == "conv" else alone.decode(stream) > 0
        assert np.array_equal(bits, expected)


def test_a_long_message_goes_in_pieces_and_a_repeated_one_adds_up() -> None:
    lengths = (3840, 3841, 9000)
    assert [pieces_of(length) for length in lengths] == [(1, 3840), (2, 1921), (3, 3000)]
    scheme, messages = Scheme("conv", 1, 2, 4, 2), _messages(lengths)
    llr = _llr(scheme, TextCode(scheme).encode(messages))
    for row in llr:
        row[: len(row) // 2] = 0  # the first of both copies is lost
    decided = TextCode(scheme).decode(llr, lengths)
    assert all(np.array_equal(a, b) for a, b in zip(decided, messages, strict=True))


def test_a_group_of_blocks_shares_its_lifting_size() -> None:
    for k in (15, 192, 193, 560, 561, 577, 640, 641, 700, 3840):
        assert largest_block(k) >= k
        assert lifting_size(largest_block(k))[0] == lifting_size(k)[0]


def test_the_table_gives_more_bits_the_better_the_channel_is() -> None:
    assert len({entry[0] for entry in TABLE}) == len(TABLE)
    for column in ("awgn", "rayleigh"):
        carried = [scheme_at(snr, column).efficiency for snr in np.arange(-15.0, 31.0)]
        assert carried == sorted(carried)
        assert (carried < np.log2(1 + 10 ** (np.arange(-15.0, 31.0) / 10))).all()
    # Fading asks for more.
    assert all(rayleigh >= awgn for _, awgn, rayleigh in TABLE)
    assert scheme_at(-99.0, "awgn") == scheme_at(-15.0, "awgn") == Scheme("ldpc", 1, 5, 4, 16)
