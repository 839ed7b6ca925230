"""``tp-export`` as a user meets it: help and bad input.  (What it makes: ``test_bundle``.)"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.commands import assert_refused, run_command
from twophase.export.cli import main
from twophase.link.command import Progress
from twophase.link.manifest import CALIBRATION_FILE, load_manifest, write_manifest
from twophase.link.process import Terminated


@pytest.fixture
def run(one_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The newest run below the working directory, to be spoilt."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(one_run, tmp_path / "runs" / "tiny"))


@pytest.mark.parametrize("module", ["twophase.export.cli", "twophase.export.verify.cli"])
def test_help_answers_without_what_is_slow_to_import(module: str) -> None:
    script = (
        f"import sys\nfrom {module} import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n"
        "    print(stop.code, sorted({'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    *lines, last = done.stdout.splitlines()
    assert last == "0 []"
    assert max(map(len, lines)) <= 100


def test_a_wrong_option_is_refused_before_torch_is_loaded(content_run: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")\n")
    env = {"PYTHONPATH": str(tmp_path)}
    words = ("--run", content_run, "--out", tmp_path / "bundle")
    assert_refused(
        run_command("tp-export", *words, "--header", "turbo", env=env), "'--header' must be one of"
    )
    done = run_command("tp-export", *words, env=env)
    assert_refused(done, "tp-export needs torch", "pip install '.[train]'")


def test_terminated_in_the_middle_it_leaves_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def terminate(progress: Progress, step: str) -> None:
        assert list(run.glob(".bundle.*.tmp"))
        raise Terminated

    monkeypatch.setattr(Progress, "show", terminate)
    assert main([]) == 143
    assert capsys.readouterr() == ("", "tp-export: terminated; nothing half-written is left\n")
    assert {path.name for path in run.iterdir()} == {"link.json", "eval.npz", "programs"}


def unfinished(run: Path) -> None:
    (run / "link.json").unlink()


def altered(run: Path) -> None:
    path = run / "programs" / "tx.pt2"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("words", "spoil", "parts"),
    [
        (["--router", "oracle"], None, ["--router", "trained", "table", "oracle"]),
        (["--random-inputs", "-1"], None, ["'--random-inputs' must lie in 0..100,000,000, not -1"]),
        (["--seed", "-1"], None, ["'--seed' must be at least 0, not -1"]),
        (["--router", "table"], None, ["'--router' must be 'trained'"]),
        (["--out", "runs"], None, ["'--out' must be a new or empty folder"]),
        (["--run", "nowhere"], None, ["'nowhere' is not a folder: no run is there"]),
        (["--web"], None, ["--web needs npm"]),
        (["--run", "runs/tiny"], unfinished, ["is no finished run: 'link.json' is missing"]),
        ([], altered, ["tx.pt2' is altered"]),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    run: Path, words, spoil, parts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(run / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(run / "nothing"))
    if spoil is not None:
        spoil(run)
    assert main(words) == 2
    out, error = capsys.readouterr()
    (line,) = error.strip().splitlines()
    assert out == ""
    for part in ("tp-export: error: ", *parts):
        assert part in line
    assert not (run / "bundle").exists()


def test_an_int8_bundle_has_a_folder_of_its_own(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copyfile(run / "eval.npz", run / CALIBRATION_FILE)
    manifest = load_manifest(run, "run")
    write_manifest(run, manifest, (*manifest.files, CALIBRATION_FILE))
    assert main(["--precision", "int8", "--random-inputs", "50"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "bundle: runs/tiny/bundle-int8"
    bundled = load_manifest(run / "bundle-int8", "bundle")
    assert bundled.precision == "int8"
    assert bundled.accuracy is not None
    assert bundled.provenance["export"]["int8"]["accuracy"]["int8"] == list(bundled.accuracy.correct)


def test_what_is_added_equals_what_a_whole_export_writes(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run.with_name("whole")
    for words in (["--out", str(whole), "--ort"], []):
        assert main([*words, "--random-inputs", "50"]) == 0
    before = (run / "bundle" / "link.json").read_bytes()
    capsys.readouterr()
    for words, part in (
        (["--add"], "'--add' must go with --ort or --web"),
        (["--add", "--ort", "--seed", "1"], "'--seed' must be left out with --add"),
    ):
        assert main(words) == 2
        assert part in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "torch", None)  # nothing is proved anew
    assert main(["--add", "--ort"]) == 0
    contents = [
        {path.relative_to(at): path.read_bytes() for path in at.rglob("*") if path.is_file()}
        for at in (whole, run / "bundle")
    ]
    assert contents[0] == contents[1]
    assert contents[1][Path("link.json")] != before
    (run / "bundle" / "stray").write_text("x")
    assert main(["--add", "--ort"]) == 2
    assert "holds 'stray', which its manifest does not list" in capsys.readouterr().err
    (run / "bundle" / "stray").unlink()
    (run / "bundle" / "eval.npz").write_bytes(b"x")
    assert main(["--add", "--ort"]) == 2
    assert "eval.npz" in capsys.readouterr().err
