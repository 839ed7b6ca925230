"""What defines a link: its codebooks and constellations."""

from __future__ import annotations

from dataclasses import dataclass

from twophase.link.errors import InputError
from twophase.link.modes import Mode, ModeTable

__all__ = ["QAM_ORDERS", "LinkConfig"]

QAM_ORDERS = (4, 16, 64, 256)
"""Constellations of TS 38.211 clause 5.1 that the link can use."""


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
        for count in self.tokens:
            if count < 1:
                raise InputError("tokens", "be at least 1", count)
        if not self.qam_orders:
            raise InputError("qam_orders", "name at least one constellation", self.qam_orders)
        for order in self.qam_orders:
            if order not in QAM_ORDERS:
                raise InputError(
                    "qam_orders", "be 4, 16, 64 or 256 (square QAM: an even number of bits)", order
                )
        if len(set(self.qam_orders)) < len(self.qam_orders):
            raise InputError("qam_orders", "name each constellation once", self.qam_orders)
        if self.embedding_dim < 1:
            raise InputError("embedding_dim", "be at least 1", self.embedding_dim)

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
