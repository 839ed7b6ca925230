"""How a sweep is run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from twophase.link.errors import InputError

__all__ = ["ChannelName", "CoherenceName", "DemapperName", "ErrorPlace", "HeaderName", "KnownSnr", "Settings"]

ChannelName = Literal["awgn", "rayleigh"]
CoherenceName = Literal["symbol", "sample"]
DemapperName = Literal["exact", "maxlog", "commpy"]
HeaderName = Literal["coded", "ideal"]
ErrorPlace = Literal["transmitter", "both"]
KnownSnr = Literal["mean", "block"]
LARGEST_ERROR_DB = 100.0


@dataclass(frozen=True)
class Settings:
    """What a result depends on, beside the bundle, the samples and the SNR.

    Raises
    ------
    InputError
        If a value breaks its rule.
    """

    channel: ChannelName = "awgn"
    """AWGN or flat Rayleigh fading; the receiver knows the gains."""
    coherence: CoherenceName = "symbol"
    """How long a gain holds: one symbol, or all symbols of a sample, its header included (block fading)."""
    known_snr: KnownSnr = "mean"
    """Which Es/N0 both ends go by when they choose a mode or read a header: the mean of the point, or under
    block fading that of the sample's own block, as a receiver measures it and feeds it back."""
    demapper: DemapperName = "exact"
    """How received symbols become LLRs."""
    header: HeaderName = "coded"
    """How the receiver learns the mode: as the link has it, or told free of charge for comparison."""
    mode: str | None = None
    """Name of the one mode that is used for every sample, known to both ends; None: the link's router."""
    snr_error_bias_db: float = 0.0
    """By how much the transmitter takes Es/N0 too high, in dB."""
    snr_error_jitter_db: float = 0.0
    """Standard deviation of each end's estimate of Es/N0, in dB, drawn afresh for every frame."""
    snr_error_at: ErrorPlace = "transmitter"
    """Whether the bias is the transmitter's alone and the jitter each end's own, or both ends share one wrong
    estimate."""
    trials: int = 20
    """Times that each sample is sent at each SNR, under independent noise."""
    seed: int = 0
    """Seed of gains, noise and errors of the estimates."""
    tolerance: float = 0.02
    """How far the deployed accuracy may lie below a soft one: 0.02 is two points."""

    def __post_init__(self) -> None:
        for name, choices in (
            ("channel", ChannelName),
            ("coherence", CoherenceName),
            ("known_snr", KnownSnr),
            ("demapper", DemapperName),
            ("header", HeaderName),
            ("snr_error_at", ErrorPlace),
        ):
            _check_choice(name, choices, getattr(self, name))
        if self.coherence == "sample" and self.channel == "awgn":
            raise InputError("coherence", "be 'symbol' on AWGN, which does not fade", self.coherence)
        if self.known_snr == "block" and self.coherence != "sample":
            raise InputError("known_snr", "be 'mean' unless a gain holds for a whole sample", self.known_snr)
        if not abs(self.snr_error_bias_db) <= LARGEST_ERROR_DB:
            rule = f"have a bias within {LARGEST_ERROR_DB:g} dB"
            raise InputError("router_snr_error", rule, self.snr_error_bias_db)
        if not 0 <= self.snr_error_jitter_db <= LARGEST_ERROR_DB:
            rule = f"have a jitter from 0 to {LARGEST_ERROR_DB:g} dB"
            raise InputError("router_snr_error", rule, self.snr_error_jitter_db)
        if self.trials < 1:
            raise InputError("trials", "be at least 1", self.trials)
        if self.seed < 0:
            raise InputError("seed", "be at least 0", self.seed)
        if not (math.isfinite(self.tolerance) and 0 <= self.tolerance < 1):
            raise InputError("tolerance", "lie in 0..1 (0.02 is two points)", self.tolerance)


def _check_choice(name: str, choices: Any, value: str) -> None:
    allowed = get_args(choices)
    if value not in allowed:
        listed = ", ".join(repr(choice) for choice in allowed[:-1])
        raise InputError(name, f"be {listed} or {allowed[-1]!r}", value)
