"""5G NR's LDPC code as a block code: base graph 2, lifting, filler bits and rate matching of TS 38.212.

A block of k bits is filled with zeros to 10 Z (clause 5.2.2) and encoded (5.3.2).  Of the 50 Z bits after
the first 2 Z, fillers left out, the first n are sent, in a circle if there are fewer (5.4.2.1, redundancy
version 0).  No CRC is attached and blocks are not segmented: the block is one sample.

The decoder drops what cannot matter: fillers are known, and a check whose own parity bit is not sent says
nothing about others.

The shifts V_ij of base graph 2 (TS 38.212, table 5.3.2-3) stand in ``bg2.csv``, one entry of the 42 x 52
graph in each line, for the eight sets of lifting sizes.  The file was made from the copy of that table in
Sionna 2.2.0 (NVIDIA, Apache-2.0).  An entry V means the Z x Z identity with its columns moved right by V mod
Z: row i meets bit (i + V) mod Z.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import InputError
from twophase.sim.codes.code import checked_bits, checked_kernel, checked_llr, collect
from twophase.sim.codes.message_passing import RULES, parity_checks, propagate

__all__ = ["COLUMNS", "LARGEST_K", "SYSTEMATIC", "LdpcCode", "encode_mother", "lifting_size", "shifts"]

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
    """Lifting size Z and its set for ``k`` information bits, 1..3840, clause 5.2.2.

    Examples
    --------
    >>> lifting_size(24), lifting_size(720)
    ((4, 0), (72, 4))
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


class LdpcCode:
    """Base graph 2 for ``k`` information bits, 1..3840, rate matched to ``n`` sent, at least ``k``.

    The decoder makes at most ``iterations`` passes; for ``rule`` and ``kernel`` see
    :func:`twophase.sim.codes.message_passing.propagate`.

    Examples
    --------
    >>> code = LdpcCode(24, 48)
    >>> code.z, code.checks.width, len(code.checks.starts) - 1
    (4, 56, 32)
    """

    def __init__(
        self, k: int, n: int, iterations: int = 20, rule: str = "min-sum", kernel: str = "numpy"
    ) -> None:
        self.z, self.lifting_set = lifting_size(k)
        if n < k:
            raise InputError("n", f"be at least the {k} information bits", n)
        if iterations < 1:
            raise InputError("iterations", "be at least 1", iterations)
        if rule not in RULES:
            raise InputError("rule", "be 'min-sum' or 'sum-product'", rule)
        self.k, self.n, self.iterations, self.rule = k, n, iterations, rule
        self.kernel = checked_kernel(kernel)
        places = np.arange(2 * self.z, COLUMNS * self.z, dtype=np.int64)
        circle = places[(places < k) | (places >= SYSTEMATIC * self.z)]
        self.pattern = circle[np.arange(n) % len(circle)]
        # Bits of the mother code that the decoder knows, and their numbers there.
        checks = self._needed_checks()
        needed = np.unique(np.concatenate([np.arange(k), self.pattern, *checks]))
        number = np.full(COLUMNS * self.z, -1, dtype=np.int64)
        number[needed] = np.arange(len(needed))
        self._place = number[self.pattern]
        self.checks = parity_checks([number[check].tolist() for check in checks], len(needed))

    def encode(self, bits: ArrayLike) -> NDArray[np.uint8]:
        """Information bits, (..., k), to the bits sent, (..., n)."""
        values = checked_bits(bits, self.k)
        information = np.zeros((values.size // self.k, SYSTEMATIC * self.z), dtype=np.uint8)
        information[:, : self.k] = values.reshape(-1, self.k)
        word = encode_mother(information, self.z, self.lifting_set)
        return word[:, self.pattern].reshape(*values.shape[:-1], self.n)

    def decode(self, llr: ArrayLike) -> NDArray[np.float32]:
        """LLRs, log P1/P0, of the information bits, decoded by the code's rule; (..., n) to (..., k)."""
        values = checked_llr(llr, self.n)
        mother = collect(values.reshape(-1, self.n), self._place, self.checks.width)
        posterior = propagate(self.checks, mother, self.iterations, self.rule, self.kernel)
        return posterior[:, : self.k].reshape(*values.shape[:-1], self.k)

    def _needed_checks(self) -> list[list[int]]:
        """Checks that a decoder needs, on the numbers of the mother code's bits."""
        sent = np.zeros(COLUMNS * self.z, dtype=bool)
        sent[self.pattern] = True
        filler = range(self.k, SYSTEMATIC * self.z)
        checks: list[list[int]] = []
        for row, entries in enumerate(shifts(self.lifting_set, self.z)):
            layer = [
                [column * self.z + (place + shift) % self.z for column, shift in entries]
                for place in range(self.z)
                if row < CORE or sent[(SYSTEMATIC + row) * self.z + place]
            ]
            kept = [[bit for bit in check if bit not in filler] for check in layer]
            # A parity bit of fillers alone is zero and says nothing.
            kept = [check for check in kept if len(check) > 1]
            # By degree, so that equal ones share a layer; within a row the order does not matter.
            checks += sorted(kept, key=len)
        return checks
