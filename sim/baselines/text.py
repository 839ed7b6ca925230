"""The sentences themselves over the same air: source code, channel code, QAM, and back to a class.

Each sentence becomes bits without loss (:mod:`twophase.sim.baselines.text_source`), these a block of the
channel code, constellation and number of repetitions that carries the most bits per symbol among those of
:data:`TABLE` that deliver 99 % of all sentences at this Es/N0: over AWGN, and where a
frame meets one gain that both ends know; over Rayleigh fading by the symbol for every other fading channel.
Real bits go through modulator, channel, demapper and decoder.  A sentence that arrives without an error is
classified as the backbone's own classifier does; of one that does not the receiver knows nothing and decides
for the most frequent class.

Known for free, so that the comparison is in the text's favour: the scheme, the length of the frame, whether
the decoder erred (no checksum is sent), and Es/N0, without the errors of the router's estimates.

Sentences have hundreds of symbols where the link has a few, so they have an air of their own: the same
channel with gains and noise drawn apart.  They are sent in every :data:`EVERY`-th trial: over hundreds of
sentences the share that arrives varies little from trial to trial.

From which Es/N0 on at most 1 % of them arrive with an error is measured for each scheme by
``python benchmarks/text_modes.py`` (default options: 2,000 sentences of 505 bits on average, in
steps of 0.25 dB).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from twophase.link.constellation import qam
from twophase.link.demap import llr_exact
from twophase.link.sentences import Sentences
from twophase.sim.baselines.text_code import Scheme, TextCode
from twophase.sim.baselines.text_source import messages_of
from twophase.sim.channel.radio import Arrival, Radio, pilot_symbols
from twophase.sim.counts import TextCounts
from twophase.sim.receiver import point_key
from twophase.sim.settings import Settings

__all__ = ["EVERY", "TABLE", "TEXT", "TextSender", "column_of", "most_frequent", "scheme_at"]


TABLE: tuple[tuple[Scheme, float, float], ...] = (
    (Scheme("conv", 1, 2, 4, 8), -5.5, -5.0),
    (Scheme("conv", 1, 2, 4, 4), -2.5, -1.75),
    (Scheme("conv", 1, 2, 4, 2), 0.75, 1.75),
    (Scheme("conv", 1, 2, 4, 1), 3.5, 6.25),
    (Scheme("conv", 1, 2, 16, 1), 9.25, 12.0),
    (Scheme("conv", 1, 2, 64, 1), 14.0, 16.5),
    (Scheme("conv", 1, 2, 256, 1), 18.75, 21.25),
    (Scheme("ldpc", 1, 5, 4, 16), -15.0, -15.0),
    (Scheme("ldpc", 1, 5, 4, 8), -12.25, -12.0),
    (Scheme("ldpc", 1, 5, 4, 4), -9.0, -9.0),
    (Scheme("ldpc", 1, 5, 4, 2), -6.0, -5.75),
    (Scheme("ldpc", 1, 5, 4, 1), -3.0, -2.25),
    (Scheme("ldpc", 1, 5, 16, 1), 1.25, 2.5),
    (Scheme("ldpc", 1, 3, 4, 1), -0.25, 1.0),
    (Scheme("ldpc", 1, 3, 16, 1), 4.5, 6.0),
    (Scheme("ldpc", 1, 3, 64, 1), 8.0, 10.0),
    (Scheme("ldpc", 1, 2, 4, 1), 2.0, 4.5),
    (Scheme("ldpc", 1, 2, 16, 1), 7.25, 10.0),
    (Scheme("ldpc", 1, 2, 64, 1), 11.75, 14.5),
    (Scheme("ldpc", 1, 2, 256, 1), 15.5, 18.5),
    (Scheme("ldpc", 2, 3, 4, 1), 4.0, 7.75),
    (Scheme("ldpc", 2, 3, 16, 1), 10.0, 13.75),
    (Scheme("ldpc", 2, 3, 64, 1), 15.0, 18.5),
    (Scheme("ldpc", 2, 3, 256, 1), 19.5, 23.25),
    (Scheme("ldpc", 3, 4, 4, 1), 5.0, 10.0),
    (Scheme("ldpc", 3, 4, 16, 1), 11.25, 15.75),
    (Scheme("ldpc", 3, 4, 64, 1), 16.75, 20.75),
    (Scheme("ldpc", 3, 4, 256, 1), 21.75, 25.75),
    (Scheme("ldpc", 5, 6, 4, 1), 6.5, 13.25),
    (Scheme("ldpc", 5, 6, 16, 1), 13.0, 19.5),
    (Scheme("ldpc", 5, 6, 64, 1), 18.75, 24.25),
    (Scheme("ldpc", 5, 6, 256, 1), 24.0, 29.25),
)
"""A scheme and its lowest Es/N0 in dB over AWGN, and over Rayleigh fading by the symbol with known gains."""

_COLUMNS = ("awgn", "rayleigh")


def scheme_at(esn0_db: float, column: str) -> Scheme:
    """The scheme of most bits per symbol that delivers 99 % of the sentences; the sturdiest if none does.

    ``column`` is ``awgn`` or ``rayleigh``.

    Examples
    --------
    >>> scheme_at(3.0, "awgn").name
    'ldpc 1/2, QPSK'
    """
    for scheme, threshold_db in _ordered(column):
        if threshold_db <= esn0_db:
            return scheme
    return min(_ordered(column), key=lambda entry: entry[1])[0]


@cache
def _ordered(column: str) -> tuple[tuple[Scheme, float], ...]:
    """Most bits per symbol first, and of equals the sturdier."""
    place = _COLUMNS.index(column)
    entries = [(scheme, thresholds_db[place]) for scheme, *thresholds_db in TABLE]
    return tuple(sorted(entries, key=lambda entry: (-entry[0].efficiency, entry[1])))


TEXT = "text"
EVERY = 10
"""Sentences are sent in the trials 0, 10, 20, ..."""
_CHUNK_ROWS = 128
_CHUNK_SYMBOLS = 1 << 18
"""Frames that share an array: bounds of memory.  The noise depends on them, so they are no options."""
_NOISE_STREAM, _GAIN_STREAM = 2, 3


@dataclass(frozen=True)
class _Frame:
    """What one sentence puts on the air in one trial."""

    scheme: Scheme
    numbers: NDArray[np.uint8]
    """Point numbers, shape (symbols,)."""


class TextSender:
    """Sends the sentences at one SNR point; ``labels`` are the true classes, shape (samples,)."""

    def __init__(
        self, sentences: Sentences, labels: NDArray[np.int64], settings: Settings, esn0_db: float
    ) -> None:
        self._sentences, self._labels, self._esn0_db = sentences, labels, esn0_db
        self._messages = messages_of(sentences)
        self._settings = settings
        self._otherwise = most_frequent(labels)
        # Where both ends know the gain of a frame, it is drawn first; what is left is AWGN.
        self._adapts = settings.known_snr == "block" and settings.csi == "perfect"
        self._air = settings
        if self._adapts:
            self._air = replace(settings, channel="awgn", coherence="symbol", known_snr="mean")
        self._column = column_of(settings)
        self._kept: list[_Frame] | None = None

    def count(self, counts: TextCounts, trial: int) -> None:
        """Send all sentences, if it is this trial's turn, and count what arrives."""
        if trial % EVERY:
            return
        gains = self._gains(trial)
        frames = self._frames(gains)
        intact = np.array(
            [
                np.array_equal(decided, message)
                for decided, message in zip(self._received(frames, gains, trial), self._messages, strict=True)
            ]
        )
        decided = np.where(intact, self._sentences.without_link, self._otherwise)
        symbols = np.array([len(frame.numbers) for frame in frames])
        counts.correct += decided == self._labels
        counts.intact += int(np.count_nonzero(intact))
        counts.symbols += int((symbols + pilot_symbols(self._settings, symbols)).sum())
        counts.trials += 1
        counts.energy_sum += _energy(frames)

    def _gains(self, trial: int) -> NDArray[np.complex128]:
        """Gains that both ends know before, shape (samples,); ones where they know none."""
        samples = len(self._labels)
        if not self._adapts:
            return np.ones(samples, dtype=np.complex128)
        radio = Radio(self._settings, self._esn0_db, self._generator(trial, 0, _GAIN_STREAM))
        radio.draw(samples, 1)
        return np.array(radio.true_gains[:, 0])

    def _frames(self, gains: NDArray[np.complex128]) -> list[_Frame]:
        """Frames of all sentences; kept where they do not vary."""
        if self._kept is not None:
            return self._kept
        messages = self._messages
        gain_db = 20 * np.log10(np.maximum(np.abs(gains), 1e-9))
        schemes = [scheme_at(self._esn0_db + float(gain), self._column) for gain in gain_db]
        frames: dict[int, _Frame] = {}
        for scheme in dict.fromkeys(schemes):
            rows = [number for number, chosen in enumerate(schemes) if chosen == scheme]
            coded = TextCode(scheme, self._settings.kernel).encode([messages[row] for row in rows])
            frames |= {row: _Frame(scheme, numbers) for row, numbers in zip(rows, coded, strict=True)}
        made = [frames[number] for number in range(len(schemes))]
        if not self._adapts:
            self._kept = made
        return made

    def _received(
        self, frames: Sequence[_Frame], gains: NDArray[np.complex128], trial: int
    ) -> list[NDArray[np.uint8]]:
        """Decided bits of all sentences."""
        scale = math.sqrt(_energy(frames))
        llr: dict[int, NDArray[np.float32]] = {}
        for number, rows in enumerate(_chunks(frames)):
            scheme = frames[rows[0]].scheme
            points = np.zeros((len(rows), max(len(frames[row].numbers) for row in rows)), dtype=np.complex128)
            for place, row in enumerate(rows):
                sent = qam(scheme.order).modulate(frames[row].numbers)
                points[place, : len(sent)] = sent / scale
            arrival = self._sent(points, gains[rows], trial, number)
            for place, row in enumerate(rows):
                width = len(frames[row].numbers)
                llr[row] = llr_exact(
                    arrival.received[place, :width],
                    qam(scheme.order),
                    arrival.noise_var[place, :width],
                    arrival.gains[place, :width] / scale,
                    kernel=self._settings.kernel,
                ).astype(np.float32)
        decided: dict[int, NDArray[np.uint8]] = {}
        for scheme in dict.fromkeys(frame.scheme for frame in frames):
            rows = [number for number, frame in enumerate(frames) if frame.scheme == scheme]
            lengths = [len(self._messages[row]) for row in rows]
            bits = TextCode(scheme, self._settings.kernel).decode([llr[row] for row in rows], lengths)
            decided |= dict(zip(rows, bits, strict=True))
        return [decided[number] for number in range(len(frames))]

    def _sent(
        self, points: NDArray[np.complex128], gains: NDArray[np.complex128], trial: int, chunk: int
    ) -> Arrival:
        """What arrives of frames, (rows, width), whose gains are ``gains``, (rows,), if they are known."""
        radio = Radio(self._air, self._esn0_db, self._generator(trial, chunk, _NOISE_STREAM))
        radio.draw(*points.shape)
        if not self._adapts:
            return radio.send(points)
        whole = np.broadcast_to(gains[:, np.newaxis], points.shape)
        arrival = radio.send(whole * points)
        return replace(arrival, gains=whole, true_gains=whole)

    def _generator(self, trial: int, chunk: int, stream: int) -> np.random.Generator:
        """Independent of all other generators of a sweep, whose keys have three numbers or end otherwise."""
        key = (point_key(self._esn0_db), trial, chunk, stream)
        return np.random.default_rng(np.random.SeedSequence(entropy=self._settings.seed, spawn_key=key))


def column_of(settings: Settings) -> str:
    """By which column of the table a scheme is chosen: ``awgn`` or ``rayleigh``."""
    still = settings.channel == "awgn" or (settings.known_snr == "block" and settings.csi == "perfect")
    return "awgn" if still else "rayleigh"


def most_frequent(labels: NDArray[np.int64]) -> int:
    """The most frequent class, the first of equals."""
    return int(np.argmax(np.bincount(labels)))


def _energy(frames: Sequence[_Frame]) -> float:
    """Average energy per symbol of all frames."""
    total = sum(float((np.abs(qam(frame.scheme.order).points[frame.numbers]) ** 2).sum()) for frame in frames)
    return total / sum(len(frame.numbers) for frame in frames)


def _chunks(frames: Sequence[_Frame]) -> Iterator[list[int]]:
    """Sentences of one scheme and like lengths that share an array."""
    place = {scheme: number for number, scheme in enumerate(dict.fromkeys(f.scheme for f in frames))}
    order = sorted(range(len(frames)), key=lambda row: (place[frames[row].scheme], -len(frames[row].numbers)))
    chunk: list[int] = []
    for row in order:
        if chunk:
            first = frames[chunk[0]]
            full = len(chunk) == _CHUNK_ROWS or (len(chunk) + 1) * len(first.numbers) > _CHUNK_SYMBOLS
            if full or frames[row].scheme != first.scheme:
                yield chunk
                chunk = []
        chunk.append(row)
    yield chunk
