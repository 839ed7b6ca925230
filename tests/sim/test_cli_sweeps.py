"""tp-sim as a whole: workers, resumption, replay, other designs, precision, receivers, kernels."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from pathlib import Path

import pytest

from tools.commands import run_command
from tools.tiny_bundle import write_tiny_bundle
from twophase.link.errors import ArtifactError
from twophase.sim.cli import main
from twophase.sim.settings import Settings

QUICK = ("--snr", "12:4:20", "--trials", "2")


def _run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run_command("tp-sim", *words, cwd=cwd)


def _report(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())


def test_the_report_does_not_depend_on_the_workers(bundle: Path, tmp_path: Path) -> None:
    def report(*words: str) -> str:
        out = tmp_path / "-".join(("out", *words))
        common = ("--bundle", str(bundle), "--snr", "0:6:12", "--trials", "7", "--channel", "rayleigh")
        result = _run(*common, "--out", str(out), *words, cwd=tmp_path)
        assert result.returncode in (0, 1), result.stderr
        assert not (out / ".blocks").exists()
        return (out / "report.json").read_text().replace(str(out), "OUT")

    assert report() == report("--workers", "2")


def test_an_interrupted_sweep_goes_on_where_it_stopped(bundle: Path, tmp_path: Path) -> None:
    common = ("--bundle", str(bundle), "--snr", "12", "--out", str(tmp_path / "sim"), "--trials", "100000")
    script = "import sys; from twophase.sim.cli import main; sys.exit(main())"
    running = subprocess.Popen([sys.executable, "-c", script, *common], stderr=subprocess.PIPE, text=True)
    blocks = tmp_path / "sim" / ".blocks"
    while running.poll() is None and len(list(blocks.rglob("*.npz"))) < 3:
        select.select([], [], [], 0.05)
    running.kill()
    running.communicate()
    finished = list(blocks.rglob("*.npz"))
    assert len(finished) >= 3
    assert not (tmp_path / "sim" / "report.json").exists()
    # Fewer trials take up what there is of them: the key knows no number of trials.
    resumed = _run(*common[:-1], "10", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert f"taking up an interrupted run: {len(finished)} finished blocks" in resumed.stderr
    afresh = _run(*common[:5], str(tmp_path / "other"), "--trials", "10", cwd=tmp_path)
    assert afresh.stderr == ""
    first, second = (
        (tmp_path / name / "report.json").read_text().replace(str(tmp_path / name), "OUT")
        for name in ("sim", "other")
    )
    assert first == second
    assert not blocks.exists()


def test_a_report_is_replayed_and_held_against_every_count(bundle: Path, tmp_path: Path) -> None:
    made = _run("--bundle", str(bundle), "--out", str(tmp_path), *QUICK, "--code", "conv", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    path = tmp_path / "report.json"
    same = _run("--replay", str(path), "--workers", "2", cwd=tmp_path)
    assert same.returncode == 0, same.stderr
    assert same.stdout.endswith("all equal\n")
    report = json.loads(path.read_text())
    report["points"][1]["counts"]["bit_errors"] += 1
    path.write_text(json.dumps(report))
    other = _run("--replay", str(path), cwd=tmp_path)
    assert other.returncode == 1
    assert other.stdout.startswith("points[1].counts.bit_errors: ")
    assert other.stdout.endswith("1 differ\n")
    report["bundle_sha256"] = "0" * 64
    path.write_text(json.dumps(report))
    foreign = _run("--replay", str(path), cwd=tmp_path)
    assert foreign.returncode == 2
    assert "is not what the report was made from" in foreign.stderr
    path.write_text("[1]")
    assert "is no report.json" in _run("--replay", str(path), cwd=tmp_path).stderr
    path.write_text("{}")
    assert "is no report that can be replayed" in _run("--replay", str(path), cwd=tmp_path).stderr
    refused = _run("--replay", str(path), "--trials", "3", cwd=tmp_path)
    assert "'trials' must be left out with --replay" in refused.stderr


def test_bundles_and_other_designs_stand_beside_the_link(bundle: Path, tmp_path: Path, capsys) -> None:
    other = write_tiny_bundle(tmp_path / "second" / "bundle", router="table", hysteresis_db=1.0)
    words = ["--compare", str(bundle), str(other), "--out", str(tmp_path / "sim"), *QUICK]
    words += ["--code", "conv", "ldpc", "--baseline", "classify-and-send"]
    assert main(words) == 0
    report = json.loads((tmp_path / "sim" / "report.json").read_text())
    assert report["bundle"] == str(bundle)
    assert [(entry["name"], len(entry["points"])) for entry in report["compare"]] == [("second", 3)]
    names = ["conv", "ldpc", "classify-and-send"]
    assert [entry["name"] for entry in report["companions"]] == names
    for point in report["points"]:
        assert list(point["companions"]) == names
        equal = point["companions"]["classify-and-send"]["symbols_per_sample"]
        assert equal == point["symbols_per_sample"]
        assert all(0.2 < entry["accuracy"] <= 1 for entry in point["companions"].values())
    assert set(names) <= set(capsys.readouterr().out.split())


def test_a_precision_gives_each_point_the_trials_that_it_needs(bundle: Path, tmp_path: Path) -> None:
    words = ["--bundle", str(bundle), "--out", str(tmp_path), "--snr", "-5:25:20", "--trials", "2"]
    assert main([*words, "--precision", "0.02", "--max-trials", "16"]) in (0, 1)
    noisy, clean = json.loads((tmp_path / "report.json").read_text())["points"]
    assert clean["trials"] < noisy["trials"] <= 16
    assert clean["stop_reason"].startswith("precision reached: ")
    assert (clean["gap_ci"][1] - clean["gap_ci"][0]) / 2 <= 0.02 or (
        clean["accuracy_hard_ci"][1] - clean["accuracy_hard_ci"][0]
    ) / 2 <= 0.02


@pytest.mark.parametrize(
    ("words", "said", "pilots"),
    [
        (
            ("--channel", "rician", "--coherence", "6", "--csi", "pilot"),
            "from 2 pilot symbols in each block",
            1.0,
        ),
        (("--channel", "tdl-c", "--csi", "pilot", "--estimator", "ls"), "by least squares", 2.0),
        (("--csi", "none", "--noise-mismatch-db", "-3"), "taken 3 dB too low", 0.0),
    ],
)
def test_what_the_receiver_knows_is_said_and_counted(
    words, said, pilots, bundle: Path, tmp_path: Path
) -> None:
    common = ("--bundle", str(bundle), "--out", str(tmp_path), "--snr", "10", "--trials", "2")
    assert main([*common, *words]) in (0, 1)
    report = json.loads((tmp_path / "report.json").read_text())
    point = report["points"][0]
    assert said in report["csi_text"]
    assert point["pilot_symbols_per_sample"] >= pilots
    total = sum(point[f"{part}_symbols_per_sample"] for part in ("payload", "header", "pilot"))
    assert point["symbols_per_sample"] == pytest.approx(total)
    assert point["measured_esn0_db"] == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize(
    ("words", "known"),
    [
        ((), "block"),
        (("--csi", "none"), "mean"),
        (("--csi", "pilot"), "mean"),
        (("--semi-analytic",), "mean"),
        (("--known-snr", "mean"), "mean"),
        (("--csi", "pilot", "--known-snr", "block"), "block"),
    ],
)
def test_a_block_tells_its_snr_only_to_who_knows_its_gain(words, known, monkeypatch) -> None:
    seen: list[str] = []

    def caught(settings: Settings) -> None:
        seen.append(settings.known_snr)
        raise ArtifactError("far enough")

    monkeypatch.setattr("twophase.sim.channel.radio.check_radio", caught)
    assert main(["--channel", "rayleigh", "--coherence", "sample", *words]) == 2
    assert seen == [known]


def _broken_numba(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "broken" / "numba").mkdir(parents=True)
    (tmp_path / "broken" / "numba" / "__init__.py").write_text(
        "raise ImportError('Numba needs NumPy 2.2 or less\\nand more lines')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))


def test_a_broken_numba_is_told_and_done_without(bundle: Path, tmp_path: Path, monkeypatch) -> None:
    _broken_numba(tmp_path, monkeypatch)
    words = ("--bundle", str(bundle), "--out", str(tmp_path / "sim"), *QUICK, "--code", "conv")
    result = _run(*words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == (
        "numba is installed, but its import fails (ImportError: Numba needs NumPy 2.2 or less): NumPy "
        "computes instead\n"
    )
    assert _report(tmp_path / "sim")["kernel"] == "numpy"


def test_a_broken_numba_that_is_asked_for_is_one_line(bundle: Path, tmp_path: Path, monkeypatch) -> None:
    _broken_numba(tmp_path, monkeypatch)
    result = _run("--bundle", str(bundle), "--out", "sim", "--kernel", "numba", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "tp-sim: error: the package 'numba' must work for the kernel numba, but its import fails: "
        "ImportError: Numba needs NumPy 2.2 or less\n"
    )
    quiet = _run("--bundle", str(bundle), "--out", "sim", "--kernel", "numpy", *QUICK, cwd=tmp_path)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    report = tmp_path / "sim" / "report.json"
    report.write_text(report.read_text().replace('"kernel": "numpy"', '"kernel": "numba"'))
    replayed = _run("--replay", str(report), cwd=tmp_path)
    assert (replayed.returncode, replayed.stderr) == (2, result.stderr)
