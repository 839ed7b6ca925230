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


@pytest.fixture
def run(bare_run: Path, tmp_path: Path) -> Path:
    """A run folder to be spoilt."""
    folder = tmp_path / "runs" / "tiny"
    shutil.copytree(bare_run, folder)
    return folder


def test_help_answers_without_torch() -> None:
    script = (
        "import sys\n"
        "from twophase.export.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as stop:\n"
        "    print(stop.code, sorted({'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    options = ("--run", "--out", "--random-inputs", "--seed", "--router", "--hysteresis-db", "--header")
    options += ("--precision", "--ort", "--web", "bundle-int8/")
    for word in (*options, "tp-export --run runs/digits --out link-v1"):
        assert word in done.stdout


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


def test_without_a_run_it_says_what_to_do(tmp_path: Path) -> None:
    assert_refused(run_command("tp-export", cwd=tmp_path), "no finished run is under 'runs'", "tp-train")
    missing = tmp_path / "nowhere"
    assert_refused(
        run_command("tp-export", "--run", missing), f"'{missing}' is not a folder: no run is there"
    )


def test_unknown_options_and_wrong_values_are_refused(run: Path) -> None:
    assert_refused(run_command("tp-export", "--fast"), "--fast")
    many = run_command("tp-export", "--random-inputs", "many")
    assert_refused(many, "--random-inputs", "many")
    assert "helptext" not in many.stderr
    negative = run_command("tp-export", "--run", run, "--random-inputs", "-1")
    assert_refused(negative, "'random-inputs' must be at least 0, not -1")


@pytest.mark.parametrize(
    ("link", "options", "parts"),
    [
        ("four", ["--router", "oracle"], ["--router", "trained", "table", "oracle"]),
        ("bare", ["--router", "table"], ["'router' must be 'trained' for a link of one mode"]),
        ("content", ["--header", "turbo"], ["'header' must be one of plain, repeat2", "not 'turbo'"]),
    ],
)
def test_a_routing_that_the_link_cannot_have_is_refused(
    request: pytest.FixtureRequest, tmp_path: Path, link: str, options: list[str], parts: list[str]
) -> None:
    run = request.getfixturevalue(f"{link}_run")
    out = tmp_path / "bundle"
    # before torch is loaded, whose absence would be the complaint otherwise
    (tmp_path / "torch.py").write_text("raise ImportError('too early')\n")
    env = {"PYTHONPATH": str(tmp_path)}
    assert_refused(run_command("tp-export", "--run", run, "--out", out, *options, env=env), *parts)
    assert not out.exists()


def test_a_page_without_npm_is_refused_before_any_work(run: Path, tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path / "nothing"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = run_command("tp-export", "--run", run, "--web", env=env)
    assert_refused(done, "--web needs npm")
    assert not (run / "bundle").exists()


def unfinished(run: Path) -> None:
    (run / "link.json").unlink()


def altered(run: Path) -> None:
    path = run / "programs" / "tx.pt2"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (unfinished, "is no finished run: 'link.json' is missing"),
        (altered, "tx.pt2' is altered"),
    ],
)
def test_a_spoilt_run_is_refused(run: Path, spoil: Callable[[Path], None], reason: str) -> None:
    spoil(run)
    assert_refused(run_command("tp-export", "--run", run), reason)
    assert not (run / "bundle").exists()


def test_a_target_that_cannot_be_written_is_refused(run: Path) -> None:
    done = run_command("tp-export", "--run", run, "--out", run)
    assert_refused(done, "'out' must be a new or empty folder")
    assert (run / "link.json").is_file()


def test_without_the_train_extra_it_says_what_to_install(run: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")\n")
    done = run_command("tp-export", "--run", run, env={"PYTHONPATH": str(tmp_path)})
    assert_refused(done, "tp-export needs torch", "pip install 'twophase-link[train]'")
