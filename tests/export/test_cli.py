"""``tp-export`` as a user meets it: help and bad input.  (What it makes: ``test_bundle``.)"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from tools.commands import MODULES, assert_refused, run_command
from twophase.link.manifest import load_manifest, write_manifest


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


def test_the_version_is_told() -> None:
    for command in MODULES:
        done = run_command(command, "--version")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{command} {version('twophase-link')}\n"


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
    assert_refused(run_command("tp-export", "--precision", "int4"), "--precision", "float32", "int8", "int4")
    negative = run_command("tp-export", "--run", run, "--random-inputs", "-1")
    assert_refused(negative, "'random-inputs' must be at least 0, not -1")
    assert_refused(
        run_command("tp-export", "--run", run, "--seed", "-1"), "'seed' must be at least 0, not -1"
    )


@pytest.mark.parametrize(
    ("link", "options", "parts"),
    [
        ("four", ["--router", "oracle"], ["--router", "trained", "table", "oracle"]),
        ("bare", ["--router", "table"], ["'router' must be 'trained' for a link of one mode"]),
        (
            "four",
            ["--router", "table", "--hysteresis-db", "-1"],
            ["'hysteresis_db' must be finite and at least 0"],
        ),
        ("four", ["--router", "table", "--hysteresis-db", "wide"], ["--hysteresis-db", "wide"]),
        ("four", ["--hysteresis-db", "1"], ["'hysteresis_db' must be left out for the router 'snr'"]),
        ("four", ["--header", "rm14"], ["'header' must be 'auto' for the router 'snr': it sends no header"]),
        (
            "bare",
            ["--header", "plain"],
            ["'header' must be 'auto' for the router 'fixed': it sends no header"],
        ),
        ("content", ["--header", "turbo"], ["'header' must be one of plain, repeat2", "not 'turbo'"]),
        (
            "content",
            ["--router", "table", "--header", "rm14"],
            ["'header' must be 'auto' for the router 'table'"],
        ),
    ],
)
def test_a_routing_that_the_link_cannot_have_is_refused(
    request: pytest.FixtureRequest, tmp_path: Path, link: str, options: list[str], parts: list[str]
) -> None:
    run = request.getfixturevalue(f"{link}_run")
    out = tmp_path / "bundle"
    # told before torch is loaded, whose absence would be told otherwise
    (tmp_path / "torch.py").write_text("raise ImportError('too early')\n")
    env = {"PYTHONPATH": str(tmp_path)}
    assert_refused(run_command("tp-export", "--run", run, "--out", out, *options, env=env), *parts)
    assert not out.exists()


def test_int8_without_calibration_data_is_refused(run: Path) -> None:
    done = run_command("tp-export", "--run", run, "--precision", "int8")
    assert_refused(done, "calibration.npz' is missing", "train again")
    assert not (run / "bundle-int8").exists()


def test_a_page_without_npm_is_refused_before_any_work(run: Path, tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path / "nothing"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = run_command("tp-export", "--run", run, "--web", env=env)
    assert_refused(done, "--web needs npm")
    assert not (run / "bundle").exists()


def a_header_too_few(run: Path) -> None:
    value = json.loads((run / "link.json").read_text())
    value["routing"]["router"] = "content"
    (run / "link.json").write_text(json.dumps(value))


def unfinished(run: Path) -> None:
    (run / "link.json").unlink()


def altered(run: Path) -> None:
    path = run / "programs" / "tx.pt2"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncated(run: Path) -> None:
    path = run / "programs" / "rx.pt2"
    path.write_bytes(path.read_bytes()[:-1])


def missing(run: Path) -> None:
    (run / "eval.npz").unlink()


def other_version(run: Path) -> None:
    value = json.loads((run / "link.json").read_text())
    (run / "link.json").write_text(json.dumps(value | {"version": 99}))


def other_kind(run: Path) -> None:
    value = json.loads((run / "link.json").read_text())
    (run / "link.json").write_text(json.dumps(value | {"kind": "bundle"}))


def labels_twice(run: Path) -> None:
    value = json.loads((run / "link.json").read_text())
    value["labels"][0][1] = value["labels"][0][0]
    (run / "link.json").write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (unfinished, "is no finished run: 'link.json' is missing"),
        (altered, "tx.pt2' is altered"),
        (truncated, "rx.pt2' must have"),
        (missing, "eval.npz' is missing"),
        (other_version, "must be of version 4, not 99"),
        (other_kind, "must describe a run, not a 'bundle'"),
        (a_header_too_few, "'header' must name a code for the router 'content'"),
        (labels_twice, "'labels[0]' must be a permutation of 0..7"),
    ],
)
def test_a_spoilt_run_is_refused(run: Path, spoil: Callable[[Path], None], reason: str) -> None:
    spoil(run)
    assert_refused(run_command("tp-export", "--run", run), reason)
    assert not (run / "bundle").exists()


def test_a_program_that_torch_cannot_read_is_refused_though_its_hash_is_right(run: Path) -> None:
    manifest = load_manifest(run, "run")
    (run / "programs" / "rx.pt2").write_bytes(b"PK")
    write_manifest(run, manifest, tuple(manifest.files))
    # the transmitter is converted and verified by then: still nothing is left of the bundle
    done = run_command("tp-export", "--run", run, "--random-inputs", "0")
    assert_refused(done, "rx.pt2' is no saved program: truncated or altered")
    assert {path.name for path in run.iterdir()} == {"link.json", "eval.npz", "programs"}


def test_a_target_that_cannot_be_written_is_refused(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    done = run_command("tp-export", "--run", run, "--out", file / "bundle")
    assert_refused(done, f"'out' must be a folder, and '{file}' is a file")
    assert_refused(
        run_command("tp-export", "--run", run, "--out", run), "'out' must be a new or empty folder"
    )
    assert file.read_text() == "text"
    assert (run / "link.json").is_file()
    (tmp_path / "empty").mkdir()
    done = run_command("tp-export", "--run", run, "--out", ".", cwd=tmp_path / "empty")
    assert_refused(done, "'out' must be no folder that you are in, for it is replaced as a whole, not '.'")


@pytest.mark.parametrize("package", ["torch", "onnx", "onnxscript"])
def test_without_the_train_extra_it_says_what_to_install(run: Path, tmp_path: Path, package: str) -> None:
    stub = tmp_path / "stub" / package
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text(f"raise ModuleNotFoundError(\"No module named '{package}'\")\n")
    # 'import torch' takes seconds, and what is tested is what happens when it, or a later one, fails
    for earlier in {"onnx": ["torch"], "onnxscript": ["torch", "onnx"]}.get(package, []):
        (stub.parent / f"{earlier}.py").write_text("")
    done = run_command("tp-export", "--run", run, env={"PYTHONPATH": str(stub.parent)})
    assert_refused(done, f"tp-export needs '{package}'", "pip install 'twophase-link[train]'")
