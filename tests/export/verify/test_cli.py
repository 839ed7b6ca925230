"""``tp-verify`` as a user meets it: table, JSON, exit status, bad input, and without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tools.mutants import MUTANTS, make_mutant
from tools.tiny_run import write_grid_bundle
from twophase.export.verify.checks import NAMES, OPTIONAL, SLOW
from twophase.export.verify.cli import main
from twophase.link.manifest import load_manifest, write_manifest


@pytest.fixture(scope="module")
def bundle(make_shared: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A complete bundle on an integer grid.  Read only."""
    return make_shared("grid-bundle", write_grid_bundle)


ALWAYS = [name for name in NAMES if name not in OPTIONAL]


def verify(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def refused(capsys: pytest.CaptureFixture[str], *parts: str) -> None:
    out, error = capsys.readouterr()
    assert out == ""
    (line,) = error.strip().splitlines()
    assert line.startswith("tp-verify: error: ")
    for part in parts:
        assert part in line


def test_a_sound_bundle_passes(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(bundle) == 0
    out, error = capsys.readouterr()
    lines = [line for line in out.splitlines() if not line.startswith(" ")]
    assert all(len(line) <= 100 for line in out.splitlines() if not line.startswith("bundle: "))
    assert [line.split("  ")[0].split(" ", 1)[0] for line in lines[: len(ALWAYS)]] == ["PASS"] * 24 + ["note"]
    assert all(name in line for name, line in zip(ALWAYS, lines, strict=False))
    assert lines[-1] == "verdict: PASS (24 of 24 checks pass)"
    assert lines[-2] == f"bundle: {bundle}"
    assert error == ""


def test_a_mutant_fails_with_its_reason(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (mutant,) = [entry for entry in MUTANTS if entry.name == "shared_label"]
    folder = make_mutant(bundle, tmp_path / "bundle", mutant)
    assert verify(folder, "--quick") == 1
    out, _ = capsys.readouterr()
    # lines are folded; the second mode of the same codebook has one of its own
    told = " ".join(out.split())
    assert "FAIL all codewords mode 0 (8x4qam): codewords 3 and 5 share the bits" in told
    assert told.count("codewords 3 and 5 share the bits") > 1
    assert "verdict: FAIL (" in out
    assert f"left out: {', '.join(SLOW)})" in told


def test_json_is_all_there_is_on_stdout(
    bundle: Path, int8_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(bundle, "--json", "--quick", "--audit", "--int8", int8_bundle) == 0
    value = json.loads(capsys.readouterr().out)
    assert list(value) == ["bundle", "verdict", "checks", "audit"]
    assert value["bundle"] == str(bundle)
    assert value["verdict"] == "PASS"
    assert [check["name"] for check in value["checks"]] == ALWAYS
    states = {check["name"]: check["state"] for check in value["checks"]}
    assert {name for name, state in states.items() if state == "left out"} == set(SLOW)
    assert all(set(check) == {"name", "state", "detail", "problems"} for check in value["checks"])
    assert [book["different"]["int8"] for book in value["audit"]["codebooks"]] == [0, 0]


def test_the_audit_is_a_table_after_the_checks(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(bundle, "--quick", "--audit") == 0
    assert "\n0 (K=8)" in capsys.readouterr().out
    (mutant,) = [entry for entry in MUTANTS if entry.name == "altered_searched_codeword"]
    folder = make_mutant(bundle, tmp_path / "bundle", mutant)
    assert verify(folder, "--quick", "--audit") == 1
    assert "audit: left out, because the codebook search is not proved" in capsys.readouterr().out


def test_bad_input_is_one_line_and_exit_status_2(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert verify() == 2
    refused(capsys, "no finished bundle is under 'runs'", "tp-export")
    assert verify("nowhere") == 2
    refused(capsys, "'nowhere' is not a folder")
    assert verify("--fast") == 2
    refused(capsys, "--fast")
    assert verify(bundle, "--seed", "-1") == 2
    refused(capsys, "'seed' must be at least 0, not -1")
    assert verify(bundle, "--int8", bundle) == 2
    refused(capsys, "'int8' must go with --audit")
    folder = tmp_path / "old"
    shutil.copytree(bundle, folder)
    (folder / "link.json").write_text('{"format": "twophase-link", "kind": "bundle", "version": 2}')
    assert verify(folder) == 2
    refused(capsys, "must be of version 5, not 2")


def test_the_other_bundle_of_an_audit_must_be_int8_and_of_the_same_link(
    bundle: Path, int8_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(bundle, "--audit", "--int8", tmp_path / "nowhere") == 2
    refused(capsys, "nowhere' is not a folder")
    assert verify(bundle, "--audit", "--int8", bundle) == 2
    refused(capsys, "'int8' must name an INT8 bundle")
    folder = Path(shutil.copytree(int8_bundle, tmp_path / "int8"))
    manifest = load_manifest(folder, "bundle")
    (folder / "tx.onnx").write_bytes((folder / "tx.onnx").read_bytes()[:500])
    write_manifest(folder, manifest, tuple(manifest.files))
    assert verify(bundle, "--audit", "--int8", folder) == 2
    refused(capsys, "'tx.onnx' is no ONNX graph")
    first, *rest = manifest.codebooks
    write_manifest(folder, replace(manifest, codebooks=(first[::-1], *rest)), tuple(manifest.files))
    assert verify(bundle, "--audit", "--int8", folder) == 2
    refused(capsys, "'int8' must name a bundle with the codebooks of")


def in_process(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)


def test_it_works_where_there_is_no_torch(bundle: Path) -> None:
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnxscript", "matplotlib", "commpy", "scipy", "sklearn"):
            raise ModuleNotFoundError(f"No module named '{name}'")
sys.meta_path.insert(0, Absent())
from twophase.export.verify.cli import main
sys.exit(main([sys.argv[1], "--audit"]))
"""
    done = in_process(code, bundle)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stderr == ""
    assert "verdict: PASS" in done.stdout


def test_a_missing_package_is_told(bundle: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['onnx'] = None\n"
        "from twophase.export.verify.cli import main\n"
        "sys.exit(main([sys.argv[1]]))\n"
    )
    done = in_process(code, bundle)
    assert done.returncode == 2
    assert "tp-verify: error: tp-verify needs onnx" in done.stderr
