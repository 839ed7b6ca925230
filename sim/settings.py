"""How a sweep is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from twophase.link.errors import InputError

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
    "check_workers",
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
MOST_WORKERS = 1024
"""Most processes; more is a typing error, and no machine's cores."""
_WHOLE = ("pilots", "trials", "max_trials", "seed")
_REAL = (
    "rician_k_db",
    "delay_spread_ns",
    "noise_mismatch_db",
    "precision",
    "tolerance",
)


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
    rician_k_db: float = 6.0
    """Rician channel: power of the direct path over that of the scattered ones, in dB."""
    delay_spread_ns: float = 300.0
    """tdl channels: root mean square delay spread in ns."""
    csi: CsiName = "perfect"
    """What the receiver takes the gains for: the truth, an estimate from pilots, or 1 (none)."""
    pilots: int = 2
    """--csi pilot: pilot symbols in each block of equal gain (tdl: in 12 subcarriers); they count as
    symbols."""
    estimator: EstimatorName = "mmse"
    """--csi pilot: least squares, or minimum mean square error with the channel's statistics known."""
    noise_estimate: NoiseEstimateName = "known"
    """What the receiver takes the noise variance for: the truth, or the residuals at the pilots."""
    noise_mismatch_db: float = 0.0
    """By how much the receiver takes the noise variance too high, in dB."""
    demapper: DemapperName = "exact"
    """LLRs: exact, max-log, hard decisions (the clip with the sign of the nearest point's bit), or
    scikit-commpy's own soft demodulator (slow; for cross-reading)."""
    header: HeaderName = "coded"
    """How the receiver learns the mode: as the link does it, or for free ('ideal', for comparison)."""
    mode: str | None = None
    """One mode for every sample, known to both ends, by name (64x16qam) or number. Default: the router's."""
    trials: int = 20
    """Times that each sample is sent at each SNR, under independent noise; with --precision at first."""
    precision: float | None = None
    """Go on until the half-width of the 95 % interval of the gap or of the accuracy, whichever is narrower,
    is at most this (0.02 is two points), until more trials cannot help, or until --max-trials."""
    max_trials: int = 1000
    """Most trials of a point with --precision."""
    seed: int = 0
    """Seed of gains, noise and estimates; the same seed gives the same report."""
    tolerance: float = 0.02
    """How far the deployed accuracy may lie below a soft one and still pass: 0.02 is two points."""

    def __post_init__(self) -> None:
        _check_types(self, _WHOLE, _REAL)
        if self.mode is not None and not isinstance(self.mode, str):
            raise InputError("mode", "be a name or None", self.mode)
        for name, choices in (
            ("channel", ChannelName),
            ("csi", CsiName),
            ("estimator", EstimatorName),
            ("noise_estimate", NoiseEstimateName),
            ("demapper", DemapperName),
            ("header", HeaderName),
        ):
            _check_choice(name, choices, getattr(self, name))
        self._check_coherence()
        for name in ("rician_k_db", "noise_mismatch_db"):
            if not abs(getattr(self, name)) <= LARGEST_ERROR_DB:
                rule = f"lie within {LARGEST_ERROR_DB:g} dB of 0"
                raise InputError(name, rule, getattr(self, name))
        if not 0 < self.delay_spread_ns <= LARGEST_SPREAD_NS:
            rule = f"be positive and at most {LARGEST_SPREAD_NS:,.0f} ns"
            raise InputError("delay_spread_ns", rule, self.delay_spread_ns)
        if self.pilots < 1:
            raise InputError("pilots", "be at least 1", self.pilots)
        if self.pilots > MOST_PILOTS:
            raise InputError("pilots", f"be at most {MOST_PILOTS:,}", self.pilots)
        if self.trials < 1:
            raise InputError("trials", "be at least 1", self.trials)
        if self.precision is not None and not 0 < self.precision < 1:
            raise InputError("precision", "lie between 0 and 1 (0.005 is half a point)", self.precision)
        if self.precision is not None and self.max_trials < self.trials:
            raise InputError(
                "max_trials", f"be at least the {self.trials} trials of a start", self.max_trials
            )
        if self.seed < 0:
            raise InputError("seed", "be at least 0", self.seed)
        if not 0 <= self.tolerance < 1:
            raise InputError("tolerance", "lie in 0..1 (0.02 is two points)", self.tolerance)

    def _check_coherence(self) -> None:
        flat_fading = self.channel in ("rayleigh", "rician")
        if isinstance(self.coherence, bool) or not isinstance(self.coherence, (int, str)):
            raise InputError("coherence", "be 'symbol', 'sample' or a number of symbols", self.coherence)
        if isinstance(self.coherence, int):
            if self.coherence < 2:
                raise InputError("coherence", "be 'symbol', 'sample' or at least 2 symbols", self.coherence)
            if self.coherence > MOST_SYMBOLS:
                raise InputError("coherence", f"be at most {MOST_SYMBOLS:,} symbols", self.coherence)
        else:
            _check_choice("coherence", CoherenceName, self.coherence)
        if self.coherence != "symbol" and not flat_fading:
            why = "AWGN, which does not fade" if self.channel == "awgn" else "a tapped delay line"
            raise InputError("coherence", f"be 'symbol' on {why}", self.coherence)


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
        _check_types(self, (), ("snr_error_bias_db", "snr_error_jitter_db"))
        for name, choices in (("known_snr", KnownSnr), ("kernel", KernelName), ("snr_error_at", ErrorPlace)):
            _check_choice(name, choices, getattr(self, name))
        for name, choices in (("codes", CodeName), ("baselines", BaselineName)):
            chosen = getattr(self, name)
            if not isinstance(chosen, tuple):
                raise InputError(name, "be a tuple of names", chosen)
            for value in chosen:
                _check_choice(name, choices, value)
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


def _check_types(settings: Options, whole: tuple[str, ...], real: tuple[str, ...]) -> None:
    for name in whole:
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError(name, "be a whole number", value)
    for name in real:
        value = getattr(settings, name)
        absent = name == "precision" and value is None
        if not absent and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise InputError(name, "be a number", value)


def _check_choice(name: str, choices: Any, value: object) -> None:
    allowed = get_args(choices)
    if not isinstance(value, str) or value not in allowed:
        listed = ", ".join(repr(choice) for choice in allowed[:-1])
        raise InputError(name, f"be {listed} or {allowed[-1]!r}", value)


@dataclass(frozen=True)
class Workers:
    """Who does the work; a result does not depend on it.

    Raises
    ------
    InputError
        As :func:`check_workers`.
    """

    processes: int = 1
    """Processes on this machine; one is the program's own."""
    scheduler: str | None = None
    """Address of a Dask scheduler whose workers take their place."""

    def __post_init__(self) -> None:
        check_workers(self.processes, self.scheduler)


def check_workers(processes: int, scheduler: str | None = None) -> None:
    """Refuse workers that nobody could start.

    Raises
    ------
    InputError
        If there is no process or more than ``MOST_WORKERS``, or both more than one and a scheduler are asked
        for.
    """
    if processes < 1:
        raise InputError("workers", "be at least 1", processes)
    if processes > MOST_WORKERS:
        raise InputError("workers", f"be at most {MOST_WORKERS}", processes)
    if scheduler is not None and processes != 1:
        raise InputError("workers", "be left out with --scheduler, whose cluster has its own", processes)
