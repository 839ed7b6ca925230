"""What a report says, typed: one class for each kind of entry of ``report.json``.

A field that is None by default is left out of the JSON where it is None.  Shares and accuracies are in 0..1,
intervals at 95 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from twophase.link.manifest import Reference
from twophase.sim.settings import ChannelName, CoherenceName, Settings
from twophase.sim.theory.decision import Verdict, overall
from twophase.sim.theory.statistics import Interval

__all__ = [
    "BackboneCheck",
    "BaselineFigures",
    "BestFixed",
    "Ceiling",
    "Compared",
    "ComparedPoint",
    "Described",
    "LinkFigures",
    "ModeEntry",
    "ModeFigures",
    "ModePoint",
    "Point",
    "Quality",
    "ReferenceFigures",
    "Report",
    "Scatter",
    "ScatterGroup",
    "SnrError",
    "TextFigures",
    "TextPoint",
    "as_json",
]


@dataclass(frozen=True, kw_only=True)
class LinkFigures:
    """The deployed link by itself at one Es/N0."""

    esn0_db: float
    ebn0_db: float
    """Of the information bits, header and pilots included in the energy."""
    accuracy_hard: float
    accuracy_hard_ci: Interval
    accuracy_by_mode: dict[str, float]
    accuracy_noiseless: float
    """If the symbols arrive undisturbed."""
    label_bound: float
    """Accuracy of an ideal system that sends the label with this classifier."""
    label_delivered: float
    """Probability that it delivers the label, in frames as long as the link's."""
    ber: float
    """Of the nearest points' bits, before any soft decision."""
    ber_ci: Interval
    ber_theory: float
    """Closed form for points that are sent equally often."""
    ber_theory_usage: float
    """Closed form for the points as they were sent."""
    bit_errors: int
    bits_sent: int
    codeword_error_rate: float
    codeword_errors: int
    codewords_sent: int
    mode_error_rate: float
    header_error_rate: float | None
    """None where no header is sent."""
    mean_abs_llr: float
    llrs_replaced: int
    """LLRs that commpy's demapper could not give."""
    bits_per_sample: float
    header_bits_per_sample: int
    symbols_per_sample: float
    """Header and pilots included."""
    payload_symbols_per_sample: float
    header_symbols_per_sample: float
    pilot_symbols_per_sample: float
    measured_esn0_db: float
    """Of what was really on the air."""
    capacity: float
    cm_mi: float
    """Mutual information of coded modulation, bits per payload symbol."""
    bicm_mi: float
    """The same, bit-interleaved."""
    symbol_energy: float
    """E, average energy per symbol before scaling."""
    mode_usage: dict[str, float]
    """Share of the frames by mode."""


@dataclass(frozen=True)
class ReferenceFigures:
    """A soft reference at one point; the gap is deployed minus soft, in pairs."""

    accuracy: float
    accuracy_ci: Interval
    gap: float
    gap_ci: Interval
    gap_lower_bound: float
    """One-sided, 95 %: PASS goes by it."""
    gap_upper_bound: float
    """One-sided, 95 % over all points and references together: FAIL goes by it."""
    symbols_per_sample: float
    symbol_energy: float
    verdict: Verdict
    samples_to_decide: int | None = None
    """UNDECIDED: about how many samples would decide; None if no number would."""


@dataclass(frozen=True)
class BaselineFigures:
    """Another design at one point; the difference is to the deployed link, in pairs."""

    accuracy: float
    accuracy_ci: Interval
    difference: float
    difference_ci: Interval
    symbols_per_sample: float
    symbol_energy: float


@dataclass(frozen=True)
class BestFixed:
    """The best mode of at least as many symbols as the adaptive link; the difference is adaptive minus it."""

    mode: str
    symbols: int
    accuracy: float
    difference: float
    difference_ci: Interval


@dataclass(frozen=True)
class TextPoint:
    """The sentences themselves at one point."""

    scheme: str | None
    """Channel code and constellation; None where each block's gain chooses."""
    intact: float
    trials: int
    symbols: float
    ratio: float
    """Times the link's symbols."""
    bound_symbols: float
    """The least that any code needs for the same bits."""
    bound_ratio: float


@dataclass(frozen=True, kw_only=True)
class Point(LinkFigures):
    """One Es/N0 of a report: the link, what it is held against and what is drawn with it."""

    references: dict[str, ReferenceFigures]
    baselines: dict[str, BaselineFigures] = field(metadata={"json": "companions"})
    samples: int
    trials: int
    llr_zeros: Sequence[int]
    llr_ones: Sequence[int]
    llr_expected_ones: Sequence[float]
    confusion: Sequence[Sequence[int]]
    counts: dict[str, int]
    counts_sha256: str
    stop_reason: str
    classify_and_send: float | None = None
    """Accuracy of an ideal system that sends the label decided without a channel, in as many symbols; None
    where no such decisions are known."""
    best_fixed: BestFixed | None = None
    text: TextPoint | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether it is shown to be no worse than every reference, by the tolerance, or worse than one."""
        return overall(entry.verdict for entry in self.references.values())

    @property
    def gap_reference(self) -> str:
        """The reference with the lowest gap, whose figures are the point's."""
        return min(self.references, key=lambda name: self.references[name].gap)

    @property
    def accuracy_soft(self) -> float:
        """Of that reference."""
        return self.references[self.gap_reference].accuracy

    @property
    def gap(self) -> float:
        """To that reference."""
        return self.references[self.gap_reference].gap

    @property
    def gap_ci(self) -> Interval:
        """Of that gap."""
        return self.references[self.gap_reference].gap_ci


@dataclass(frozen=True)
class ModePoint:
    """One mode by itself at one Es/N0."""

    esn0_db: float
    accuracy: float
    accuracy_ci: Interval
    accuracy_noiseless: float
    label_bound: float
    ber: float
    codeword_error_rate: float
    symbol_energy: float


@dataclass(frozen=True)
class ModeFigures:
    """One mode by itself over the grid."""

    mode: str
    symbols: int
    """Pilots included, without a header."""
    bits: int
    points: tuple[ModePoint, ...]


@dataclass(frozen=True)
class ModeEntry:
    """What a mode is."""

    mode: str
    codebook: int
    codebook_size: int
    tokens: int
    order: int
    bits: int
    symbols: int


@dataclass(frozen=True)
class Described:
    """A baseline's name and what it does."""

    name: str
    description: str


@dataclass(frozen=True)
class ScatterGroup:
    """Received symbols of one mode, equalised, and the points that are sent; real and imaginary part."""

    mode: str
    order: int
    received: Sequence[tuple[float, float]]
    reference: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scatter:
    """Received symbols at one Es/N0."""

    esn0_db: float
    groups: tuple[ScatterGroup, ...]


@dataclass(frozen=True)
class ComparedPoint:
    """Another bundle at one Es/N0."""

    esn0_db: float
    symbols_per_sample: float
    accuracy: float
    accuracy_ci: Interval


@dataclass(frozen=True)
class Compared:
    """Another bundle over the grid."""

    name: str
    bundle: str
    bundle_sha256: str
    verdict: str
    points: tuple[ComparedPoint, ...]


@dataclass(frozen=True)
class SnrError:
    """How wrong the ends take Es/N0."""

    bias_db: float
    jitter_db: float
    at: str


@dataclass(frozen=True)
class BackboneCheck:
    """How far the whole ``tx.onnx`` gives what is simulated."""

    sentences: int
    different_features: int
    indices: int
    different_indices: int
    different_indices_by_mode: dict[str, int]


@dataclass(frozen=True)
class Ceiling:
    """The accuracy without a channel."""

    name: str
    description: str
    accuracy: float
    accuracy_ci: Interval


@dataclass(frozen=True)
class Quality:
    """How good the link is, whatever it is compared with in the verdict."""

    majority_share: float
    """Accuracy of naming the most frequent class of the samples, whatever is sent."""
    below_label: float
    """By how much the deployed accuracy lies below that of an ideal system that classifies and sends the
    label in as many symbols: where it is most; negative where it lies above everywhere."""
    below_label_at_db: float
    train_accuracy: float | None = None
    """Of the hard system over the SNRs of training, as training measured it."""
    validation_accuracy: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextFigures:
    """The sentences themselves: how long they are and, over all points, the ends of what they cost."""

    bits_per_sentence: float
    bits_shortest: int
    bits_longest: int
    field_bits: int
    sources: dict[str, int]
    """Sentences by source code."""
    table: str
    """Column of the table of schemes: ``awgn`` or ``rayleigh``."""
    every: int
    """They are sent in every so many trials."""
    otherwise: str
    """The class that is decided for where a sentence does not arrive."""
    ratio: tuple[float, float] = (0.0, 0.0)
    bound_ratio: tuple[float, float] = (0.0, 0.0)
    intact: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that a report shows."""

    verdict: Verdict
    advice: str | None = None
    """UNDECIDED: what would decide."""
    quality: Quality
    remarks: list[str]
    task: str
    command: str
    """The command that repeats it."""
    versions: dict[str, str]
    seed: int
    bundle: str
    bundle_sha256: str
    data: str
    data_sha256: str
    settings: Settings
    grid: list[float]
    channel: ChannelName
    channel_text: str
    csi_text: str
    kernel: str
    coherence: CoherenceName | int
    known_snr: str
    demapper: str
    router: str
    header: str
    mode: str | None
    """The one mode that is used; None: the router's."""
    signalling: str
    router_snr_error: SnrError
    estimates: str
    trials: int
    """The most of any point."""
    samples: int
    tolerance: float
    classes: list[str]
    mode_table: list[ModeEntry]
    references: Sequence[Reference]
    baselines: list[Described] = field(metadata={"json": "companions"})
    llr_edges: Sequence[float]
    scatter: Sequence[Scatter]
    compare: Sequence[Compared]
    training: Mapping[str, Any]
    points: Sequence[Point]
    front: BackboneCheck | None = None
    ceiling: Ceiling | None = None
    text: TextFigures | None = None
    modes: tuple[ModeFigures, ...] | None = None

    def compared(self, name: str) -> Compared:
        """What another report shows of this one."""
        points = tuple(
            ComparedPoint(
                point.esn0_db, point.symbols_per_sample, point.accuracy_hard, point.accuracy_hard_ci
            )
            for point in self.points
        )
        return Compared(name, self.bundle, self.bundle_sha256, self.verdict, points)


_FIRST = (
    *("esn0_db", "ebn0_db", "verdict", "accuracy_hard", "accuracy_hard_ci"),
    *("gap_reference", "accuracy_soft", "gap", "gap_ci", "references", "baselines"),
)
"""Of a point: what a reader looks for first, derived entries among it."""


def as_json(value: Any) -> Any:
    """An entry of a report, or a whole one, as JSON holds it."""
    if is_dataclass(value):
        entries = {entry.name: entry for entry in fields(value)}
        order = [*(_FIRST if isinstance(value, Point) else ()), *entries]
        content = {}
        for name in dict.fromkeys(order):
            inner, entry = getattr(value, name), entries.get(name)
            optional = entry is not None and entry.default is None and not isinstance(value, Settings)
            if inner is None and optional:
                continue
            content[entry.metadata.get("json", name) if entry else name] = as_json(inner)
        return content
    if isinstance(value, Mapping):
        return {name: as_json(entry) for name, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [as_json(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
