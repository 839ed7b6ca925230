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


def _messages(lengths: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 2, length).astype(np.uint8) for length in lengths]


def _llr(scheme: Scheme, numbers: list[np.ndarray], scale: float = 4.0) -> list[np.ndarray]:
    return [
        scale * (2.0 * symbols_to_bits(row, scheme.bits_per_symbol).ravel().astype(float) - 1)
        for row in numbers
    ]


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_messages_come_back_in_as_many_symbols_as_the_scheme_says(scheme: Scheme) -> None:
    messages, code = _messages(LENGTHS), TextCode(scheme)
    numbers = code.encode(messages)
    assert [len(row) for row in numbers] == [scheme.symbols(length) for length in LENGTHS]
    decided = code.decode(_llr(scheme, numbers), LENGTHS)
    assert all(np.array_equal(a, b) for a, b in zip(decided, messages, strict=True))


@pytest.mark.parametrize("scheme", [SCHEMES[0], SCHEMES[3], SCHEMES[4]], ids=lambda scheme: scheme.name)
def test_a_message_is_coded_as_a_block_by_itself(scheme: Scheme) -> None:
    messages = _messages(LENGTHS)
    for message, numbers in zip(messages, TextCode(scheme).encode(messages), strict=True):
        k, width = len(message), scheme.bits_per_symbol
        n = scheme.channel_bits(k)
        if scheme.code == "conv":
            alone, order = ConvCode(k, 2 * (k + 6)).encode(message), rotating_interleaver(n, width)
            alone = np.pad(alone, (0, n - len(alone)))
        else:
            alone, order = LdpcCode(k, n).encode(message), row_column_interleaver(n, width)
        assert np.array_equal(symbols_to_bits(numbers, width).ravel(), alone[order])


def test_decisions_under_noise_are_those_of_the_block_by_itself() -> None:
    rng = np.random.default_rng(1)
    lengths = (130, 200, 250)
    messages = _messages(lengths)
    for scheme in (Scheme("conv", 1, 2, 4), Scheme("ldpc", 1, 3, 4)):
        numbers = TextCode(scheme).encode(messages)
        llr = [
            2 * (row + rng.standard_normal(row.size)).astype(np.float32) for row in _llr(scheme, numbers, 1.0)
        ]
        decided = TextCode(scheme).decode(llr, lengths)
        for length, heard, bits in zip(lengths, llr, decided, strict=True):
            n = scheme.channel_bits(length)
            if scheme.code == "conv":
                stream = np.empty(n)
                stream[rotating_interleaver(n, 2)] = heard
                alone = ConvCode(length, n).viterbi(stream)
            else:
                stream = np.empty(n)
                stream[row_column_interleaver(n, 2)] = heard
                alone = LdpcCode(length, n, rule="sum-product").decode(stream) > 0
            assert np.array_equal(bits, alone)


def test_a_long_message_goes_in_pieces_and_a_repeated_one_adds_up() -> None:
    lengths = (3840, 3841, 9000)
    assert [pieces_of(length) for length in lengths] == [(1, 3840), (2, 1921), (3, 3000)]
    scheme = Scheme("conv", 1, 2, 4, 2)
    messages = _messages(lengths)
    numbers = TextCode(scheme).encode(messages)
    llr = _llr(scheme, numbers)
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
        carried = [scheme_at(snr, column).efficiency for snr in np.arange(-16.0, 31.0)]
        assert carried == sorted(carried)
        for snr, bits in zip(np.arange(-15.0, 31.0), carried[1:], strict=True):
            assert bits < np.log2(1 + 10 ** (snr / 10))
    # Fading asks for more.
    assert all(rayleigh >= awgn for _, awgn, rayleigh in TABLE)
    assert scheme_at(-99.0, "awgn") == scheme_at(-15.0, "awgn") == Scheme("ldpc", 1, 5, 4, 16)
