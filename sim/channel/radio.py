"""The air between both ends and what the receiver knows of it.

::

    radio = Radio(settings, esn0_db, rng)
    radio.draw(rows, width)          gains and noise, once for all systems that are compared
    arrival = radio.send(points)     received symbols, and what the receiver takes gains and N0 for

A frame has up to ``width`` data symbols; those of a fading channel that are estimated come in blocks, each
with its pilots (:mod:`twophase.sim.channel.pilots`):

    =====================  ======================================  =========================================
    channel                gain                                    block that is estimated
    =====================  ======================================  =========================================
    awgn                   1                                       a frame and its pilots
    rayleigh, rician       one for ``coherence`` symbols           these, pilots among them; or a frame and
                                                                   its pilots
    tdl-a, tdl-c           of a subcarrier, by its taps            a resource block: 12 subcarriers of one
                                                                   OFDM symbol, pilots among them
    =====================  ======================================  =========================================

Pilots have the energy of a symbol and cost what a symbol costs: :func:`pilot_symbols` counts them.  Where a
receiver believes in a longer frame than was sent, it finds noise in place of the data, but estimates the gain
as if the pilots were there; neither is of use to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import InputError
from twophase.link.noise import MAX_ESN0_DB, esn0_db_to_noise_var
from twophase.sim.channel.pilots import BlockEstimator, Layout, flat_estimator, pilot_points
from twophase.sim.channel.tdl import BLOCK_CARRIERS, TdlAir, power_delay_profile, tdl_estimator
from twophase.sim.settings import Settings

if TYPE_CHECKING:
    from twophase.sim.channel.commpy import SeededFlatChannel

__all__ = ["Arrival", "FlatAir", "Radio", "check_radio", "pilot_symbols"]

Symbols = NDArray[np.complex128]
Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Arrival:
    """What comes off the air and what the receiver takes it for; each (rows, width), not to be written to."""

    received: Symbols
    """Received data symbols, not equalised."""
    gains: Symbols
    """The receiver's gains."""
    noise_var: Reals
    """The receiver's N0, with the variance of the error of its gains."""
    true_gains: Symbols
    """The gains of the channel."""


class FlatAir:
    """Gains and noise of a flat channel, drawn once and used by every system that is compared.

    The order of the draws is that of commpy: the noise of all data symbols, real parts first, then the gains
    likewise, one for each block of each row, whose symbols share it.  The noise of the pilots follows.  A
    gain without variance is not drawn.
    """

    def __init__(self, channel: SeededFlatChannel, layout: Layout) -> None:
        self._channel, self._layout = channel, layout
        self.gains: Symbols = np.empty((0, 0), dtype=np.complex128)
        """Gains of the data symbols, (rows, width)."""
        self.noise: Symbols = np.empty((0, 0), dtype=np.complex128)
        """Noise of the data symbols, (rows, width), of total complex variance N0."""
        self.pilots: Symbols = np.empty((0, 0, 0), dtype=np.complex128)
        """Received pilots times the conjugate of those sent, (rows, blocks, pilots)."""

    def draw(self, rows: int, width: int) -> None:
        """Draw for ``rows`` frames of up to ``width`` data symbols."""
        channel, layout = self._channel, self._layout
        mean, variance = channel.fading_param
        channel.generate_noises((rows, width))
        self.noise = channel.noises
        blocks = int(layout.blocks(width))
        if variance:
            channel.generate_gains((rows, blocks))
            of_block = channel.channel_gains[..., np.newaxis]
            self.gains = layout.spread(of_block, width)
        else:
            of_block = np.full((1, 1, 1), mean)
            self.gains = np.broadcast_to(mean, (rows, width))
        self._unit_gain = variance == 0 and mean == 1
        if layout.pilots:
            channel.generate_noises((rows, blocks, layout.pilots))
            sent = pilot_points(layout.pilots)
            self.pilots = (of_block * sent + channel.noises) * sent.conj()

    def receive(self, points: Symbols) -> Symbols:
        """Send data symbols, (rows, width), through the gains and the noise that were drawn."""
        if self._unit_gain:
            return points + self.noise
        received: Symbols = self.gains * points
        received += self.noise
        return received


class Radio:
    """Gains and noise of one block of samples at one SNR, and the receiver's knowledge of them.

    ``esn0_db`` is for symbols of unit average energy, on fading channels its mean, and must lie within
    -``MAX_ESN0_DB``..``MAX_ESN0_DB``; InputError if not, and as :func:`check_radio`.
    """

    def __init__(self, settings: Settings, esn0_db: float, rng: np.random.Generator) -> None:
        from twophase.sim.channel.commpy import fading, seeded_channel  # commpy takes long to import

        check_radio(settings)
        if not abs(esn0_db) <= MAX_ESN0_DB:
            raise InputError("esn0_db", f"lie within {MAX_ESN0_DB:g} dB of 0", esn0_db)
        self._settings = settings
        self._layout = layout_of(settings)
        self._estimator: BlockEstimator | None = None
        self._air: FlatAir | TdlAir
        self.noise_var = float(esn0_db_to_noise_var(esn0_db))
        """The true N0, total complex variance."""
        if settings.channel in ("tdl-a", "tdl-c"):
            profile = power_delay_profile(settings.channel, settings.delay_spread_ns)
            self._air = TdlAir(seeded_channel(rng, esn0_db, fading("rayleigh")), self._layout, profile)
            if settings.csi == "pilot":
                self._estimator = tdl_estimator(settings.channel, settings.delay_spread_ns, settings.pilots)
        else:
            statistics = fading(settings.channel, settings.rician_k_db)
            self._air = FlatAir(seeded_channel(rng, esn0_db, statistics), self._layout)
            if settings.csi == "pilot":
                self._estimator = flat_estimator(settings.pilots, *statistics)
        self._gains = self._air.gains
        self._noise_var: Reals = np.empty((0, 0))

    @property
    def true_gains(self) -> Symbols:
        """Gains of the channel that were drawn, (rows, width)."""
        return self._air.gains

    def draw(self, rows: int, width: int) -> None:
        """Draw gains, noise and pilots for ``rows`` frames, 1 or more, of up to ``width`` data symbols."""
        if rows < 1 or width < 1:
            raise InputError("rows and width", "be at least 1", (rows, width))
        self._air.draw(rows, width)
        self._gains, noise_var = self._knowledge(width)
        self._noise_var = np.broadcast_to(noise_var, (rows, width))

    def send(self, points: ArrayLike) -> Arrival:
        """Send data symbols, complex (rows, width) as drawn, through the same air at every call."""
        sent = np.asarray(points, dtype=np.complex128)
        if sent.shape != self.true_gains.shape:
            raise InputError("points", f"have the shape {self.true_gains.shape} that was drawn", sent.shape)
        return Arrival(self._air.receive(sent), self._gains, self._noise_var, self.true_gains)

    def energy_sums(self) -> tuple[float, int]:
        """Sum of |noise|^2 and number of the noise values that were drawn for data; N0 is their quotient."""
        noise = self._air.noise
        return float((noise.real**2 + noise.imag**2).sum()), noise.size

    def _knowledge(self, width: int) -> tuple[Symbols, Reals]:
        """The receiver's gains, (rows, width), and N0, which broadcasts against them."""
        mismatch = 10.0 ** (self._settings.noise_mismatch_db / 10.0)
        noise_var = np.array([self.noise_var * mismatch])
        if self._settings.csi == "perfect":
            return self.true_gains, noise_var
        if self._estimator is None:
            return np.broadcast_to(np.complex128(1), self.true_gains.shape), noise_var
        pilots = self._air.pilots
        if self._settings.noise_estimate == "pilot":
            noise_var = self._estimator.noise_var(pilots[:, 0]) * mismatch
        gains, error = self._estimator.gains(pilots, noise_var, self._settings.estimator)
        total = noise_var[:, np.newaxis, np.newaxis] + error
        # Errors are alike in all blocks of a row.
        total = np.broadcast_to(total, (len(total), gains.shape[1], total.shape[2]))
        return self._layout.spread(gains, width), self._layout.spread(total, width)


def layout_of(settings: Settings) -> Layout:
    """Data symbols and pilots of a block."""
    pilots = settings.pilots if settings.csi == "pilot" else 0
    if settings.channel in ("tdl-a", "tdl-c"):
        return Layout(BLOCK_CARRIERS - pilots, pilots)
    if settings.channel == "awgn" or settings.coherence == "sample":
        return Layout(None, pilots)
    return Layout(1 if settings.coherence == "symbol" else int(settings.coherence) - pilots, pilots)


def pilot_symbols(settings: Settings, data_symbols: ArrayLike) -> NDArray[np.int64]:
    """Pilot symbols sent with frames of so many data symbols, header included; same shape."""
    layout = layout_of(settings)
    return layout.blocks(data_symbols) * layout.pilots


def check_radio(settings: Settings) -> None:
    """Refuse with InputError what no receiver could do; quick, and without importing commpy.

    That is: to estimate gains without coherence, pilots that leave no room for data or for an estimate of N0,
    an estimate of N0 without pilots, or echoes that outlast the cyclic prefix.
    """
    selective = settings.channel in ("tdl-a", "tdl-c")
    if selective:
        power_delay_profile(settings.channel, settings.delay_spread_ns)
    if settings.csi != "pilot":
        if settings.noise_estimate == "pilot":
            raise InputError("noise_estimate", "be 'known' without pilots (csi 'pilot')", "pilot")
        return
    if settings.pilots < 1:
        raise InputError("pilots", "be at least 1", settings.pilots)
    if settings.coherence == "symbol" and settings.channel in ("rayleigh", "rician"):
        rule = "be a number of symbols or 'sample' with pilots: they must share a gain with the data"
        raise InputError("coherence", rule, "symbol")
    block = BLOCK_CARRIERS if selective else settings.coherence
    if isinstance(block, int) and settings.pilots >= block:
        raise InputError("pilots", f"be fewer than the {block} symbols of a block", settings.pilots)
    least = 3 if selective else 2
    if settings.noise_estimate == "pilot" and settings.pilots < least:
        raise InputError("pilots", f"be at least {least} a block to estimate N0 as well", settings.pilots)
