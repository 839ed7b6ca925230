"""The header of a frame: which code tells the mode at which Es/N0, and what stands on the air.

Both ends derive the code from their own estimate of the SNR, so a header has no header of its own.  Where the
estimates fall on different sides of a step, the receiver reads with the wrong code and most likely takes a
wrong mode.

A header is dear where the channel is bad.  :func:`plan_header` takes the shortest code whose word error bound
stays below a target; for 1e-3 it asks for this many QPSK symbols:

    ========  ===  ===  ===  ===  ===  ===  ===  ===
    Es/N0     -10   -5    0  2.5    5  7.5   10   15  dB
    ========  ===  ===  ===  ===  ===  ===  ===  ===
     2 modes   32   16    8    4    2    1    1    1
     4 modes   32   32   16    8    4    2    2    1
     9 modes   32   32   16    8    8    4    4    2
    16 modes   32   32   16   16    8    4    4    2
    ========  ===  ===  ===  ===  ===  ===  ===  ===

Below -8 dB for 2 modes, -4.5 dB for 4 and -3 dB for 16 not even the longest code keeps the target: at -5 dB
the bound for 16 modes is 1 %, at -10 dB it is 52 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import InputError
from twophase.link.header_code import CODE_NAMES, HeaderCode, codes_for, header_code
from twophase.link.modes import checked_modes
from twophase.link.noise import esn0_float32, is_float32

__all__ = ["Header", "HeaderCode", "HeaderStep", "check_steps", "header_code", "plan_header"]

_ODD_REPEATS = {f"repeat{count}" for count in range(2, 17) if count & (count - 1)}
_PLANNED_DB = np.arange(-10.0, 20.5, 0.5)


@dataclass(frozen=True)
class HeaderStep:
    """From an Es/N0 on, the header is coded so."""

    from_db: float
    """Es/N0 in dB; float32 holds it exactly.  The first step applies below its own, too."""
    code: str
    """Name of a code, see :func:`~twophase.link.header_code.header_code`."""

    def __post_init__(self) -> None:
        if not is_float32(self.from_db):
            raise InputError("from_db", "be finite and exact in float32", self.from_db)
        if self.code not in CODE_NAMES:
            raise InputError("code", f"be one of {', '.join(CODE_NAMES)}", self.code)


@dataclass(frozen=True)
class Header:
    """The headers of a link: its steps, made for its number of modes.  Without steps nothing is sent."""

    steps: tuple[HeaderStep, ...]
    modes_count: int

    def __post_init__(self) -> None:
        check_steps(self.steps)
        for step in self.steps:
            header_code(step.code, self.modes_count)

    @property
    def max_symbols(self) -> int:
        """Width of padded arrays of header symbols: the longest code's."""
        return max((header_code(step.code, self.modes_count).symbols for step in self.steps), default=0)

    def code(self, snr_db: float) -> HeaderCode | None:
        """The code at an Es/N0; None without steps.

        Raises
        ------
        InputError
            If ``snr_db`` is no finite number.
        """
        if not self.steps:
            return None
        return header_code(self.steps[int(self._step(snr_db))].code, self.modes_count)

    def symbol_count(self, snr_db: ArrayLike) -> NDArray[np.int64]:
        """Channel uses of the header at each Es/N0, same shape; errors of :meth:`code`."""
        counts = np.zeros(np.shape(snr_db), dtype=np.int64)
        for code, here in self._in_use(snr_db):
            counts[here] = code.symbols
        return counts

    def encode(self, mode: ArrayLike, snr_db: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Headers that tell the modes.

        Parameters
        ----------
        mode
            Mode numbers, shape (...,).
        snr_db
            The transmitter's Es/N0; broadcasts to the shape of ``mode``.

        Returns
        -------
        tuple
            QPSK point numbers, (..., max_symbols), -1 behind a header's symbols, and their counts, (...,).

        Raises
        ------
        InputError
            If a mode does not exist, or ``snr_db`` is not finite or of another shape.
        """
        numbers = checked_modes(mode, self.modes_count)
        snr = _broadcast(snr_db, numbers.shape)
        symbols = np.full((*numbers.shape, self.max_symbols), -1, dtype=np.int64)
        for code, here in self._in_use(snr):
            symbols[here, : code.symbols] = code.symbols_of(numbers[here])
        return symbols, self.symbol_count(snr)

    def decode(self, llr: ArrayLike, snr_db: ArrayLike) -> NDArray[np.int64]:
        """Modes that received headers tell.

        Parameters
        ----------
        llr
            log P(b=1)/P(b=0) of the bits of the first ``max_symbols`` symbols of each frame, shape
            (..., 2 * max_symbols); what lies behind the code of ``snr_db`` is not looked at.
        snr_db
            The receiver's Es/N0; broadcasts to (...).

        Returns
        -------
        NDArray
            Shape (...,).

        Raises
        ------
        InputError
            If there is no header, a shape is wrong or a value is not finite.
        """
        values = np.asarray(llr, dtype=np.float64)
        width = 2 * self.max_symbols
        if not self.steps:
            raise InputError("header", "have a code to be decoded", self.steps)
        if values.ndim == 0 or values.shape[-1] != width:
            raise InputError("header_llr", f"have shape (..., {width})", values.shape)
        modes = np.zeros(values.shape[:-1], dtype=np.int64)
        for code, here in self._in_use(_broadcast(snr_db, modes.shape)):
            modes[here] = code.decode(values[here, : code.n])
        return modes

    def _step(self, snr_db: ArrayLike) -> NDArray[np.int64]:
        later = np.array([step.from_db for step in self.steps[1:]], dtype=np.float32)
        return np.asarray((esn0_float32(snr_db)[..., np.newaxis] >= later).sum(axis=-1), dtype=np.int64)

    def _in_use(self, snr_db: ArrayLike) -> Iterator[tuple[HeaderCode, NDArray[np.bool_]]]:
        """Each code that some SNR calls for, with where it does."""
        number = self._step(snr_db)
        for index, step in enumerate(self.steps):
            here = np.asarray(number == index)
            if here.any():
                yield header_code(step.code, self.modes_count), here


def check_steps(steps: tuple[HeaderStep, ...]) -> None:
    """Refuse steps that do not ascend or change nothing.

    Raises
    ------
    InputError
        If ``from_db`` does not rise, or neighbours have the same code.
    """
    for lower, upper in pairwise(steps):
        if not lower.from_db < upper.from_db:
            raise InputError("header", "have steps that ascend", (lower.from_db, upper.from_db))
        if lower.code == upper.code:
            raise InputError("header", "change its code at each step", (lower.code, upper.code))


@cache
def plan_header(modes_count: int, target: float = 1e-3) -> tuple[HeaderStep, ...]:
    """The shortest code that is safe enough at each Es/N0.

    On a grid of 0.5 dB from -10 to 20 dB, the code of fewest symbols whose word error bound on AWGN is at
    most ``target``; of equally long ones that of the larger distance.  Where none is safe, the one of the
    largest distance.  Of the repetitions only those by powers of two take part: each step is a place where
    the ends may disagree, and lengths that double keep the steps few.

    Parameters
    ----------
    modes_count
        M, from 2.
    target
        Probability above 0 and below 1.

    Raises
    ------
    InputError
        If an argument is out of range.
    """
    if not 0.0 < target < 1.0:
        raise InputError("target", "lie between 0 and 1", target)
    codes = [code for code in codes_for(modes_count) if code.name not in _ODD_REPEATS]
    codes.sort(key=lambda code: (code.symbols, -code.min_distance))
    bounds = np.array([code.word_error_bound(_PLANNED_DB) for code in codes])
    steps: list[HeaderStep] = []
    for esn0_db, column in zip(_PLANNED_DB.tolist(), bounds.T, strict=True):
        safe = np.flatnonzero(column <= target)
        code = codes[safe[0]] if safe.size else max(codes, key=lambda entry: entry.min_distance)
        if not steps or steps[-1].code != code.name:
            steps.append(HeaderStep(esn0_db, code.name))
    return tuple(steps)


def _broadcast(snr_db: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float32]:
    snr = esn0_float32(snr_db)
    try:
        return np.broadcast_to(snr, shape)
    except ValueError:
        raise InputError("snr_db", f"broadcast to the shape {shape}", snr.shape) from None
