"""The integer grid of a transmitter that gives the same codewords on every machine.

Between its input and its codeword indices such a transmitter computes with whole numbers only.  They are held
in float32, where every product and sum of theirs is exact as long as no magnitude reaches ``EXACT_LIMIT``, in
whatever order a runtime adds them up.  Real values are these numbers times a unit, a power of two.

The codebook search of the grid, for a latent z and codewords c_k of whole numbers in the same unit, is

    argmax_k 2 z . c_k - |c_k|^2  =  argmin_k |z - c_k|^2,   ties to the lowest k.

This module is its definition in NumPy's int64; the training and the graphs are held to it by tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import InputError

__all__ = [
    "CODEWORD_LIMIT",
    "EXACT_LIMIT",
    "LATENT_LIMIT",
    "Grid",
    "grid_codebook",
    "grid_search",
    "latent_limit",
    "to_grid",
]

EXACT_LIMIT = 1 << 24
"""float32 holds every whole number up to this magnitude."""

CODEWORD_LIMIT = 127
"""Largest magnitude of a codeword's component in units of its codebook: int8 without -128."""

LATENT_LIMIT = 1023
"""Largest magnitude of a latent's component in the same units, where the sums leave room for it."""


@dataclass(frozen=True)
class Grid:
    """Units in which the codebooks of a link are searched."""

    exponents: tuple[int, ...]
    """For each codebook: one unit of its codewords and of its latents is 2 to this power."""
    latent_limit: int
    """Components of latents are clipped to this magnitude, in units."""

    def __post_init__(self) -> None:
        if not 1 <= self.latent_limit <= LATENT_LIMIT:
            raise InputError("latent_limit", f"lie in 1..{LATENT_LIMIT}", self.latent_limit)
        for exponent in self.exponents:
            if not -126 <= exponent <= 127:
                raise InputError("exponents", "be powers of two that float32 holds: -126..127", exponent)


def latent_limit(embedding_dim: int) -> int:
    """Largest limit of latents at which every sum of the search stays exact in float32.

    2 C z c + C c^2 < 2^24 for the largest magnitudes, so that partial sums in any order are exact; latents
    must reach the codewords.

    Parameters
    ----------
    embedding_dim
        C, components of a codeword.

    Raises
    ------
    InputError
        If C is so large that latents cannot reach the codewords.
    """
    room = EXACT_LIMIT - 1 - embedding_dim * CODEWORD_LIMIT**2
    limit = min(LATENT_LIMIT, room // (2 * embedding_dim * CODEWORD_LIMIT))
    if limit < CODEWORD_LIMIT:
        raise InputError(
            "embedding_dim",
            "be at most 346 on an integer grid (--search float has no such limit)",
            embedding_dim,
        )
    return limit


def to_grid(values: ArrayLike, exponent: int, limit: int) -> NDArray[np.int64]:
    """Nearest whole numbers of units 2^exponent, halves to even, clipped to +-limit; same shape."""
    scaled = np.asarray(values, dtype=np.float64) * 2.0**-exponent
    return np.clip(np.rint(scaled), -limit, limit).astype(np.int64)


def grid_codebook(codewords: ArrayLike, exponent: int) -> NDArray[np.int64]:
    """A codebook that lies on the grid as whole numbers of units, shape (K, C).

    Raises
    ------
    InputError
        If a component is no whole number of units within +-``CODEWORD_LIMIT``.
    """
    units = np.asarray(codewords, dtype=np.float64) * 2.0**-exponent
    if (units != np.rint(units)).any() or (np.abs(units) > CODEWORD_LIMIT).any():
        wrong = units[(units != np.rint(units)) | (np.abs(units) > CODEWORD_LIMIT)][0]
        raise InputError(
            "codebooks", f"hold whole numbers of the grid's units within +-{CODEWORD_LIMIT}", float(wrong)
        )
    return units.astype(np.int64)


def grid_search(latents: ArrayLike, codebook: ArrayLike) -> NDArray[np.int64]:
    """Index of each latent's nearest codeword, shape (...); ties to the lowest index.

    Parameters
    ----------
    latents
        Whole numbers of units, shape (..., C).
    codebook
        Whole numbers of the same units, shape (K, C).
    """
    z, c = np.asarray(latents, dtype=np.int64), np.asarray(codebook, dtype=np.int64)
    scores = 2 * (z @ c.T) - (c * c).sum(-1)
    return np.asarray(scores.argmax(-1), dtype=np.int64)
