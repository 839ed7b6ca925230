"""How a sweep is run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from twophase.link.errors import InputError

__all__ = ["ChannelName", "DemapperName", "Settings"]

ChannelName = Literal["awgn", "rayleigh"]
DemapperName = Literal["exact", "maxlog", "commpy"]


@dataclass(frozen=True)
class Settings:
    """What a result depends on, beside the bundle, the samples and the SNR.

    Raises
    ------
    InputError
        If a value breaks its rule.
    """

    channel: ChannelName = "awgn"
    """AWGN, or flat Rayleigh fading with one independent gain per symbol; the receiver knows the gains."""
    demapper: DemapperName = "exact"
    """How received symbols become LLRs."""
    trials: int = 20
    """Times that each sample is sent at each SNR, under independent noise."""
    seed: int = 0
    """Seed of gains and noise."""
    tolerance: float = 0.02
    """How far the deployed accuracy may lie below a soft one: 0.02 is two points."""

    def __post_init__(self) -> None:
        if self.channel not in get_args(ChannelName):
            raise InputError("channel", "be 'awgn' or 'rayleigh'", self.channel)
        if self.demapper not in get_args(DemapperName):
            raise InputError("demapper", "be 'exact', 'maxlog' or 'commpy'", self.demapper)
        if self.trials < 1:
            raise InputError("trials", "be at least 1", self.trials)
        if self.seed < 0:
            raise InputError("seed", "be at least 0", self.seed)
        if not (math.isfinite(self.tolerance) and 0 <= self.tolerance < 1):
            raise InputError("tolerance", "lie in 0..1 (0.02 is two points)", self.tolerance)
