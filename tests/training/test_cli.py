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
from pathlib import Path

import pytest
from filelock import FileLock

from tools.commands import assert_refused, run_command
from twophase.link.files import sha256_of
from twophase.link.manifest import load_manifest
from twophase.training.cli import main
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


def test_a_run_of_several_modes_deploys_a_rule(tmp_path: Path) -> None:
    words = (*SEVERAL, "--router", "snr", "--train-snr-low-db", "0", "--train-snr-high-db", "1")
    done = run_command("tp-train", "--out", tmp_path, "--method", "hard-only", "--epochs", "1", *words)
    assert done.returncode == 0, done.stderr
    manifest = load_manifest(tmp_path, "run")
    assert manifest.link.modes.names == ("4x4qam", "4x16qam")
    assert (manifest.routing.router, manifest.routing.tells_mode) == ("snr", False)
    assert len(manifest.training["symbol_energy"]) == 2
    (record,) = read_records(tmp_path / "metrics.jsonl")
    assert sum(record.mode_usage) == pytest.approx(1)
    assert record.line() in done.stderr


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
        (["--codebook-sizes", "4", "--tokens", "0"], ["'tokens' must be at least 1, not 0"]),
        (
            ["--codebook-sizes", "4", "8", "--tokens", "3"],
            ["'tokens' must hold 2 numbers, one per codebook", "3"],
        ),
        (["--codebook-sizes", "48"], ["'codebook_sizes' must be powers of two", "48"]),
        (["--qam-orders", "32"], ["'qam_orders' must be 4, 16, 64 or 256", "32"]),
        (["--temp-freeze-floor", "0"], ["'temp_freeze_floor' must lie above 0", "0.0"]),
        (
            ["--epochs", "150", "--alignment-start-epoch", "151"],
            ["'alignment_start_epoch' must lie in 2..150", "151"],
        ),
        (["--epochs", "many"], ["--epochs", "many"]),
        (["--no-such-option"], ["--no-such-option"]),
        (["--device", "abacus"], ["--device", "abacus"]),
        (["--batch-size", "5000"], ["'batch_size' must be at most 1068", "5000"]),
        (["--router", "dice"], ["--router", "dice"]),
        (["--lambda-rate", "-0.1"], ["'lambda_rate' must be at least 0, not -0.1"]),
        (["--lambda-rate", "inf"], ["'lambda_rate' must be", "inf"]),
        (["--lambda-balance", "-1"], ["'lambda_balance' must be at least 0, not -1.0"]),
        (["--router-temperature", "0"], ["'router_temperature' must be positive, not 0.0"]),
        (["--router-noise", "nan"], ["'router_noise' must be", "nan"]),
        (["--router-focus", "1.5"], ["'router_focus' must lie in 0..1", "1.5"]),
        (["--modes-per-step", "0"], ["'modes_per_step' must be at least 1, not 0"]),
        (["--modes-per-step", "some"], ["--modes-per-step", "some"]),
        (["--table-tolerance", "1"], ["'table_tolerance' must lie in 0..1", "1.0"]),
        (["--hysteresis-db", "-1"], ["'hysteresis_db' must be at least 0, not -1.0"]),
    ],
)
def test_bad_arguments_are_one_line_and_leave_nothing(
    arguments: list[str], parts: list[str], tmp_path: Path
) -> None:
    assert_refused(run_command("tp-train", *arguments, cwd=tmp_path), *parts)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_run_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    assert_refused(run_command("tp-train", "--out", tmp_path), "'out' must be a new or empty folder")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_refused(run_command("tp-train", "--out", tmp_path / "file" / "run"), "'out' must be writable")


def test_resuming_nothing_is_refused(tmp_path: Path) -> None:
    assert_refused(run_command("tp-train", "--resume", cwd=tmp_path), "holds no run to resume")


def test_resuming_with_other_settings_is_refused(tmp_path: Path, digits_run: Path) -> None:
    done = run_command("tp-train", "--out", digits_run, "--resume", "--seed", "5")
    assert_refused(done, "'resume' must keep the run's settings; seed was 0, not 5")


def change_json(path: Path, **entries: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def newest_weights(run: Path) -> Path:
    state = json.loads((run / "checkpoints" / "last.json").read_text())
    return run / "checkpoints" / str(state["weights"])


def drop_seed(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    del config["seed"]
    (run / "config.json").write_text(json.dumps(config))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "version": lambda run: change_json(run / "checkpoints" / "last.json", version=99),
    "truncate": lambda run: os.truncate(newest_weights(run), 100),
    "remove": lambda run: newest_weights(run).unlink(),
    "garbage": lambda run: (run / "checkpoints" / "last.json").write_text('{"epoch": 1'),
    "config": lambda run: change_json(run / "config.json", version=0),
    "method": lambda run: change_json(run / "config.json", method="foo"),
    "short": drop_seed,
    "standing": lambda run: change_json(run / "checkpoints" / "last.json", standing={"epochs": 3}),
    "no metrics": lambda run: (run / "metrics.jsonl").unlink(),
    "cut metrics": lambda run: os.truncate(run / "metrics.jsonl", 2000),
    "foreign metrics": lambda run: (run / "metrics.jsonl").write_text('{"epoch": 1}\n'),
    "no best": lambda run: (run / "checkpoints" / "best.json").unlink(),
}


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        ("version", ["last.json' must be of version 1, not 99: train again"]),
        ("truncate", ["is truncated or altered: its SHA-256"]),
        ("remove", ["is missing; 'last.json' names it"]),
        ("garbage", ["last.json' is not JSON"]),
        ("config", ["config.json' must be of version 2, not 0: train again"]),
        ("method", ["config.json' is altered: 'config.method' must be one of"]),
        ("short", ["config.json' is altered: 'config' lacks seed"]),
        ("standing", ["last.json' is altered"]),
        ("no metrics", ["metrics.jsonl' must hold epochs 1..14: truncated or altered"]),
        ("cut metrics", ["metrics.jsonl' must hold epochs 1..14: truncated or altered"]),
        ("foreign metrics", ["metrics.jsonl' is altered"]),
        ("no best", ["best.json' is missing"]),
    ],
)
def test_damaged_checkpoints_are_refused(
    damage: str, parts: list[str], tmp_path: Path, digits_run: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(digits_run, run)
    DAMAGES[damage](run)
    assert_refused(run_command("tp-train", "--out", run, "--resume"), *parts)
    assert load_manifest(run, "run").kind == "run", "what was finished before stays finished"


def trains_with(run: Path, seed: int) -> bool:
    """Whether a run with that seed is in the folder and has a checkpoint."""
    config = run / "config.json"
    return (
        config.is_file()
        and json.loads(config.read_text())["seed"] == seed
        and (run / "checkpoints" / "last.json").is_file()
    )


def test_interrupted_new_runs_do_not_cost_a_finished_one(tmp_path: Path, digits_run: Path) -> None:
    run = tmp_path / "runs" / "digits"
    shutil.copytree(digits_run, run)
    for seed in (1, 2):
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "twophase.training.cli",
                "--out",
                str(run),
                "--seed",
                str(seed),
                *ONE_MODE,
            ],
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and not trains_with(run, seed):
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert trains_with(run, seed)
        assert load_manifest(run.with_name(".digits.previous"), "run").training["seed"] == 0


def test_two_at_once_in_one_folder_are_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with FileLock(tmp_path / ".run.lock"):
        done = run_command("tp-train", "--out", run)
    assert_refused(done, "'out' must not be in use by another tp-train")
    assert not run.exists()


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
    assert_refused(done, "tp-train needs torch: pip install 'twophase-link[train]'")


def test_help_shows_examples_and_does_not_import_torch() -> None:
    probe = (
        "import sys; from twophase.training.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stop: print('status', stop.code)\n"
        "print('loaded', sorted({'torch', 'sklearn', 'matplotlib', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert "Examples:" in done.stdout
    assert "--temp-freeze-floor" in done.stdout
    assert done.stdout.strip().endswith("status 0\nloaded []")


def test_a_diverging_run_stops_with_its_remedy(tmp_path: Path) -> None:
    done = run_command("tp-train", "--out", tmp_path / "run", "--learning-rate", "1e30", "--epochs", "3",
                       "--alignment-start-epoch", "2", *ONE_MODE)  # fmt: skip
    assert done.returncode == 2
    assert "tp-train: error: 'learning_rate' must keep the loss finite" in done.stderr
    assert not (tmp_path / "run" / "link.json").exists()
