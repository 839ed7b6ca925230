"""What comes off the air: received symbols to LLRs to decisions, for samples of any modes.

Samples of equal mode are demapped and received together; no array mixes the bits of two samples.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.constellation import Constellation, qam
from twophase.link.modes import ModeTable
from twophase.sim.streams import by_mode
from twophase.sim.system import Listener

__all__ = ["Demap", "demap_stream", "listen"]


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


def demap_stream(
    demap: Demap,
    received: ArrayLike,
    mode: NDArray[np.int64],
    gains: ArrayLike,
    noise_var: float,
    modes: ModeTable,
    clip: float,
) -> NDArray[np.float64]:
    """LLRs of samples of any modes, (samples, max_symbols) to (samples, max_bits); zero behind the bits."""
    heard, gain = np.asarray(received), np.asarray(gains)
    llr = np.zeros((len(heard), modes.max_bits))
    for entry, rows in by_mode(mode, modes):
        width = entry.symbols
        llr[rows, : entry.channel_bits] = demap(
            heard[rows, :width], qam(entry.order), noise_var, gain[rows, :width], clip
        )
    return llr


def listen(
    listener: Listener, llr: NDArray[np.float64], mode: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Decided class, (samples,), and codeword indices, (samples, max_tokens), received mode by mode."""
    classes = np.empty(len(mode), dtype=np.int64)
    indices: NDArray[np.int64] | None = None
    for number in np.unique(mode):
        rows = np.flatnonzero(mode == number)
        reception = listener.receive(llr[rows], mode[rows])
        if indices is None:
            indices = np.full((len(mode), reception.indices.shape[1]), -1, dtype=np.int64)
        classes[rows] = reception.classes
        indices[rows] = reception.indices
    return classes, np.empty((0, 0), dtype=np.int64) if indices is None else indices
