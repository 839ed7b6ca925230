"""Tapped delay lines TDL-A and TDL-C of TR 38.901 under OFDM: frequency-selective fading.

Taps are independent complex Gaussians (Rayleigh); their powers sum to 1, and their normalised delays are
scaled by the wanted rms delay spread (TR 38.901, equation 7.7-1) and rounded to samples, where taps that fall
together add their powers.  They hold for the frame of a sample, which is far shorter than the time in which
they change at a walking pace, and are drawn afresh for the next.

A frame's symbols stand on consecutive subcarriers, from the lowest in use, and go on in a further OFDM symbol
when these are full.  The samples in time are convolved with the taps (linearly, by a transform that is long
enough); noise is added to them.

The numerology of OFDM is that of TS 38.211 at 30 kHz, with a cyclic prefix: resource blocks of 12
subcarriers, here 16 of them (192 subcarriers, 5.76 MHz) around the carrier, in a transform of 256 at 7.68
MHz.  The prefix is a quarter of that, 8.33 us, as the standard's extended prefix is at 60 kHz; its normal one
of 2.3 us would be too short for a delay spread of 300 ns.  Both transforms are unitary: a subcarrier's symbol
keeps its energy, and white noise of variance N0 in time is white noise of variance N0 on every subcarrier.
Neither the prefix nor the empty subcarriers at the band's edges are charged, in energy or in symbols.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twophase.link.errors import InputError
from twophase.sim.channel.pilots import BlockEstimator, Layout, pilot_points, spectrum_of

if TYPE_CHECKING:
    from twophase.sim.channel.commpy import SeededFlatChannel

__all__ = ["PowerDelayProfile", "TdlAir", "power_delay_profile", "simulated_spread_ns", "tdl_estimator"]

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
    """Samples of so many OFDM symbols, each after its prefix, (rows, symbols * (PREFIX + FFT_SIZE)).

    ``points``, (rows, *places.shape), go to the :func:`slots` ``places``; other subcarriers stay empty.
    """
    rows = len(points)
    spectrum = np.zeros((rows, symbols * FFT_SIZE), dtype=np.complex128)
    spectrum[:, places] = points
    samples = np.empty((rows, symbols, PREFIX + FFT_SIZE), dtype=np.complex128)
    samples[..., PREFIX:] = np.fft.ifft(spectrum.reshape(rows, symbols, FFT_SIZE), norm="ortho")
    samples[..., :PREFIX] = samples[..., -PREFIX:]
    return samples.reshape(rows, -1)


def from_time(samples: Symbols, noise: Symbols, places: NDArray[np.int64]) -> Symbols:
    """Symbols of the subcarriers at ``places``, (rows, *places.shape), from samples as of :func:`to_time`.

    What falls into a prefix is thrown away; ``noise``, (rows, symbols, FFT_SIZE), is that of what is left.
    """
    rows, symbols, _ = noise.shape
    kept = samples.reshape(rows, symbols, PREFIX + FFT_SIZE)[..., PREFIX:]
    spectrum = np.fft.fft(kept + noise, norm="ortho")
    return spectrum.reshape(rows, -1)[:, places]


# (normalised delay, power in dB)
PROFILES: dict[str, tuple[tuple[float, float], ...]] = {
    # TR 38.901, Table 7.7.2-1
    "tdl-a": (
        (0.0000, -13.4), (0.3819, 0.0), (0.4025, -2.2), (0.5868, -4.0), (0.4610, -6.0), (0.5375, -8.2),
        (0.6708, -9.9), (0.5750, -10.5), (0.7618, -7.5), (1.5375, -15.9), (1.8978, -6.6), (2.2242, -16.7),
        (2.1718, -12.4), (2.4942, -15.2), (2.5119, -10.8), (3.0582, -11.3), (4.0810, -12.7),
        (4.4579, -16.2), (4.5695, -18.3), (4.7966, -18.9), (5.0066, -16.6), (5.3043, -19.9),
        (9.6586, -29.7),
    ),
    # TR 38.901, Table 7.7.2-3
    "tdl-c": (
        (0.0000, -4.4), (0.2099, -1.2), (0.2219, -3.5), (0.2329, -5.2), (0.2176, -2.5), (0.6366, 0.0),
        (0.6448, -2.2), (0.6560, -3.9), (0.6584, -7.4), (0.7935, -7.1), (0.8213, -10.7), (0.9336, -11.1),
        (1.2285, -5.1), (1.3083, -6.8), (2.1704, -8.7), (2.7105, -13.2), (4.2589, -13.9), (4.6003, -13.9),
        (5.4902, -15.8), (5.6077, -17.1), (6.3065, -16.0), (6.6374, -15.7), (7.0427, -21.6),
        (8.6523, -22.8),
    ),
}  # fmt: skip
"""Normalised delays and powers in dB of the taps, before normalisation."""


@dataclass(frozen=True, eq=False)
class PowerDelayProfile:
    """Taps on the grid of samples."""

    delays: NDArray[np.int64]
    """Delay of each tap in samples, ascending, (taps,)."""
    powers: NDArray[np.float64]
    """Mean power of each tap, (taps,); they sum to 1."""

    def correlation(self, apart: NDArray[np.int64]) -> Symbols:
        """E[H_k conj(H_l)] of subcarriers k - l = ``apart``, from the powers and delays of the taps."""
        turns = apart[..., np.newaxis] * self.delays / FFT_SIZE
        correlation: Symbols = (self.powers * np.exp(-2j * np.pi * turns)).sum(axis=-1)
        return correlation


@lru_cache(maxsize=32)
def power_delay_profile(name: str, delay_spread_ns: float) -> PowerDelayProfile:
    """The profile of ``"tdl-a"`` or ``"tdl-c"`` at a root mean square delay spread.

    TR 38.901 has 10 ns for very short to 1000 for very long.  InputError if the last tap comes later than the
    cyclic prefix is long.
    """
    normalised, power_db = np.array(PROFILES[name]).T
    limit = (PREFIX + 0.5) * SAMPLE_NS / normalised.max()
    delays = np.rint(normalised * delay_spread_ns / SAMPLE_NS)
    if delays.max() > PREFIX:
        rule = f"be at most {int(limit)} ns on {name}, whose echoes must end within the cyclic prefix"
        raise InputError("delay_spread_ns", rule, delay_spread_ns)
    place, tap = np.unique(delays.astype(np.int64), return_inverse=True)
    power = np.bincount(tap, weights=10 ** (power_db / 10))
    return PowerDelayProfile(place, power / power.sum())


def simulated_spread_ns(name: str, delay_spread_ns: float) -> float:
    """Root mean square delay spread in ns of the taps on the grid of samples, where they are simulated.

    Below some 200 ns it is up to a third off what was asked for, and irregularly so, since many taps fall
    into few samples; far below one sample nothing is left of it and the channel is flat.  InputError as
    :func:`power_delay_profile`.
    """
    profile = power_delay_profile(name, delay_spread_ns)
    delays = profile.delays * SAMPLE_NS
    mean = (profile.powers * delays).sum()
    return float(np.sqrt((profile.powers * (delays - mean) ** 2).sum()))


def pilot_carriers(pilots: int) -> NDArray[np.int64]:
    """Where the pilots stand in a resource block: spread from edge to edge; a single one in the middle."""
    last = BLOCK_CARRIERS - 1
    return np.rint(np.linspace(0, last, pilots) if pilots > 1 else [last / 2]).astype(np.int64)


def data_carriers(pilots: int) -> NDArray[np.int64]:
    """Where the data symbols stand in a resource block with so many pilots."""
    everywhere = np.arange(BLOCK_CARRIERS)
    return np.setdiff1d(everywhere, pilot_carriers(pilots)) if pilots else everywhere


@lru_cache(maxsize=32)
def tdl_estimator(name: str, delay_spread_ns: float, pilots: int) -> BlockEstimator:
    """Estimator of a resource block's gains, at most 11 pilots; InputError as :func:`power_delay_profile`."""
    profile = power_delay_profile(name, delay_spread_ns)
    at, data = pilot_carriers(pilots), data_carriers(pilots)
    lines = np.array([np.interp(data, at, unit) for unit in np.eye(pilots)]).T
    shapes = np.array([np.ones(pilots), at - at.mean()])[: min(pilots, 2)]
    return BlockEstimator(
        0j,
        spectrum_of(
            profile.correlation(at[:, np.newaxis] - at), profile.correlation(data[:, np.newaxis] - at)
        ),
        1.0,
        lines,
        shapes,
    )


class TdlAir:
    """Taps and noise, drawn once and used by every system that is compared.

    The noise of all samples in time that a receiver transforms is drawn first, real parts before imaginary
    ones, then the taps likewise, both from commpy's Rayleigh channel, seeded.
    """

    def __init__(self, channel: SeededFlatChannel, layout: Layout, profile: PowerDelayProfile) -> None:
        self._channel, self._layout, self._profile = channel, layout, profile
        self.gains: Symbols = np.empty((0, 0), dtype=np.complex128)
        """Gains of the data symbols, (rows, width): the transform of the taps at their subcarriers."""
        self.noise: Symbols = np.empty((0, 0, 0), dtype=np.complex128)
        """Noise in time, (rows, OFDM symbols, FFT_SIZE), of total complex variance N0."""
        self.pilots: Symbols = np.empty((0, 0, 0), dtype=np.complex128)
        """Received pilots times the conjugate of those sent, (rows, blocks, pilots)."""

    def draw(self, rows: int, width: int) -> None:
        """Draw for ``rows`` frames of up to ``width`` data symbols."""
        from scipy.fft import next_fast_len  # slow to import

        channel, profile, pilots = self._channel, self._profile, self._layout.pilots
        size, blocks = BLOCK_CARRIERS, int(self._layout.blocks(width))
        symbols = -(-blocks * size // CARRIERS)
        channel.generate_noises((rows, symbols, FFT_SIZE))
        self.noise = channel.noises
        channel.generate_gains((rows, len(profile.delays)))
        impulse = np.zeros((rows, PREFIX + 1), dtype=np.complex128)
        impulse[:, profile.delays] = channel.channel_gains * np.sqrt(profile.powers)
        # Long enough for a convolution that does not wrap around.
        self._padded = next_fast_len(symbols * (PREFIX + FFT_SIZE) + PREFIX)
        self._impulse = np.fft.fft(impulse, self._padded)

        starts = size * np.arange(blocks)[:, np.newaxis]
        self._data = slots((starts + data_carriers(pilots)).ravel()[:width])
        self.gains = np.fft.fft(impulse, FFT_SIZE)[:, self._data % FFT_SIZE]
        if pilots:
            # Subcarriers do not disturb one another, so pilots may be sent by themselves.
            sent = pilot_points(pilots)
            received = self._through(
                np.broadcast_to(sent, (rows, blocks, pilots)), slots(starts + pilot_carriers(pilots))
            )
            self.pilots = received * sent.conj()

    def receive(self, points: Symbols) -> Symbols:
        """Send data symbols, (rows, width), through the taps and the noise that were drawn."""
        return self._through(points, self._data)

    def _through(self, points: Symbols, places: NDArray[np.int64]) -> Symbols:
        """Send ``points``, (rows, *places.shape), on these slots of the frame; same shape."""
        sent = to_time(points, places, self.noise.shape[1])
        echoes = np.fft.ifft(np.fft.fft(sent, self._padded) * self._impulse)[:, : sent.shape[1]]
        return from_time(echoes, self.noise, places)
