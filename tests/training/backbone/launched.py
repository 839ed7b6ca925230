"""Tunes the upper layers of a backbone, without dropout, in as many processes as the launcher starts."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from rich.console import Console

from twophase.training.backbone import tune
from twophase.training.backbone.features import open_backbone, prepare
from twophase.training.backbone.tune import TuneSettings
from twophase.training.data import Texts, TextTask

SETTINGS = TuneSettings(
    tune_layers=2, epochs=2, learning_rate=3e-3, batch_size=15, max_length=20, device="cpu", threads=1
)


def main(backbone: str, sentences: str, folder: str) -> None:
    parts = []
    for name in ("train", "validation", "test"):
        lines = (Path(sentences) / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        labels = np.array([int(line[0]) for line in lines], dtype=np.int64)
        parts.append(Texts(tuple(line[2:] for line in lines), labels))
    task = TextTask("words", ("bad", "good"), *parts)
    settings = TuneSettings(**{**vars(SETTINGS), "backbone": backbone})
    tune.DROPOUT = 0.0
    prepared = prepare(open_backbone(settings, task), Path(folder), False, Console(stderr=True))
    sys.stdout.write(f"prepared: {prepared is not None}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
