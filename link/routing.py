"""Who chooses the mode of a sample, by which rule, and how the receiver learns of it.

A mode that follows from the SNR alone (``snr``, ``table``) is a step function, which both ends evaluate on
their own estimate of the SNR: nothing is sent, but the estimates may disagree.  A mode that follows from the
content, too (``content``), is given in a header (:mod:`twophase.link.header`), which costs symbols and may be
misread.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import InputError
from twophase.link.header import Header, HeaderCode, HeaderStep, check_steps
from twophase.link.modes import ModeTable
from twophase.link.noise import esn0_float32, is_float32

__all__ = ["HeaderStep", "Hysteresis", "Router", "Routing", "SnrTable", "fixed_routing", "table_lines"]

Router = Literal["fixed", "content", "snr", "table"]


@dataclass(frozen=True)
class SnrTable:
    """The mode as a step function of Es/N0."""

    thresholds_db: tuple[float, ...]
    """Es/N0 in dB from which the next step applies; ascending, one fewer than ``modes``, each exact in
    float32."""
    modes: tuple[int, ...]
    """Mode number of each step; neighbours differ."""

    def __post_init__(self) -> None:
        if not self.modes:
            raise InputError("modes", "hold at least one mode number", self.modes)
        for mode in self.modes:
            if type(mode) is not int or mode < 0:
                raise InputError("modes", "be whole numbers from 0", mode)
        if len(self.thresholds_db) != len(self.modes) - 1:
            raise InputError(
                "thresholds_db",
                f"hold {len(self.modes) - 1} numbers, one fewer than modes",
                self.thresholds_db,
            )
        for threshold in self.thresholds_db:
            if not is_float32(threshold):
                raise InputError("thresholds_db", "be finite and exact in float32", threshold)
        for lower, upper in pairwise(self.thresholds_db):
            if not lower < upper:
                raise InputError("thresholds_db", "ascend", (lower, upper))
        for lower, upper in pairwise(self.modes):
            if lower == upper:
                raise InputError("modes", "change at each threshold", (lower, upper))

    def choose(self, snr_db: ArrayLike) -> NDArray[np.int64]:
        """Mode numbers at Es/N0 values in dB, same shape; a threshold belongs to the step above it.

        Examples
        --------
        >>> SnrTable((2.0, 6.5), (0, 3, 1)).choose([-5.0, 2.0, 6.4, 6.5]).tolist()
        [0, 3, 3, 1]

        Raises
        ------
        InputError
            If a value is no finite number.
        """
        thresholds = np.array(self.thresholds_db, dtype=np.float32)
        step = (esn0_float32(snr_db)[..., np.newaxis] >= thresholds).sum(axis=-1)
        return np.asarray(np.array(self.modes, dtype=np.int64)[step])

    def bounds(self, step: int) -> tuple[float, float]:
        """Where a step begins and where the next does, in dB; infinite at the ends.

        Raises
        ------
        InputError
            If there is no such step.
        """
        if not 0 <= step < len(self.modes):
            raise InputError("step", f"lie in 0..{len(self.modes) - 1}", step)
        edges = (-math.inf, *self.thresholds_db, math.inf)
        return edges[step], edges[step + 1]


@dataclass(frozen=True)
class Routing:
    """The rule of a link, as both ends know it."""

    router: Router
    """``fixed``: always mode 0.  ``snr``: a network that saw the SNR alone, read off into ``table``.
    ``table``: thresholds from measured accuracy, with hysteresis.  ``content``: a network in the transmitter
    sees the SNR and the sample."""
    table: SnrTable
    """``snr``, ``table``: the rule itself.  ``content``: the most frequent mode at each SNR on training data,
    for the reader and to replace the network.  ``fixed``: one step, mode 0."""
    hysteresis_db: float
    """How far an estimate may leave a step before the mode changes, in dB; 0 except for ``table``."""
    header: tuple[HeaderStep, ...]
    """``content``: how the mode is signalled; empty otherwise."""

    def __post_init__(self) -> None:
        if self.router not in get_args(Router):
            raise InputError("router", f"be one of {', '.join(get_args(Router))}", self.router)
        if self.router == "fixed" and self.table.modes != (0,):
            raise InputError("table", "hold mode 0 alone for the router 'fixed'", self.table.modes)
        if not 0.0 <= self.hysteresis_db < math.inf:
            raise InputError("hysteresis_db", "be finite and at least 0", self.hysteresis_db)
        if self.router != "table" and self.hysteresis_db != 0.0:
            raise InputError("hysteresis_db", f"be 0 for the router '{self.router}'", self.hysteresis_db)
        if self.router == "content" and not self.header:
            raise InputError("header", "name a code for the router 'content'", self.header)
        if self.router != "content" and self.header:
            raise InputError("header", f"be empty for the router '{self.router}'", self.header)
        check_steps(self.header)

    def check(self, modes: ModeTable) -> None:
        """Refuse modes that do not exist and codes that cannot tell them apart.

        Raises
        ------
        InputError
            If the link has no such mode, or too many (or only one) for a code of the header.
        """
        if max(self.table.modes) >= len(modes):
            raise InputError("routing.table.modes", f"lie in 0..{len(modes) - 1}", max(self.table.modes))
        self.header_of(len(modes))

    @property
    def tells_mode(self) -> bool:
        """Whether the receiver learns the mode from a header."""
        return bool(self.header)

    def header_of(self, modes_count: int) -> Header:
        """The headers of a link of so many modes; of no symbols where none is sent.

        Raises
        ------
        InputError
            If a code cannot tell so many modes apart.
        """
        return Header(self.header, modes_count)

    def header_code(self, snr_db: float, modes_count: int) -> HeaderCode | None:
        """The code of the header at an Es/N0 in dB; None where no header is sent.

        Raises
        ------
        InputError
            If ``snr_db`` is not finite or the code cannot tell so many modes apart.
        """
        return self.header_of(modes_count).code(snr_db)

    def received_mode(
        self, snr_db: ArrayLike, header_llr: ArrayLike | None, modes_count: int
    ) -> NDArray[np.int64]:
        """Modes that the receiver decides for, of ``modes_count``; shape of the headers, else of ``snr_db``.

        ``snr_db`` is the receiver's own Es/N0 in dB, one or one per sample; ``header_llr`` are LLRs of the
        header's bits, (..., 2 * max_symbols) of :meth:`header_of`, or None where the routing sends none.

        Raises
        ------
        InputError
            If ``header_llr`` is missing or not expected, or a shape or value is wrong.
        """
        if self.tells_mode:
            if header_llr is None:
                raise InputError("header_llr", "be given: this link sends the mode in a header", None)
            return self.header_of(modes_count).decode(header_llr, snr_db)
        if header_llr is not None and np.size(header_llr):
            raise InputError("header_llr", "be empty: this link sends no header", np.shape(header_llr))
        return self.table.choose(snr_db)


class Hysteresis:
    """What one end of a ``table`` link remembers, so that a jittering estimate does not flip the mode.

    The graphs keep no state.  ``Transmitter`` and ``Receiver`` hold one each if asked (``hold=True``); else
    pass each end's estimates through its own and hand on what comes out:

    >>> held = Hysteresis(SnrTable((2.0,), (0, 1)), hysteresis_db=1.0)
    >>> [float(held.hold(estimate)) for estimate in (2.5, 1.5, 1.0, 2.5)]
    [2.5, 2.0, 1.0, 1.9999998807907104]

    It keeps an end from changing its mode back and forth.  It does not make two ends agree: where the SNR is
    near a threshold and each end errs by itself, they may start in different steps, and hold on to them.  Let
    one end decide and tell the other its held SNR (the simulator's ``--router-snr-error-at both``), or begin
    a session with a mode that both know.

    Parameters
    ----------
    table
        Steps of Es/N0 and their modes.
    hysteresis_db
        How far an estimate may leave the current step, in dB; 0 changes nothing.

    Raises
    ------
    InputError
        If ``hysteresis_db`` is negative or not finite.
    """

    def __init__(self, table: SnrTable, hysteresis_db: float) -> None:
        if not 0.0 <= hysteresis_db < math.inf:
            raise InputError("hysteresis_db", "be finite and at least 0", hysteresis_db)
        self._table = table
        self._hysteresis_db = hysteresis_db
        self._bounds: tuple[float, float] | None = None

    @classmethod
    def of(cls, routing: Routing, hold: bool = True) -> Hysteresis | None:
        """That of a link, for one of its ends; None where it is not to ``hold``."""
        if not isinstance(hold, bool):
            raise InputError("hold", "be True or False", hold)
        return cls(routing.table, routing.hysteresis_db) if hold else None

    def hold(self, snr_db: ArrayLike) -> NDArray[np.float32]:
        """The Es/N0 to act on.

        Parameters
        ----------
        snr_db
            Estimates in dB in the order of time, shape () or (n,).

        Returns
        -------
        NDArray
            Same shape.  An estimate that leaves the current step by less than the hysteresis is replaced by
            the nearest float32 inside that step; the first of all is taken as it is.

        Raises
        ------
        InputError
            If a value is no finite number or there is more than one axis.
        """
        estimates = esn0_float32(snr_db)
        if estimates.ndim > 1:
            raise InputError("snr_db", "have at most one axis", estimates.shape)
        held = [self._held(estimate) for estimate in estimates.ravel().tolist()]
        return np.array(held, dtype=np.float32).reshape(estimates.shape)

    def _held(self, estimate: float) -> float:
        if self._bounds is not None:
            lower, upper = self._bounds
            if lower <= estimate < upper:
                return estimate
            if 0.0 < lower - estimate < self._hysteresis_db:
                return lower
            if 0.0 <= estimate - upper < self._hysteresis_db:
                return float(np.nextafter(np.float32(upper), np.float32(-np.inf)))
        self._bounds = self._table.bounds(bisect_right(self._table.thresholds_db, estimate))
        return estimate


def fixed_routing() -> Routing:
    """The routing of a link that always sends in mode 0."""
    return Routing(router="fixed", table=SnrTable((), (0,)), hysteresis_db=0.0, header=())


def table_lines(table: SnrTable, modes: ModeTable) -> list[str]:
    """One line per step: where it applies, its mode and its symbols per sample.

    Examples
    --------
    >>> from twophase.link.modes import LinkConfig
    >>> modes = LinkConfig((16, 64), (12, 4), (4, 16), embedding_dim=8).modes
    >>> for line in table_lines(SnrTable((-1.25, 8.0), (0, 1, 3)), modes):
    ...     print(line)
    below -1.25 dB   16x4qam    24 symbols
    -1.25 to 8 dB    16x16qam   12 symbols
    from 8 dB        64x16qam    6 symbols

    Raises
    ------
    InputError
        If the table names a mode that the link does not have.
    """
    if max(table.modes) >= len(modes):
        raise InputError("table.modes", f"lie in 0..{len(modes) - 1}", max(table.modes))
    ranges = [_range(*table.bounds(step)) for step in range(len(table.modes))]
    names = [modes.names[mode] for mode in table.modes]
    counts = [str(modes[mode].symbols) for mode in table.modes]
    return [
        f"{where:{max(map(len, ranges))}}   {name:{max(map(len, names))}}   "
        f"{count:>{max(map(len, counts))}} symbol{'s' if count != '1' else ''}"
        for where, name, count in zip(ranges, names, counts, strict=True)
    ]


def _range(lower: float, upper: float) -> str:
    if math.isinf(lower):
        return "any SNR" if math.isinf(upper) else f"below {upper:g} dB"
    return f"from {lower:g} dB" if math.isinf(upper) else f"{lower:g} to {upper:g} dB"
