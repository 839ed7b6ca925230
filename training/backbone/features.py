"""A task of sentences becomes one of feature vectors: tune a backbone, compute its features, keep both."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twophase.link.command import Terminal
from twophase.link.errors import ArtifactError
from twophase.link.files import atomic_folder, cache_folder
from twophase.training.backbone.baselines import best_logistic
from twophase.training.backbone.hidden import HiddenStates, compute_hidden, entry_folder, open_hidden
from twophase.training.backbone.layers import (
    Backbone,
    Pooled,
    Source,
    SplitBackbone,
    TextClassifier,
    Tokens,
    pooled_in_batches,
    split_backbone,
    tokenize,
)
from twophase.training.backbone.load import LoadedBackbone, load_backbone
from twophase.training.backbone.tune import (
    BEST,
    DROPOUT,
    Tuner,
    backbone_threads,
    check_batch_size,
    load_tuning,
    make_accelerator,
)
from twophase.training.checkpoint import load_weights, save_checkpoint
from twophase.training.config import TrainConfig
from twophase.training.data import Split, Task, TextTask, unchanged

__all__ = [
    "STORED",
    "BackboneTask",
    "Prepared",
    "TextFeatures",
    "frozen_features",
    "load_features",
    "open_backbone",
    "prepare",
    "save_features",
    "tuned_features",
]

FOLDER = "backbone"
"""The tuned backbone in the run folder, in the format of transformers."""
STORED = "features"
"""Checkpoint that holds the features."""
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""C of the logistic regression on a frozen backbone, from which the validation split chooses."""
SETTINGS = (
    *("tune_layers", "tune_epochs", "tune_learning_rate", "tune_batch_size"),
    *("max_length", "mixed_precision", "seed"),
)
"""Of a run's, those that decide its features."""


@dataclass(frozen=True)
class BackboneTask:
    """Backbone and sentences ready for tuning, in this process and with those that it was launched with."""

    config: TrainConfig
    task: TextTask
    loaded: LoadedBackbone
    split: SplitBackbone
    tokens: Tokens
    accelerator: Any

    @property
    def checkpoints(self) -> Path:
        """Where tuning and features are kept."""
        return self.config.folder / "checkpoints"

    @cached_property
    def fingerprint(self) -> str:
        """Of all that decides the features: backbone, sentences, settings."""
        settings = {name: getattr(self.config, name) for name in SETTINGS}
        splits = [len(part) for part in (self.tokens.train, self.tokens.validation, self.tokens.test)]
        plain = [self.loaded.fingerprint, settings, self.task.classes, splits]
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
        for values in (self.tokens.ids, self.tokens.mask, self.tokens.labels):
            digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()

    def introduction(self) -> str:
        """What is about to be done, in one line."""
        loaded, tokens, layers = self.loaded, self.tokens, self.config.tune_layers
        part = {0: "frozen", -1: "all tuned"}.get(layers, f"the top {layers} tuned")
        cut = f", {tokens.cut} of them cut to {self.config.max_length}" if tokens.cut else ""
        return (
            f"backbone {loaded.name}: {loaded.layers} layers of {loaded.width}, {part}; "
            f"{len(tokens.labels)} sentences of {tokens.lengths.mean():.1f} tokens on average{cut}"
        )


@dataclass(frozen=True)
class TextFeatures:
    """Of all texts: training, then validation, then test."""

    features: Tensor
    """(n, C): standardised means over the tokens."""
    probabilities: Tensor
    """(n, classes): by the linear classifier on them, without a link."""
    pooled: Pooled
    """The standardisation, fitted on the training texts."""
    record: dict[str, Any]
    """How they came about, as plain values."""


@dataclass(frozen=True)
class Prepared:
    """What the link is trained on, and the backbone ahead of it."""

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


def open_backbone(config: TrainConfig, task: TextTask) -> BackboneTask:
    """Load a backbone, take the task's sentences apart and check both; writes nothing."""
    accelerator = make_accelerator(config)
    if config.tune_layers:
        check_batch_size(config, len(task.train), accelerator.num_processes)
    loaded = load_backbone(config.backbone, config.max_length)
    split = split_backbone(loaded.model, config.tune_layers)
    tokens = tokenize(task, loaded.tokenizer_json, config.max_length)
    return BackboneTask(config, task, loaded, split, tokens, accelerator)


def prepare(work: BackboneTask, terminal: Terminal) -> Prepared | None:
    """Tune a backbone to a task and compute the features of its sentences; takes each ``work`` once.

    The run folder gets ``checkpoints/`` and, in the format of transformers, ``backbone/``; a run that is
    resumed goes on from what an interrupted one left there.  Of several processes started by ``accelerate
    launch`` all must call it; the main one writes and prints, the others get None.
    """
    accelerator = work.accelerator
    threads = torch.get_num_threads()
    torch.set_num_threads(backbone_threads())
    try:
        accelerator.wait_for_everyone()  # the main process has the run folder ready
        prepared = _prepare(work, terminal if accelerator.is_main_process else Terminal(quiet=True))
        accelerator.wait_for_everyone()
    finally:
        torch.set_num_threads(threads)
    accelerator.free_memory()
    accelerator.end_training()
    return prepared


def _prepare(work: BackboneTask, terminal: Terminal) -> Prepared | None:
    config, loaded, folder = work.config, work.loaded, work.config.folder / FOLDER
    terminal.say(work.introduction())
    found = load_features(work.checkpoints, work.fingerprint) if config.resume else None
    if found is None:
        found = _computed(work, terminal)
    elif config.tune_layers:
        # The layers get the weights that the earlier tuning found best.
        model = TextClassifier(work.split.upper, loaded.width, len(work.task.classes), DROPOUT)
        load_weights(model, load_tuning(work.checkpoints, BEST, work.fingerprint), work.checkpoints)
    if found is None or not work.accelerator.is_main_process:
        return None
    loaded.model.to("cpu").eval().requires_grad_(False)
    if not (config.resume and folder.is_dir()):
        with atomic_folder(folder) as temporary:
            loaded.save(temporary)
    save_features(work.checkpoints, found, work.fingerprint)
    return _prepared(work, found)


def _computed(work: BackboneTask, terminal: Terminal) -> TextFeatures | None:
    """Hidden states, tuning, features; None where another process does the rest."""
    config, loaded, tokens, accelerator = work.config, work.loaded, work.tokens, work.accelerator
    started = time.perf_counter()
    states = _hidden_states(work, terminal)
    seconds = {"hidden_states": time.perf_counter() - started}
    record = {
        "backbone": loaded.name,
        "layers": loaded.layers,
        "tune_layers": config.tune_layers,
        "max_length": config.max_length,
        "texts_cut": tokens.cut,
        "processes": accelerator.num_processes,
        "mixed_precision": config.mixed_precision,
    }
    classes = len(work.task.classes)
    if config.tune_layers == 0:
        if states is None or not accelerator.is_main_process:
            return None
        record |= {"epochs": 0, "best_epoch": 0, "seconds": seconds}
        found = frozen_features(states, tokens, classes, record)
        accuracy = found.record["validation_accuracy"]
        terminal.say(f"frozen backbone, logistic regression: validation accuracy {accuracy:.4f}")
        return found
    source = tokens if states is None else states
    tuner = Tuner(
        work.split.upper, loaded.width, classes, source, tokens, config, accelerator, work.fingerprint
    )
    if config.resume:
        tuner.restore()
    tuner.train(terminal)
    if not accelerator.is_main_process:
        return None
    state = tuner.state
    record |= {
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
        "validation_accuracy": state.best,
        "validation_accuracies": state.accuracies,
        "seconds": seconds | {"tuning": state.seconds},
    }
    return tuned_features(tuner.best_model(), source, tokens, accelerator.device, record)


def _hidden_states(work: BackboneTask, terminal: Terminal) -> HiddenStates | None:
    """Hidden states from the cache, computed if they are not there; None where the whole is tuned."""
    loaded, tokens, accelerator, lower = work.loaded, work.tokens, work.accelerator, work.split.lower
    if lower is None:
        return None
    pooled, device = work.config.tune_layers == 0, accelerator.device
    entry = entry_folder(cache_folder(), loaded.fingerprint, work.split.lower_layers, pooled, tokens)
    states = open_hidden(entry) if accelerator.is_main_process else None
    if states is not None:
        terminal.say(f"hidden states: there already, in '{entry}'")
    elif accelerator.is_main_process:
        started = time.perf_counter()
        compute_hidden(entry, lower.to(device), tokens, loaded.width, pooled, device, terminal)
        terminal.say(f"hidden states: computed in {time.perf_counter() - started:.0f} s, in '{entry}'")
    accelerator.wait_for_everyone()
    return open_hidden(entry) if states is None else states


def _prepared(work: BackboneTask, found: TextFeatures) -> Prepared:
    task, loaded, tokens = work.task, work.loaded, work.tokens
    labels = torch.from_numpy(tokens.labels)
    train, validation, test = (
        Split(found.features[members], labels[members])
        for members in (tokens.train, tokens.validation, tokens.test)
    )
    taught = Split(train.features, train.labels, found.probabilities[tokens.train])
    return Prepared(
        task=Task(task.name, task.classes, taught, validation, test, unchanged, scaling="none"),
        backbone=Backbone(loaded.model, found.pooled).eval(),
        tokenizer_json=loaded.tokenizer_json,
        input_ids=tokens.ids[tokens.test],
        attention_mask=tokens.mask[tokens.test],
        without_link=found.probabilities[tokens.test].argmax(1).numpy(),
        record=found.record,
    )


def tuned_features(
    model: TextClassifier, source: Source, tokens: Tokens, device: torch.device, record: dict[str, Any]
) -> TextFeatures:
    """Features of a tuned backbone, and what the classifier that it was tuned with takes them for."""
    everyone = np.arange(len(tokens.lengths))
    means = torch.empty(len(everyone), model.classifier.in_features)
    probabilities = torch.empty(len(everyone), model.classifier.out_features)
    for members, pooled in pooled_in_batches(model, source, everyone, device):
        with torch.inference_mode():
            means[members] = pooled.cpu()
            probabilities[members] = model.classifier(pooled).softmax(1).cpu()
    standard = _fitted(means, tokens)
    return TextFeatures(standard.standardise(means), probabilities, standard, record)


def frozen_features(
    states: HiddenStates, tokens: Tokens, classes: int, record: dict[str, Any]
) -> TextFeatures:
    """Features of a frozen backbone, with a logistic regression fitted on the training texts.

    ``states`` has one row for each text: the mean over its tokens.
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
    return TextFeatures(features, probabilities, standard, record | {"validation_accuracy": accuracy})


def _fitted(means: Tensor, tokens: Tokens) -> Pooled:
    pooled = Pooled(means.shape[1])
    pooled.fit(means[tokens.train])
    return pooled


def save_features(checkpoints: Path, found: TextFeatures, fingerprint: str) -> None:
    """Keep them in the run, so that a resumed run need not compute them again."""
    tensors = {
        "features": found.features,
        "probabilities": found.probabilities,
        "mean": found.pooled.mean,
        "deviation": found.pooled.deviation,
    }
    state = {"epoch": found.record["epochs"], "fingerprint": fingerprint, "record": found.record}
    save_checkpoint(checkpoints, STORED, tensors, state)


def load_features(checkpoints: Path, fingerprint: str) -> TextFeatures | None:
    """What the run keeps, None if it had not come that far.

    ArtifactError if it is altered, or of other sentences, settings or another backbone.
    """
    if not (checkpoints / f"{STORED}.json").is_file():
        return None
    checkpoint = load_tuning(checkpoints, STORED, fingerprint)
    try:
        tensors = checkpoint.tensors
        pooled = Pooled(len(tensors["mean"]))
        pooled.load_state_dict({name: tensors[name] for name in ("mean", "deviation")})
        return TextFeatures(tensors["features"], tensors["probabilities"], pooled, checkpoint.state["record"])
    except LookupError as error:
        raise ArtifactError(f"'{checkpoints / STORED}.json' is altered: {error} is missing") from error
