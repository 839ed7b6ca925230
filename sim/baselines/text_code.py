"""Messages of any length over QAM: a channel code, a constellation and a number of repetitions.

A message is cut into as few equal pieces as the LDPC code takes, 3840 bits at most.  A piece of k bits
becomes

    conv   2 (k + 6) bits of the convolutional code, K = 7, rate 1/2, zero tail
    ldpc   k / rate bits, rounded up, of 5G NR's base graph 2, as :mod:`twophase.sim.codes.ldpc` sends them

filled up to whole symbols: with zeros at the end of the former, with further parity bits of the latter.  All
symbols of the message are sent ``repetitions`` times, one after the other; the receiver adds the LLRs.

To decode messages of many lengths together each is a longer block whose end is known to be zero: for the
convolutional code that is the same trellis, for the LDPC code the same lifting size with more filler bits.
So a message is encoded as :class:`~twophase.sim.codes.ldpc.LdpcCode` would for itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from twophase.link.bits import bits_to_symbols
from twophase.sim.codes.code import LARGEST, rotating_interleaver, row_column_interleaver
from twophase.sim.codes.conv import MEMORY, ConvCode
from twophase.sim.codes.ldpc import COLUMNS, LARGEST_K, SYSTEMATIC, LdpcCode, lifting_size

__all__ = ["Scheme", "TextCode"]

CONV_STEP = 128
"""Blocks of the convolutional code are decoded together if they have as many bits in these units."""

Bits = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Scheme:
    """How messages travel.

    Examples
    --------
    >>> scheme = Scheme("ldpc", 1, 2, 16)
    >>> scheme.name, scheme.efficiency, scheme.symbols(500)
    ('ldpc 1/2, 16-QAM', 2.0, 250)
    """

    code: str
    """``conv`` or ``ldpc``."""
    numerator: int
    denominator: int
    """Of the code's rate, the convolutional code's tail apart."""
    order: int
    """Points of the constellation."""
    repetitions: int = 1

    @property
    def name(self) -> str:
        """``ldpc 1/5, QPSK, 4 times``."""
        points = "QPSK" if self.order == 4 else f"{self.order}-QAM"
        often = f", {self.repetitions} times" if self.repetitions > 1 else ""
        return f"{self.code} {self.numerator}/{self.denominator}, {points}{often}"

    @property
    def bits_per_symbol(self) -> int:
        """Channel bits of a symbol."""
        return self.order.bit_length() - 1

    @property
    def efficiency(self) -> float:
        """Message bits per symbol of a long message."""
        rate = Fraction(self.numerator, self.denominator)
        return float(rate * self.bits_per_symbol / self.repetitions)

    def symbols(self, bits: int) -> int:
        """Symbols of a message of so many bits."""
        pieces, k = pieces_of(bits)
        return pieces * self.channel_bits(k) // self.bits_per_symbol * self.repetitions

    def channel_bits(self, k: int) -> int:
        """Bits on the symbols of a piece of k bits, before repetition."""
        n = 2 * (k + MEMORY) if self.code == "conv" else -(-k * self.denominator // self.numerator)
        return -(-n // self.bits_per_symbol) * self.bits_per_symbol


class TextCode:
    """Encoder and decoder of a scheme; ``kernel`` is that of the decoder, ``"numpy"`` or ``"numba"``."""

    def __init__(self, scheme: Scheme, kernel: str = "numpy") -> None:
        self.scheme, self._kernel = scheme, kernel

    def encode(self, messages: Sequence[Bits]) -> list[NDArray[np.uint8]]:
        """Point numbers of each message, shape (symbols,)."""
        pieces = _cut([len(message) for message in messages])
        blocks: dict[tuple[int, int], NDArray[np.uint8]] = {}
        for block, members in self._groups(pieces).items():
            information = np.zeros((len(members), block), dtype=np.uint8)
            for row, (number, place) in enumerate(members):
                k = pieces[number][1]
                part = messages[number][place * k : (place + 1) * k]
                information[row, : len(part)] = part
            for member, coded in zip(members, self._code(block).encode(information), strict=True):
                blocks[member] = self._sent(coded, pieces[member[0]][1])
        return [
            np.tile(
                np.concatenate([blocks[number, place] for place in range(count)]), self.scheme.repetitions
            )
            for number, (count, _) in enumerate(pieces)
        ]

    def decode(self, llr: Sequence[NDArray[np.floating]], lengths: Sequence[int]) -> list[Bits]:
        """Each message's bits.

        ``llr`` holds log P1/P0 of the bits of each message's symbols, shape (symbols * bits_per_symbol,);
        ``lengths`` the bits of each message.
        """
        pieces = _cut(lengths)
        received = [
            np.asarray(values, dtype=np.float64).reshape(self.scheme.repetitions, count, -1).sum(axis=0)
            for values, (count, _) in zip(llr, pieces, strict=True)
        ]
        decided = [np.empty((count, k), dtype=np.uint8) for count, k in pieces]
        for block, members in self._groups(pieces).items():
            rows = np.stack(
                [self._mother(received[number][place], pieces[number][1], block) for number, place in members]
            )
            code = self._code(block)
            bits = code.viterbi(rows) if isinstance(code, ConvCode) else code.decode(rows) > 0
            for (number, place), row in zip(members, bits, strict=True):
                decided[number][place] = row[: pieces[number][1]]
        return [parts.ravel()[:length] for parts, length in zip(decided, lengths, strict=True)]

    def _groups(self, pieces: Sequence[tuple[int, int]]) -> dict[int, list[tuple[int, int]]]:
        """Message and place of all pieces, by the size of the block that they are shortened from."""
        groups: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for number, (count, k) in enumerate(pieces):
            block = -(-k // CONV_STEP) * CONV_STEP if self.scheme.code == "conv" else largest_block(k)
            groups[block] += [(number, place) for place in range(count)]
        return groups

    def _code(self, block: int) -> ConvCode | LdpcCode:
        return _made(self.scheme, block, self._kernel)

    def _sent(self, coded: Bits, k: int) -> NDArray[np.uint8]:
        """Point numbers of a piece, from all bits of its block."""
        width = self.scheme.bits_per_symbol
        order, places = _layout(self.scheme, k)
        stream = np.zeros(len(order), dtype=np.uint8)
        stream[: len(places)] = coded[places]
        return bits_to_symbols(stream[order], width).astype(np.uint8)

    def _mother(self, received: NDArray[np.float64], k: int, block: int) -> Floats:
        """LLRs of all bits of the block: those that were sent, the known zeros, nothing of the others."""
        order, places = _layout(self.scheme, k)
        stream = np.empty(len(order))
        stream[order] = received
        code = self._code(block)
        values = np.zeros(code.n)
        if isinstance(code, ConvCode):
            values[len(places) :] = -LARGEST
        else:
            values[max(0, k - 2 * code.z) : block - 2 * code.z] = -LARGEST
        np.add.at(values, places, stream[: len(places)])
        return values.astype(np.float32)


def pieces_of(bits: int) -> tuple[int, int]:
    """Number and size of the pieces of a message."""
    count = -(-bits // LARGEST_K)
    return count, -(-bits // count)


def _cut(lengths: Sequence[int]) -> list[tuple[int, int]]:
    return [pieces_of(int(length)) for length in lengths]


@cache
def largest_block(k: int) -> int:
    """The longest LDPC block with the lifting size of a block of k bits."""
    return _largest_blocks()[lifting_size(k)[0]]


@cache
def _largest_blocks() -> dict[int, int]:
    return {lifting_size(k)[0]: k for k in range(1, LARGEST_K + 1)}


@lru_cache(maxsize=512)
def _made(scheme: Scheme, block: int, kernel: str) -> ConvCode | LdpcCode:
    """The code of a whole block, with all bits that a piece of its group may need."""
    if scheme.code == "conv":
        return ConvCode(block, 2 * (block + MEMORY), kernel)
    z, _ = lifting_size(block)
    # A shorter piece has no more parity bits than the block itself.
    everything = block - 2 * z + (COLUMNS - SYSTEMATIC) * z
    n = min(scheme.channel_bits(block) + scheme.bits_per_symbol, everything)
    return LdpcCode(block, n, rule="sum-product", kernel=kernel)


@lru_cache(maxsize=4096)
def _layout(scheme: Scheme, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Interleaver of a piece's bits, and which bits of the block's code are sent, in order."""
    n, width = scheme.channel_bits(k), scheme.bits_per_symbol
    if scheme.code == "conv":
        return rotating_interleaver(n, width), np.arange(2 * (k + MEMORY))
    block = largest_block(k)
    z = lifting_size(k)[0]
    total = _made(scheme, block, "numpy").n
    systematic = np.arange(max(0, k - 2 * z))
    circle = np.concatenate([systematic, np.arange(block - 2 * z, total)])
    return row_column_interleaver(n, width), circle[np.arange(n) % len(circle)]
