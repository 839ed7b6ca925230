"""A task of sentences becomes one of feature vectors: tune a backbone, compute its features, keep both."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from twophase.link.files import atomic_folder
from twophase.training.backbone.classifier import TextClassifier
from twophase.training.backbone.hidden import HiddenStates, compute_hidden, entry_folder, open_hidden
from twophase.training.backbone.opened import Opened
from twophase.training.backbone.outcome import (
    Outcome,
    frozen_outcome,
    load_outcome,
    save_outcome,
    tuned_outcome,
)
from twophase.training.backbone.parts import Backbone
from twophase.training.backbone.tune import BEST, DROPOUT, Tuner, load_tuning
from twophase.training.cache import cache_folder
from twophase.training.checkpoint import load_weights
from twophase.training.data import Split, Task, unchanged
from twophase.training.progress import say

__all__ = ["Prepared", "prepare"]

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
