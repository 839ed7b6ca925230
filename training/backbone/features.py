"""A task of sentences becomes one of feature vectors: tune a backbone, compute its features, keep both."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from twophase.link.errors import ArtifactError
from twophase.link.files import atomic_folder, cache_folder
from twophase.training.backbone.baselines import best_logistic
from twophase.training.backbone.hidden import HiddenStates, compute_hidden, entry_folder, open_hidden
from twophase.training.backbone.layers import (
    Backbone,
    Parts,
    Pooled,
    TextClassifier,
    pooled_in_batches,
    split_backbone,
)
from twophase.training.backbone.load import LoadedBackbone, load_backbone
from twophase.training.backbone.tokens import Source, Tokens, tokenize
from twophase.training.backbone.tune import (
    BEST,
    DROPOUT,
    Tuner,
    TuneSettings,
    check_batch_size,
    load_tuning,
    make_accelerator,
)
from twophase.training.checkpoint import load_weights, save_checkpoint
from twophase.training.data import Split, Task, TextTask, unchanged
from twophase.training.progress import say

__all__ = [
    "STORED",
    "Opened",
    "Outcome",
    "Prepared",
    "frozen_outcome",
    "load_outcome",
    "open_backbone",
    "prepare",
    "save_outcome",
    "tuned_outcome",
]


@dataclass(frozen=True)
class Opened:
    """A backbone ready to be tuned, in this process and with those that it was launched with."""

    settings: TuneSettings
    task: TextTask
    loaded: LoadedBackbone
    parts: Parts
    tokens: Tokens
    accelerator: Any

    @property
    def fingerprint(self) -> str:
        """Of all that decides the features: backbone, sentences, settings."""
        settings = asdict(self.settings)
        for name in ("backbone", "device", "threads"):
            del settings[name]
        splits = [len(part) for part in (self.tokens.train, self.tokens.validation, self.tokens.test)]
        told = [self.loaded.fingerprint, settings, self.task.classes, splits]
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for values in (self.tokens.ids, self.tokens.mask, self.tokens.labels):
            digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()

    def introduction(self) -> str:
        """What is about to be done, in one line."""
        loaded, tokens = self.loaded, self.tokens
        layers = self.settings.tune_layers
        part = {0: "frozen", -1: "all tuned"}.get(layers, f"the top {layers} tuned")
        cut = f", {tokens.cut} of them cut to {self.settings.max_length}" if tokens.cut else ""
        return (
            f"backbone {loaded.name}: {loaded.layers} layers of {loaded.width}, {part}; "
            f"{len(tokens.labels)} sentences of {tokens.lengths.mean():.1f} tokens on average{cut}"
        )


def open_backbone(settings: TuneSettings, task: TextTask) -> Opened:
    """Load a backbone, take the task's sentences apart and check both; writes nothing.

    Raises
    ------
    InputError, ArtifactError, PackageError
        As :func:`.processes.make_accelerator`, :func:`.load.load_backbone`, :func:`.parts.split_backbone`,
        :func:`.tokens.tokenize`, :func:`.tune.check_batch_size`.
    """
    accelerator = make_accelerator(settings)
    if settings.tune_layers:
        check_batch_size(settings, len(task.train), accelerator.num_processes)
    loaded = load_backbone(settings.backbone, settings.max_length)
    parts = split_backbone(loaded.model, settings.tune_layers)
    tokens = tokenize(task, loaded.tokenizer_json, settings.max_length)
    return Opened(settings, task, loaded, parts, tokens, accelerator)


STORED = "features"
"""Checkpoint that holds it."""
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""C of the logistic regression on a frozen backbone, from which the validation split chooses."""


@dataclass(frozen=True)
class Outcome:
    """Of all texts: training, then validation, then test."""

    features: Tensor
    """(n, C): standardised means over the tokens."""
    probabilities: Tensor
    """(n, classes): by the linear classifier on them, without a link."""
    pooled: Pooled
    """The standardisation, fitted on the training texts."""
    record: dict[str, Any]
    """How it came about, as plain values."""


def tuned_outcome(
    model: TextClassifier, source: Source, tokens: Tokens, device: torch.device, record: dict[str, Any]
) -> Outcome:
    """The outcome of a tuned backbone and the classifier that it was tuned with."""
    everyone = np.arange(len(tokens.lengths))
    means = torch.empty(len(everyone), model.classifier.in_features)
    probabilities = torch.empty(len(everyone), model.classifier.out_features)
    for members, pooled in pooled_in_batches(model, source, everyone, device):
        with torch.inference_mode():
            means[members] = pooled.cpu()
            probabilities[members] = model.classifier(pooled).softmax(1).cpu()
    standard = _fitted(means, tokens)
    return Outcome(standard.standardise(means), probabilities, standard, record)


def frozen_outcome(states: HiddenStates, tokens: Tokens, classes: int, record: dict[str, Any]) -> Outcome:
    """The outcome of a frozen backbone, with a logistic regression fitted on the training texts.

    Parameters
    ----------
    states
        One row for each text: the mean over its tokens.
    """
    means = torch.from_numpy(states.states[states.starts])
    standard = _fitted(means, tokens)
    features = standard.standardise(means)
    plain, labels = features.numpy(), tokens.labels
    regression, accuracy = best_logistic(
        plain[tokens.train],
        labels[tokens.train],
        plain[tokens.validation],
        labels[tokens.validation],
        STRENGTHS,
    )
    probabilities = torch.zeros(len(labels), classes)
    known = torch.from_numpy(regression.classes_)
    probabilities[:, known] = torch.from_numpy(regression.predict_proba(plain)).float()
    return Outcome(features, probabilities, standard, record | {"validation_accuracy": accuracy})


def save_outcome(checkpoints: Path, outcome: Outcome, fingerprint: str) -> None:
    """Keep it in the run, so that a resumed run need not compute it again."""
    tensors = {
        "features": outcome.features,
        "probabilities": outcome.probabilities,
        "mean": outcome.pooled.mean,
        "deviation": outcome.pooled.deviation,
    }
    state = {"epoch": outcome.record["epochs"], "fingerprint": fingerprint, "record": outcome.record}
    save_checkpoint(checkpoints, STORED, tensors, state)


def load_outcome(checkpoints: Path, fingerprint: str) -> Outcome | None:
    """What the run keeps, or None if it had not come that far.

    Raises
    ------
    ArtifactError
        If it is altered, or of other sentences, settings or another backbone.
    """
    if not (checkpoints / f"{STORED}.json").is_file():
        return None
    checkpoint = load_tuning(checkpoints, STORED, fingerprint)
    try:
        tensors = checkpoint.tensors
        pooled = Pooled(len(tensors["mean"]))
        pooled.load_state_dict({name: tensors[name] for name in ("mean", "deviation")})
        return Outcome(tensors["features"], tensors["probabilities"], pooled, checkpoint.state["record"])
    except LookupError as error:
        raise ArtifactError(f"'{checkpoints / STORED}.json' is altered: {error} is missing") from error


def _fitted(means: Tensor, tokens: Tokens) -> Pooled:
    pooled = Pooled(means.shape[1])
    pooled.fit(means[tokens.train])
    return pooled


FOLDER = "backbone"
"""The tuned backbone in the run folder, in the format of transformers."""


@dataclass(frozen=True)
class Prepared:
    """What the link is trained on, and what stands ahead of it."""

    task: Task
    """Features (n, C) of each split, mean 0 and deviation 1 over the training texts; the training split has
    the class probabilities without a link as ``teacher``."""
    backbone: Backbone
    """From token ids and mask to these features; float32, CPU, evaluation mode."""
    tokenizer_json: str
    """In the format of the ``tokenizers`` library, without padding or truncation."""
    input_ids: NDArray[np.int32]
    """(n, longest) of the test split, filled up on the right."""
    attention_mask: NDArray[np.uint8]
    without_link: NDArray[np.int64]
    """(n,): classes of the test split by the backbone's own linear classifier, without a link."""
    record: dict[str, Any]
    """How the backbone was tuned and what it reaches on the validation split, as plain values."""


def prepare(opened: Opened, folder: Path, resume: bool, console: Console) -> Prepared | None:
    """Tune a backbone to a task and compute the features of its sentences.

    Of several processes started by ``accelerate launch`` all must call it; the main one writes and prints.

    Parameters
    ----------
    opened
        Backbone and sentences; a second call needs another.
    folder
        The run folder: gets ``checkpoints/`` and, in the format of transformers, ``backbone/``.
    resume
        Go on from what an interrupted run left there.

    Returns
    -------
    None in the processes that are not the main one: nothing is left for them to do.

    Raises
    ------
    InputError, ArtifactError
        As the steps do: :mod:`.hidden`, :class:`.tune.Tuner`.
    """
    accelerator = opened.accelerator
    threads = torch.get_num_threads()
    torch.set_num_threads(opened.settings.torch_threads)
    try:
        accelerator.wait_for_everyone()  # the main process has the run folder ready
        prepared = _prepare(opened, folder, resume, console)
        accelerator.wait_for_everyone()
    finally:
        torch.set_num_threads(threads)
    accelerator.free_memory()
    accelerator.end_training()
    return prepared


def _prepare(opened: Opened, folder: Path, resume: bool, console: Console) -> Prepared | None:
    settings, loaded, accelerator = opened.settings, opened.loaded, opened.accelerator
    if not accelerator.is_main_process:
        console = Console(quiet=True)
    say(console, opened.introduction())
    work = _Work(opened, folder / "checkpoints", opened.fingerprint, resume, console)
    outcome = load_outcome(work.checkpoints, work.fingerprint) if resume else None
    if outcome is None:
        outcome = work.outcome()
    elif settings.tune_layers:
        work.put_back()
    if outcome is None or not accelerator.is_main_process:
        return None
    loaded.model.to("cpu").eval().requires_grad_(False)
    if not (resume and (folder / FOLDER).is_dir()):
        with atomic_folder(folder / FOLDER) as temporary:
            loaded.save(temporary)
    save_outcome(work.checkpoints, outcome, work.fingerprint)
    return _prepared(opened, outcome)


@dataclass(frozen=True)
class _Work:
    """One preparation and what its steps share."""

    opened: Opened
    checkpoints: Path
    fingerprint: str
    resume: bool
    console: Console

    def outcome(self) -> Outcome | None:
        """Hidden states, tuning, features; None where another process does the rest."""
        settings, loaded, tokens = self.opened.settings, self.opened.loaded, self.opened.tokens
        accelerator = self.opened.accelerator
        started = time.perf_counter()
        states = self._hidden()
        seconds = {"hidden_states": time.perf_counter() - started}
        record = {
            "backbone": loaded.name,
            "layers": loaded.layers,
            "tune_layers": settings.tune_layers,
            "max_length": settings.max_length,
            "texts_cut": tokens.cut,
            "processes": accelerator.num_processes,
            "mixed_precision": settings.mixed_precision,
        }
        classes = len(self.opened.task.classes)
        if settings.tune_layers == 0:
            if states is None or not accelerator.is_main_process:
                return None
            record |= {"epochs": 0, "best_epoch": 0, "seconds": seconds}
            outcome = frozen_outcome(states, tokens, classes, record)
            accuracy = outcome.record["validation_accuracy"]
            say(self.console, f"frozen backbone, logistic regression: validation accuracy {accuracy:.4f}")
            return outcome
        source = tokens if states is None else states
        tuner = Tuner(
            self.opened.parts.upper,
            loaded.width,
            classes,
            source,
            tokens,
            settings,
            accelerator,
            self.checkpoints,
            self.fingerprint,
        )
        if self.resume:
            tuner.restore()
        tuner.train(self.console)
        if not accelerator.is_main_process:
            return None
        standing = tuner.standing
        record |= {
            "epochs": standing.epoch,
            "best_epoch": standing.best_epoch,
            "validation_accuracy": standing.best,
            "validation_accuracies": standing.accuracies,
            "seconds": seconds | {"tuning": standing.seconds},
        }
        return tuned_outcome(tuner.best_model(), source, tokens, accelerator.device, record)

    def _hidden(self) -> HiddenStates | None:
        """Hidden states from the cache, computed if they are not there; None where the whole is tuned."""
        loaded, tokens, accelerator = self.opened.loaded, self.opened.tokens, self.opened.accelerator
        lower, layers = self.opened.parts.lower, self.opened.parts.lower_layers
        if lower is None:
            return None
        pooled, device = self.opened.settings.tune_layers == 0, accelerator.device
        entry = entry_folder(cache_folder(), loaded.fingerprint, layers, pooled, tokens)
        states = open_hidden(entry) if accelerator.is_main_process else None
        if states is not None:
            say(self.console, f"hidden states: there already, in '{entry}'")
        elif accelerator.is_main_process:
            started = time.perf_counter()
            compute_hidden(entry, lower.to(device), tokens, loaded.width, pooled, device, self.console)
            seconds = time.perf_counter() - started
            say(self.console, f"hidden states: computed in {seconds:.0f} s, in '{entry}'")
        accelerator.wait_for_everyone()
        return open_hidden(entry) if states is None else states

    def put_back(self) -> None:
        """Give the layers the weights that an earlier tuning found best."""
        upper, width = self.opened.parts.upper, self.opened.loaded.width
        model = TextClassifier(upper, width, len(self.opened.task.classes), DROPOUT)
        load_weights(model, load_tuning(self.checkpoints, BEST, self.fingerprint), self.checkpoints)


def _prepared(opened: Opened, outcome: Outcome) -> Prepared:
    task, loaded, tokens = opened.task, opened.loaded, opened.tokens
    labels = torch.from_numpy(tokens.labels)
    train, validation, test = (
        Split(outcome.features[members], labels[members])
        for members in (tokens.train, tokens.validation, tokens.test)
    )
    taught = Split(train.features, train.labels, outcome.probabilities[tokens.train])
    return Prepared(
        task=Task(task.name, task.classes, taught, validation, test, unchanged),
        backbone=Backbone(loaded.model, outcome.pooled).eval(),
        tokenizer_json=loaded.tokenizer_json,
        input_ids=tokens.ids[tokens.test],
        attention_mask=tokens.mask[tokens.test],
        without_link=outcome.probabilities[tokens.test].argmax(1).numpy(),
        record=outcome.record,
    )
