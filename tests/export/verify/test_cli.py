"""``tp-verify`` as a user meets it: table, JSON, exit status, bad input, and without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tools.mutants import MUTANTS, make_mutant
from twophase.export.verify.checks import NAMES, OPTIONAL, SLOW
from twophase.export.verify.cli import main
from twophase.link.manifest import load_manifest, write_manifest

ALWAYS = [name for name in NAMES if name not in OPTIONAL]


def verify(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def altered(bundle: Path, folder: Path, name: str) -> Path:
    (mutant,) = [entry for entry in MUTANTS if entry.name == name]
    return make_mutant(bundle, folder / name, mutant)


def test_a_sound_bundle_passes(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(bundle) == 0
    out, error = capsys.readouterr()
    assert error == ""
    assert all(len(line) <= 100 for line in out.splitlines() if not line.startswith("bundle: "))
    lines = [line for line in out.splitlines() if not line.startswith(" ")]
    for name, line in zip(ALWAYS, lines, strict=False):
        assert line.startswith(f"{'note ' if name == 'latency' else 'PASS '} {name} ")
    assert lines[-2:] == [f"bundle: {bundle}", "verdict: PASS (26 of 26 checks pass)"]


def test_an_altered_one_fails_with_its_reasons(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(altered(bundle, tmp_path, "shared_label"), "--quick") == 1
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
    assert (value["bundle"], value["verdict"]) == (str(bundle), "PASS")
    assert [check["name"] for check in value["checks"]] == ALWAYS
    assert {check["name"] for check in value["checks"] if check["state"] == "left out"} == set(SLOW)
    assert all(set(check) == {"name", "state", "detail", "problems"} for check in value["checks"])
    assert [book["different"]["int8"] for book in value["audit"]["codebooks"]] == [0, 0]


def test_the_audit_is_a_table_after_the_checks(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(bundle, "--quick", "--audit") == 0
    assert "\n0 (K=8)" in capsys.readouterr().out
    assert verify(altered(bundle, tmp_path, "altered_searched_codeword"), "--quick", "--audit") == 1
    assert "audit: left out, because the codebook search is not proved" in capsys.readouterr().out


def test_bad_input_is_one_line_and_exit_status_2(
    bundle: Path,
    int8_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    old, broken, foreign = (tmp_path / name for name in ("old", "broken", "foreign"))
    shutil.copytree(bundle, old)
    (old / "link.json").write_text('{"format": "twophase-link", "kind": "bundle", "version": 2}')
    for folder in (broken, foreign):
        shutil.copytree(int8_bundle, folder)
    manifest = load_manifest(int8_bundle, "bundle")
    (broken / "tx.onnx").write_bytes((broken / "tx.onnx").read_bytes()[:500])
    write_manifest(broken, manifest, tuple(manifest.files))
    first, *rest = manifest.codebooks
    write_manifest(foreign, replace(manifest, codebooks=(first[::-1], *rest)), tuple(manifest.files))
    for arguments, part in (
        ((), "no finished bundle is under 'runs'"),
        (("nowhere",), "'nowhere' is not a folder"),
        (("--fast",), "--fast"),
        ((bundle, "--seed", "-1"), "'--seed' must be at least 0, not -1"),
        ((old,), "must be of version 6, not 2"),
        ((bundle, "--int8", bundle), "'--int8' must go with --audit"),
        ((bundle, "--audit", "--int8", "nowhere"), "'nowhere' is not a folder"),
        ((bundle, "--audit", "--int8", bundle), "'--int8' must name an INT8 bundle"),
        ((bundle, "--audit", "--int8", broken), "'tx.onnx' is no ONNX graph"),
        ((bundle, "--audit", "--int8", foreign), "'--int8' must name a bundle with the codebooks of"),
    ):
        assert verify(*arguments) == 2
        out, error = capsys.readouterr()
        (line,) = error.strip().splitlines()
        assert (out, line.startswith("tp-verify: error: "), part in line) == ("", True, True), line


def in_process(absent: tuple[str, ...], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Where some packages are not installed."""
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named '{{name}}'")
sys.meta_path.insert(0, Absent())
from twophase.export.verify.cli import main
sys.exit(main(sys.argv[1:]))
"""
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)


def test_it_works_where_there_is_no_torch_and_not_without_onnx(bundle: Path) -> None:
    absent = ("torch", "onnxscript", "matplotlib", "commpy", "scipy", "sklearn")
    done = in_process(absent, bundle, "--audit")
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stderr == ""
    assert "verdict: PASS" in done.stdout
    done = in_process(("onnx",), bundle)
    assert done.returncode == 2
    assert "tp-verify: error: tp-verify needs onnx" in done.stderr
