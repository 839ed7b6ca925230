"""What each epoch reports, where it is written, and when to warn of collapse, with the guide's remedy."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from twophase.link.constellation import qam
from twophase.link.demap import llr_exact
from twophase.link.errors import ArtifactError
from twophase.link.files import read_plain, write_text
from twophase.link.noise import esn0_db_to_noise_var
from twophase.training.config import TrainConfig

__all__ = [
    "TABLE_HEAD",
    "EpochRecord",
    "MetricsLog",
    "collapse_warnings",
    "expected_mean_abs_llr",
    "read_records",
    "reported_lines",
    "table_row",
]

VQ_ENTROPY_SHARE = 2.5 / math.log(256)
"""Reported threshold: 2.5 nats of a codebook of 256, as a share of ln K."""
SYMBOL_ENTROPY_SHARE = 1.5 / math.log(16)
"""Reported threshold: 1.5 nats of 16-QAM, as a share of ln M."""
LLR_FACTOR = 1.5
"""A mean |LLR| of that many times the value of evenly used hard points is called saturated.

The reported limit, 8 for 16-QAM, cannot be kept as it is: at 0..20 dB the right LLRs of hard points already
average 14.5 (``expected_mean_abs_llr``), so that every correct hard system would be warned of.
"""
CONSISTENCY_LIMIT = 0.05
DROP_LIMIT = 0.02
SETTLING_EPOCHS = 10
JUDGED_USAGE = 0.05
ROUTER_SHARE_LIMIT = 0.95
"""One mode with more of the samples than this: the router has collapsed."""
ROUTER_ENTROPY_SHARE = 0.9
"""An aligned router above this share of ln(modes) has learned nothing."""
MORE_ENTROPY = (
    "raise --lambda-entropy to 0.05, raise --temp-freeze-floor, warm up with --entropy-warmup-epochs"
)
TABLE_HEAD = (
    f"{'epoch':>5} {'phase':9} {'T':>5} {'loss':>8} {'val soft':>8} {'val hard':>8} "
    f"{'H codewords':>11} {'H symbols':>11} {'|LLR|':>11} {'symbols':>7} {'s':>5}"
)
"""Entropies of use in nats and mean |LLR| are the lowest and highest of all codebooks or modes; symbols are
those of a payload on average.  ``metrics.jsonl`` and TensorBoard have every figure."""


@dataclass(frozen=True)
class EpochRecord:
    """One line of ``metrics.jsonl``."""

    epoch: int
    phase: str
    vq_temperature: float
    symbol_temperature: float
    hard_forward: float
    """0 soft, 1 hard, between them while hardening gradually."""
    learning_rate: float
    losses: dict[str, float]
    """Mean of each unweighted term and of the total."""
    train_accuracy_forward: float
    """Of the training passes themselves."""
    train_accuracy_hard: float
    train_accuracy_soft: float
    validation_accuracy_hard: float
    validation_accuracy_soft: float
    validation_loss_hard: float
    validation_loss_soft: float
    vq_entropy: list[float]
    """Nats, of hard indices on the training split; one for each codebook."""
    symbol_entropy: list[float]
    """Nats, of hard constellation points on the training split; one for each mode."""
    mean_abs_llr: list[float]
    """Of the training passes in each mode."""
    revived: int
    mode_usage: list[float]
    """Share of each mode on the validation split over the training SNRs, as the router decides."""
    router_entropy: float
    """Nats, mean over the samples of the training passes; ln(modes) for a router that cannot tell."""
    bits_per_sample: float
    symbols_per_sample: float
    """Of the payload, averages over the same."""
    seconds: float


def expected_mean_abs_llr(order: int, low_db: float, high_db: float) -> float:
    """Mean |LLR| of evenly used hard points over an even range of Es/N0; 8 was reported for 16-QAM."""
    generator = np.random.default_rng(0)
    esn0_db = np.linspace(low_db, high_db, 4096)
    noise_var = esn0_db_to_noise_var(esn0_db)
    constellation = qam(order)
    sent = constellation.points[generator.integers(order, size=esn0_db.size)]
    draws = generator.standard_normal((2, esn0_db.size))
    noise = np.sqrt(noise_var / 2) * (draws[0] + 1j * draws[1])
    return float(np.abs(llr_exact(sent + noise, constellation, noise_var)).mean())


def collapse_warnings(
    record: EpochRecord, earlier: list[EpochRecord], config: TrainConfig, llr_references: Sequence[float]
) -> dict[str, str]:
    """Signs of collapse in ``record``: kind -> sentence with the remedy of the method's guide.

    Parameters
    ----------
    earlier
        The records of all epochs before.
    llr_references
        ``expected_mean_abs_llr`` of each mode's constellation.

    Returns
    -------
    dict
        Empty in the first ``SETTLING_EPOCHS`` epochs: codebooks start unused, and that is no collapse.  What
        alignment does is judged after as many epochs of its own.  The last epoch is always judged.  Symbols
        and LLRs are judged in the modes that carry at least ``JUDGED_USAGE`` of the samples.
    """
    last = record.epoch == config.epochs
    if record.epoch <= SETTLING_EPOCHS and not last:
        return {}
    found = {}
    modes = config.link.modes
    used = [share >= JUDGED_USAGE for share in record.mode_usage]
    for index, size in enumerate(config.codebook_sizes):
        book = f"codebook {size}" if config.codebook_sizes.count(size) == 1 else f"codebook {size}#{index}"
        limit, value = VQ_ENTROPY_SHARE * math.log(size), record.vq_entropy[index]
        carries = any(flag for mode, flag in zip(modes, used, strict=True) if mode.codebook == index)
        if value < limit and carries:
            found[_kind("codeword entropy", book, config)] = (
                f"codeword entropy {value:.2f} nats is below {limit:.2f}{_of(book, config)}: {MORE_ENTROPY}"
            )
    for number, (mode, name) in enumerate(zip(modes, modes.names, strict=True)):
        if not used[number]:
            continue
        limit, value = SYMBOL_ENTROPY_SHARE * math.log(mode.order), record.symbol_entropy[number]
        if value < limit:
            found[_kind("symbol entropy", name, config)] = (
                f"symbol entropy {value:.2f} nats is below {limit:.2f}{_of(name, config)}: {MORE_ENTROPY}"
            )
        limit, value = LLR_FACTOR * llr_references[number], record.mean_abs_llr[number]
        if value > limit:
            found[_kind("saturated LLRs", name, config)] = (
                f"mean |LLR| {value:.1f} is above {limit:.1f}{_of(name, config)}: LLRs saturate and "
                "carry no gradient; keep --bridge, raise --temp-freeze-floor, lower --train-snr-high-db"
            )
    found |= _router_warnings(record, config)
    if record.phase == "alignment":
        if last or sum(entry.phase == "alignment" for entry in earlier) >= SETTLING_EPOCHS:
            found |= _alignment_warnings(record, earlier)
    else:
        gap = record.validation_accuracy_soft - record.validation_accuracy_hard
        if config.method == "single-phase" and gap > DROP_LIMIT:
            found["hard below soft"] = (
                f"hard validation accuracy is {100 * gap:.1f} points below soft: use --method two-phase"
            )
    return found


def _router_warnings(record: EpochRecord, config: TrainConfig) -> dict[str, str]:
    modes = config.link.modes
    if len(modes) == 1 or config.router == "table":
        return {}  # one mode needs no router, and a table takes the router's place
    found = {}
    share = max(record.mode_usage)
    if share > ROUTER_SHARE_LIMIT:
        name = modes.names[record.mode_usage.index(share)]
        found["router collapse"] = (
            f"the router sends {100 * share:.0f} % of the samples in mode {name}: raise --lambda-balance, "
            "lower --lambda-rate, raise --router-noise"
        )
    limit = ROUTER_ENTROPY_SHARE * math.log(len(modes))
    if record.phase == "alignment" and record.router_entropy > limit:
        found["undecided router"] = (
            f"the router's entropy {record.router_entropy:.2f} nats is above {limit:.2f}: it hardly tells "
            "modes apart; lower --lambda-balance, train longer"
        )
    return found


def _alignment_warnings(record: EpochRecord, earlier: list[EpochRecord]) -> dict[str, str]:
    found = {}
    learned = [entry.validation_accuracy_soft for entry in earlier if entry.phase == "learning"]
    drop = learned[-1] - record.validation_accuracy_hard if learned else 0.0
    if drop > DROP_LIMIT:
        found["drop at alignment"] = (
            f"hard validation accuracy is {100 * drop:.1f} points below the soft one at the end of learning: "
            "raise --temp-freeze-floor to 0.8, lower --lambda-consistency to 0.3, "
            "raise --alignment-start-epoch"
        )
    gap = abs(record.validation_accuracy_soft - record.validation_accuracy_hard)
    if gap > DROP_LIMIT:
        found["soft and hard differ"] = (
            f"soft and hard validation accuracy differ by {100 * gap:.1f} points: "
            "raise --lambda-consistency, raise --temp-freeze-floor"
        )
    if record.losses["consistency"] > CONSISTENCY_LIMIT:
        found["inconsistent"] = (
            f"consistency loss {record.losses['consistency']:.3f} stays above {CONSISTENCY_LIMIT}: raise "
            "--lambda-consistency, make the alignment phase longer"
        )
    return found


class MetricsLog:
    """``metrics.jsonl`` and TensorBoard events of a run; a resumed run drops what came after its checkpoint.

    Records of epochs up to ``keep`` stay; ArtifactError where one of them is missing.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "metrics.jsonl"
        self.records = [record for record in read_records(self.path) if record.epoch <= keep]
        if [record.epoch for record in self.records] != list(range(1, keep + 1)):
            raise ArtifactError(f"'{self.path}' must hold epochs 1..{keep}: truncated or altered")
        write_text(self.path, "".join(_as_line(record) for record in self.records))
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=keep + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def add(self, record: EpochRecord) -> None:
        """Append one epoch."""
        self.records.append(record)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(_as_line(record))
        for name, value in _flat(asdict(record)).items():
            self._writer.add_scalar(name, value, record.epoch)


def read_records(path: Path) -> list[EpochRecord]:
    """All records of a ``metrics.jsonl``; a half-written last line, as a kill leaves it, is dropped.

    ArtifactError where another line is no record.
    """
    if not path.is_file():
        return []
    try:
        lines = read_plain(path, path.parent).decode("utf-8").split("\n")
        return [EpochRecord(**json.loads(line)) for line in lines[:-1]]
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"'{path}' is altered: {error}") from error


def table_row(record: EpochRecord) -> str:
    """One line under ``TABLE_HEAD``."""
    phase = "hardening" if 0 < record.hard_forward < 1 else record.phase
    return (
        f"{record.epoch:5} {phase:9} {record.vq_temperature:5.3f} {record.losses['total']:8.4f} "
        f"{record.validation_accuracy_soft:8.4f} {record.validation_accuracy_hard:8.4f} "
        f"{_range(record.vq_entropy, 2):>11} {_range(record.symbol_entropy, 2):>11} "
        f"{_range(record.mean_abs_llr, 1):>11} {record.symbols_per_sample:7.4g} {record.seconds:5.1f}"
    )


def reported_lines(record: EpochRecord) -> tuple[str, str]:
    """Phase and temperatures, then losses and accuracies."""
    hard = str(record.hard_forward == 1) if record.hard_forward in (0, 1) else f"{record.hard_forward:.2f}"
    losses = " ".join(
        f"{name}={record.losses[name]:.4f}"
        for name in ("total", "task", "consistency", "entropy")
        if name in record.losses
    )
    return (
        f"[Epoch {record.epoch}] Phase={record.phase.upper()} | vq_T={record.vq_temperature:.3f} "
        f"sym_T={record.symbol_temperature:.3f} | hard_fwd={hard}",
        f"  {losses} | val soft={record.validation_accuracy_soft:.4f} "
        f"hard={record.validation_accuracy_hard:.4f}",
    )


def _kind(what: str, where: str, config: TrainConfig) -> str:
    return what if len(config.link.modes) == 1 else f"{what} of {where}"


def _of(where: str, config: TrainConfig) -> str:
    return "" if len(config.link.modes) == 1 else f" in {where}"


def _range(values: Sequence[float], digits: int) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low}..{high}"


def _as_line(record: EpochRecord) -> str:
    return json.dumps(asdict(record), allow_nan=False) + "\n"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{name}/")
        elif isinstance(value, list):
            flat |= _flat({f"{name}/{number}": entry for number, entry in enumerate(value)}, prefix)
        elif not isinstance(value, str) and name != "epoch":
            flat[prefix + name] = float(value)
    return flat
