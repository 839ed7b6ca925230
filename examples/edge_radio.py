"""The simulated channel of the edge example, between the I/Q of both ends."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twophase.link.manifest import Manifest
from twophase.link.noise import esn0_db_to_noise_var

__all__ = ["Air", "Channel", "slot_length"]


def slot_length(manifest: Manifest) -> int:
    """Symbols of the longest frame: header and payload."""
    return manifest.header.max_symbols + manifest.modes.max_symbols


@dataclass(frozen=True)
class Air:
    """What the antenna gives the receiver for one frame."""

    received: NDArray[np.complex128]
    """As many as the longest frame has, whatever was sent: noise alone after the frame's end."""
    gains: NDArray[np.complex128]
    """The channel's gain at each, which the receiver knows perfectly."""


class Channel:
    """White Gaussian noise, on request after flat Rayleigh fading of each symbol by itself.

    Parameters
    ----------
    snr_db
        Es/N0 in dB, mean over the fading.
    is_rayleigh
        Whether the signal fades.
    length
        Samples that the receiver gets of each frame.
    seed
        Of fading and noise.
    """

    def __init__(self, snr_db: float, is_rayleigh: bool, length: int, seed: int) -> None:
        self._noise_deviation = math.sqrt(float(esn0_db_to_noise_var(snr_db)) / 2)
        self._is_rayleigh = is_rayleigh
        self._length = length
        # Not numpy.random: it would add 6 MB to a process that otherwise needs no random numbers.
        self._random = random.Random(seed)

    def carry(self, signal: NDArray[np.complex64]) -> Air:
        """Send a frame through the channel; what it has beyond the longest frame is lost."""
        slot = np.zeros(self._length, dtype=np.complex128)
        within = signal[: self._length]
        slot[: len(within)] = within
        gains = self._gaussian(math.sqrt(0.5)) if self._is_rayleigh else np.ones(self._length, np.complex128)
        return Air(gains * slot + self._gaussian(self._noise_deviation), gains)

    def _gaussian(self, deviation: float) -> NDArray[np.complex128]:
        draw = self._random.gauss
        return np.array([complex(draw(0, deviation), draw(0, deviation)) for _ in range(self._length)])
