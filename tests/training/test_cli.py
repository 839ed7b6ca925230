"""``tp-train`` as a user meets it: results, interruption and resumption, bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tools.commands import assert_refused, run_command
from twophase.link.files import sha256_of
from twophase.link.manifest import load_manifest
from twophase.training.cli import SECTIONS, main
from twophase.training.config import TrainConfig
from twophase.training.monitor import read_records

ONE_MODE = ("--codebook-sizes", "4", "--tokens", "12", "--qam-orders", "16")
SHORT = ("--epochs", "4", "--alignment-start-epoch", "3", *ONE_MODE)
SEVERAL = ("--codebook-sizes", "4", "--tokens", "12", "--qam-orders", "4", "16")


def weights_hash(run: Path) -> str:
    state = json.loads((run / "checkpoints" / "last.json").read_text())
    return sha256_of(run / "checkpoints" / state["weights"])


def test_a_run_leaves_everything_the_contract_names(digits_run: Path) -> None:
    manifest = load_manifest(digits_run, "run")
    programs = {f"programs/{name}.pt2" for name in ("tx", "rx", "soft", "soft_learning", "rx_learning")}
    assert set(manifest.files) == programs | {"eval.npz", "calibration.npz"}
    assert [reference.name for reference in manifest.references] == ["learning", "aligned"]
    assert sum(manifest.usage[0]) == pytest.approx(1)
    for name in ("config.json", "metrics.jsonl", "plots/training.png", "checkpoints/best.json"):
        assert (digits_run / name).is_file()
    assert list((digits_run / "tensorboard").iterdir())
    records = read_records(digits_run / "metrics.jsonl")
    assert [record.epoch for record in records] == list(range(1, 15))
    assert [record.phase for record in records] == ["learning"] * 8 + ["alignment"] * 6
    assert records[-1].validation_accuracy_hard > records[0].validation_accuracy_hard + 0.2
    assert str(digits_run) not in (digits_run / "link.json").read_text()


def test_interrupted_and_resumed_is_the_same_as_uninterrupted(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run_command("tp-train", "--out", whole, *SHORT).returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "twophase.training.cli", "--out", str(broken), *SHORT],
        stderr=subprocess.PIPE,
        text=True,
    )
    checkpoint = broken / "checkpoints" / "last.json"
    while process.poll() is None and not checkpoint.is_file():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130, messages
    assert f"interrupted; 'tp-train --resume --out {broken}' continues" in messages
    assert not (broken / "link.json").exists()

    done = run_command("tp-train", "--out", broken, "--resume")
    assert done.returncode == 0, done.stderr
    assert weights_hash(broken) == weights_hash(whole)
    lines = [(run / "metrics.jsonl").read_text().splitlines() for run in (whole, broken)]
    for first, second in zip(*lines, strict=True):
        assert json.loads(first) | {"seconds": 0} == json.loads(second) | {"seconds": 0}
    assert load_manifest(broken, "run").files == load_manifest(whole, "run").files


def test_a_new_run_sets_the_earlier_one_aside(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    (run / "precious").touch()
    done = run_command("tp-train", "--out", run, "--epochs", "1", "--method", "hard-only", *ONE_MODE)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".run.unfinished" / "precious").exists()
    assert not (run / "precious").exists()
    assert [reference.name for reference in load_manifest(run, "run").references] == ["aligned"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--task", "nothing"], ["'task' must be one of digits", "'nothing'"]),
        (["--codebook-sizes", "4", "8", "--tokens", "3"], ["'tokens' must hold 2 numbers", "3"]),
        (["--epochs", "150", "--alignment-start-epoch", "151"], ["'alignment_start_epoch' must lie", "151"]),
        (["--epochs", "many"], ["--epochs", "many"]),
        (["--no-such-option"], ["--no-such-option"]),
        (["--router", "dice"], ["--router", "dice"]),
        (["--lambda-rate", "inf"], ["'lambda_rate' must be at least 0", "inf"]),
        (["--resume"], ["holds no run to resume"]),
        (["--out", "/dev/null/run"], ["'out' must be writable"]),
        (["--batch-size", "5000"], ["'batch_size' must be at most 1068", "5000"]),
    ],
)
def test_bad_arguments_are_one_line_and_leave_nothing(
    arguments: list[str],
    parts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert_one_line(capsys.readouterr(), *parts)
    assert not list(tmp_path.iterdir())


def assert_one_line(printed: Any, *parts: str) -> None:
    assert not printed.out
    (line,) = printed.err.splitlines()
    for part in ("tp-train: error: ", *parts):
        assert part in line


def test_resuming_with_other_settings_is_refused(
    digits_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(digits_run), "--resume", "--seed", "5"]) == 2
    assert_one_line(capsys.readouterr(), "'resume' must keep the run's settings; seed was 0, not 5")


def newest_weights(run: Path) -> Path:
    state = json.loads((run / "checkpoints" / "last.json").read_text())
    return run / "checkpoints" / str(state["weights"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: os.truncate(newest_weights(run), 100), "is truncated or altered: its SHA-256"),
        (lambda run: os.truncate(run / "metrics.jsonl", 2000), "metrics.jsonl' must hold epochs 1..14"),
        (lambda run: (run / "checkpoints" / "best.json").unlink(), "best.json' is missing"),
    ],
    ids=["weights", "metrics", "best"],
)
def test_damaged_checkpoints_are_refused(
    damage: Callable[[Path], object],
    message: str,
    tmp_path: Path,
    digits_run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    shutil.copytree(digits_run, run)
    damage(run)
    assert main(["--out", str(run), "--resume"]) == 2
    assert message in capsys.readouterr().err
    assert load_manifest(run, "run").kind == "run", "what was finished before stays finished"


def test_a_killed_new_run_does_not_cost_a_finished_one(tmp_path: Path, digits_run: Path) -> None:
    run = tmp_path / "runs" / "digits"
    shutil.copytree(digits_run, run)
    words = [sys.executable, "-m", "twophase.training.cli", "--out", str(run), "--seed", "1", *ONE_MODE]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    finished, checkpoint = run.with_name(".digits.previous"), run / "checkpoints" / "last.json"
    while process.poll() is None and not (finished.is_dir() and checkpoint.is_file()):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert json.loads((run / "config.json").read_text())["seed"] == 1
    assert load_manifest(finished, "run").training["seed"] == 0


@pytest.mark.parametrize(
    ("words", "earlier", "left", "told"),
    [
        ([], [], [], "nothing was trained yet"),
        (["--out", "a run"], ["last"], ["last"], "nothing was trained yet"),
        (["--out", "a run"], [], ["tuning"], "'tp-train --resume --out 'a run'' continues"),
        (["--task", "reviews"], [], ["tuning", "features"], "'tp-train --resume --task reviews' continues"),
        ([], [], ["last"], "'tp-train --resume' continues"),
    ],
)
def test_an_interrupted_run_says_what_can_go_on(
    words: list[str],
    earlier: list[str],
    left: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Checkpoints of an earlier run that was not touched yet are not this run's."""
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(
        task=words[1] if "--task" in words else "digits", out=Path(words[1]) if "--out" in words else None
    )
    checkpoints = config.folder / "checkpoints"

    def checkpoint(name: str) -> None:
        checkpoints.mkdir(parents=True, exist_ok=True)
        (checkpoints / f"{name}.json").write_text("{}")

    for name in earlier:
        checkpoint(name)
    if earlier:
        (config.folder / "config.json").write_text("{}")

    def interrupted(*_: object) -> None:
        for name in set(left) - set(earlier):
            checkpoint(name)
        raise KeyboardInterrupt

    monkeypatch.setattr("twophase.training.run.train", interrupted)
    assert main(words) == 130
    assert f"tp-train: interrupted; {told}" in capsys.readouterr().err


def test_a_second_process_of_a_launch_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert main(["--out", str(tmp_path / "run")]) == 0
    monkeypatch.setattr("twophase.training.run.train", _interrupt)
    assert main(["--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "run").exists()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_missing_torch_is_named_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('gone', name='torch')\n")
    done = run_command("tp-train", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert_refused(done, "tp-train needs torch, which", "(gone): pip install 'twophase-link[train]'")


def test_help_is_in_sections_of_100_columns_and_imports_nothing_heavy() -> None:
    probe = (
        "import sys; from twophase.training.cli import main\n"
        "try: main(['--help', '--task', 'reviews'])\n"
        "except SystemExit as stop: print('status', stop.code)\n"
        "print('loaded', sorted({'torch', 'sklearn', 'numpy', 'onnxruntime', 'tyro'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[-2:] == ["status 0", "loaded []"]
    assert max(map(len, lines)) <= 100
    sections = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert sections == ["Examples:", *(f"{title}:" for title in SECTIONS), "Other:"]
    options = [line.split()[0] for line in lines if line.startswith("  --")]
    assert options == [f"--{item.name.replace('_', '-')}" for item in fields(TrainConfig)] + ["--version"]
    assert "(default: 12)" in done.stdout, "the task's own settings"


def test_a_diverging_run_stops_with_its_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--out", str(tmp_path / "run"), "--learning-rate", "1e30", *SHORT]
    assert main(words) == 2
    assert "tp-train: error: 'learning_rate' must keep the loss finite" in capsys.readouterr().err
    assert not (tmp_path / "run" / "link.json").exists()
