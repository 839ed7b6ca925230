"""Flat channels: AWGN, Rayleigh and Rician fading, a gain for each symbol, block or frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twophase.sim.channel.pilots import Layout, pilot_points

if TYPE_CHECKING:
    from twophase.sim.channel.commpy import SeededFlatChannel

__all__ = ["FlatAir"]

Symbols = NDArray[np.complex128]


class FlatAir:
    """Gains and noise of a flat channel, drawn once and used by every system that is compared.

    The order of the draws is that of commpy: the noise of all data symbols, real parts first, then the gains
    likewise, one for each block of each row.  The noise of the pilots follows.  A gain without variance is
    not drawn.

    Parameters
    ----------
    channel
        commpy's channel, seeded, with its fading and noise.
    layout
        Blocks of symbols that share a gain.
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
