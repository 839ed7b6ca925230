"""What is counted at one SNR point; the statistics are made of it afterwards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import qam
from twophase.link.demap import hard_decisions
from twophase.link.modes import ModeTable
from twophase.link.runtime import Transmission
from twophase.sim.frames import Frames
from twophase.sim.reception import Heard
from twophase.sim.streams import by_mode

__all__ = [
    "GAIN_BINS_DB",
    "SystemCounts",
    "Tally",
    "count_bits",
    "count_codewords",
    "count_gains",
    "count_transmission",
]

GAIN_BINS_DB = np.arange(-600, 201) / 10
"""Power gains in dB by which frames are counted where the ends adapt to them."""


@dataclass
class SystemCounts:
    """Counts of one system, deployed or soft, over all trials."""

    correct: NDArray[np.int64]
    """Trials in which each sample was classified correctly, shape (samples,)."""
    frames: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Frames sent, by mode and number of header symbols."""
    correct_by_mode: Counter[int] = field(default_factory=Counter)
    """Frames classified correctly, by the mode that was sent."""
    mode_errors: int = 0
    """Frames whose mode the receiver mistook, or whose payload it sought behind another header's length."""
    energies: list[float] = field(default_factory=list)
    """Average energy per payload symbol before scaling, of each transmission of all samples."""

    @property
    def energy(self) -> float:
        """Mean over the transmissions."""
        return float(np.mean(self.energies))

    def count(self, frames: Frames, rows: slice, heard: Heard, labels: NDArray[np.int64]) -> None:
        """Count a block of frames that was received."""
        mode = frames.mode[rows]
        right = heard.classes == labels[rows]
        self.correct[rows] += right
        mistaken = heard.mode != mode
        if heard.header_count is not None:
            mistaken |= heard.header_count != frames.header_count[rows]
        self.mode_errors += int(np.count_nonzero(mistaken))
        self.frames.update(zip(mode.tolist(), frames.header_count[rows].tolist(), strict=True))
        self.correct_by_mode.update(mode[right].tolist())


@dataclass
class Tally:
    """Counts of one SNR point."""

    esn0_db: float
    deployed: SystemCounts
    references: dict[str, SystemCounts]
    noiseless_correct: NDArray[np.int64]
    """Transmissions in which each sample is classified correctly if its symbols arrive undisturbed and the
    receiver is told so, and the mode; shape (samples,)."""
    histograms: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    """For each mode in use: how often each constellation point is sent in all transmissions, shape (M,)."""
    gains: dict[tuple[int, int], NDArray[np.int64]] = field(default_factory=dict)
    """Frames by power gain, shape (bins,) of ``GAIN_BINS_DB``, for each mode and number of header symbols;
    empty unless the ends adapt to the gain, so that mode and gain depend on one another."""
    transmissions: int = 0
    """How often the transmitters were asked: once, or in every trial if estimates of the SNR vary."""
    trials: int = 0
    bit_errors: int = 0
    """Channel bits of the payload, decided by the nearest point of the mode that was sent, that are wrong."""
    bits_sent: int = 0
    codeword_errors: int = 0
    """Indices decided wrong, and all indices of a frame whose mode was mistaken."""
    codewords_sent: int = 0
    abs_llr: float = 0.0
    """Sum of |LLR| over the payload as the receiver took it."""
    llrs: int = 0
    """How many LLRs that were."""
    llrs_replaced: int = 0
    """LLRs that commpy's demapper could not give (``--demapper commpy`` only)."""
    llrs_total: int = 0


def count_transmission(
    tally: Tally, sent: Transmission, deployed: Frames, soft: dict[str, Frames], modes: ModeTable
) -> None:
    """Energies of what all systems send, and how often the deployed one uses each point of each mode."""
    tally.transmissions += 1
    tally.deployed.energies.append(deployed.energy)
    for name, frames in soft.items():
        tally.references[name].energies.append(frames.energy)
    for mode, rows in by_mode(sent.mode, modes):
        used = np.bincount(sent.symbols[rows, : mode.symbols].ravel(), minlength=mode.order)
        number = int(sent.mode[rows[0]])
        tally.histograms[number] = tally.histograms.get(number, np.zeros_like(used)) + used


def count_gains(tally: Tally, deployed: Frames, gain_db: NDArray[np.float64]) -> None:
    """Power gains in dB, shape (samples,), that the frames of each kind met."""
    place = np.rint((gain_db - GAIN_BINS_DB[0]) * 10).astype(np.int64).clip(0, GAIN_BINS_DB.size - 1)
    kinds = np.stack([deployed.mode, deployed.header_count], axis=1)
    for kind in np.unique(kinds, axis=0):
        counted = np.bincount(place[(kinds == kind).all(axis=1)], minlength=GAIN_BINS_DB.size)
        key = (int(kind[0]), int(kind[1]))
        tally.gains[key] = tally.gains.get(key, np.zeros_like(counted)) + counted


def count_bits(
    tally: Tally,
    sent: Transmission,
    block: slice,
    received: NDArray[np.complex128],
    gains: NDArray[np.complex128],
    modes: ModeTable,
) -> None:
    """Channel bits, decided by the nearest point, against those sent; padding inside a symbol included.

    ``received`` and ``gains`` are those of the payload where it truly stands, shape (block, max_symbols).
    """
    symbols = sent.symbols[block]
    for mode, rows in by_mode(sent.mode[block], modes):
        width = mode.symbols
        decided = hard_decisions(received[rows, :width], qam(mode.order), gains[rows, :width])
        sent_bits = symbols_to_bits(symbols[rows, :width], mode.bits_per_symbol)
        wrong = symbols_to_bits(decided, mode.bits_per_symbol) != sent_bits
        tally.bit_errors += int(np.count_nonzero(wrong))
        tally.bits_sent += wrong.size


def count_codewords(tally: Tally, sent: Transmission, block: slice, heard: Heard, modes: ModeTable) -> None:
    """Codewords that the receiver decides, and |LLR| that it decides by."""
    bits_of = np.array([mode.channel_bits for mode in modes])
    tally.abs_llr += float(np.abs(heard.llr).sum())
    tally.llrs += int(bits_of[heard.mode].sum())
    mistaken = heard.mode != sent.mode[block]
    for mode, rows in by_mode(sent.mode[block], modes):
        wrong = heard.indices[rows, : mode.tokens] != sent.indices[block][rows, : mode.tokens]
        wrong |= mistaken[rows, np.newaxis]
        tally.codeword_errors += int(np.count_nonzero(wrong))
        tally.codewords_sent += wrong.size
