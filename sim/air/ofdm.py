"""OFDM with a cyclic prefix: subcarriers to samples in time and back.

The numerology is that of TS 38.211 at 30 kHz: resource blocks of 12 subcarriers, here 16 of them (192
subcarriers, 5.76 MHz) around the carrier, in a transform of 256 at 7.68 MHz.  The prefix is a quarter of
that, 8.33 us, as the standard's extended prefix is at 60 kHz; its normal one of 2.3 us would be too short for
a delay spread of 300 ns.  Both transforms are unitary: a subcarrier's symbol keeps its energy, and white
noise of variance N0 in time is white noise of variance N0 on every subcarrier.  Neither the prefix nor the
empty subcarriers at the band's edges are charged, in energy or in symbols.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BLOCK_CARRIERS",
    "CARRIERS",
    "FFT_SIZE",
    "PREFIX",
    "SAMPLE_NS",
    "SPACING_HZ",
    "from_time",
    "slots",
    "to_time",
]

SPACING_HZ = 30e3
"""Subcarrier spacing."""
FFT_SIZE = 256
"""Samples of an OFDM symbol without its prefix."""
PREFIX = 64
"""Samples of the cyclic prefix; the longest delay that stays within it."""
BLOCK_CARRIERS = 12
"""Subcarriers of a resource block."""
CARRIERS = 16 * BLOCK_CARRIERS
"""Subcarriers in use."""
SAMPLE_NS = 1e9 / (SPACING_HZ * FFT_SIZE)
"""Length of a sample in ns."""

Symbols = NDArray[np.complex128]


def slots(carriers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the numbered subcarriers of a frame stand among the bins of its transforms, same shape.

    Number 0 is the lowest frequency in use of the first OFDM symbol, ``CARRIERS`` that of the second.  The
    bin of the carrier itself is in use, as in TS 38.211.
    """
    symbol, carrier = np.divmod(carriers, CARRIERS)
    places: NDArray[np.int64] = symbol * FFT_SIZE + (carrier - CARRIERS // 2) % FFT_SIZE
    return places


def to_time(points: Symbols, places: NDArray[np.int64], symbols: int) -> Symbols:
    """Samples of so many OFDM symbols one after the other, each behind its cyclic prefix.

    Parameters
    ----------
    points
        Symbols of the subcarriers, (rows, *places.shape); the others stay empty.
    places
        Their :func:`slots`.
    symbols
        OFDM symbols.

    Returns
    -------
    NDArray
        Shape (rows, symbols * (PREFIX + FFT_SIZE)).
    """
    rows = len(points)
    spectrum = np.zeros((rows, symbols * FFT_SIZE), dtype=np.complex128)
    spectrum[:, places] = points
    samples = np.empty((rows, symbols, PREFIX + FFT_SIZE), dtype=np.complex128)
    samples[..., PREFIX:] = np.fft.ifft(spectrum.reshape(rows, symbols, FFT_SIZE), norm="ortho")
    samples[..., :PREFIX] = samples[..., -PREFIX:]
    return samples.reshape(rows, -1)


def from_time(samples: Symbols, noise: Symbols, places: NDArray[np.int64]) -> Symbols:
    """Symbols of the subcarriers at ``places``, (rows, *places.shape).

    Parameters
    ----------
    samples
        Shape (rows, symbols * (PREFIX + FFT_SIZE)); what falls into a prefix is thrown away.
    noise
        Noise of the samples that are left, (rows, symbols, FFT_SIZE).
    """
    rows, symbols, _ = noise.shape
    kept = samples.reshape(rows, symbols, PREFIX + FFT_SIZE)[..., PREFIX:]
    spectrum = np.fft.fft(kept + noise, norm="ortho")
    return spectrum.reshape(rows, -1)[:, places]
