"""What is counted at one SNR point; the statistics are made of it afterwards.

A point is measured in blocks of trials, which may run anywhere; their counts add up.  Sums of real numbers
are added in the order of the trials, so that they do not depend on where or when a block ran.

Counts also become named arrays and come back, for the file of a finished block and for a digest of all of
them.  The order of entries is kept, because sums over them are taken in it: counts that were read back give
the same report to the last digit.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import qam
from twophase.link.demap import hard_decisions
from twophase.link.modem import Group, Transmission
from twophase.link.modes import ModeTable

if TYPE_CHECKING:  # commpy takes long to import
    from twophase.sim.frames import Frames
    from twophase.sim.receiver import Received

__all__ = [
    "GAIN_BINS_DB",
    "LLR_EDGES",
    "SystemCounts",
    "Tally",
    "TextCounts",
    "tally_arrays",
    "tally_digest",
    "tally_from_arrays",
]


GAIN_BINS_DB = np.arange(-600, 201) / 10
"""Power gains in dB by which frames are counted where the ends adapt to them."""

_POSITIVE_EDGES = (0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 50, 100)
LLR_EDGES = np.array([*(-edge for edge in reversed(_POSITIVE_EDGES)), 0.0, *_POSITIVE_EDGES])
"""Edges of the bins of LLRs; what lies outside counts in the outermost."""


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
    """Frames whose mode the receiver mistook, or whose payload it sought after another header's length."""
    energy_sum: float = 0.0
    """Sum over the transmissions of the average energy per payload symbol before scaling."""
    transmissions: int = 0
    """How often the transmitter was asked: once, or in every trial if what it sends varies."""
    symbols: int = 0
    """Baselines only, whose frames fit no mode: symbols of all frames, header and pilots included."""
    sent: int = 0
    """Baselines only: frames sent."""

    @property
    def energy(self) -> float:
        """Mean over the transmissions."""
        return self.energy_sum / self.transmissions

    def transmitted(self, energy: float) -> None:
        """Count one transmission of all samples, of average energy ``energy`` per payload symbol."""
        self.energy_sum += energy
        self.transmissions += 1

    def count(self, frames: Frames, rows: slice, received: Received, labels: NDArray[np.int64]) -> None:
        """Count a block of frames that was received."""
        mode = frames.mode[rows]
        right = received.classes == labels[rows]
        self.correct[rows] += right
        mistaken = received.mode != mode
        if received.header_count is not None:
            mistaken |= received.header_count != frames.header_count[rows]
        self.mode_errors += int(np.count_nonzero(mistaken))
        self.frames.update(zip(mode.tolist(), frames.header_count[rows].tolist(), strict=True))
        self.correct_by_mode.update(mode[right].tolist())


@dataclass
class TextCounts:
    """Counts of the sentences themselves, which are sent in some of the trials."""

    correct: NDArray[np.int64]
    """Trials in which each sentence was classified correctly, shape (samples,)."""
    intact: int = 0
    """Sentences that arrived without an error."""
    symbols: int = 0
    """Symbols of all frames, pilots included."""
    trials: int = 0
    """Times that each sentence was sent."""
    energy_sum: float = 0.0
    """Sum over these trials of the average energy per symbol before scaling."""


@dataclass
class Tally:
    """Counts of one SNR point."""

    esn0_db: float
    deployed: SystemCounts
    references: dict[str, SystemCounts]
    noiseless_correct: NDArray[np.int64]
    """Transmissions in which each sample is classified correctly if its symbols arrive undisturbed and the
    receiver knows that, and the mode; shape (samples,)."""
    histograms: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    """For each mode in use: how often each constellation point is sent in all transmissions, shape (M,)."""
    gains: dict[tuple[int, int], NDArray[np.int64]] = field(default_factory=dict)
    """Frames by power gain, shape (bins,) of ``GAIN_BINS_DB``, for each mode and number of header symbols;
    empty unless the ends adapt to the gain, so that mode and gain depend on one another."""
    transmissions: int = 0
    """How often the transmitters were asked: once, or in every trial if estimates of the SNR vary."""
    trials: int = 0
    baselines: dict[str, SystemCounts] = field(default_factory=dict)
    """Other designs on the same samples and the same air."""
    text: TextCounts | None = None
    """Of the sentences themselves, where they are sent."""
    confusion: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    """Decisions of the deployed link, true class by row and decided class by column."""
    llr_zeros: NDArray[np.int64] = field(default_factory=lambda: np.zeros(LLR_EDGES.size - 1, np.int64))
    """Payload LLRs of frames whose mode was not mistaken, where a 0 was sent; by bin of ``LLR_EDGES``."""
    llr_ones: NDArray[np.int64] = field(default_factory=lambda: np.zeros(LLR_EDGES.size - 1, np.int64))
    """The same where a 1 was sent."""
    llr_expected: NDArray[np.float64] = field(default_factory=lambda: np.zeros(LLR_EDGES.size - 1))
    """How many ones those LLRs promise: the sum of 1 / (1 + exp(-LLR)) by bin."""
    signal_power: float = 0.0
    """Sum of |x|^2 over the symbols that were put on the air for the deployed link, pilots apart."""
    signal_count: int = 0
    """Symbols of its frames: header and payload."""
    noise_power: float = 0.0
    """Sum of |n|^2 over the noise that was drawn for the deployed link."""
    noise_count: int = 0
    """How many values that was."""
    pilots: int = 0
    """Pilot symbols sent with the deployed frames."""
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

    def merge(self, later: Tally) -> None:
        """Add the counts of later trials of the same point."""
        _add(self, later)

    def transmitted(
        self, sent: Transmission, groups: Sequence[Group], deployed: Frames, soft: Mapping[str, Frames]
    ) -> None:
        """Count energies of what all systems send, and how often the link uses each point of each mode."""
        self.transmissions += 1
        self.deployed.transmitted(deployed.energy)
        for name, frames in soft.items():
            self.references[name].transmitted(frames.energy)
        for mode, rows in groups:
            used = np.bincount(sent.symbols[rows, : mode.symbols].ravel(), minlength=mode.order)
            number = int(sent.mode[rows[0]])
            self.histograms[number] = self.histograms.get(number, np.zeros_like(used)) + used

    def count_gains(self, deployed: Frames, gain_db: NDArray[np.float64]) -> None:
        """Count power gains in dB, shape (samples,), that the frames of each kind met."""
        place = np.rint((gain_db - GAIN_BINS_DB[0]) * 10).astype(np.int64).clip(0, GAIN_BINS_DB.size - 1)
        kinds = np.stack([deployed.mode, deployed.header_count], axis=1)
        for kind in np.unique(kinds, axis=0):
            counted = np.bincount(place[(kinds == kind).all(axis=1)], minlength=GAIN_BINS_DB.size)
            key = (int(kind[0]), int(kind[1]))
            self.gains[key] = self.gains.get(key, np.zeros_like(counted)) + counted

    def count_decisions(
        self,
        sent: Transmission,
        block: slice,
        groups: Sequence[Group],
        decisions: Received,
        labels: NDArray[np.int64],
        modes: ModeTable,
    ) -> None:
        """Count a block's decisions by class, codewords and LLRs; ``labels`` has the shape (block,)."""
        from scipy.special import expit  # late: a command that is refused need not wait for it

        classes = len(self.confusion)
        pairs = np.bincount(labels * classes + decisions.classes, minlength=classes * classes)
        self.confusion += pairs.reshape(classes, classes)
        self.abs_llr += float(np.abs(decisions.llr).sum())
        self.llrs += int(np.array([mode.channel_bits for mode in modes])[decisions.mode].sum())
        mistaken = decisions.mode != sent.mode[block]
        bins = LLR_EDGES.size - 1
        for mode, rows in groups:
            wrong = decisions.indices[rows, : mode.tokens] != sent.indices[block][rows, : mode.tokens]
            wrong |= mistaken[rows, np.newaxis]
            self.codeword_errors += int(np.count_nonzero(wrong))
            self.codewords_sent += wrong.size
            known = rows[~mistaken[rows]]
            llr = decisions.llr[known, : mode.channel_bits].ravel()
            ones = sent.bits[block][known, : mode.channel_bits].ravel().astype(bool)
            place = np.searchsorted(LLR_EDGES[1:-1], llr, side="right")
            self.llr_ones += np.bincount(place[ones], minlength=bins)
            self.llr_zeros += np.bincount(place[~ones], minlength=bins)
            self.llr_expected += np.bincount(place, weights=expit(llr), minlength=bins)

    def count_bits(
        self,
        sent: Transmission,
        block: slice,
        groups: Sequence[Group],
        received: NDArray[np.complex128],
        gains: NDArray[np.complex128],
    ) -> None:
        """Count channel bits, decided by the nearest point, against those sent; padding included.

        ``received`` and ``gains`` are those of the payload where it truly stands, shape (block, max_symbols).
        """
        symbols = sent.symbols[block]
        for mode, rows in groups:
            width = mode.symbols
            nearest = hard_decisions(received[rows, :width], qam(mode.order), gains[rows, :width])
            sent_bits = symbols_to_bits(symbols[rows, :width], mode.bits_per_symbol)
            wrong = symbols_to_bits(nearest, mode.bits_per_symbol) != sent_bits
            self.bit_errors += int(np.count_nonzero(wrong))
            self.bits_sent += wrong.size


def _add(total: Any, later: Any) -> None:
    """Add all counts of a dataclass, field by field; only what names the point stays as it is."""
    for entry in fields(total):
        if entry.name == "esn0_db":
            continue
        own, other = getattr(total, entry.name), getattr(later, entry.name)
        if isinstance(own, Counter):
            own.update(other)
        elif isinstance(own, dict):
            for key, value in other.items():
                if isinstance(value, SystemCounts):
                    _add(own[key], value)
                else:
                    own[key] = own[key] + value if key in own else value
        elif isinstance(own, (SystemCounts, TextCounts)):
            _add(own, other)
        elif own is not None:
            setattr(total, entry.name, own + other)


_STORED = {"baselines": "companions"}
"""Names of counts in arrays that differ from the field's, so that digests stay what they were."""
_COLUMNS = {"frames": 3, "correct_by_mode": 2}
"""Of the counters, key and count."""


def tally_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Tally:
    """Counts from what :func:`tally_arrays` gave; KeyError if one is missing."""
    return Tally(**_from_arrays(Tally, arrays))


def tally_digest(tally: Tally) -> str:
    """SHA-256 over every count: equal if all counts are, and practically only then."""
    state = hashlib.sha256()
    for name, array in sorted(tally_arrays(tally).items()):
        state.update(f"{name} {array.dtype.str} {array.shape}".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def tally_arrays(counts: Tally | SystemCounts | TextCounts) -> dict[str, NDArray[Any]]:
    """All counts of a point, or of a part of it, as arrays; :func:`tally_from_arrays` is the inverse."""
    arrays: dict[str, NDArray[Any]] = {}
    for entry in fields(counts):
        value, name = getattr(counts, entry.name), _STORED.get(entry.name, entry.name)
        if isinstance(value, Counter):
            rows = [[*(key if isinstance(key, tuple) else (key,)), count] for key, count in value.items()]
            arrays[name] = np.array(rows, dtype=np.int64).reshape(-1, _COLUMNS[name])
        elif isinstance(value, (SystemCounts, TextCounts)):
            arrays |= _nested(name, value)
        elif isinstance(value, dict):  # keys are names, modes, or (mode, header symbols)
            arrays[name] = np.array([_spelled(key) for key in value], dtype="U64")
            for key, inner in value.items():
                place = f"{name}/{_spelled(key)}"
                arrays |= _nested(place, inner) if isinstance(inner, SystemCounts) else {place: inner}
        elif value is not None:  # the digest of who counts nothing here stays what it was
            arrays[name] = np.asarray(value)
    return arrays


def _nested(place: str, counts: SystemCounts | TextCounts) -> dict[str, NDArray[Any]]:
    return {f"{place}/{name}": array for name, array in tally_arrays(counts).items()}


def _spelled(key: object) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _from_arrays(kind: type, arrays: Mapping[str, NDArray[Any]], prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for entry in fields(kind):
        place = f"{prefix}{_STORED.get(entry.name, entry.name)}"
        if entry.name in ("references", "baselines"):
            names = arrays[place].tolist()
            values[entry.name] = {
                name: SystemCounts(**_from_arrays(SystemCounts, arrays, f"{place}/{name}/")) for name in names
            }
        elif entry.name == "deployed":
            values[entry.name] = SystemCounts(**_from_arrays(SystemCounts, arrays, f"{place}/"))
        elif entry.name == "text":
            values["text"] = None
            if "text/correct" in arrays:
                values["text"] = TextCounts(**_from_arrays(TextCounts, arrays, "text/"))
        elif entry.name in ("histograms", "gains"):
            values[entry.name] = {
                tuple(map(int, key.split())) if entry.name == "gains" else int(key): arrays[f"{place}/{key}"]
                for key in arrays[place].tolist()
            }
        elif entry.name in ("frames", "correct_by_mode"):
            rows = arrays[place].tolist()
            single = entry.name == "correct_by_mode"
            values[entry.name] = Counter({(row[0] if single else tuple(row[:-1])): row[-1] for row in rows})
        else:
            array = arrays[place]
            values[entry.name] = array.item() if array.ndim == 0 else array
    return values
