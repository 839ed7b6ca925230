"""Two processes that tune together do what one does; this file is what they run."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from twophase.link.command import Terminal
from twophase.training.backbone import tune
from twophase.training.backbone.features import open_backbone, prepare
from twophase.training.backbone.tune import LAST
from twophase.training.checkpoint import load_checkpoint
from twophase.training.config import TrainConfig
from twophase.training.data import Texts, TextTask

PARTS = ("train", "validation", "test")
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
    """Tune the upper layers of a backbone without dropout, in as many processes as the launcher starts."""
    parts = []
    for name in PARTS:
        lines = (Path(sentences) / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        labels = np.array([int(line[0]) for line in lines], dtype=np.int64)
        parts.append(Texts(tuple(line[2:] for line in lines), labels))
    task = TextTask("words", ("bad", "good"), *parts)
    tune.DROPOUT = 0.0
    config = replace(CONFIG, backbone=backbone, out=Path(folder))
    sys.stdout.write(f"prepared: {prepare(open_backbone(config, task), Terminal()) is not None}\n")


def test_two_processes_tune_as_one_does(
    tiny_folder: Path, text_task: TextTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients of the shares are averaged, so that without dropout only rounding differs."""
    still = Path(shutil.copytree(tiny_folder, tmp_path / "still"))
    stated = json.loads((still / "config.json").read_text(encoding="utf-8"))
    stated |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (still / "config.json").write_text(json.dumps(stated), encoding="utf-8")
    for name in PARTS:
        part = getattr(text_task, name)
        lines = (f"{label} {text}\n" for label, text in zip(part.labels, part.texts, strict=True))
        (tmp_path / f"{name}.txt").write_text("".join(lines), encoding="utf-8")

    monkeypatch.setattr(tune, "DROPOUT", 0.0)
    main(str(still), str(tmp_path), str(tmp_path / "alone"))
    done = subprocess.run(
        [sys.executable, __file__, str(still), str(tmp_path), str(tmp_path / "together")],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Both write to one pipe, so that their lines may run into one another.
    assert sorted(done.stdout.split()) == ["False", "True", "prepared:", "prepared:"]
    assert done.stderr.count("tuning 1/2") == 1
    alone, together = (
        load_checkpoint(tmp_path / name / "checkpoints", LAST).tensors for name in ("alone", "together")
    )
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        # The loss does not depend on a key's bias: AdamW makes steps of the rounding in its gradient.
        if name.startswith("model.") and not name.endswith("key.bias"):
            torch.testing.assert_close(together[name], value, atol=1e-4, rtol=1e-3, msg=name)


def start(rank: int, port: int, arguments: list[str]) -> None:
    """What ``torch.distributed.run`` and ``accelerate launch`` tell each process."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    place |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    main(*arguments)


if __name__ == "__main__":
    with socket.create_server(("localhost", 0)) as server:
        free_port = server.getsockname()[1]
    # Forked when all is imported, which takes each process of a launcher its time.
    torch.multiprocessing.start_processes(start, (free_port, sys.argv[1:]), nprocs=2, start_method="fork")
