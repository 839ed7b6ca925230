"""QAM constellations of 3GPP TS 38.211 clauses 5.1.3 to 5.1.6, with unit average energy.

The number of a point is the number that its bits spell, MSB first.  A square QAM is two independent
amplitude modulations: bits 0, 2, 4, ... choose the real part and bits 1, 3, 5, ... the imaginary part, by the
same rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.bits import indices_to_bits, whole_numbers
from twophase.link.errors import InputError
from twophase.link.modes import QAM_ORDERS

__all__ = ["Constellation", "qam"]


@dataclass(frozen=True, eq=False)
class Constellation:
    """A square QAM constellation; make one with :func:`qam`.  Its arrays are read-only."""

    order: int
    """M, the number of points."""
    bits_per_symbol: int
    """log2 M; even."""
    points: NDArray[np.complex128]
    """Shape (M,); ``points[i]`` carries the bits of i; unit average energy."""
    axis_levels: NDArray[np.float64]
    """Amplitudes of either axis, shape (L,) with L = sqrt(M), ascending: odd integers over one scale."""
    axis_labels: NDArray[np.uint8]
    """Bits of each amplitude, shape (L, bits_per_symbol / 2): the symbol's even bits for the real axis, its
    odd bits for the imaginary one."""

    def modulate(self, symbols: ArrayLike) -> NDArray[np.complex128]:
        """Constellation points of point numbers, same shape.

        Raises
        ------
        InputError
            If a number is no integer of 0..M-1.
        """
        return self.points[whole_numbers("symbols", symbols, self.order)]


@cache
def qam(order: int) -> Constellation:
    """QPSK (4), 16-, 64- or 256-QAM.

    Examples
    --------
    >>> (qam(16).points[[0, 1, 2, 15]] * 10**0.5).round(9).tolist()
    [(1+1j), (1+3j), (3+1j), (-3-3j)]

    Raises
    ------
    InputError
        If ``order`` is not 4, 16, 64 or 256.
    """
    if not isinstance(order, (int, np.integer)) or order not in QAM_ORDERS:
        raise InputError("order", "be 4, 16, 64 or 256", order)
    bits_per_symbol = int(order).bit_length() - 1
    bits = indices_to_bits(np.arange(order), bits_per_symbol)
    scale = float(np.sqrt(2 * (order - 1) / 3))  # sqrt(2), sqrt(10), sqrt(42), sqrt(170)
    points = np.empty(order, dtype=np.complex128)
    points.real = _amplitude(bits[:, 0::2]) / scale
    points.imag = _amplitude(bits[:, 1::2]) / scale

    axis_bits = indices_to_bits(np.arange(2 ** (bits_per_symbol // 2)), bits_per_symbol // 2)
    amplitudes = _amplitude(axis_bits)
    ascending = np.argsort(amplitudes)
    levels = amplitudes[ascending] / scale
    labels = axis_bits[ascending]
    for array in (points, levels, labels):
        array.setflags(write=False)
    return Constellation(int(order), bits_per_symbol, points, levels, labels)


def _amplitude(bits: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Odd-integer amplitude of one axis' bits, (..., m) to (...,).

    The standard nests ``(1-2b0) [2^(m-1) - (1-2b1) [2^(m-2) - ... (1-2b_{m-1})]]``, written here from the
    innermost bracket outwards.
    """
    signs = 1.0 - 2.0 * bits
    width = bits.shape[-1]
    amplitude = signs[..., width - 1]
    for position in range(width - 2, -1, -1):
        amplitude = signs[..., position] * (2.0 ** (width - 1 - position) - amplitude)
    return np.asarray(amplitude, dtype=np.float64)
