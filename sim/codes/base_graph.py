"""Base graph 2 of 5G NR's LDPC codes: 3GPP TS 38.212 clause 5.3.2.

Shifts V_ij of table 5.3.2-3 stand in ``bg2.csv``, one entry of the 42 x 52 graph in each line, for the eight
sets of lifting sizes.  The file was made from the copy of that table in Sionna 2.2.0 (NVIDIA, Apache-2.0).
An entry V means the Z x Z identity with its columns moved right by V mod Z: row i meets bit (i + V) mod Z.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from twophase.link.errors import InputError

__all__ = ["COLUMNS", "CORE", "LARGEST_K", "SYSTEMATIC", "encode_mother", "lifting_size", "shifts"]

SYSTEMATIC = 10
"""Columns of information bits; the first two are never sent."""
CORE = 4
"""Rows whose parity bits depend on one another; every further row defines a parity bit of its own."""
COLUMNS = 52
LARGEST_K = 3840
"""Longest block of base graph 2: ten columns of Z = 384."""

# Table 5.3.2-1: Z = a 2^j up to 384, one set for each a.
_FACTORS = (2, 3, 5, 7, 9, 11, 13, 15)
_LARGEST_Z = 384


def lifting_size(k: int) -> tuple[int, int]:
    """Lifting size Z and its set for ``k`` information bits, clause 5.2.2.

    Examples
    --------
    >>> lifting_size(24), lifting_size(720)
    ((4, 0), (72, 4))

    Raises
    ------
    InputError
        If k is not in 1..3840.
    """
    if not 1 <= k <= LARGEST_K:
        raise InputError("k", f"lie in 1..{LARGEST_K} for base graph 2", k)
    columns = 10 if k > 640 else 9 if k > 560 else 8 if k > 192 else 6
    sizes = {
        factor << power: number
        for number, factor in enumerate(_FACTORS)
        for power in range(8)
        if factor << power <= _LARGEST_Z
    }
    z = min(size for size in sizes if columns * size >= k)
    return z, sizes[z]


@cache
def shifts(number: int, z: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """For each of the 42 rows its entries (column, shift mod Z), for set ``number``."""
    text = resources.files("twophase.sim.codes").joinpath("bg2.csv").read_text(encoding="ascii")
    rows: dict[int, list[tuple[int, int]]] = {}
    for line in text.splitlines()[1:]:
        row, column, *values = map(int, line.split(","))
        rows.setdefault(row, []).append((column, values[number] % z))
    return tuple(tuple(rows[row]) for row in sorted(rows))


def encode_mother(information: NDArray[np.uint8], z: int, number: int) -> NDArray[np.uint8]:
    """All 52 Z bits of codewords, (frames, 10 Z) to (frames, 52 Z).

    The sum of the four core rows leaves one shifted copy of the first parity column; the other three follow
    one from another, and each further row gives its own.
    """
    rows = shifts(number, z)
    word = np.zeros((len(information), COLUMNS, z), dtype=np.uint8)
    word[:, :SYSTEMATIC] = information.reshape(-1, SYSTEMATIC, z)

    def row_sum(row: int, columns: range) -> NDArray[np.uint8]:
        total = np.zeros((len(word), z), dtype=np.uint8)
        for column, shift in rows[row]:
            if column in columns:
                total ^= np.roll(word[:, column], -shift, axis=1)
        return total

    known = range(SYSTEMATIC)
    partial = [row_sum(row, known) for row in range(CORE)]
    first = [dict(rows[row]).get(SYSTEMATIC) for row in range(CORE)]
    # Rows 0 and 3 meet the first parity column with the same shift, row 1 not at all.
    assert first[1] is None
    assert first[0] == first[3]
    assert first[2] is not None
    word[:, 10] = np.roll(partial[0] ^ partial[1] ^ partial[2] ^ partial[3], first[2], axis=1)
    word[:, 11] = row_sum(0, range(SYSTEMATIC + 1))
    word[:, 12] = partial[1] ^ word[:, 11]
    word[:, 13] = row_sum(3, range(SYSTEMATIC + 1))
    for row in range(CORE, len(rows)):
        word[:, SYSTEMATIC + row] = row_sum(row, range(SYSTEMATIC + CORE))
    return word.reshape(len(information), COLUMNS * z)
