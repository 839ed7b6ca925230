"""The top layers of a backbone, tuned with a linear classifier and without a link.

What the tuned system reaches is the ceiling of the link that is trained on its features.  All randomness
comes from (seed, epoch, process), so that an epoch does not depend on an interruption before it.
"""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from twophase.link.command import Progress, Terminal, require
from twophase.link.errors import ArtifactError, InputError, first_line
from twophase.training.backbone.layers import Source, Stack, TextClassifier, Tokens, accuracy_of, bucketed
from twophase.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_weights,
    model_tensors,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from twophase.training.config import TrainConfig

__all__ = [
    "BEST",
    "LAST",
    "Tuner",
    "TuningState",
    "backbone_threads",
    "check_batch_size",
    "is_main_process",
    "load_tuning",
    "make_accelerator",
]

LAST, BEST = "tuning", "tuned"
"""Checkpoints of a tuning."""
DROPOUT = 0.1
WEIGHT_DECAY = 0.01
WARM_UP = 0.1
"""Share of the steps over which the learning rate rises; it falls linearly to zero from there."""
CLASSIFIER_RATE = 10.0
"""The classifier, which begins at random, learns so many times as fast as the layers."""
GRADIENT_LIMIT = 1.0
PATIENCE = timedelta(hours=12)
"""How long processes wait while the main one computes hidden states."""


def backbone_threads() -> int:
    """CPU threads of torch for a backbone: OMP_NUM_THREADS, else every core that this process may use."""
    stated = os.environ.get("OMP_NUM_THREADS", "")
    if stated.isdecimal() and int(stated) > 0:
        return int(stated)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_main_process() -> bool:
    """Whether this is the process that writes and prints; the only one unless a launcher says otherwise."""
    return os.environ.get("RANK", "0") == "0"


def make_accelerator(config: TrainConfig) -> Any:
    """The ``accelerate.Accelerator`` of these settings; joins the processes of a launch.

    InputError where the device is not there, cannot compute in that precision, or the launcher was given
    another.
    """
    require("accelerate", "sentences", "tuning a backbone")
    from accelerate import Accelerator
    from accelerate.utils import DistributedType, InitProcessGroupKwargs

    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise InputError("device", "be auto or cpu where torch finds no CUDA device", config.device)
    on_cpu = config.device == "cpu" or not available
    if config.mixed_precision == "fp16" and on_cpu:
        raise InputError("mixed_precision", "be no or bf16 without a GPU", config.mixed_precision)
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched not in ("no", config.mixed_precision):
        raise InputError(
            "mixed_precision", f"be {launched}, as the launcher was given", config.mixed_precision
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="accelerate")
        try:
            accelerator = Accelerator(
                mixed_precision=config.mixed_precision,
                cpu=on_cpu,
                kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
            )
        except ValueError as error:  # one setting for each process: accelerate keeps the first
            raise InputError(
                "mixed_precision and device", f"suit accelerate ({first_line(error)})", config.device
            ) from error
    known = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
    if accelerator.distributed_type not in known:
        raise InputError(
            "the launcher",
            "run one process, or several with a copy of the model each",
            str(accelerator.distributed_type.value),
        )
    return accelerator


@dataclass
class TuningState:
    """What a tuning carries from epoch to epoch apart from weights and optimiser."""

    epoch: int = 0
    best_epoch: int = 0
    accuracies: list[float] = field(default_factory=list)
    """On the validation split after each epoch."""
    seconds: float = 0.0

    @property
    def best(self) -> float:
        """The best of the accuracies; -1 before the first epoch."""
        return self.accuracies[self.best_epoch - 1] if self.best_epoch else -1.0


class Tuner:
    """One tuning: the parts that its epochs share.

    Parameters
    ----------
    upper
        The layers; what takes gradients in them is tuned.
    source
        What the layers take: hidden states, or token ids.
    tokens
        Labels and splits.
    fingerprint
        Of data, backbone and settings: another tuning's checkpoints are refused.
    """

    def __init__(
        self,
        upper: Stack,
        width: int,
        classes: int,
        source: Source,
        tokens: Tokens,
        config: TrainConfig,
        accelerator: Any,
        fingerprint: str,
    ) -> None:
        check_batch_size(config, len(tokens.train), accelerator.num_processes)
        self.source, self.tokens, self.config = source, tokens, config
        self.accelerator, self.fingerprint = accelerator, fingerprint
        self.checkpoints = config.folder / "checkpoints"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.model = TextClassifier(upper, width, classes, DROPOUT)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [weight for weight in upper.parameters() if weight.requires_grad]},
                {"params": list(self.model.classifier.parameters())},
            ],
            weight_decay=WEIGHT_DECAY,
        )
        self.steps = len(tokens.train) // config.tune_batch_size
        self.state = TuningState()
        self._wrapped, self._stepper = accelerator.prepare(self.model, self.optimizer)

    def restore(self) -> None:
        """Continue from the last epoch's checkpoint; a tuning that was stopped in its first begins anew."""
        if not (self.checkpoints / f"{LAST}.json").is_file():
            return
        checkpoint = load_tuning(self.checkpoints, LAST, self.fingerprint)
        load_weights(self.model, checkpoint, self.checkpoints)
        restore_optimizer(self.optimizer, checkpoint)
        try:
            self.state = TuningState(**checkpoint.state["tuning"])
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
        except (TypeError, LookupError) as error:
            raise ArtifactError(f"'{self.checkpoints / LAST}.json' is altered: {error}") from error

    def train(self, terminal: Terminal) -> None:
        """Train the epochs that are left, with a checkpoint and a line of the main process after each."""
        state, epochs = self.state, self.config.tune_epochs
        with terminal.progress("tuning", epochs * self.steps, state.epoch * self.steps) as progress:
            while state.epoch < epochs:
                started = time.perf_counter()
                loss = self.epoch(state.epoch + 1, progress)
                state.epoch += 1
                if self.accelerator.is_main_process:
                    self._keep(started)
                    terminal.say(self._line(loss))
                self.accelerator.wait_for_everyone()

    def epoch(self, number: int, progress: Progress | None = None) -> float:
        """One pass over the training sentences; returns the mean loss of this process's share."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        size = self.config.tune_batch_size
        generator = np.random.default_rng([self.config.seed, number])
        batches = bucketed(self.source.lengths, self.tokens.train, size, generator)
        device = self.accelerator.device
        total = 0.0
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            seed = np.random.SeedSequence([self.config.seed, number, rank]).generate_state(1, np.uint64)
            torch.manual_seed(int(seed[0]) >> 1)
            self._wrapped.train()
            for step, members in enumerate(batches, (number - 1) * self.steps):
                rate = _rate(step, self.config.tune_epochs * self.steps)
                self._set_rate(rate * self.config.tune_learning_rate)
                # Each process weighs its share so that the mean over processes is the mean over the batch.
                total += self._descend(members[rank::processes], processes / size, number) / self.steps
                if progress is not None:
                    progress.show(done=step + 1)
        self.model.eval()
        return total

    def best_model(self) -> TextClassifier:
        """The model with the weights of the epoch that did best on the validation split."""
        load_weights(self.model, load_tuning(self.checkpoints, BEST, self.fingerprint), self.checkpoints)
        return self.model.eval()

    def _descend(self, members: NDArray[np.int64], weight: float, epoch: int) -> float:
        device = self.accelerator.device
        inputs, mask = (values.to(device) for values in self.source.batch(members))
        labels = torch.from_numpy(self.tokens.labels[members]).to(device)
        loss = F.cross_entropy(self._wrapped(inputs, mask).float(), labels, reduction="sum") * weight
        value = float(loss.detach())
        if not np.isfinite(value):
            rule = f"keep the loss finite (it is {value} in epoch {epoch}): lower it"
            raise InputError("tune_learning_rate", rule, self.config.tune_learning_rate)
        self._stepper.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), GRADIENT_LIMIT)
        self._stepper.step()
        return value

    def _set_rate(self, rate: float) -> None:
        layers, classifier = self.optimizer.param_groups
        layers["lr"], classifier["lr"] = rate, CLASSIFIER_RATE * rate

    def _keep(self, started: float) -> None:
        state, tokens = self.state, self.tokens
        accuracy = accuracy_of(
            self.model, self.source, tokens.validation, tokens.labels, self.accelerator.device
        )
        improved = accuracy > state.best
        state.accuracies.append(accuracy)
        state.seconds += time.perf_counter() - started
        weights = model_tensors(self.model)
        entries = {"epoch": state.epoch, "fingerprint": self.fingerprint}
        if improved:
            state.best_epoch = state.epoch
            save_checkpoint(self.checkpoints, BEST, weights, entries)
        scaler = self.accelerator.scaler
        entries |= {"tuning": asdict(state), "scaler": None if scaler is None else scaler.state_dict()}
        save_checkpoint(self.checkpoints, LAST, weights | optimizer_tensors(self.optimizer), entries)

    def _line(self, loss: float) -> str:
        state = self.state
        best = ", the best so far" if state.best_epoch == state.epoch else ""
        return (
            f"tuning {state.epoch}/{self.config.tune_epochs}: loss {loss:.4f}, "
            f"validation accuracy {state.accuracies[-1]:.4f}{best}, {state.seconds:.0f} s"
        )


def check_batch_size(config: TrainConfig, sentences: int, processes: int) -> None:
    """Refuse a batch of more sentences than there are to train with, or of fewer than processes."""
    if not processes <= config.tune_batch_size <= sentences:
        rule = f"lie in {processes}..{sentences} (processes..training sentences)"
        raise InputError("tune_batch_size", rule, config.tune_batch_size)


def load_tuning(checkpoints: Path, name: str, fingerprint: str) -> Checkpoint:
    """A checkpoint of this tuning; ArtifactError if it is missing, altered, or of other data or settings."""
    checkpoint = load_checkpoint(checkpoints, name)
    if checkpoint.state.get("fingerprint") != fingerprint:
        raise ArtifactError(
            f"'{checkpoints / name}.json' belongs to other sentences, settings or another backbone: "
            "train again without --resume"
        )
    return checkpoint


def _rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: a linear rise, then a linear fall to zero."""
    return min(1.0, (step + 1) / max(1.0, WARM_UP * steps)) * (1 - step / steps)
