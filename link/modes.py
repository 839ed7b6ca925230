"""A mode: one codebook sent over one constellation, and the table of all modes of a link.

The link may choose a mode for each sample, so every array that leaves the transmitter is padded to the
largest mode and comes with a count; nothing here assumes that there is only one mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from twophase.link.errors import InputError

__all__ = ["Mode", "ModeTable"]


@dataclass(frozen=True)
class Mode:
    """How one sample travels: ``tokens`` codeword indices over a QAM constellation.

    Parameters
    ----------
    codebook
        Which of the link's codebooks.
    codebook_size
        K, its number of codewords; a power of two.
    tokens
        N, indices per sample.
    order
        M, the number of constellation points; 4, 16, 64 or 256.
    """

    codebook: int
    codebook_size: int
    tokens: int
    order: int

    @property
    def name(self) -> str:
        """``64x16qam``: codewords x constellation."""
        return f"{self.codebook_size}x{self.order}qam"

    @property
    def bits_per_index(self) -> int:
        """log2 K."""
        return self.codebook_size.bit_length() - 1

    @property
    def bits_per_symbol(self) -> int:
        """log2 M."""
        return self.order.bit_length() - 1

    @property
    def information_bits(self) -> int:
        """N log2 K bits of a sample that carry indices."""
        return self.tokens * self.bits_per_index

    @property
    def symbols(self) -> int:
        """Channel uses per sample: the information bits, padded to whole symbols."""
        return -(-self.information_bits // self.bits_per_symbol)

    @property
    def channel_bits(self) -> int:
        """Bits on the channel per sample, padding included."""
        return self.symbols * self.bits_per_symbol


@dataclass(frozen=True)
class ModeTable:
    """All modes of a link, in the order of the ``mode`` output of the transmitter."""

    modes: tuple[Mode, ...]

    def __post_init__(self) -> None:
        if not self.modes:
            raise InputError("modes", "hold at least one mode", self.modes)

    def __len__(self) -> int:
        return len(self.modes)

    def __getitem__(self, index: int) -> Mode:
        return self.modes[index]

    def __iter__(self) -> Iterator[Mode]:
        return iter(self.modes)

    @property
    def max_tokens(self) -> int:
        """Width of padded index arrays."""
        return max(mode.tokens for mode in self.modes)

    @property
    def max_bits(self) -> int:
        """Width of padded bit and LLR arrays."""
        return max(mode.channel_bits for mode in self.modes)

    @property
    def max_symbols(self) -> int:
        """Width of padded symbol arrays."""
        return max(mode.symbols for mode in self.modes)

    @property
    def max_codebook_size(self) -> int:
        """Width of padded posterior arrays."""
        return max(mode.codebook_size for mode in self.modes)
