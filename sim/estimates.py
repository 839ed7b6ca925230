"""What each end of the link takes Es/N0 for.

The transmitter's router and the receiver go by estimates, never by the truth: of the mean Es/N0, or under
block fading of that of each block, if both ends know its gain.  Each end holds its estimates through a
:class:`~twophase.link.routing.Hysteresis` of its own; without one in the routing that changes nothing.  A
trial is a session: its samples are its order in time, and the next one begins anew.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twophase.link.routing import Hysteresis, Routing
from twophase.sim.settings import Settings

__all__ = ["SnrEstimates"]

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
