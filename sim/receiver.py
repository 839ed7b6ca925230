"""What comes off the air: received symbols to a belief in a mode, to LLRs, to decisions.

A receiver goes by what it received, its own estimate of the SNR and what both ends know: routing, modes,
noise variance and gains.  It reads the mode from the header that it believes was sent, or looks it up, and
takes the symbols behind that header for the payload of that mode.  If it errs, it demaps other symbols, or
the same ones by another constellation, or mere noise behind the frame; nobody tells it.

Samples of equal mode are demapped and received together; no array mixes the bits of two samples.

What each end of the link takes Es/N0 for.

The transmitter's router and the receiver go by estimates, never by the truth: of the mean Es/N0, or under
block fading of that of each block, if both ends know its gain.  Each end holds its estimates through a
:class:`~twophase.link.routing.Hysteresis` of its own; without one in the routing that changes nothing.  A
trial is a session: its samples are its order in time, and the next one begins anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twophase.link.modem import Demap, group_by_mode, header_llr, payload_llr
from twophase.link.modes import ModeTable
from twophase.link.routing import Hysteresis, Routing
from twophase.sim.channel.radio import Arrival
from twophase.sim.frames import arrival_after
from twophase.sim.settings import Settings
from twophase.sim.system import Listener

__all__ = ["Heard", "ReceivingEnd", "SnrEstimates", "listen"]


_STREAM = 1


class SnrEstimates:
    """Estimates of both ends at one SNR point, trial by trial.

    Parameters
    ----------
    esn0_db
        The true Es/N0 in dB.
    samples
        How many samples a trial has.
    routing
        The link's; its table and hysteresis decide what an end acts on.
    settings
        Bias and jitter, where they arise, whether a block's gain is known, and the seed.
    """

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
        shared = settings.snr_error_at == "both"
        at_receiver = at_transmitter if shared else known + error[1]
        table, hysteresis_db = self._routing.table, self._routing.hysteresis_db
        ends = at_transmitter, at_receiver
        held = [Hysteresis(table, hysteresis_db).hold(estimates) for estimates in ends]
        return held[0], held[1]


def estimate_generator(seed: int, esn0_db: float, trial: int) -> np.random.Generator:
    """Generator of the errors of a trial's estimates, independent of every generator of noise."""
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(point_key(esn0_db), trial, 0, _STREAM))
    return np.random.default_rng(sequence)


def point_key(esn0_db: float) -> int:
    """A number for an SNR point, by its value and not by its place in a grid.

    In steps of 1e-6 dB and made positive: a spawn key takes non-negative integers only.
    """
    return round(esn0_db * 1e6) + 2**40


_RECEIVED = 128
"""Samples that the receiver's graph is given at once: what it holds for them then stays in the cache."""


@dataclass(frozen=True)
class Heard:
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
        llr = header_llr(
            arrival.received, arrival.noise_var, arrival.gains, header.max_symbols, self.clip, self.demap
        )
        mode = self.routing.received_mode(snr_db, llr, len(self.modes))
        believed = header.symbol_count(snr_db)
        payload = arrival_after(arrival, believed, self.modes.max_symbols)
        return replace(self.hear_payload(listener, payload, energy, mode), header_count=believed)

    def hear_payload(
        self, listener: Listener, payload: Arrival, energy: float, mode: NDArray[np.int64]
    ) -> Heard:
        """Receive payloads as those of ``mode``, cut out at their place; arrays (samples, max_symbols)."""
        total_gain = payload.gains / math.sqrt(energy)
        llr = payload_llr(
            payload.received,
            payload.noise_var,
            total_gain,
            group_by_mode(mode, self.modes),
            self.modes.max_bits,
            self.clip,
            self.demap,
        )
        classes, indices = listen(listener, llr, mode)
        return Heard(mode, llr, classes, indices, None)


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
