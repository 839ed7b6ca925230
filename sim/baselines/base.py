"""What a baseline is: another way to deliver the same samples, measured with the deployed link.

A baseline sees the same samples and goes through the same air.  Like the soft references it is given the mode
of each sample, and it never takes part in the verdict: it answers what another design would have reached with
the same symbols.  :mod:`twophase.sim.baselines.registry` makes those that are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twophase.link.errors import InputError
from twophase.link.modem import Transmission

__all__ = ["Baseline", "Payload", "scaled_payload"]


@dataclass(frozen=True)
class Payload:
    """What one baseline puts on the air for all samples."""

    mode: NDArray[np.int64]
    """Mode that the deployed transmitter chose, shape (samples,)."""
    points: NDArray[np.complex128]
    """Shape (samples, max_symbols), of unit average energy; zero after a sample's symbols."""
    symbols: NDArray[np.int64]
    """Symbols sent for each sample, shape (samples,)."""
    energy: float
    """E, average energy per symbol before the points were divided by sqrt(E)."""


class Baseline(Protocol):
    """A further system on the same samples and the same air."""

    @property
    def name(self) -> str:
        """``conv``, ``ldpc``, ``classify-and-send`` or ``tfidf``."""
        ...

    @property
    def after_header(self) -> bool:
        """Whether its frame follows the deployed link's header, which it needs and pays for."""
        ...

    @property
    def max_symbols(self) -> int:
        """Symbols of its widest frame: the columns of all arrays."""
        ...

    def transmit(self, sent: Transmission, classes: NDArray[np.int64], symbols: NDArray[np.int64]) -> Payload:
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

    def receive(
        self,
        payload: Payload,
        rows: NDArray[np.intp],
        received: NDArray[np.complex128],
        gains: NDArray[np.complex128],
        noise_var: NDArray[np.float64],
    ) -> NDArray[np.int64]:
        """Decided classes, shape (len(rows),).

        Parameters
        ----------
        payload
            What :meth:`transmit` gave.
        rows
            Which of its samples these are.
        received, gains, noise_var
            Shape (len(rows), max_symbols): what came in, the gain of the air that the receiver goes by
            (before the division by sqrt(E)) and its N0, the total complex variance of the noise.
        """
        ...


def scaled_payload(
    mode: NDArray[np.int64], points: NDArray[np.complex128], symbols: NDArray[np.int64]
) -> Payload:
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
    return Payload(mode, points / np.sqrt(energy), symbols, energy)
