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

import pytest

from tools.commands import assert_refused, run_command
from twophase.link.manifest import load_manifest
from twophase.link.quality import trained_quality
from twophase.training.cli import SECTIONS, main
from twophase.training.config import TrainConfig
from twophase.training.monitor import read_records

ONE_MODE = ("--codebook-sizes", "4", "--tokens", "12", "--qam-orders", "16")
SHORT = ("--samples", "400", "--method", "hard-only", "--epochs", "1")
SHORT += ("--codebook-sizes", "4", "--tokens", "3", "--qam-orders", "4", "16")
Printed = pytest.CaptureFixture[str]


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
    assert (digits_run / "plots" / "training.png").stat().st_size > 1000
    for name in ("config.json", "tensorboard", "checkpoints/best.json"):
        assert (digits_run / name).exists()
    manifest.routing.check(manifest.link.modes)
    assert manifest.routing.router == "table"
    assert manifest.training["deployed"]["checkpoint"] == "best"
    temperatures = {entry.name: entry.temperature for entry in manifest.references}
    assert temperatures == {"learning": manifest.training["learning"]["vq_temperature"], "aligned": 0.7}
    records = read_records(digits_run / "metrics.jsonl")
    assert [record.phase for record in records] == ["learning"] * 8 + ["alignment"] * 6
    assert records[-1].validation_accuracy_hard > records[0].validation_accuracy_hard + 0.2
    assert str(digits_run) not in (digits_run / "link.json").read_text()


def test_an_interrupted_run_stops_and_goes_on_with_its_own_settings_alone(
    tmp_path: Path, capsys: Printed
) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "twophase.training", "--out", str(run), *ONE_MODE],
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (run / "checkpoints" / "last.json").is_file():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=900)
    assert process.returncode == 130, messages
    assert f"interrupted; 'tp-train --resume --out {run}' continues" in messages
    assert not (run / "link.json").exists()
    assert main(["--out", str(run), "--resume", "--seed", "5"]) == 2
    refused(capsys, "'--resume' must keep the run's settings; --seed was 0, not 5")


def test_missing_torch_is_named_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('gone', name='torch')\n")
    done = run_command("tp-train", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert_refused(done, "tp-train needs torch, which", "(gone): pip install '.[train]'")


def test_help_is_in_sections_of_100_columns_and_imports_nothing_heavy() -> None:
    probe = (
        "import sys; from twophase.training.cli import main\n"
        "try: main(['--help', '--task', 'reviews'])\n"
        "except SystemExit as stop: print('status', stop.code)\n"
        "print('loaded', sorted({'torch', 'sklearn', 'numpy', 'onnxruntime'} & set(sys.modules)))"
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


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_new_run_sets_the_earlier_one_aside_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    (run / "precious").touch()
    with monkeypatch.context() as patch:
        patch.setattr("twophase.training.run.plot_training", interrupted)
        assert main(["--out", str(run), *SHORT]) == 130
    assert (tmp_path / ".run.unfinished" / "precious").exists()
    assert not (run / "precious").exists()
    status = main(["--out", str(run), "--resume"])
    training = load_manifest(run, "run").training
    assert status == int(trained_quality(training).collapsed)
    out, err = capsys.readouterr()
    assert "is finished after 1 epochs: nothing is trained" in " ".join(err.split())
    assert "mode by the SNR that each end estimates:\n" in out
    assert "\ndeployed: epoch 1 of 1, validation accuracy over -6..18 dB: hard 0." in out
    assert out.endswith(f"\nrun: {run}\n")
    assert [reference.name for reference in load_manifest(run, "run").references] == ["aligned"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--epochs", "many"], ["--epochs", "many"]),
        (["--no-such-option"], ["--no-such-option"]),
        (["--router", "dice"], ["--router", "dice"]),
        (["--lambda-rate", "inf"], ["'--lambda-rate' must be a finite number, not 'inf'"]),
        (["--epochs", "3"], ["'--alignment-start-epoch' must lie in 2..3 (--epochs; set both together)"]),
        (["--resume"], ["holds no run to resume"]),
        (["--out", "/dev/null/run"], ["'--out' must be writable"]),
        (["--batch-size", "5000"], ["'--batch-size' must be at most 1068", "5000"]),
    ],
)
def test_bad_arguments_are_one_line_and_leave_nothing(
    arguments: list[str], parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    refused(capsys, *parts)
    assert not list(tmp_path.iterdir())


def cut_newest_weights(run: Path) -> None:
    state = json.loads((run / "checkpoints" / "last.json").read_text())
    os.truncate(run / "checkpoints" / state["weights"], 100)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_newest_weights, "is truncated or altered: its SHA-256"),
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


@pytest.mark.parametrize(
    ("words", "left", "said"),
    [
        (["--out", "a run"], None, "nothing was trained yet"),
        (["--out", "a run"], "a run/checkpoints/tuning.json", "'tp-train --resume --out 'a run'' continues"),
        (["--task", "csv"], "runs/csv/checkpoints/features.json", "'tp-train --resume --task csv' continues"),
        ([], "runs/digits/checkpoints/last.json", "'tp-train --resume' continues"),
    ],
)
def test_an_interrupted_run_says_what_can_go_on(
    words: list[str],
    left: str | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Printed,
) -> None:
    """A checkpoint of an earlier run that was not touched yet is not this run's."""
    monkeypatch.chdir(tmp_path)
    for earlier in ("config.json", "checkpoints/last.json"):
        (tmp_path / "a run" / earlier).parent.mkdir(exist_ok=True)
        (tmp_path / "a run" / earlier).touch()

    def leave_and_stop(*_: object) -> None:
        if left is not None:
            Path(left).parent.mkdir(parents=True, exist_ok=True)
            Path(left).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("twophase.training.run.train", leave_and_stop)
    assert main(words) == 130
    assert f"tp-train: interrupted; {said}" in capsys.readouterr().err


def test_a_second_process_of_a_launch_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert main(["--out", str(tmp_path / "run")]) == 0
    monkeypatch.setattr("twophase.training.run.train", interrupted)
    assert main(["--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("validation", "status"), [(0.11, 1), (0.9, 0)])
def test_a_collapsed_link_is_named_and_ends_with_1(
    validation: float, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    figures = {"train_accuracy_hard": validation, "validation_accuracy_hard": validation}
    training = {
        "deployed": {"epoch": 1, "validation_accuracy_soft": validation, **figures},
        "samples": {"validation": 189},
        "epochs": 1,
        "majority_share": 0.1,
        "ceiling": {"train_accuracy": 0.95, "validation_accuracy": 0.95},
    }
    monkeypatch.setattr("twophase.training.run.train", lambda config, terminal: training)
    monkeypatch.setattr("twophase.training.cli._print_table", lambda config: None)
    assert main(["--out", str(tmp_path / "run"), *SHORT]) == status
    assert ("the link has collapsed: 11.0 % in validation" in capsys.readouterr().err) == (status == 1)
