"""What the channel codes of this package share: their interface, their layout in memory, interleavers.

A compiled decoder runs :data:`LANES` frames at once, one in each lane of the processor's vector registers.
Every lane does the same arithmetic whatever its neighbours hold, so a frame's result does not depend on its
batch.

Bits of a Gray-labelled QAM symbol are not equally reliable, so it matters where a code bit lands.  An
interleaver is an array ``order`` of shape (n,): place i of the symbols' bits carries code bit ``order[i]``.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.demap import available_kernels
from twophase.link.errors import InputError

__all__ = [
    "LANES",
    "BlockCode",
    "checked_bits",
    "checked_kernel",
    "checked_llr",
    "collect",
    "from_lanes",
    "rotating_interleaver",
    "row_column_interleaver",
    "to_lanes",
]

LANES = 32
"""Frames that a compiled decoder runs at once.  Loops over 16 lanes would be unrolled before the compiler
looks for vector instructions, and stay scalar."""

Real = TypeVar("Real", bound=np.floating)


def to_lanes(values: NDArray[Real]) -> NDArray[Real]:
    """(frames, n) to (ceil(frames / LANES), n, LANES); lanes without a frame repeat the last one."""
    frames, n = values.shape
    groups = -(-frames // LANES)
    padded = np.pad(values, [(0, groups * LANES - frames), (0, 0)], mode="edge") if frames else values
    return np.ascontiguousarray(padded.reshape(groups, LANES, n).transpose(0, 2, 1))


def from_lanes(values: NDArray[Real], frames: int) -> NDArray[Real]:
    """Undo :func:`to_lanes`: (groups, n, LANES) to (frames, n)."""
    groups, n, lanes = values.shape
    return np.ascontiguousarray(values.transpose(0, 2, 1).reshape(groups * lanes, n)[:frames])


def collect(llr: NDArray[np.float32], pattern: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    """LLRs of the sent bits, (frames, n), to those of the mother code's, (frames, width).

    Sent bit i is bit ``pattern[i]`` of the mother code.  One that is sent several times adds up, in the order
    of sending; one that is not sent has LLR zero.
    """
    mother = np.zeros((len(llr), width), dtype=np.float32)
    seen = np.zeros(width, dtype=np.int64)
    turn = np.empty(len(pattern), dtype=np.int64)
    for place, position in enumerate(pattern):
        turn[place] = seen[position]
        seen[position] += 1
    for number in range(int(turn.max(initial=-1)) + 1):
        sent = turn == number
        mother[:, pattern[sent]] += llr[:, sent]
    return mother


def row_column_interleaver(n: int, bits_per_symbol: int) -> NDArray[np.int64]:
    """Bit interleaver of 3GPP TS 38.212 clause 5.4.2.2: the first code bits take the most reliable places.

    Examples
    --------
    >>> row_column_interleaver(8, 4).tolist()
    [0, 2, 4, 6, 1, 3, 5, 7]
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
    """
    symbols = _symbols(n, bits_per_symbol)
    turn, symbol = np.divmod(np.arange(n, dtype=np.int64), symbols)
    order = np.empty(n, dtype=np.int64)
    order[symbol * bits_per_symbol + (turn + symbol) % bits_per_symbol] = np.arange(n)
    return order


def _symbols(n: int, bits_per_symbol: int) -> int:
    """How many symbols ``n`` bits fill; InputError if there is a rest."""
    if n < 1 or bits_per_symbol < 1 or n % bits_per_symbol:
        raise InputError("n", f"be a positive multiple of {bits_per_symbol} bits per symbol", n)
    return n // bits_per_symbol


class BlockCode(Protocol):
    """A binary code of ``k`` information and ``n`` code bits, rate matching included.

    Methods raise :class:`~twophase.link.errors.InputError` if a shape is wrong, a bit neither 0 nor 1 or an
    LLR not finite.
    """

    k: int
    n: int

    def encode(self, bits: ArrayLike) -> NDArray[np.uint8]:
        """Information bits, (..., k), to the code bits that are sent, (..., n)."""
        ...

    def decode(self, llr: ArrayLike) -> NDArray[np.float32]:
        """Channel LLRs log P1/P0, (..., n), to the decoder's LLRs of the information bits, (..., k)."""
        ...


def checked_kernel(kernel: str) -> str:
    """``kernel`` if it is ``"numpy"`` or, where numba is installed, ``"numba"``; InputError otherwise."""
    if kernel not in available_kernels():
        raise InputError("kernel", "be " + " or ".join(map(repr, available_kernels())), kernel)
    return kernel


def checked_bits(bits: ArrayLike, width: int) -> NDArray[np.uint8]:
    """Zeros and ones, shape (..., width); InputError if they are not."""
    values = np.asarray(bits)
    if values.ndim == 0 or values.shape[-1] != width:
        raise InputError("bits", f"have shape (..., {width})", values.shape)
    if values.size and not ((values == 0) | (values == 1)).all():
        raise InputError("bits", "be zeros and ones", f"an array of {values.dtype}")
    return values.astype(np.uint8)


def checked_llr(llr: ArrayLike, width: int) -> NDArray[np.float32]:
    """LLRs in single precision, held within -:data:`LARGEST`..:data:`LARGEST`.

    InputError if they are not finite numbers of shape (..., width).
    """
    values = np.asarray(llr)
    if values.dtype.kind not in "iuf":
        raise InputError("llr", "be real numbers", f"an array of {values.dtype}")
    if values.ndim == 0 or values.shape[-1] != width:
        raise InputError("llr", f"have shape (..., {width})", values.shape)
    if not np.isfinite(values).all():
        raise InputError("llr", "be finite", "an array with NaN or infinity")
    return np.asarray(np.clip(values, -LARGEST, LARGEST), dtype=np.float32)


LARGEST = 1000.0
"""Bound on |LLR| that decoders work with: far beyond any doubt, and sums of it keep their digits."""
