"""The header of a frame: which code names the mode at which Es/N0, and what is on the air.

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

Short block codes over QPSK that tell the receiver the mode of a sample.

A mode that the transmitter chooses by a sample's content must be known before the payload can be read.  Its
number, MSB first, is the message of a short linear code: the index bits as they are (``plain``), repeated
(``repeatR``), or a first-order Reed-Muller code RM(1,m) of length 2^m, dimension m + 1 and minimum distance
2^(m-1) (MacWilliams and Sloane, "The Theory of Error-Correcting Codes", 1977, ch. 13; RM(1,3) is the (8,4)
extended Hamming code ``hamming84``, ibid. ch. 1).  The receiver correlates the LLRs with every codeword in
use: soft maximum likelihood.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.bits import as_array, bits_to_symbols, indices_to_bits, whole_numbers
from twophase.link.errors import InputError
from twophase.link.noise import esn0_db_to_noise_var, esn0_float32, is_float32

__all__ = [
    "CODE_NAMES",
    "Header",
    "HeaderCode",
    "HeaderStep",
    "check_steps",
    "codes_for",
    "header_code",
    "plan_header",
]


_REED_MULLER = {"rm12": 2, "hamming84": 3, "rm14": 4, "rm15": 5, "rm16": 6}
_MAX_REPEATS = 16

CODE_NAMES = ("plain", *(f"repeat{count}" for count in range(2, _MAX_REPEATS + 1)), *_REED_MULLER)
"""Every code that :func:`header_code` knows."""

_MAX_MODES = 1024
"""Decoding compares all codewords; more modes than this are a mistake."""


@dataclass(frozen=True, eq=False)
class HeaderCode:
    """A code made for a number of modes; make one with :func:`header_code`.  Its arrays are read-only."""

    name: str
    modes_count: int
    """M: the codewords of the messages 0..M-1 are in use."""
    k: int
    """Information bits of the code."""
    generator: NDArray[np.uint8]
    """Shape (k, n), n even.  Index bits take the first rows; the message is zero on the others."""
    codewords: NDArray[np.uint8]
    """The bits that tell each mode, shape (M, n)."""
    min_distance: int
    """Smallest Hamming distance between two codewords in use."""

    @property
    def n(self) -> int:
        """Channel bits."""
        return int(self.generator.shape[1])

    @property
    def symbols(self) -> int:
        """Channel uses: QPSK carries two bits each."""
        return self.n // 2

    def encode(self, mode: ArrayLike) -> NDArray[np.uint8]:
        """Code bits of mode numbers, (...,) to (..., n).

        Raises
        ------
        InputError
            If a number is no integer of 0..M-1.
        """
        return self.codewords[whole_numbers("mode", mode, self.modes_count)]

    def symbols_of(self, mode: ArrayLike) -> NDArray[np.int64]:
        """QPSK point numbers of mode numbers, (...,) to (..., n / 2); errors of :meth:`encode`."""
        return bits_to_symbols(self.encode(mode), 2)

    def decode(self, llr: ArrayLike) -> NDArray[np.int64]:
        """Most likely mode, (...,): the codeword c of the largest sum of (2c - 1) llr; of equals the lowest.

        ``llr`` is log P(b=1)/P(b=0) of each code bit, shape (..., n).

        Raises
        ------
        InputError
            If the shape is wrong or an LLR is not finite.
        """
        values = _real(llr)
        if values.ndim == 0 or values.shape[-1] != self.n:
            raise InputError("llr", f"have shape (..., {self.n})", values.shape)
        if not np.isfinite(values).all():
            raise InputError("llr", "be finite", "an array with NaN or infinity")
        signs = 2.0 * self.codewords - 1.0
        score = np.zeros((*values.shape[:-1], self.modes_count))
        # Bit by bit: a matrix product may sum in another order in a batch of another size.
        for position in range(self.n):
            score += values[..., position, np.newaxis] * signs[:, position]
        return np.asarray(np.argmax(score, axis=-1), dtype=np.int64)

    def word_error_bound(self, esn0_db: ArrayLike) -> NDArray[np.float64]:
        """Probability that AWGN turns a header into another one, at most; same shape.

        The union bound of soft maximum likelihood for the mode whose codeword has the nearest neighbours:
        each other codeword at Hamming distance d counts Q(sqrt(d Es/N0)), since a QPSK symbol gives Es/2 to
        each of its bits and N0/2 is the noise on its axis.  Held to at most 1.

        Raises
        ------
        InputError
            If an SNR is not finite.
        """
        ratio = np.asarray(1.0 / esn0_db_to_noise_var(esn0_db))
        distance = _distances(self.codewords)
        unequal, place = np.unique(distance, return_inverse=True)
        pairwise = np.array([_gaussian_tail(np.sqrt(d * ratio)) for d in unequal])
        counts = np.array([np.bincount(row, minlength=unequal.size) for row in place.reshape(distance.shape)])
        counts[:, unequal == 0] = 0
        worst = np.tensordot(counts, pairwise, axes=1).max(axis=0)
        return np.asarray(np.minimum(worst, 1.0))


@cache
def header_code(name: str, modes_count: int) -> HeaderCode:
    """Make the code of a name for M modes.

    Parameters
    ----------
    name
        ``plain``; ``repeat2`` .. ``repeat16``; ``rm12``, ``hamming84``, ``rm14``, ``rm15``, ``rm16``.
    modes_count
        M, from 2: a single mode needs no header.

    Examples
    --------
    >>> code = header_code("hamming84", 9)
    >>> code.k, code.n, code.symbols, code.min_distance
    (4, 8, 4, 4)
    >>> code.encode(3).tolist()
    [0, 1, 1, 0, 0, 1, 1, 0]

    Raises
    ------
    InputError
        If the name is unknown, there are fewer than 2 or more than 1024 modes, or more than the code can tell
        apart.
    """
    if name not in CODE_NAMES:
        known = f"plain, repeat2 to repeat{_MAX_REPEATS}, {', '.join(_REED_MULLER)}"
        raise InputError("header", f"be one of {known}", name)
    if not 2 <= modes_count <= _MAX_MODES:
        raise InputError("modes_count", f"lie in 2..{_MAX_MODES} for a header", modes_count)
    index_bits = (modes_count - 1).bit_length()
    generator = _generator(name, index_bits)
    k = len(generator)
    if index_bits > k:
        raise InputError("header", f"be a code of at least {index_bits} bits for {modes_count} modes", name)
    messages = np.zeros((modes_count, k), dtype=np.int64)
    messages[:, :index_bits] = indices_to_bits(np.arange(modes_count), index_bits)
    codewords = ((messages @ generator) % 2).astype(np.uint8)
    distance = _distances(codewords)
    for array in (generator, codewords):
        array.setflags(write=False)
    return HeaderCode(name, modes_count, k, generator, codewords, int(distance[distance > 0].min()))


def codes_for(modes_count: int) -> tuple[HeaderCode, ...]:
    """Every code that can tell M modes apart; errors of :func:`header_code`."""
    index_bits = header_code("plain", modes_count).k
    return tuple(
        header_code(name, modes_count)
        for name in CODE_NAMES
        if name not in _REED_MULLER or index_bits <= _REED_MULLER[name] + 1
    )


def _generator(name: str, index_bits: int) -> NDArray[np.uint8]:
    """Generator matrix, shape (k, n)."""
    if name in _REED_MULLER:
        # All ones, then one row for each of the m variables, whose values run through the columns: any
        # first rows but the first alone span a code of distance 2^(m-1), the first alone one of 2^m.
        variables = _REED_MULLER[name]
        columns = indices_to_bits(np.arange(2**variables), variables).T
        return np.concatenate([np.ones_like(columns[:1]), columns])
    repeated = re.fullmatch(r"repeat(\d+)", name)
    repeats = int(repeated.group(1)) if repeated else 1
    identity = np.tile(np.eye(index_bits, dtype=np.uint8), repeats)
    return np.pad(identity, [(0, 0), (0, identity.shape[1] % 2)])


def _distances(codewords: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Hamming distances of all pairs, shape (M, M)."""
    signs = 1.0 - 2.0 * codewords
    return np.asarray(np.rint((codewords.shape[1] - signs @ signs.T) / 2), dtype=np.int64)


def _gaussian_tail(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Q(x), the probability that a standard Gaussian exceeds x."""
    return np.asarray(np.vectorize(math.erfc, otypes=[np.float64])(x / math.sqrt(2)) / 2)


_ODD_REPEATS = {f"repeat{count}" for count in range(2, 17) if count & (count - 1)}
_PLANNED_DB = np.arange(-10.0, 20.5, 0.5)


@dataclass(frozen=True)
class HeaderStep:
    """From an Es/N0 on, the header is coded so."""

    from_db: float
    """Es/N0 in dB; float32 holds it exactly.  The first step applies below its own, too."""
    code: str
    """Name of a code, see :func:`~twophase.link.header.header_code`."""

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
        """Headers that tell modes, (...,), at the transmitter's Es/N0, which broadcasts to their shape.

        QPSK point numbers, (..., max_symbols), -1 after a header's symbols, and their counts, (...,).

        Raises
        ------
        InputError
            If a mode does not exist, or ``snr_db`` is not finite or of another shape.
        """
        numbers = whole_numbers("mode", mode, self.modes_count)
        if not self.steps:  # any SNR will do
            return np.empty((*numbers.shape, 0), dtype=np.int64), np.zeros(numbers.shape, dtype=np.int64)
        snr = _broadcast(snr_db, numbers.shape)
        symbols = np.full((*numbers.shape, self.max_symbols), -1, dtype=np.int64)
        for code, here in self._in_use(snr):
            symbols[here, : code.symbols] = code.symbols_of(numbers[here])
        return symbols, self.symbol_count(snr)

    def decode(self, llr: ArrayLike, snr_db: ArrayLike) -> NDArray[np.int64]:
        """Modes that received headers tell, shape (...,).

        Parameters
        ----------
        llr
            log P(b=1)/P(b=0) of the bits of the first ``max_symbols`` symbols of each frame, shape
            (..., 2 * max_symbols); what lies after the code of ``snr_db`` is not looked at.
        snr_db
            The receiver's Es/N0; broadcasts to (...).

        Raises
        ------
        InputError
            If there is no header, a shape is wrong or a value is not finite.
        """
        values = _real(llr)
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


def _real(llr: ArrayLike) -> NDArray[np.float64]:
    array = as_array("llr", llr)
    if array.dtype.kind not in "biuf":
        raise InputError("llr", "be real numbers", f"an array of {array.dtype}")
    return array.astype(np.float64)
