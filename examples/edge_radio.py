"""Baseband of the edge example: transmissions as I/Q samples, a simulated channel, LLRs for the receiver."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.constellation import qam
from twophase.link.demap import llr_exact
from twophase.link.errors import ArtifactError
from twophase.link.manifest import Manifest
from twophase.link.modes import ModeTable
from twophase.link.noise import esn0_db_to_noise_var
from twophase.link.routing import Hysteresis
from twophase.link.runtime import Receiver, Transmission, Transmitter

__all__ = ["Channel", "Heard", "Listener", "Speaker", "slot_length"]


def slot_length(manifest: Manifest) -> int:
    """Symbols of the longest frame: header and payload."""
    return manifest.header.max_symbols + manifest.modes.max_symbols


def _amplitudes(manifest: Manifest) -> NDArray[np.float64]:
    """Root of the mean energy of what each mode sends, shape (modes,): the amplifier evens it out."""
    energy = np.asarray(manifest.training.get("symbol_energy", ()), dtype=np.float64)
    if energy.shape != (len(manifest.modes),) or not (energy > 0).all():
        raise ArtifactError("the bundle's link.json has no 'training.symbol_energy' for each mode")
    return np.sqrt(energy)


class Speaker:
    """The transmitting end: a sample and an estimate of Es/N0 to a frame of unit energy per symbol."""

    def __init__(self, transmitter: Transmitter) -> None:
        link = transmitter.manifest
        self._transmitter = transmitter
        self._amplitudes = _amplitudes(link)
        self._modes: ModeTable = link.modes
        self._held = Hysteresis(link.routing.table, link.routing.hysteresis_db)

    def speak(self, sample: ArrayLike, snr_db: float) -> tuple[Transmission, NDArray[np.complex64]]:
        """What is sent for a sample, as integers and as I/Q, shape (symbols,): header, then payload."""
        sent = self._transmitter.send(sample, self._held.hold(snr_db))
        number = int(sent.mode[0])
        header = qam(4).modulate(sent.header[0, : sent.header_count[0]])
        points = qam(self._modes[number].order).modulate(sent.symbols[0, : sent.symbol_count[0]])
        signal = np.concatenate([header, points / self._amplitudes[number]])
        return sent, signal.astype(np.complex64)


@dataclass(frozen=True)
class Heard:
    """What the antenna gives the receiver for one frame."""

    samples: NDArray[np.complex128]
    """As many as the longest frame has, whatever was sent: noise alone behind the frame's end."""
    gains: NDArray[np.complex128]
    """The channel's gain at each, which the receiver knows perfectly."""


class Channel:
    """White Gaussian noise, on request behind flat Rayleigh fading of each symbol by itself.

    Parameters
    ----------
    snr_db
        Es/N0 in dB, mean over the fading.
    is_rayleigh
        Whether the signal fades.
    length
        Samples that the receiver hears of each frame.
    seed
        Of fading and noise.
    """

    def __init__(self, snr_db: float, is_rayleigh: bool, length: int, seed: int) -> None:
        self._noise_deviation = math.sqrt(float(esn0_db_to_noise_var(snr_db)) / 2)
        self._is_rayleigh = is_rayleigh
        self._length = length
        # Not numpy.random: it would add 6 MB to a process that otherwise needs no random numbers.
        self._random = random.Random(seed)

    def carry(self, signal: NDArray[np.complex64]) -> Heard:
        """Send a frame through the channel; what it has beyond the longest frame is not heard."""
        slot = np.zeros(self._length, dtype=np.complex128)
        heard = signal[: self._length]
        slot[: len(heard)] = heard
        gains = self._gaussian(math.sqrt(0.5)) if self._is_rayleigh else np.ones(self._length, np.complex128)
        return Heard(gains * slot + self._gaussian(self._noise_deviation), gains)

    def _gaussian(self, deviation: float) -> NDArray[np.complex128]:
        draw = self._random.gauss
        return np.array([complex(draw(0, deviation), draw(0, deviation)) for _ in range(self._length)])


class Listener:
    """The receiving end: it knows the bundle, what the antenna gives, and its own estimate of Es/N0."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._link = receiver.manifest
        self._header, self._modes = self._link.header, self._link.modes
        self._amplitudes = _amplitudes(self._link)
        self._held = Hysteresis(self._link.routing.table, self._link.routing.hysteresis_db)

    def decide(self, heard: Heard, snr_db: float) -> tuple[int, int]:
        """Mode that the frame is taken for, and class."""
        held = float(self._held.hold(snr_db))
        noise_var = float(esn0_db_to_noise_var(snr_db))
        header, start = None, 0
        if self._header.steps:
            front = slice(0, self._header.max_symbols)
            header = llr_exact(heard.samples[front], qam(4), noise_var, heard.gains[front])
            start = int(self._header.symbol_count(held))
        number = int(self._receiver.mode_of(held, header))
        mode = self._modes[number]
        payload = slice(start, start + mode.symbols)
        llr = np.zeros(self._modes.max_bits)
        llr[: mode.channel_bits] = llr_exact(
            heard.samples[payload],
            qam(mode.order),
            noise_var,
            heard.gains[payload] / self._amplitudes[number],
        )
        return number, int(self._receiver.receive(llr, number).classes[0])
