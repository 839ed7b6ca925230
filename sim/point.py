"""The data path of one SNR point, top to bottom: transmit, modulate, frame, radio, receive, count.

Energy.  The deployed payload and each soft one are scaled to unit average energy by their OWN measured energy
E, and the receiver knows the total gain h / sqrt(E).  A soft symbol is a mean of points and weaker than they
are; to let it suffer for that would lower the bar for the deployed system.  This is the stricter comparison.

Pairs.  All systems go through the same gains and the same noise, entry by entry of a (samples, frame width)
array of which each sample uses as many entries as its frame has symbols.

Soft references.  In training the receiver knows the mode, and so it does here: what the deployed link loses
by misread headers or disagreeing estimates is part of the gap.

Signalling.  Transmitter and receiver act on estimates of the SNR (:mod:`twophase.sim.receiver`).  The code
of a header follows from the estimate, so its length, and with it the place of the payload, is the same for
all systems at one transmitter.  LLRs are computed from what the receiver takes gains and noise variance for
(:mod:`twophase.sim.channel.radio`); the verdict's systems and the baselines share that.  Where both ends
know the gain of a sample's block before it is sent, gains and noise are drawn first.

Randomness.  What the graphs give for a sample does not depend on its batch.  Its noise does depend on its
block of samples and its place there, for a block is drawn at once, and its scale on the energy E of all
samples.  The same samples in the same order under the same seed give the same report; a part of them, or
another order, gives other noise of the same law.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from twophase.link.demap import llr_exact, llr_hard, llr_maxlog
from twophase.link.header import Header
from twophase.link.modem import Demap, Group, Transmission, group_by_mode
from twophase.link.noise import esn0_db_to_noise_var
from twophase.link.samples import Samples
from twophase.sim.baselines.designs import Baseline, Payload, make_baselines
from twophase.sim.baselines.text import TEXT, TextSender
from twophase.sim.channel.commpy import CommpyDemapper
from twophase.sim.channel.radio import Arrival, Radio, pilot_symbols
from twophase.sim.counts import SystemCounts, Tally, TextCounts
from twophase.sim.frames import (
    Frames,
    Stream,
    arrival_after,
    blocks,
    framed,
    payload_stream,
    shifted,
    soft_stream,
    transmit,
    widened,
)
from twophase.sim.receiver import ReceivingEnd, SnrEstimates, point_key
from twophase.sim.settings import Settings
from twophase.sim.system import SoftReference, System

__all__ = ["PointSimulator", "noise_generator", "simulate_point"]

SnrArray = NDArray[np.float32]

_NOISELESS_DB = 60.0
"""Es/N0 that stands for no noise: every LLR of an undisturbed symbol, up to 256-QAM, reaches the clip."""


def simulate_point(system: System, samples: Samples, esn0_db: float, settings: Settings) -> Tally:
    """Send every sample ``settings.trials`` times at one Es/N0, deployed and soft through the same air.

    The result depends on the arguments alone: a point gives the same counts in every grid, wherever it stands
    there.

    Raises
    ------
    InputError
        If the forced mode does not exist.
    ArtifactError
        If a transmitter sends what its mode does not allow.
    """
    return PointSimulator(system, samples, esn0_db, settings).run(range(settings.trials))


@dataclass(frozen=True)
class Transmitted:
    """What all systems put on the air for all samples, and what the router's estimates were."""

    sent: Transmission
    groups: tuple[list[Group], ...]
    """Rows of each mode in use, by block of samples and within it."""
    deployed: Frames
    soft: dict[str, Frames]
    baselines: dict[str, Payload]
    receiver_db: SnrArray
    """Es/N0 in dB that the receiver acts on, shape (samples,)."""
    noiseless: NDArray[np.int64]
    """Decided classes if the symbols arrive undisturbed, shape (samples,)."""


class PointSimulator:
    """One SNR point, Es/N0 in dB: everything that its trials share is made once.

    ``system`` is the deployed link with its soft references, ``samples`` are features and true classes.

    Raises
    ------
    InputError
        If the forced mode does not exist.
    """

    def __init__(self, system: System, samples: Samples, esn0_db: float, settings: Settings) -> None:
        self._system, self._samples, self._esn0_db = system, samples, esn0_db
        self._forced = None if settings.mode is None else system.modes.find(settings.mode)
        self._text: TextSender | None = None
        if TEXT in settings.baselines and samples.sentences is not None:
            self._text = TextSender(samples.sentences, samples.labels, settings, esn0_db)
        if self._forced is not None:
            settings = replace(settings, known_snr="mean")  # there is nothing to adapt
        self._settings = settings
        # A receiver that is given the mode costs no symbols and makes no mistake about it.
        self._mode_given = self._forced is not None or settings.header == "ideal"
        modes = system.modes
        self._header = Header((), len(modes)) if self._mode_given else system.routing.header_of(len(modes))
        self._estimates = SnrEstimates(esn0_db, len(samples.labels), system.routing, settings)
        self._commpy = CommpyDemapper()
        self._end = ReceivingEnd(system.routing, modes, self._demapper(), system.llr_clip)
        # The transmitter goes by this point's SNR, this demapper that of a channel without noise.
        self._undisturbed = ReceivingEnd(system.routing, modes, llr_exact, system.llr_clip)
        self._baselines = make_baselines(settings, system, self._header.max_symbols, samples.sentences)
        self._width = max(
            [self._header.max_symbols + modes.max_symbols]
            + [
                item.max_symbols + (self._header.max_symbols if item.after_header else 0)
                for item in self._baselines
            ]
        )
        self._transmitted: Transmitted | None = None

    def run(self, trials: range) -> Tally:
        """Counts of these trials, by number: trial 7 is the same alone and among others.

        What does not vary from trial to trial is transmitted once, and counted with trial 0.

        Raises
        ------
        ArtifactError
            If a transmitter sends what its mode does not allow.
        """
        tally = self._empty()
        for trial in trials:
            if self._transmitted is None or self._estimates.vary:
                self._transmitted = self._transmit(trial)
            if trial == 0 or self._estimates.vary:
                self._count_transmission(tally, self._transmitted, trial)
            for block, rows in blocks(len(self._samples.labels)):
                self._send_block(tally, self._transmitted, trial, block, rows)
            if self._text is not None and tally.text is not None:
                self._text.count(tally.text, trial)
            tally.trials += 1
        tally.llrs_replaced, tally.llrs_total = self._commpy.replaced, self._commpy.total
        self._commpy.replaced = self._commpy.total = 0
        return tally

    def look(self, symbols: int) -> dict[int, NDArray[np.complex128]]:
        """Equalised payload symbols of trial 0 as the receiver sees them, at most so many of each mode.

        Divided by the gain that the receiver goes by, sqrt(E) included, so that they lie around the points
        of the mode's constellation.
        """
        now = self._transmitted or self._transmit(0)
        _, rows = next(iter(blocks(len(self._samples.labels))))
        arrival = self._radio(0, 0, rows).send(widened(now.deployed.points[rows], self._width))
        payload = arrival_after(arrival, now.deployed.header_count[rows], self._system.modes.max_symbols)
        with np.errstate(divide="ignore", invalid="ignore"):
            equalised = payload.received / payload.gains * math.sqrt(now.deployed.energy)
        seen = {}
        for mode, members in group_by_mode(now.sent.mode[rows], self._system.modes):
            points = equalised[members, : mode.symbols].ravel()
            seen[int(now.sent.mode[rows][members[0]])] = points[np.isfinite(points)][:symbols]
        return seen

    def _empty(self) -> Tally:
        classes = self._system.classes
        none = np.zeros_like(self._samples.labels)
        return Tally(
            self._esn0_db,
            SystemCounts(none.copy()),
            {item.name: SystemCounts(none.copy()) for item in self._system.references},
            none.copy(),
            baselines={item.name: SystemCounts(none.copy()) for item in self._baselines},
            text=None if self._text is None else TextCounts(none.copy()),
            confusion=np.zeros((classes, classes), dtype=np.int64),
        )

    def _demapper(self) -> Demap:
        kernel = self._settings.kernel
        demappers: dict[str, Demap] = {
            "exact": partial(llr_exact, kernel=kernel),
            "maxlog": partial(llr_maxlog, kernel=kernel),
            "hard": llr_hard,
            "commpy": self._commpy,
        }
        return demappers[self._settings.demapper]

    def _radio(self, trial: int, block: int, rows: slice) -> Radio:
        rng = noise_generator(self._settings.seed, self._esn0_db, trial, block)
        radio = Radio(self._settings, self._esn0_db, rng)
        radio.draw(rows.stop - rows.start, self._width)
        return radio

    def _gain_db(self, trial: int) -> NDArray[np.float64]:
        """What both ends know of each sample's power gain before it is sent, shape (samples,)."""
        samples = len(self._samples.labels)
        if self._settings.known_snr != "block":
            return np.zeros(samples)
        gain = [self._radio(trial, block, rows).true_gains[:, 0] for block, rows in blocks(samples)]
        return np.asarray(20 * np.log10(np.maximum(np.abs(np.concatenate(gain)), 1e-3)))

    def _transmit(self, trial: int) -> Transmitted:
        modes, features = self._system.modes, self._samples.features
        transmitter_db, receiver_db = self._estimates.of_trial(trial, self._gain_db(trial))
        sent = transmit(self._system.transmitter, features, transmitter_db, modes, self._forced)
        payload = payload_stream(sent, modes)
        deployed = framed(payload, self._header, transmitter_db)

        def soft_frames(item: SoftReference) -> Frames:
            stream = soft_stream(item.transmitter, features, transmitter_db, modes, self._forced)
            return framed(stream, self._header, transmitter_db)

        groups = tuple(group_by_mode(sent.mode[rows], modes) for _, rows in blocks(len(sent.mode)))
        noiseless = self._receive_undisturbed(payload, groups)
        length = deployed.header_count + sent.symbol_count
        return Transmitted(
            sent,
            groups,
            deployed,
            {item.name: soft_frames(item) for item in self._system.references},
            {item.name: item.transmit(sent, noiseless, length) for item in self._baselines},
            receiver_db,
            noiseless,
        )

    def _receive_undisturbed(self, payload: Stream, groups: tuple[list[Group], ...]) -> NDArray[np.int64]:
        noise_var = float(esn0_db_to_noise_var(_NOISELESS_DB))
        parts = []
        for block, rows in blocks(len(payload.mode)):
            points = payload.points[rows]
            one = np.ones_like(points)
            arrival = Arrival(points, one, np.full(points.shape, noise_var), one)
            received = self._undisturbed.receive_payload(
                self._system.receiver, arrival, payload.energy, payload.mode[rows], groups[block]
            )
            parts.append(received.classes)
        return np.concatenate(parts)

    def _count_transmission(self, tally: Tally, now: Transmitted, trial: int) -> None:
        tally.transmitted(now.sent, group_by_mode(now.sent.mode, self._system.modes), now.deployed, now.soft)
        for name, payload in now.baselines.items():
            tally.baselines[name].transmitted(payload.energy)
        if self._settings.known_snr == "block":
            tally.count_gains(now.deployed, self._gain_db(trial))
        tally.noiseless_correct += now.noiseless == self._samples.labels

    def _send_block(self, tally: Tally, now: Transmitted, trial: int, block: int, rows: slice) -> None:
        modes, labels = self._system.modes, self._samples.labels
        radio = self._radio(trial, block, rows)
        power, count = radio.energy_sums()
        tally.noise_power += power
        tally.noise_count += count

        arrival = radio.send(widened(now.deployed.points[rows], self._width))
        groups, true_place = now.groups[block], now.deployed.header_count[rows]
        payload = arrival_after(arrival, true_place, modes.max_symbols)
        receiver, energy = self._system.receiver, now.deployed.energy
        if self._mode_given:
            received = self._end.receive_payload(receiver, payload, energy, now.sent.mode[rows], groups)
        else:
            received = self._end.receive(receiver, arrival, energy, now.receiver_db[rows])
        tally.deployed.count(now.deployed, rows, received, labels)
        length = true_place + now.sent.symbol_count[rows]
        on_air = now.deployed.points[rows]
        tally.signal_power += float((on_air.real**2 + on_air.imag**2).sum())
        tally.signal_count += int(length.sum())
        tally.pilots += int(pilot_symbols(self._settings, length).sum())
        tally.count_decisions(now.sent, rows, groups, received, labels[rows], modes)
        tally.count_bits(now.sent, rows, groups, payload.received, payload.gains / math.sqrt(energy))

        for item in self._system.references:
            frames = now.soft[item.name]
            arrival = radio.send(widened(frames.points[rows], self._width))
            payload = arrival_after(arrival, true_place, modes.max_symbols)
            received = self._end.receive_payload(item.receiver, payload, frames.energy, frames.mode[rows])
            tally.references[item.name].count(frames, rows, received, labels)
        for baseline in self._baselines:
            self._send_baseline(tally, baseline, now, radio, rows)

    def _send_baseline(
        self, tally: Tally, baseline: Baseline, now: Transmitted, radio: Radio, rows: slice
    ) -> None:
        sent, labels = now.baselines[baseline.name], self._samples.labels[rows]
        header = now.deployed.header_count[rows] if baseline.after_header else np.zeros_like(labels)
        arrival = radio.send(shifted(sent.points[rows], header, self._width))
        payload = arrival_after(arrival, header, baseline.max_symbols)
        numbers = np.arange(rows.start, rows.stop)
        classes = baseline.receive(sent, numbers, payload.received, payload.gains, payload.noise_var)
        counts = tally.baselines[baseline.name]
        counts.correct[rows] += classes == labels
        length = header + sent.symbols[rows]
        counts.symbols += int((length + pilot_symbols(self._settings, length)).sum())
        counts.sent += len(labels)


def noise_generator(seed: int, esn0_db: float, trial: int, block: int) -> np.random.Generator:
    """Independent generator for each SNR point, trial and block, whatever is run before or with it.

    One generator serves a whole block of samples, so a sample's noise depends on the block that it is in.
    The point is known by its value, not by its place in a grid, so ``--snr 5`` repeats the 5 dB of ``0:20``.
    """
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(point_key(esn0_db), trial, block))
    return np.random.default_rng(sequence)
