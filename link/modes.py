"""A mode: one codebook sent over one constellation, and the table of all modes of a link.

The link may choose a mode for each sample, so every array that leaves the transmitter is padded to the
largest mode and comes with a count; nothing here assumes that there is only one mode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from twophase.link.errors import InputError

__all__ = ["QAM_ORDERS", "LinkConfig", "Mode", "ModeTable"]


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
    def names(self) -> tuple[str, ...]:
        """A name of its own for each mode: :attr:`Mode.name`, then ``#number`` where several share it."""
        shared = Counter(mode.name for mode in self.modes)
        return tuple(
            mode.name if shared[mode.name] == 1 else f"{mode.name}#{number}"
            for number, mode in enumerate(self.modes)
        )

    def find(self, name: str) -> int:
        """Mode number of a name of :attr:`names`, of a :attr:`Mode.name` that is unique, or of a number.

        Raises
        ------
        InputError
            If no mode is called so, or several are; the message lists the names.
        """
        wanted = name.strip()
        if wanted in self.names:
            return self.names.index(wanted)
        if wanted.isascii() and wanted.isdigit() and int(wanted) < len(self):
            return int(wanted)
        raise InputError("mode", f"be one of {', '.join(self.names)}, or 0..{len(self) - 1}", name)

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


QAM_ORDERS = (4, 16, 64, 256)
"""Constellations of TS 38.211 clause 5.1 that the link can use."""


_MOST_TOKENS, _MOST_PLACES, _MOST_COMPONENTS = 65536, 1 << 24, 4096
"""Of a sample: indices, indices times codewords, components; whoever verifies a link tries all of them."""


@dataclass(frozen=True)
class LinkConfig:
    """Codebooks x constellations.  The modes are their product, codebook-major."""

    codebook_sizes: tuple[int, ...]
    """K of each codebook; powers of two from 2 to 65536."""
    tokens: tuple[int, ...]
    """N of each codebook: indices per sample."""
    qam_orders: tuple[int, ...]
    """M of each constellation; of 4, 16, 64, 256."""
    embedding_dim: int
    """C, components of a codeword."""

    def __post_init__(self) -> None:
        if not self.codebook_sizes:
            raise InputError("codebook_sizes", "name at least one codebook", self.codebook_sizes)
        for size in self.codebook_sizes:
            if size < 2 or size > 65536 or size & (size - 1):
                raise InputError("codebook_sizes", "be powers of two from 2 to 65536", size)
        if len(self.tokens) != len(self.codebook_sizes):
            raise InputError(
                "tokens",
                f"hold {len(self.codebook_sizes)} numbers, one per codebook (set both together)",
                self.tokens,
            )
        for size, count in zip(self.codebook_sizes, self.tokens, strict=True):
            most = min(_MOST_TOKENS, _MOST_PLACES // size)
            if not 1 <= count <= most:
                raise InputError("tokens", f"lie in 1..{most} for {size} codewords", count)
        if not self.qam_orders:
            raise InputError("qam_orders", "name at least one constellation", self.qam_orders)
        for order in self.qam_orders:
            if order not in QAM_ORDERS:
                raise InputError(
                    "qam_orders", "be 4, 16, 64 or 256 (square QAM: an even number of bits)", order
                )
        if len(set(self.qam_orders)) < len(self.qam_orders):
            raise InputError("qam_orders", "name each constellation once", self.qam_orders)
        if not 1 <= self.embedding_dim <= _MOST_COMPONENTS:
            raise InputError("embedding_dim", f"lie in 1..{_MOST_COMPONENTS}", self.embedding_dim)

    @property
    def modes(self) -> ModeTable:
        """Every codebook over every constellation."""
        return ModeTable(
            tuple(
                Mode(codebook=index, codebook_size=size, tokens=count, order=order)
                for index, (size, count) in enumerate(zip(self.codebook_sizes, self.tokens, strict=True))
                for order in self.qam_orders
            )
        )
