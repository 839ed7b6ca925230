"""``tp-export`` as a user meets it: help and bad input.  (What it makes: ``test_bundle``.)"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.commands import MODULES, assert_refused, run_command
from twophase.export.cli import main


@pytest.fixture
def run(bare_run: Path, tmp_path: Path) -> Path:
    """A run folder to be spoilt."""
    return Path(shutil.copytree(bare_run, tmp_path / "runs" / "tiny"))


@pytest.mark.parametrize("module", ["twophase.export.cli", "twophase.export.verify.cli"])
def test_help_answers_without_what_is_slow_to_import(module: str) -> None:
    script = (
        f"import sys\nfrom {module} import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n"
        "    print(stop.code, sorted({'torch', 'onnx', 'onnxruntime', 'numpy', 'tyro'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    *lines, last = done.stdout.splitlines()
    assert last == "0 []"
    assert max(map(len, lines)) <= 100


def test_terminated_in_the_middle_it_leaves_nothing(run: Path) -> None:
    words = [sys.executable, "-m", MODULES["tp-export"], "--run", str(run), "--random-inputs", "10000000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(run.glob(".bundle.*.tmp")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, "")
    assert err == "tp-export: terminated; nothing half-written is left\n"
    assert not (run / "bundle").exists()
    assert not list(run.glob(".bundle.*.tmp"))


def test_a_wrong_option_is_refused_before_torch_is_loaded(content_run: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")\n")
    env = {"PYTHONPATH": str(tmp_path)}
    words = ("--run", content_run, "--out", tmp_path / "bundle")
    assert_refused(run_command("tp-export", *words, "--header", "turbo", env=env), "'header' must be one of")
    done = run_command("tp-export", *words, env=env)
    assert_refused(done, "tp-export needs torch", "pip install 'twophase-link[train]'")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--fast"], ["--fast"]),
        (["--random-inputs", "many"], ["--random-inputs", "many"]),
        (["--random-inputs", "-1"], ["'random-inputs' must be at least 0, not -1"]),
        (["--seed", "-1"], ["'seed' must be at least 0, not -1"]),
        (["--router", "oracle"], ["--router", "trained", "table", "oracle"]),
        (["--router", "table"], ["'router' must be 'trained'"]),
        (["--out", "runs"], ["'out' must be a new or empty folder"]),
        (["--run", "nowhere"], ["'nowhere' is not a folder: no run is there"]),
        (["--web"], ["--web needs npm"]),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    run: Path,
    tmp_path: Path,
    words: list[str],
    parts: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert main(words) == 2
    refused(capsys, *parts)
    assert not (run / "bundle").exists()


def refused(capsys: pytest.CaptureFixture[str], *parts: str) -> None:
    out, error = capsys.readouterr()
    (line,) = error.strip().splitlines()
    assert out == ""
    assert line.startswith("tp-export: error: ")
    for part in parts:
        assert part in line


def unfinished(run: Path) -> None:
    (run / "link.json").unlink()


def altered(run: Path) -> None:
    path = run / "programs" / "tx.pt2"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(unfinished, "is no finished run: 'link.json' is missing"), (altered, "tx.pt2' is altered")],
)
def test_a_spoilt_run_is_refused(
    run: Path, spoil: Callable[[Path], None], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(run)
    assert main(["--run", str(run)]) == 2
    refused(capsys, reason)
    assert not (run / "bundle").exists()
