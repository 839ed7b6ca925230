"""Companions: other ways to deliver the same samples, shown beside the deployed link.

A companion sees the same samples and goes through the same air.  Like the soft references it is told the mode
of each sample, and it never takes part in the verdict: it answers what another design would have reached with
the same symbols.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from twophase.link.errors import InputError
from twophase.link.modem import Transmission
from twophase.link.modes import ModeTable
from twophase.link.sentences import Sentences
from twophase.sim.settings import SENTENCE_BASELINES, BaselineName, Settings
from twophase.sim.system import Listener

__all__ = ["Companion", "Load", "make_companions", "scaled_load"]


@dataclass(frozen=True)
class Load:
    """What one companion puts on the air for all samples."""

    mode: NDArray[np.int64]
    """Mode that the deployed transmitter chose, shape (samples,)."""
    points: NDArray[np.complex128]
    """Shape (samples, max_symbols), of unit average energy; zero behind a sample's symbols."""
    symbols: NDArray[np.int64]
    """Symbols sent for each sample, shape (samples,)."""
    energy: float
    """E, average energy per symbol before the points were divided by sqrt(E)."""


class Companion(Protocol):
    """A further system on the same samples and the same air."""

    @property
    def name(self) -> str:
        """``conv``, ``ldpc``, ``classify-and-send`` or ``tfidf``."""
        ...

    @property
    def description(self) -> str:
        """One sentence on what it sends and how it is received."""
        ...

    @property
    def behind_header(self) -> bool:
        """Whether its frame follows the deployed link's header, which it needs and pays for."""
        ...

    @property
    def max_symbols(self) -> int:
        """Symbols of its widest frame: the columns of all arrays."""
        ...

    def load(self, sent: Transmission, classes: NDArray[np.int64], symbols: NDArray[np.int64]) -> Load:
        """Points of all samples.

        Parameters
        ----------
        sent
            What the deployed transmitter sends.
        classes
            The transmitter's own decision: the deployed receiver on what was sent, without noise; shape
            (samples,).
        symbols
            Length of the deployed link's frames, header and payload, shape (samples,).
        """
        ...

    def hear(
        self,
        load: Load,
        rows: NDArray[np.intp],
        received: NDArray[np.complex128],
        gains: NDArray[np.complex128],
        noise_var: NDArray[np.float64],
    ) -> NDArray[np.int64]:
        """Decided classes, shape (len(rows),).

        Parameters
        ----------
        load
            What :meth:`load` gave.
        rows
            Which of its samples these are.
        received, gains, noise_var
            Shape (len(rows), max_symbols): what came in, the gain of the air that the receiver goes by
            (before the division by sqrt(E)) and its N0, the total complex variance of the noise.
        """
        ...


def make_companions(
    settings: Settings,
    modes: ModeTable,
    listener: Listener,
    classes: int,
    llr_clip: float,
    header_symbols: int = 0,
    sentences: Sentences | None = None,
) -> tuple[Companion, ...]:
    """Make the companions that the settings ask for, codes first.

    What is no system on the link's air has no companion: the ceiling without a channel, and the sentences,
    which :mod:`twophase.sim.baselines.text` sends.

    Parameters
    ----------
    settings
        Its ``codes``, ``baselines`` and ``kernel`` are used.
    modes
        Modes of the deployed link.
    listener
        Its receiver, which also classifies what the coded companions decode.
    classes
        Number of classes.
    llr_clip
        Bound on |LLR| of what the receiver is given.
    header_symbols
        Widest header of the deployed link: a label may use a frame's header symbols as well.
    sentences
        What the samples are features of, where a baseline needs them.

    Raises
    ------
    InputError
        If a name is unknown, a mode has more bits than a code can take, or a baseline lacks its sentences.
    """
    # Late: codes and their tables are built only for those who ask.
    from twophase.sim.baselines.coded import CodedCompanion
    from twophase.sim.baselines.label import LabelSender

    made: list[Companion] = [
        CodedCompanion(name, modes, listener, llr_clip, settings.kernel) for name in settings.codes
    ]
    longest = header_symbols + modes.max_symbols
    for name in settings.baselines:
        if name not in get_args(BaselineName):
            raise InputError("baseline", "be " + ", ".join(map(repr, get_args(BaselineName))), name)
        if name in SENTENCE_BASELINES and sentences is None:
            raise InputError("baseline", "be left out where the samples hold no sentences", name)
        if name == "classify-and-send":
            made.append(LabelSender(classes, longest))
        elif name == "tfidf" and sentences is not None:
            made.append(LabelSender(classes, longest, sentences.tfidf))
    return tuple(made)


def scaled_load(mode: NDArray[np.int64], points: NDArray[np.complex128], symbols: NDArray[np.int64]) -> Load:
    """Divide points by the square root of their measured energy per symbol, as the deployed stream is.

    Raises
    ------
    InputError
        If no symbol or no energy is sent.
    """
    count = int(symbols.sum())
    energy = float(np.sum(points.real**2 + points.imag**2)) / count if count else 0.0
    if not energy > 0:
        raise InputError("points", "carry energy", energy)
    return Load(mode, points / np.sqrt(energy), symbols, energy)
