"""Tunes the upper layers of a backbone, without dropout, in as many processes as the launcher starts."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from twophase.link.command import Terminal
from twophase.training.backbone import tune
from twophase.training.backbone.features import open_backbone, prepare
from twophase.training.config import TrainConfig
from twophase.training.data import Texts, TextTask

CONFIG = TrainConfig(
    task="csv",
    tune_layers=2,
    tune_epochs=2,
    tune_learning_rate=3e-3,
    tune_batch_size=15,
    max_length=20,
    device="cpu",
)


def main(backbone: str, sentences: str, folder: str) -> None:
    parts = []
    for name in ("train", "validation", "test"):
        lines = (Path(sentences) / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        labels = np.array([int(line[0]) for line in lines], dtype=np.int64)
        parts.append(Texts(tuple(line[2:] for line in lines), labels))
    task = TextTask("words", ("bad", "good"), *parts)
    config = replace(CONFIG, backbone=backbone, out=Path(folder))
    tune.DROPOUT = 0.0
    prepared = prepare(open_backbone(config, task), Terminal())
    sys.stdout.write(f"prepared: {prepared is not None}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
