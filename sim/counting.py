"""From what was sent and received to the counts of a point.

``groups`` are the rows of each mode that was sent, within the block where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import qam
from twophase.link.demap import hard_decisions
from twophase.link.modem import Group, Transmission
from twophase.link.modes import ModeTable
from twophase.sim.counts import GAIN_BINS_DB, LLR_EDGES, Tally
from twophase.sim.frames import Frames
from twophase.sim.receiver import Received

__all__ = [
    "count_bits",
    "count_codewords",
    "count_confusion",
    "count_gains",
    "count_llrs",
    "count_transmission",
]


def count_transmission(
    tally: Tally, sent: Transmission, groups: Sequence[Group], deployed: Frames, soft: dict[str, Frames]
) -> None:
    """Energies of what all systems send, and how often the deployed one uses each point of each mode."""
    tally.transmissions += 1
    tally.deployed.transmitted(deployed.energy)
    for name, frames in soft.items():
        tally.references[name].transmitted(frames.energy)
    for mode, rows in groups:
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
    groups: Sequence[Group],
    received: NDArray[np.complex128],
    gains: NDArray[np.complex128],
) -> None:
    """Channel bits, decided by the nearest point, against those sent; padding inside a symbol included.

    ``received`` and ``gains`` are those of the payload where it truly stands, shape (block, max_symbols).
    """
    symbols = sent.symbols[block]
    for mode, rows in groups:
        width = mode.symbols
        decided = hard_decisions(received[rows, :width], qam(mode.order), gains[rows, :width])
        sent_bits = symbols_to_bits(symbols[rows, :width], mode.bits_per_symbol)
        wrong = symbols_to_bits(decided, mode.bits_per_symbol) != sent_bits
        tally.bit_errors += int(np.count_nonzero(wrong))
        tally.bits_sent += wrong.size


def count_codewords(
    tally: Tally,
    sent: Transmission,
    block: slice,
    groups: Sequence[Group],
    received: Received,
    modes: ModeTable,
) -> None:
    """Codewords that the receiver decides, and |LLR| that it decides by."""
    bits_of = np.array([mode.channel_bits for mode in modes])
    tally.abs_llr += float(np.abs(received.llr).sum())
    tally.llrs += int(bits_of[received.mode].sum())
    mistaken = received.mode != sent.mode[block]
    for mode, rows in groups:
        wrong = received.indices[rows, : mode.tokens] != sent.indices[block][rows, : mode.tokens]
        wrong |= mistaken[rows, np.newaxis]
        tally.codeword_errors += int(np.count_nonzero(wrong))
        tally.codewords_sent += wrong.size


def count_llrs(
    tally: Tally, sent: Transmission, block: slice, groups: Sequence[Group], received: Received
) -> None:
    """LLRs by bin and by the bit that was sent, where the receiver took the frame for what it was."""
    right = received.mode == sent.mode[block]
    for mode, rows in groups:
        known = rows[right[rows]]
        llr = received.llr[known, : mode.channel_bits].ravel()
        ones = sent.bits[block][known, : mode.channel_bits].ravel().astype(bool)
        place = np.searchsorted(LLR_EDGES[1:-1], llr, side="right")
        bins = LLR_EDGES.size - 1
        tally.llr_ones += np.bincount(place[ones], minlength=bins)
        tally.llr_zeros += np.bincount(place[~ones], minlength=bins)
        tally.llr_expected += np.bincount(place, weights=expit(llr), minlength=bins)


def count_confusion(tally: Tally, labels: NDArray[np.int64], received: Received) -> None:
    """Decisions of the deployed link by true class and decided class."""
    classes = len(tally.confusion)
    pairs = np.bincount(labels * classes + received.classes, minlength=classes * classes)
    tally.confusion += pairs.reshape(classes, classes)
