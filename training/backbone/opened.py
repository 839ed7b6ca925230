"""A backbone and a task's sentences, loaded and checked, before a run folder is touched."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from twophase.training.backbone.load import LoadedBackbone, load_backbone
from twophase.training.backbone.parts import Parts, split_backbone
from twophase.training.backbone.processes import make_accelerator
from twophase.training.backbone.settings import TuneSettings
from twophase.training.backbone.tokens import Tokens, tokenize
from twophase.training.backbone.tune import check_batch_size
from twophase.training.data import TextTask

__all__ = ["Opened", "open_backbone"]


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
