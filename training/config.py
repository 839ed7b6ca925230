"""What a training run is given: every argument of ``tp-train``, checked, with each task's defaults."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from twophase.link.errors import InputError
from twophase.link.typed import (
    POSITIVE,
    Count,
    Rule,
    Seed,
    Threads,
    at_least,
    check_fields,
    from_json,
    within,
)

if TYPE_CHECKING:
    from twophase.link.modes import LinkConfig

__all__ = ["PRESETS", "TrainConfig", "preset_of"]


_SENTENCES: dict[str, Any] = {
    "epochs": 30,
    "alignment_start_epoch": 12,
    "train_snr_low_db": -6.0,
    "train_snr_high_db": 18.0,
    "codebook_sizes": (2, 4),
    "tokens": (16, 2),
    "qam_orders": (4, 16),
}

_FEATURES: dict[str, Any] = {
    "epochs": 60,
    "alignment_start_epoch": 20,
    "train_snr_low_db": -6.0,
    "train_snr_high_db": 18.0,
    "codebook_sizes": (2, 4, 16),
    "tokens": (48, 14, 3),
    "qam_orders": (4, 16, 64),
}

PRESETS: dict[str, dict[str, Any]] = {
    "digits": {
        "epochs": 250,
        "alignment_start_epoch": 85,
        "train_snr_low_db": -6.0,
        "train_snr_high_db": 18.0,
        "input_noise": 0.08,
        "augmentation": 0.3,
        "codebook_sizes": (2, 4, 16),
        "tokens": (48, 14, 3),
        "qam_orders": (4, 16, 64),
    },
    "reviews": _SENTENCES,
    "sst2": _SENTENCES,
    "csv": _SENTENCES,
    "npz": _FEATURES,
}


def preset_of(task: str) -> dict[str, Any]:
    """Defaults of a task; those of ``npz`` for a task of one's own."""
    return PRESETS.get(task, _FEATURES)


NotNegative = Annotated[float, at_least(0)]
Positive = Annotated[float, POSITIVE]
Share = Annotated[float, within(0, 1)]
Temperature = Annotated[float, Rule("lie above 0 and at most at 1", lambda value: 0 < value <= 1)]
Tolerance = Annotated[float, Rule("lie in 0..1 (0.0075 is 0.75 points)", lambda value: 0 <= value < 1)]
NumberOfEpochs = Annotated[int, within(0, 1_000_000)]
Width = Annotated[int, within(1, 65_536)]


@dataclass(frozen=True)
class TrainConfig:
    """All settings of one training run; saved as ``config.json`` in the run folder."""

    task: str = "digits"
    """What to learn.  digits: 1,797 real 8x8 images that come with scikit-learn.  reviews: 10,043 sentences
    of movie reviews, positive or negative, fetched once.  sst2: GLUE SST-2 from a hub.  csv: your texts.
    npz: your images or features.  MODULE:FUNCTION: a task of your own (docs/tasks.md)."""
    data: Path | None = None
    """File of the task: for csv one with the columns text and label, for npz one with the arrays input and
    label."""
    ignore: tuple[str, ...] = ()
    """Columns of the file that are left out, such as an id."""
    samples: Count | None = None
    """Take only so many samples of the task, chosen by a fixed seed: for a quick try."""
    out: Path | None = None
    """Run folder; runs/TASK if not given.  A finished run there is kept next to it as .TASK.previous."""
    resume: bool = False
    """Continue the interrupted run in the run folder, to the same result as without the interruption."""
    seed: Seed = 0
    """Of initial weights, order of samples and channel noise.  The data split does not depend on it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU if there is one."""
    threads: Threads = 1
    """CPU threads of torch for the link, whose model is too small to gain from more.  A backbone takes all
    cores unless OMP_NUM_THREADS says otherwise."""
    log: Literal["table", "reported"] = "table"
    """How the terminal shows an epoch: as a row of a table, or in the two lines of the reported method.
    Every term is in metrics.jsonl and TensorBoard."""

    backbone: Annotated[str, Rule("be a name or a folder", bool)] = "minilm"
    """Pretrained transformer that reads sentences: minilm (all-MiniLM-L6-v2, in a package, needs no network),
    the name of a model on a hub (roberta-base), or a folder with one.  Tasks of text only."""
    tune_layers: Annotated[int, within(-1, 1000)] = 2
    """How many of its top layers are tuned to the task: 0 leaves it frozen, -1 tunes the whole.  What lies
    below is computed once and kept on disk."""
    tune_epochs: Count = 3
    """Passes over the training sentences that tune it, with a linear classifier and no link: the ceiling of
    the link that is then trained on its features."""
    tune_learning_rate: Positive = 3e-4
    """Peak learning rate of the tuned layers."""
    tune_batch_size: Count = 32
    """Sentences per step of the tuning, over all processes."""
    max_length: Annotated[int, within(8, 65_536)] = 128
    """Tokens that a sentence may have, the special ones included; the rest is cut off."""
    distillation: Share = 1.0
    """How far the link learns what that classifier takes the training sentences for, its probabilities,
    instead of their labels: 0 the labels alone, 1 the probabilities alone."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Of the tuning, through accelerate; fp16 needs a GPU."""

    deploy: Literal["best", "last"] = "best"
    """Which checkpoint becomes the deployed system: best on the validation split, or the last epoch's."""

    method: Literal["two-phase", "single-phase", "hard-only"] = "two-phase"
    """two-phase: soft learning, then alignment with the hard forward.  single-phase: soft to the end,
    temperature annealed 1.0 -> 0.1 (the baseline that can collapse).  hard-only: hard from the start."""
    surrogate: Literal["product", "reported"] = "product"
    """Soft symbols: product of bit probabilities (the exact expectation), or the reported softmax over
    squared bit distance."""
    epochs: Count = 30
    """Passes over the training data, both phases together."""
    alignment_start_epoch: Count = 20
    """First epoch of the alignment phase, counted from 1 (two-phase only)."""
    temp_freeze_floor: Temperature = 0.7
    """Temperature at which the learning phase stops cooling and at which the alignment phase stays."""
    anneal_temp_end: Temperature = 0.1
    """Temperature at which the single-phase baseline ends (single-phase only)."""
    hardening_epochs: NumberOfEpochs = 0
    """Gradual hardening: epochs over which the alignment phase blends from the soft to the hard forward."""
    early_stop_patience: NumberOfEpochs = 0
    """Stop after this many aligned epochs in a row (consistency < 0.05, soft and hard validation accuracy
    within 0.5 points, no new best); 0 trains all epochs."""

    lambda_commitment: NotNegative = 0.25
    """Weight of the commitment loss: latents and their codewords attract each other."""
    lambda_consistency: NotNegative = 0.5
    """Weight of ||H_soft - stopgrad(H_hard)||^2 at the received embedding (alignment phase)."""
    lambda_auxiliary: NotNegative = 0.0
    """Weight of the same consistency at codebook, symbols and receiver features (alignment phase)."""
    lambda_entropy: NotNegative = 0.01
    """Weight of the bonus for evenly used codewords and constellation points."""
    entropy_warmup_epochs: NumberOfEpochs = 0
    """Epochs over which the entropy weight falls from 0.05 (or lambda-entropy, if more) to lambda-entropy."""
    lambda_latent: NotNegative = 0.0
    """Weight of the pull of each latent to unit mean square, which gives the temperature a scale."""
    bridge: bool = True
    """Straight-through gradient from the soft codeword mix to the received embedding in hard forwards:
    saturated LLRs carry none."""

    train_snr_low_db: float = 0.0
    """Lowest Es/N0 of training; each sample draws its own."""
    train_snr_high_db: float = 20.0
    """Highest Es/N0 of training."""
    input_noise: NotNegative = 0.0
    """Standard deviation of noise added to training inputs, once they are scaled (docs/tasks.md)."""
    augmentation: NotNegative = 0.0
    """Strength of random rotation, shift and scaling of training images; 0 for none."""

    codebook_sizes: tuple[Width, ...] = (64,)
    """K of each codebook; powers of two."""
    tokens: tuple[Width, ...] = (4,)
    """N of each codebook: indices per sample."""
    qam_orders: tuple[int, ...] = (16,)
    """M of each constellation: 4, 16, 64 or 256."""
    router: Literal["content", "snr", "table"] = "table"
    """Who chooses among several modes.  content: a network that sees SNR and content; a coded header tells
    the receiver.  snr: a network that sees the SNR, which both ends know; no header.  table: trained as snr,
    then replaced by a table of thresholds from measured validation accuracy, with hysteresis."""
    lambda_rate: NotNegative = 0.004
    """What the router pays for a symbol, in nats of cross-entropy (a table goes by table-tolerance instead).
    The best checkpoint is chosen by validation accuracy less as much for each symbol."""
    lambda_balance: NotNegative = 0.01
    """Weight of the pull of the router to even use of all modes.  Like the other settings of the router it
    reaches the modes only through the common clipping of gradients unless router-focus is above 0."""
    router_temperature: Positive = 1.0
    """Of the Gumbel softmax that weighs the modes in training."""
    router_noise: NotNegative = 1.0
    """Standard deviation of the noise on the router's scores; falls to zero over the learning phase."""
    router_focus: Share = 0.0
    """How far a mode learns from the samples that the router gives to it: 0 from all alike, 1 from those
    alone."""
    modes_per_step: Annotated[int, within(1, 1024)] = 3
    """Modes that a training step runs and compares; all take their turns."""
    table_tolerance: Tolerance = 0.0075
    """How far the accuracy of the table's mode may lie below the best one at an SNR (0.0075: 0.75 points)."""
    hysteresis_db: NotNegative = 1.0
    """How far an SNR estimate must leave a step of the table before an end of the link changes its mode."""
    embedding_dim: Annotated[int, within(1, 1024)] = 8
    """C, components of a codeword."""
    hidden: Width = 256
    """Width of encoder and classifier."""
    search: Literal["grid", "float"] = "grid"
    """grid: from the alignment phase on encoder and codebook search compute with whole numbers, weights and
    activations of 8 bits, so that every runtime sends the same symbols.  float: float32, where near ties may
    fall either way."""
    lambda_margin: NotNegative = 0.0
    """Weight of the pull of latents away from the boundaries between codewords."""
    labelling: Literal["identity", "pca", "kdtree", "bsa"] = "kdtree"
    """Bit labels of the codewords; made in the first epoch and once more at the start of alignment."""

    batch_size: Annotated[int, within(2, 1_000_000)] = 64
    """Samples per step."""
    learning_rate: Positive = 2e-3
    """Peak of AdamW's learning rate."""
    learning_rate_schedule: Literal["cosine", "constant"] = "cosine"
    """After a linear warm-up: falling to zero as a cosine, or staying at its peak."""
    weight_decay: NotNegative = 0.01
    """Of AdamW."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.task not in PRESETS and not all(self.task.partition(":")):
            raise InputError("task", f"be one of {', '.join(PRESETS)} or MODULE:FUNCTION", self.task)
        self._check_phases()
        if not -50 <= self.train_snr_low_db <= self.train_snr_high_db <= 100:
            raise InputError(
                "train_snr_low_db and train_snr_high_db",
                "be ordered and lie in -50..100",
                (self.train_snr_low_db, self.train_snr_high_db),
            )
        if self.search == "grid":
            from twophase.link.grid import latent_limit  # late, as all that brings NumPy: --help is quick

            latent_limit(self.embedding_dim)
        if len(self.link.modes) > 1 and self.modes_per_step < 2:
            raise InputError(
                "modes_per_step", "be at least 2: a router learns by comparing", self.modes_per_step
            )

    @property
    def link(self) -> LinkConfig:
        """The link's definition; checks codebooks and constellations."""
        from twophase.link.modes import LinkConfig

        return LinkConfig(self.codebook_sizes, self.tokens, self.qam_orders, self.embedding_dim)

    @property
    def folder(self) -> Path:
        """The run folder."""
        if self.out is None:
            return Path("runs") / self.task.rpartition(":")[2]
        return self.out if self.out.name not in ("", "..") else self.out.resolve()

    @property
    def last_learning_epoch(self) -> int:
        """Last epoch with the soft forward."""
        return {"two-phase": self.alignment_start_epoch - 1, "single-phase": self.epochs, "hard-only": 0}[
            self.method
        ]

    @property
    def grid_start_epoch(self) -> int | None:
        """First epoch with the integer grid in the loop; None if there is none.

        It comes with the alignment.  The soft baseline, which has none, gets it at the same epoch.
        """
        if self.search == "float":
            return None
        return 1 if self.method == "hard-only" else min(self.alignment_start_epoch, self.epochs)

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``config.json``; how the terminal shows a run is no part of it."""
        return {name: _plain(value) for name, value in vars(self).items() if name != "log"}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TrainConfig:
        """Inverse of ``as_json``; ValueError for anything else."""
        config: TrainConfig = from_json(cls, value | {"log": cls.log}, "config")
        return config

    def command_line(self) -> str:
        """The command that repeats this run; says nothing of this machine but the paths that it was given."""
        words = ["tp-train", "--task", self.task]
        usual = TrainConfig(task=self.task, **preset_of(self.task))
        for item in fields(self):
            value = getattr(self, item.name)
            left_out = ("task", "out", "resume", "device", "threads", "log")
            if item.name in left_out or value == getattr(usual, item.name):
                continue
            option = item.name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{option}" if value else f"--no-{option}")
            else:
                words += [f"--{option}", *map(str, value if isinstance(value, tuple) else [value])]
        return shlex.join(words)

    def _check_phases(self) -> None:
        if self.method == "two-phase" and self.epochs < 2:
            raise InputError("epochs", "be at least 2 for two phases", self.epochs)
        if self.method == "two-phase" and not 2 <= self.alignment_start_epoch <= self.epochs:
            raise InputError(
                "alignment_start_epoch",
                f"lie in 2..{self.epochs} (--epochs; set both together)",
                self.alignment_start_epoch,
            )
        aligned = self.epochs - self.last_learning_epoch
        if self.method != "single-phase" and self.hardening_epochs >= aligned:
            raise InputError(
                "hardening_epochs", f"leave a fully hard epoch: at most {aligned - 1}", self.hardening_epochs
            )


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value
