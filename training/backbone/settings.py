"""What the tuning of a backbone is told."""

from __future__ import annotations

import os
from dataclasses import dataclass

from twophase.link.errors import InputError

__all__ = ["TuneSettings"]

CHOICES = {"device": ("auto", "cpu", "cuda"), "mixed_precision": ("no", "fp16", "bf16")}


@dataclass(frozen=True)
class TuneSettings:
    """Settings of the step from sentences to features; errors name the arguments of ``tp-train``."""

    backbone: str = "minilm"
    """minilm, a folder, or the name of a model on a hub."""
    tune_layers: int = 2
    """Layers tuned, from the top; 0: none, -1: the whole."""
    epochs: int = 3
    """Passes over the training sentences."""
    learning_rate: float = 3e-4
    """Peak of AdamW's learning rate for the layers; the classifier's is ten times that."""
    batch_size: int = 32
    """Sentences per step, over all processes together."""
    max_length: int = 128
    """Tokens of a sentence, special ones included; the rest is cut."""
    mixed_precision: str = "no"
    """no, fp16 (a GPU) or bf16; of the tuning alone, features are computed in float32."""
    seed: int = 0
    """Of the classifier's weights, the order of sentences and dropout."""
    device: str = "auto"
    """auto takes a GPU if there is one."""
    threads: int | None = None
    """CPU threads of torch; None: OMP_NUM_THREADS, else every core that this process may use."""

    def __post_init__(self) -> None:
        if not self.backbone:
            raise InputError("backbone", "be a name or a folder", self.backbone)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(name, f"be one of {', '.join(choices)}", getattr(self, name))
        if self.tune_layers < -1:
            raise InputError("tune_layers", "be at least -1 (the whole)", self.tune_layers)
        for argument, value, low in (
            ("tune_epochs", self.epochs, 1),
            ("tune_batch_size", self.batch_size, 1),
            ("max_length", self.max_length, 2),
            ("threads", 1 if self.threads is None else self.threads, 1),
        ):
            if value < low:
                raise InputError(argument, f"be at least {low}", value)
        if not 0 <= self.seed < 2**63:
            raise InputError("seed", "be at least 0 and below 2**63", self.seed)
        if not 0 < self.learning_rate < float("inf"):
            raise InputError("tune_learning_rate", "be positive", self.learning_rate)

    @property
    def torch_threads(self) -> int:
        """CPU threads in numbers."""
        if self.threads is not None:
            return self.threads
        told = os.environ.get("OMP_NUM_THREADS", "")
        if told.isdecimal() and int(told) > 0:
            return int(told)
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
