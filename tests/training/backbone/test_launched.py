"""Two processes that tune together do what one does."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from twophase.training.backbone import tune
from twophase.training.backbone.tune import LAST
from twophase.training.checkpoint import load_checkpoint
from twophase.training.data import TextTask

SCRIPT = Path(__file__).with_name("launched.py")


def launch(*words: str | Path) -> subprocess.CompletedProcess[str]:
    starter = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*starter, str(SCRIPT), *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_two_processes_tune_as_one_does(
    tiny_folder: Path, text_task: TextTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients of the shares are averaged, so that without dropout only rounding differs."""
    told = json.loads((tiny_folder / "config.json").read_text(encoding="utf-8"))
    still = tmp_path / "still"
    still.mkdir()
    for file in tiny_folder.iterdir():
        (still / file.name).write_bytes(file.read_bytes())
    told |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (still / "config.json").write_text(json.dumps(told), encoding="utf-8")
    for name in ("train", "validation", "test"):
        part = getattr(text_task, name)
        lines = (f"{label} {text}\n" for label, text in zip(part.labels, part.texts, strict=True))
        (tmp_path / f"{name}.txt").write_text("".join(lines), encoding="utf-8")

    monkeypatch.setattr(tune, "DROPOUT", 0.0)
    runpy.run_path(str(SCRIPT))["main"](str(still), str(tmp_path), str(tmp_path / "alone"))
    done = launch(still, tmp_path, tmp_path / "together")
    assert done.returncode == 0, done.stderr
    # Both write to one pipe, so that their lines may run into one another.
    assert sorted(done.stdout.split()) == ["False", "True", "prepared:", "prepared:"]
    assert done.stderr.count("tuning 1/2") == 1
    alone, together = (
        load_checkpoint(tmp_path / name / "checkpoints", LAST) for name in ("alone", "together")
    )
    assert alone.tensors.keys() == together.tensors.keys()
    for name, value in alone.tensors.items():
        # The loss does not depend on a key's bias: AdamW makes steps of the rounding in its gradient.
        if name.startswith("model.") and not name.endswith("key.bias"):
            torch.testing.assert_close(together.tensors[name], value, atol=1e-4, rtol=1e-3, msg=name)
