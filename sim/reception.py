"""What comes off the air: received symbols to a belief in a mode, to LLRs, to decisions.

A receiver goes by what it received, its own estimate of the SNR and what both ends know: routing, modes,
noise variance and gains.  It reads the mode from the header that it believes was sent, or looks it up, and
takes the symbols behind that header for the payload of that mode.  If it errs, it demaps other symbols, or
the same ones by another constellation, or mere noise behind the frame; nobody tells it.

Samples of equal mode are demapped and received together; no array mixes the bits of two samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.constellation import Constellation, qam
from twophase.link.modes import ModeTable
from twophase.link.routing import Routing
from twophase.sim.air.radio import Arrival
from twophase.sim.frames import HEADER_ORDER, arrival_behind
from twophase.sim.streams import by_mode
from twophase.sim.system import Listener

__all__ = ["Demap", "Heard", "ReceivingEnd", "demap_stream", "listen"]

_RECEIVED = 128
"""Samples that the receiver's graph is given at once: what it holds for them then stays in the cache."""


class Demap(Protocol):
    """As :func:`twophase.link.demap.llr_exact`."""

    def __call__(
        self,
        received: ArrayLike,
        constellation: Constellation,
        noise_var: ArrayLike,
        gain: ArrayLike,
        clip: float,
    ) -> NDArray[np.float64]:
        """Received symbols to LLRs."""
        ...


@dataclass(frozen=True)
class Heard:
    """What a receiver makes of its samples."""

    mode: NDArray[np.int64]
    """The mode that it believes in, shape (samples,)."""
    llr: NDArray[np.float64]
    """LLRs of that mode's bits, shape (samples, max_bits); zero behind them."""
    classes: NDArray[np.int64]
    """Decided class, shape (samples,)."""
    indices: NDArray[np.int64]
    """Decided codeword indices, shape (samples, max_tokens)."""
    header_count: NDArray[np.int64] | None
    """Header symbols that it believes in, shape (samples,); None if it was told the place of the payload."""


@dataclass(frozen=True)
class ReceivingEnd:
    """What every receiver at one SNR point knows beforehand."""

    routing: Routing
    modes: ModeTable
    demap: Demap
    clip: float
    """Bound on |LLR|."""

    def hear(self, listener: Listener, arrival: Arrival, energy: float, snr_db: NDArray[np.float32]) -> Heard:
        """Receive frames whose mode nobody tells.

        Parameters
        ----------
        listener
            The receiving graph.
        arrival
            What came in, with what the receiver takes gains and noise variance for; (samples, frame width).
        energy
            E that the payload was scaled by; the receiver takes the total gain h / sqrt(E).
        snr_db
            Es/N0 in dB that the receiver acts on, shape (samples,).
        """
        header = self.routing.header_of(len(self.modes))
        width = header.max_symbols
        header_llr = None
        if width:
            header_llr = self.demap(
                arrival.received[:, :width],
                qam(HEADER_ORDER),
                arrival.noise_var[:, :width],
                arrival.gains[:, :width],
                self.clip,
            )
        mode = self.routing.received_mode(snr_db, header_llr, len(self.modes))
        believed = header.symbol_count(snr_db)
        payload = arrival_behind(arrival, believed, self.modes.max_symbols)
        return replace(self.hear_payload(listener, payload, energy, mode), header_count=believed)

    def hear_payload(
        self, listener: Listener, payload: Arrival, energy: float, mode: NDArray[np.int64]
    ) -> Heard:
        """Receive payloads as those of ``mode``, cut out at their place; arrays (samples, max_symbols)."""
        total_gain = payload.gains / math.sqrt(energy)
        llr = demap_stream(
            self.demap, payload.received, mode, total_gain, payload.noise_var, self.modes, self.clip
        )
        classes, indices = listen(listener, llr, mode)
        return Heard(mode, llr, classes, indices, None)


def demap_stream(
    demap: Demap,
    received: ArrayLike,
    mode: NDArray[np.int64],
    gains: ArrayLike,
    noise_var: ArrayLike,
    modes: ModeTable,
    clip: float,
) -> NDArray[np.float64]:
    """LLRs of samples of any modes, (samples, max_symbols) to (samples, max_bits); zero behind the bits.

    ``noise_var`` broadcasts to ``received``.
    """
    heard, gain = np.asarray(received), np.asarray(gains)
    variance = np.broadcast_to(noise_var, heard.shape)
    llr = np.zeros((len(heard), modes.max_bits))
    for entry, rows in by_mode(mode, modes):
        width = entry.symbols
        llr[rows, : entry.channel_bits] = demap(
            heard[rows, :width], qam(entry.order), variance[rows, :width], gain[rows, :width], clip
        )
    return llr


def listen(
    listener: Listener, llr: NDArray[np.float64], mode: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Decided class, (samples,), and codeword indices, (samples, max_tokens), received mode by mode."""
    classes = np.empty(len(mode), dtype=np.int64)
    indices: NDArray[np.int64] | None = None
    for number in np.unique(mode):
        members = np.flatnonzero(mode == number)
        for start in range(0, len(members), _RECEIVED):
            rows = members[start : start + _RECEIVED]
            reception = listener.receive(llr[rows], mode[rows])
            if indices is None:
                indices = np.full((len(mode), reception.indices.shape[1]), -1, dtype=np.int64)
            classes[rows] = reception.classes
            indices[rows] = reception.indices
    return classes, np.empty((0, 0), dtype=np.int64) if indices is None else indices
