"""5G NR's LDPC code as a block code: base graph 2, lifting, filler bits and rate matching of TS 38.212.

A block of k bits is filled with zeros to 10 Z (clause 5.2.2) and encoded (5.3.2).  Of the 50 Z bits behind
the first 2 Z, fillers left out, the first n are sent, in a circle if there are fewer (5.4.2.1, redundancy
version 0).  No CRC is attached and blocks are not segmented: the block is one sample.

The decoder drops what cannot matter: fillers are known, and a check whose own parity bit is not sent says
nothing about others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import InputError
from twophase.sim.codes.base_graph import COLUMNS, CORE, SYSTEMATIC, encode_mother, lifting_size, shifts
from twophase.sim.codes.code import checked_bits, checked_kernel, checked_llr
from twophase.sim.codes.message_passing import RULES, parity_checks, propagate
from twophase.sim.codes.rate_matching import collect

__all__ = ["LdpcCode"]


class LdpcCode:
    """Base graph 2 for ``k`` information bits, rate matched to ``n``.

    Parameters
    ----------
    k
        Information bits, 1..3840.
    n
        Code bits that are sent, at least ``k``.
    iterations
        At most so many passes of the decoder.
    rule
        ``"min-sum"`` or ``"sum-product"``, see :mod:`twophase.sim.codes.message_passing`.
    kernel
        ``"numpy"`` or ``"numba"``.

    Examples
    --------
    >>> code = LdpcCode(24, 48)
    >>> code.z, code.checks.width, len(code.checks.starts) - 1
    (4, 56, 32)

    Raises
    ------
    InputError
        If a number is out of range or a word is unknown.
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
        """Information bits, (..., k), to the bits sent, (..., n).

        Raises
        ------
        InputError
            If the shape is wrong or something is neither 0 nor 1.
        """
        values = checked_bits(bits, self.k)
        information = np.zeros((values.size // self.k, SYSTEMATIC * self.z), dtype=np.uint8)
        information[:, : self.k] = values.reshape(-1, self.k)
        word = encode_mother(information, self.z, self.lifting_set)
        return word[:, self.pattern].reshape(*values.shape[:-1], self.n)

    def decode(self, llr: ArrayLike) -> NDArray[np.float32]:
        """A-posteriori LLRs of the information bits, as the decoder's rule has them.

        Parameters
        ----------
        llr
            log P1/P0 of each bit sent, shape (..., n).

        Returns
        -------
        NDArray
            Shape (..., k), float32.

        Raises
        ------
        InputError
            If the shape is wrong or an LLR is not finite.
        """
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
