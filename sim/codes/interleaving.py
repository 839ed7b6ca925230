"""Which code bit goes to which place of the constellation symbols' bits.

Bits of a Gray-labelled QAM symbol are not equally reliable, so it matters where a code bit lands.  An
interleaver is an array ``order`` of shape (n,): place i of the symbols' bits carries code bit ``order[i]``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twophase.link.errors import InputError

__all__ = ["rotating_interleaver", "row_column_interleaver"]


def row_column_interleaver(n: int, bits_per_symbol: int) -> NDArray[np.int64]:
    """Bit interleaver of 3GPP TS 38.212 clause 5.4.2.2: the first code bits take the most reliable places.

    Examples
    --------
    >>> row_column_interleaver(8, 4).tolist()
    [0, 2, 4, 6, 1, 3, 5, 7]

    Raises
    ------
    InputError
        If n is no multiple of ``bits_per_symbol``.
    """
    symbols = _symbols(n, bits_per_symbol)
    return np.arange(n, dtype=np.int64).reshape(bits_per_symbol, symbols).T.ravel()


def rotating_interleaver(n: int, bits_per_symbol: int) -> NDArray[np.int64]:
    """Neighbouring code bits go to different symbols and to different bit levels.

    Code bit t = q S + s goes to symbol s, bit (q + s) modulo ``bits_per_symbol``, S being the number of
    symbols: no stretch of a trellis gets only weak places.

    Examples
    --------
    >>> rotating_interleaver(8, 4).tolist()
    [0, 2, 4, 6, 7, 1, 3, 5]

    Raises
    ------
    InputError
        If n is no multiple of ``bits_per_symbol``.
    """
    symbols = _symbols(n, bits_per_symbol)
    turn, symbol = np.divmod(np.arange(n, dtype=np.int64), symbols)
    order = np.empty(n, dtype=np.int64)
    order[symbol * bits_per_symbol + (turn + symbol) % bits_per_symbol] = np.arange(n)
    return order


def _symbols(n: int, bits_per_symbol: int) -> int:
    if n < 1 or bits_per_symbol < 1 or n % bits_per_symbol:
        raise InputError("n", f"be a positive multiple of {bits_per_symbol} bits per symbol", n)
    return n // bits_per_symbol
