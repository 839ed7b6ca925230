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
SHORT = ("--samples", "400", "--epochs", "4", "--alignment-start-epoch", "3", *ONE_MODE)
Printed = pytest.CaptureFixture[str]


def newest_weights(run: Path) -> Path:
    state = json.loads((run / "checkpoints" / "last.json").read_text())
    return run / "checkpoints" / str(state["weights"])


def refused(printed: Printed, *parts: str) -> None:
    """One line on stderr alone, with all parts."""
    out, err = printed.readouterr()
    (line,) = err.splitlines()
    assert not out
    for part in ("tp-train: error: ", *parts):
        assert part in line


# --- in a process of its own ------------------------------------------------------------------------------


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
    assert main(["--out", str(whole), *SHORT]) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "twophase.training.cli", "--out", str(broken), *SHORT],
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (broken / "checkpoints" / "last.json").is_file():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=900)
    assert process.returncode == 130, messages
    assert f"interrupted; 'tp-train --resume --out {broken}' continues" in messages
    assert not (broken / "link.json").exists()

    assert main(["--out", str(broken), "--resume"]) == 0
    assert sha256_of(newest_weights(broken)) == sha256_of(newest_weights(whole))
    lines = [(run / "metrics.jsonl").read_text().splitlines() for run in (whole, broken)]
    for first, second in zip(*lines, strict=True):
        assert json.loads(first) | {"seconds": 0} == json.loads(second) | {"seconds": 0}
    assert load_manifest(broken, "run").files == load_manifest(whole, "run").files


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
    options = [line.split()[0].rstrip(",") for line in lines if line.startswith("  --")]
    assert options == [f"--{item.name.replace('_', '-')}" for item in fields(TrainConfig)] + ["--version"]
    assert "(default: 12)" in done.stdout, "the task's own settings"


# --- in this process --------------------------------------------------------------------------------------


def test_a_new_run_sets_the_earlier_one_aside(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    (run / "precious").touch()
    assert main(["--out", str(run), *SHORT, "--epochs", "1", "--method", "hard-only"]) == 0
    assert (tmp_path / ".run.unfinished" / "precious").exists()
    assert not (run / "precious").exists()
    assert [reference.name for reference in load_manifest(run, "run").references] == ["aligned"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--task", "nothing"], ["'task'", "'nothing'"]),
        (["--epochs", "many"], ["--epochs", "many"]),
        (["--no-such-option"], ["--no-such-option"]),
        (["--router", "dice"], ["--router", "dice"]),
        (["--lambda-rate", "inf"], ["'lambda_rate'", "inf"]),
        (["--resume"], ["holds no run to resume"]),
        (["--out", "/dev/null/run"], ["'out' must be writable"]),
        (["--batch-size", "5000"], ["'batch_size' must be at most 1068", "5000"]),
    ],
)
def test_bad_arguments_are_one_line_and_leave_nothing(
    arguments: list[str], parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    refused(capsys, *parts)
    assert not list(tmp_path.iterdir())


def test_resuming_with_other_settings_is_refused(digits_run: Path, capsys: Printed) -> None:
    assert main(["--out", str(digits_run), "--resume", "--seed", "5"]) == 2
    refused(capsys, "'resume' must keep the run's settings; seed was 0, not 5")


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
    damage: Callable[[Path], object], message: str, tmp_path: Path, digits_run: Path, capsys: Printed
) -> None:
    run = Path(shutil.copytree(digits_run, tmp_path / "run"))
    damage(run)
    assert main(["--out", str(run), "--resume"]) == 2
    assert message in capsys.readouterr().err
    assert load_manifest(run, "run").kind == "run", "what was finished before stays finished"


def test_a_diverging_run_stops_with_its_remedy(tmp_path: Path, capsys: Printed) -> None:
    assert main(["--out", str(tmp_path / "run"), "--learning-rate", "1e30", *SHORT]) == 2
    assert "tp-train: error: 'learning_rate' must keep the loss finite" in capsys.readouterr().err
    assert not (tmp_path / "run" / "link.json").exists()


@pytest.mark.parametrize(
    ("words", "earlier", "left", "said"),
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
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Printed,
) -> None:
    """Checkpoints of an earlier run that was not touched yet are not this run's."""
    monkeypatch.chdir(tmp_path)
    values: dict[str, Any] = dict(zip(("out", "task"), (None, "digits"), strict=True))
    if words:
        values[words[0][2:]] = Path(words[1]) if words[0] == "--out" else words[1]
    folder = TrainConfig(**values).folder

    def write(names: set[str]) -> None:
        for name in names:
            (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
            (folder / "checkpoints" / f"{name}.json").write_text("{}")

    def interrupted(*_: object) -> None:
        write(set(left) - set(earlier))
        raise KeyboardInterrupt

    write(set(earlier))
    if earlier:
        (folder / "config.json").write_text("{}")
    monkeypatch.setattr("twophase.training.run.train", interrupted)
    assert main(words) == 130
    assert f"tp-train: interrupted; {said}" in capsys.readouterr().err


def test_a_second_process_of_a_launch_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("RANK", "1")
    assert main(["--out", str(tmp_path / "run")]) == 0
    monkeypatch.setattr("twophase.training.run.train", interrupted)
    assert main(["--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "run").exists()
