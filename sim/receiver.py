"""The receiving end: what each end takes Es/N0 for, and received symbols to a mode, to LLRs, to decisions.

A receiver goes by what it received, its own estimate of the SNR and what both ends know: routing, modes,
noise variance and gains.  It reads the mode from the header that it believes was sent, or looks it up, and
takes the symbols after that header for the payload of that mode.  If it errs, it demaps other symbols, or
the same ones by another constellation, or mere noise after the frame; nothing shows it.

Both ends go by estimates of Es/N0, never by the truth: of its mean, or under block fading of that of each
block, if both ends know its gain.  Each holds its estimates through a
:class:`~twophase.link.routing.Hysteresis` of its own; without one in the routing that changes nothing.  A
trial is a session: its samples are its order in time, and the next one begins anew.

Samples of equal mode are demapped and received together; no array mixes the bits of two samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twophase.link.modem import Demap, Group, group_by_mode, header_llr, payload_llr
from twophase.link.modes import ModeTable
from twophase.link.routing import Hysteresis, Routing
from twophase.sim.channel.radio import Arrival
from twophase.sim.folding import FoldedReceiver
from twophase.sim.frames import arrival_after
from twophase.sim.settings import Settings

__all__ = ["Received", "ReceivingEnd", "SnrEstimates", "decide"]


_STREAM = 1


class SnrEstimates:
    """Estimates of both ends at one SNR point, trial by trial; a trial has so many ``samples``."""

    def __init__(self, esn0_db: float, samples: int, routing: Routing, settings: Settings) -> None:
        self._esn0_db = esn0_db
        self._samples = samples
        self._settings = settings
        self._routing = routing

    @property
    def vary(self) -> bool:
        """Whether one trial's estimates differ from the next one's."""
        return self._settings.snr_error_jitter_db > 0 or self._settings.known_snr == "block"

    def of_trial(
        self, trial: int, gain_db: NDArray[np.float64] | float = 0.0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Es/N0 in dB that transmitter and receiver act on, shape (samples,) each.

        ``gain_db`` is what both know of each sample's power gain |h|^2, shape (samples,) or one number.
        """
        settings = self._settings
        error = np.zeros((2, self._samples))
        if settings.snr_error_jitter_db > 0:
            rng = estimate_generator(settings.seed, self._esn0_db, trial)
            error = settings.snr_error_jitter_db * rng.standard_normal((2, self._samples))
        known = self._esn0_db + np.asarray(gain_db)
        at_transmitter = known + settings.snr_error_bias_db + error[0]
        at_receiver = at_transmitter if settings.snr_error_at == "both" else known + error[1]
        ends = self._routing.table, self._routing.hysteresis_db
        return Hysteresis(*ends).hold(at_transmitter), Hysteresis(*ends).hold(at_receiver)


def estimate_generator(seed: int, esn0_db: float, trial: int) -> np.random.Generator:
    """Generator of the errors of a trial's estimates, independent of every generator of noise."""
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(point_key(esn0_db), trial, 0, _STREAM))
    return np.random.default_rng(sequence)


def point_key(esn0_db: float) -> int:
    """An SNR point by its value, in steps of 1e-6 dB; positive, as a spawn key must be."""
    return round(esn0_db * 1e6) + 2**40


_TOGETHER = 128
"""Samples that the receiver's graph is given at once: what it holds for them then stays in the cache."""


@dataclass(frozen=True)
class Received:
    """What a receiver makes of its samples."""

    mode: NDArray[np.int64]
    """The mode that it believes in, shape (samples,)."""
    llr: NDArray[np.float64]
    """LLRs of that mode's bits, shape (samples, max_bits); zero after them."""
    classes: NDArray[np.int64]
    """Decided class, shape (samples,)."""
    indices: NDArray[np.int64]
    """Decided codeword indices, shape (samples, max_tokens)."""
    header_count: NDArray[np.int64] | None
    """Header symbols that it believes in, shape (samples,); None if it was given the place of the payload."""


@dataclass(frozen=True)
class ReceivingEnd:
    """What every receiver at one SNR point knows beforehand."""

    routing: Routing
    modes: ModeTable
    demap: Demap
    clip: float
    """Bound on |LLR|."""

    def receive(
        self, receiver: FoldedReceiver, arrival: Arrival, energy: float, snr_db: NDArray[np.float32]
    ) -> Received:
        """Receive frames, (samples, frame width), whose mode is not known.

        ``energy`` is the E that the payload was scaled by: the total gain is h / sqrt(E).  ``snr_db``, shape
        (samples,), is the Es/N0 in dB that the receiver acts on.
        """
        header = self.routing.header_of(len(self.modes))
        llr = header_llr(
            arrival.received, arrival.noise_var, arrival.gains, header.max_symbols, self.clip, self.demap
        )
        mode = self.routing.received_mode(snr_db, llr, len(self.modes))
        believed = header.symbol_count(snr_db)
        payload = arrival_after(arrival, believed, self.modes.max_symbols)
        return replace(self.receive_payload(receiver, payload, energy, mode), header_count=believed)

    def receive_payload(
        self,
        receiver: FoldedReceiver,
        payload: Arrival,
        energy: float,
        mode: NDArray[np.int64],
        groups: Sequence[Group] | None = None,
    ) -> Received:
        """Receive payloads, (samples, max_symbols), as those of ``mode``; ``groups``: its rows, if known."""
        total_gain = payload.gains / math.sqrt(energy)
        rows_of = group_by_mode(mode, self.modes) if groups is None else groups
        llr = payload_llr(
            payload.received,
            payload.noise_var,
            total_gain,
            rows_of,
            self.modes.max_bits,
            self.clip,
            self.demap,
        )
        return Received(mode, llr, *decide(receiver, llr, mode, rows_of), None)


def decide(
    receiver: FoldedReceiver, llr: NDArray[np.float64], mode: NDArray[np.int64], groups: Sequence[Group]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Decided class, (samples,), and codeword indices, (samples, max_tokens), mode by mode."""
    classes = np.empty(len(mode), dtype=np.int64)
    indices = np.empty((0, 0), dtype=np.int64)
    for _, members in groups:
        for start in range(0, len(members), _TOGETHER):
            rows = members[start : start + _TOGETHER]
            decided = receiver.receive(llr[rows], mode[rows])
            if not indices.size:
                indices = np.full((len(mode), decided.indices.shape[1]), -1, dtype=np.int64)
            classes[rows] = decided.classes
            indices[rows] = decided.indices
    return classes, indices
