"""How a sweep is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from twophase.link.errors import InputError
from twophase.link.typed import Rule, Seed, Threads, check_fields, within

__all__ = [
    "SENTENCE_BASELINES",
    "BaselineName",
    "ChannelName",
    "CodeName",
    "CoherenceName",
    "CsiName",
    "DemapperName",
    "ErrorPlace",
    "EstimatorName",
    "HeaderName",
    "KernelName",
    "KnownSnr",
    "NoiseEstimateName",
    "Options",
    "Settings",
    "Workers",
]

ChannelName = Literal["awgn", "rayleigh", "rician", "tdl-a", "tdl-c"]
CoherenceName = Literal["symbol", "sample"]
CsiName = Literal["perfect", "pilot", "none"]
EstimatorName = Literal["ls", "mmse"]
NoiseEstimateName = Literal["known", "pilot"]
DemapperName = Literal["exact", "maxlog", "hard", "commpy"]
KernelName = Literal["numpy", "numba"]
CodeName = Literal["conv", "ldpc"]
BaselineName = Literal["classify-and-send", "no-channel", "tfidf", "text"]
SENTENCE_BASELINES: tuple[BaselineName, ...] = ("no-channel", "tfidf", "text")
"""Those that need the sentences themselves; drawn by default where there are any."""
HeaderName = Literal["coded", "ideal"]
ErrorPlace = Literal["transmitter", "both"]
KnownSnr = Literal["mean", "block"]
LARGEST_ERROR_DB = 100.0
LARGEST_SPREAD_NS = 1e6
MOST_PILOTS = 10_000
MOST_SYMBOLS = 1_000_000
"""Longest coherence that is given in symbols; more is a typing error."""
MOST_TRIALS = 100_000
"""More is a typing error: one point would take days."""
Decibels = Annotated[float, within(-LARGEST_ERROR_DB, LARGEST_ERROR_DB)]
Spread = Annotated[
    float,
    Rule(f"be positive and at most {LARGEST_SPREAD_NS:,.0f} ns", lambda ns: 0 < ns <= LARGEST_SPREAD_NS),
]
Pilots = Annotated[int, within(1, MOST_PILOTS)]
Precision = Annotated[float, Rule("lie between 0 and 1 (0.005 is half a point)", lambda width: 0 < width < 1)]
Tolerance = Annotated[float, Rule("lie in 0..1 (0.02 is two points)", lambda gap: 0 <= gap < 1)]


@dataclass(frozen=True)
class Options:
    """What the command line gives as it is: how each point is measured.

    Raises
    ------
    InputError
        If a value is of another type, as JSON may hold it, or breaks its rule.
    """

    channel: ChannelName = "awgn"
    """AWGN; flat Rayleigh or Rician fading; tdl-a, tdl-c: frequency-selective fading of TR 38.901 under
    OFDM."""
    coherence: CoherenceName | int = "symbol"
    """How long a flat gain holds: a symbol, N symbols of the air, or all of a sample's, header included."""
    rician_k_db: Decibels = 6.0
    """Rician channel: power of the direct path over that of the scattered ones, in dB."""
    delay_spread_ns: Spread = 300.0
    """tdl channels: root mean square delay spread in ns."""
    csi: CsiName = "perfect"
    """What the receiver takes the gains for: the truth, an estimate from pilots, or 1 (none)."""
    pilots: Pilots = 2
    """--csi pilot: pilot symbols in each block of equal gain (tdl: in 12 subcarriers); they count as
    symbols."""
    estimator: EstimatorName = "mmse"
    """--csi pilot: least squares, or minimum mean square error with the channel's statistics known."""
    noise_estimate: NoiseEstimateName = "known"
    """What the receiver takes the noise variance for: the truth, or the residuals at the pilots."""
    noise_mismatch_db: Decibels = 0.0
    """By how much the receiver takes the noise variance too high, in dB."""
    demapper: DemapperName = "exact"
    """LLRs: exact, max-log, hard decisions (the clip with the sign of the nearest point's bit), or
    scikit-commpy's own soft demodulator (slow; for cross-reading)."""
    header: HeaderName = "coded"
    """How the receiver learns the mode: as the link does it, or for free ('ideal', for comparison)."""
    mode: str | None = None
    """One mode for every sample, known to both ends, by name (64x16qam) or number. Default: the router's."""
    trials: Annotated[int, within(1, MOST_TRIALS)] = 20
    """Times that each sample is sent at each SNR, under independent noise; with --precision at first."""
    precision: Precision | None = None
    """Go on until the half-width of the 95 % interval of the gap or of the accuracy, whichever is narrower,
    is at most this (0.02 is two points), until more trials cannot help, or until --max-trials."""
    max_trials: Annotated[int, within(1, MOST_TRIALS)] = 1000
    """Most trials of a point with --precision."""
    seed: Seed = 0
    """Seed of gains, noise and estimates; the same seed gives the same report."""
    tolerance: Tolerance = 0.02
    """How far the deployed accuracy may lie below a soft one and still pass: 0.02 is two points."""

    def __post_init__(self) -> None:
        check_fields(self)
        if isinstance(self.coherence, int) and not 2 <= self.coherence <= MOST_SYMBOLS:
            rule = f"be 'symbol', 'sample' or 2 to {MOST_SYMBOLS:,} symbols"
            raise InputError("coherence", rule, self.coherence)
        if self.coherence != "symbol" and self.channel not in ("rayleigh", "rician"):
            why = "AWGN, which does not fade" if self.channel == "awgn" else "a tapped delay line"
            raise InputError("coherence", f"be 'symbol' on {why}", self.coherence)
        if self.precision is not None and self.max_trials < self.trials:
            raise InputError(
                "max_trials", f"be at least the {self.trials} trials of a start", self.max_trials
            )


@dataclass(frozen=True)
class Settings(Options):
    """What a result depends on, apart from the bundle, the samples and the SNR.

    Raises
    ------
    InputError
        As :class:`Options`.
    """

    known_snr: KnownSnr = "mean"
    """Which Es/N0 both ends go by when they choose a mode or read a header: the mean of the point, or under
    block fading that of the sample's own block, as a receiver measures it and feeds it back."""
    kernel: KernelName = "numpy"
    """Which implementation computes them; they agree to rounding, so a replay needs the same."""
    codes: tuple[CodeName, ...] = ()
    """Channel codes around the index bits, each a baseline."""
    baselines: tuple[BaselineName, ...] = ()
    """Other ways to the label, or without a channel."""
    snr_error_bias_db: float = 0.0
    """By how much the transmitter takes Es/N0 too high, in dB."""
    snr_error_jitter_db: float = 0.0
    """Standard deviation of each end's estimate of Es/N0, in dB, drawn afresh for every frame."""
    snr_error_at: ErrorPlace = "transmitter"
    """Whose estimate is wrong: the transmitter's, or one and the same estimate at both ends."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("codes", "baselines"):
            chosen = getattr(self, name)
            if len(set(chosen)) < len(chosen):
                raise InputError(name, "name each only once", ", ".join(chosen))
        if self.known_snr == "block" and self.coherence != "sample":
            raise InputError("known_snr", "be 'mean' unless a gain holds for a whole sample", self.known_snr)
        if not abs(self.snr_error_bias_db) <= LARGEST_ERROR_DB:
            rule = f"have a bias within {LARGEST_ERROR_DB:g} dB"
            raise InputError("router_snr_error", rule, self.snr_error_bias_db)
        if not 0 <= self.snr_error_jitter_db <= LARGEST_ERROR_DB:
            rule = f"have a jitter from 0 to {LARGEST_ERROR_DB:g} dB"
            raise InputError("router_snr_error", rule, self.snr_error_jitter_db)


@dataclass(frozen=True)
class Workers:
    """Who does the work; a result does not depend on it.

    Raises
    ------
    InputError
        If both more than one process and a scheduler are asked for, or one breaks its rule.
    """

    processes: Threads = 1
    """Processes on this machine; one is the program's own."""
    scheduler: str | None = None
    """Address of a Dask scheduler whose workers take their place."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.scheduler is not None and self.processes != 1:
            rule = "be left out with --scheduler, whose cluster has its own"
            raise InputError("workers", rule, self.processes)
