"""tp-sim as a whole: exit status, one clear line, files, workers, what each option does."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from tools.commands import run_command
from tools.tiny_bundle import write_tiny_bundle
from twophase.link.errors import ArtifactError
from twophase.link.files import sha256_of
from twophase.sim.cli import _next_to, main
from twophase.sim.settings import Settings


def _report(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())


def test_the_newest_bundle_is_simulated_without_arguments_about_it(tmp_path: Path, monkeypatch) -> None:
    old = write_tiny_bundle(tmp_path / "runs" / "zebra" / "bundle", wrong_receiver=True)
    new = write_tiny_bundle(tmp_path / "runs" / "apple" / "bundle")
    os.utime(old / "link.json", (1_000_000_000, 1_000_000_000))
    words = ("--snr", "12:4:20", "--trials", "2")
    result = run_command("tp-sim", *words, cwd=tmp_path, env={"COLUMNS": "40"})
    # A pipe gets no progress bar and no wrapped table.
    assert (result.returncode, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    lines = result.stdout.splitlines()
    # How good the link is stands first: the ceiling, the largest class, and what training said.
    assert [line.split(":")[0] for line in lines[:3]] == ["quality"] * 3
    for said in ("without a channel 9", "most frequent class 2", "97.00 % in validation", "and-send"):
        assert said in "".join(lines[:3])
    assert [line.split()[0] for line in lines[6:9]] == ["12", "16", "20"]
    assert lines[-2].startswith("verdict: PASS (")
    assert lines[-1] == "report: runs/apple/sim/report.html"
    folder = tmp_path / "runs" / "apple" / "sim"
    files = {"accuracy.png", "usage.png", "report.csv", "report.html", "report.json"}
    assert {path.name for path in folder.iterdir()} == files
    report = _report(folder)
    assert (report["verdict"], report["remarks"]) == ("PASS", [])
    assert report["bundle_sha256"] == sha256_of(new / "link.json")
    assert report["versions"]["scikit-commpy"] == version("scikit-commpy")
    # The command in the report repeats it to the last digit.
    before = (folder / "report.json").read_bytes()
    command, *words = shlex.split(report["command"])
    monkeypatch.chdir(tmp_path)
    assert (command, main(words)) == ("tp-sim", 0)
    assert (folder / "report.json").read_bytes() == before


def test_samples_in_other_units_are_warned_of_at_the_start_and_at_the_end(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(bundle / "eval.npz") as arrays:
        np.savez(tmp_path / "moved.npz", input=1000 * arrays["input"], label=arrays["label"])
    words = ["--snr", "9", "--trials", "1", "--out", str(tmp_path / "sim")]
    main(["--bundle", str(bundle), "--data", str(tmp_path / "moved.npz"), *words])
    for text in capsys.readouterr():
        assert (
            "warning: the samples are unlike the training data: the standard deviation of the input" in text
        )


def test_help_is_quick_and_the_simulator_runs_without_torch(bundle: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from twophase.sim.cli import main\n"
        "def loaded(*names): print(sorted(set(names) & set(sys.modules)), file=sys.stderr)\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "loaded('commpy', 'matplotlib', 'onnxruntime', 'scipy', 'numpy', 'jinja2', 'torch', 'onnx')\n"
        f"main(['--bundle', {str(bundle)!r}, '--out', 'sim', '--snr', '9', '--trials', '1'])\n"
        "loaded('torch', 'sklearn', 'onnxscript')\n"
    )
    command = [sys.executable, "-W", "error::DeprecationWarning:twophase", "-c", script]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stderr == "[]\n[]\n"
    for shown in ("tp-sim --snr -5:2.5:20 --channel rayleigh", "--router-snr-error-at", "verdict: PASS"):
        assert shown in result.stdout


def test_a_bundle_in_int8_has_a_report_of_its_own() -> None:
    assert _next_to(Path("runs/digits/bundle")) == Path("runs/digits/sim")
    assert _next_to(Path("runs/digits/bundle-int8")) == Path("runs/digits/sim-int8")
    assert _next_to(Path("link-v1")) == Path("sim")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("only_json")
def test_a_wrong_receiver_fails_and_progress_goes_to_stderr_alone(tmp_path, capsys, monkeypatch) -> None:
    # Against the deployed model's own soft path alone, which is received as trained.
    folder = write_tiny_bundle(tmp_path / "bundle", wrong_receiver=True, references=("aligned",))
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    words = ["--bundle", str(folder), "--snr", "15", "--trials", "2", "--out", str(tmp_path / "here")]
    assert main(words) == 1
    assert "15 dB" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()
    printed = capsys.readouterr().out
    assert "verdict: FAIL" in printed
    assert "\x1b" not in printed
    assert _report(tmp_path / "here")["verdict"] == "FAIL"


@pytest.mark.usefixtures("only_json")
def test_other_data_channel_and_demapper(bundle: Path, tmp_path: Path, capsys) -> None:
    with np.load(bundle / "eval.npz") as archive:
        np.savez(tmp_path / "few.npz", input=archive["input"][:30], label=archive["label"][:30])
    given = f"--bundle {bundle} --data {tmp_path / 'few.npz'} --out {tmp_path / 'sim'} --channel rayleigh"
    given += " --demapper commpy --snr=-2.5:5:3 --trials 1 --seed 9"
    assert main(given.split()) == 3  # thirty samples cannot show two points
    printed = capsys.readouterr().out
    assert "commpy could not give" in printed
    assert "verdict: UNDECIDED (" in printed
    assert "what would decide: about " in printed
    report = _report(tmp_path / "sim")
    assert (report["channel"], report["demapper"], report["seed"]) == ("rayleigh", "commpy", 9)
    assert (report["samples"], report["grid"]) == (30, [-2.5, 2.5])
    assert str(tmp_path / "few.npz") in report["command"]


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        # One of each kind: no option or number; a rule of the command line, of Settings, of the radio, of the
        # bundle; what would change nothing; files and folders.  Every rule is tested where it lives.
        ("--frequency 5", "frequency"),
        ("--trials many", "many"),
        ("--snr 20:", "'--snr' must be"),
        ("--trials 0", "'--trials' must lie in 1..100,000"),
        ("--csi pilot --channel rayleigh", "'--coherence' must be a number of symbols"),
        ("--mode 8x8qam", "'--mode' must be one of 4x4qam"),
        ("--code none conv", "'--code' must be 'none' or names"),
        ("--rician-k-db 3", "'--rician-k-db' must be left out unless"),
        ("--semi-analytic --code conv", "'--code' must be left out with --semi-analytic"),
        ("--semi-analytic --modes-report", "'--semi-analytic' must stand without"),
        ("--workers 2 --scheduler tcp://x:1", "'--workers' must be left out with --scheduler"),
        ("--replay {tmp}/report.json --trials 3", "'--trials' must be left out with --replay"),
        ("--mode 4x4qam --modes-report", "'--mode' must be left to the router"),
        ("--mode 0 --router-snr-error 3", "'--router-snr-error' must be left out with --mode"),
        ("--router-snr-error", "'--router-snr-error' needs a value"),
        ("--compare {tmp}/absent", "no bundle is there"),
        ("--data {tmp}/text.npz", "is no readable .npz archive"),
        ("--out {tmp}/text.npz/sim", "'--out' must be a folder that can be written"),
        ("--out {bundle}", "'--out' must be a folder of its own, no run or bundle"),
        ("--out {bundle}/sim", "'--out' must lie outside of the bundle"),
        ("--bundle", "no finished bundle is under 'runs'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(words, rule, bundle, tmp_path, capsys, monkeypatch) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    monkeypatch.chdir(tmp_path)
    held = set(tmp_path.rglob("*"))
    given = [] if words == "--bundle" else words.format(tmp=tmp_path, bundle=bundle).split()
    if given and "--replay" not in given:
        given += ["--bundle", str(bundle), *(() if "--out" in given else ("--out", str(tmp_path / "sim")))]
    assert main(given) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tp-sim: error: ")
    assert captured.err.count("\n") == 1
    assert rule in captured.err
    assert set(tmp_path.rglob("*")) == held


@pytest.mark.usefixtures("only_json")
def test_every_option_of_the_signalling_is_in_the_report_and_its_command(
    content_bundle: Path, tmp_path: Path, capsys
) -> None:
    given = f"--bundle {content_bundle} --snr 4 --trials 1 --modes-report --channel rayleigh"
    given += f" --coherence sample --router-snr-error -1.5 0.5 --router-snr-error-at both --out {tmp_path}"
    assert main(given.split()) in (0, 1, 3)
    printed = capsys.readouterr().out
    assert "best fixed: " in printed
    report = _report(tmp_path)
    assert (report["router"], report["header"], report["mode"]) == ("content", "coded", None)
    assert report["router_snr_error"] == {"bias_db": -1.5, "jitter_db": 0.5, "at": "both"}
    assert (report["coherence"], report["known_snr"]) == ("sample", "block")
    for said in ("signalling", "estimates", "channel_text"):
        assert report[said] in printed
    assert "-1.5 dB at both ends; 0.5 dB standard deviation" in report["estimates"]
    assert [entry["mode"] for entry in report["modes"]] == ["4x4qam", "4x16qam", "16x4qam", "16x16qam"]
    assert 0 < report["points"][0]["header_error_rate"] < 1
    before = (tmp_path / "report.json").read_bytes()
    main(shlex.split(report["command"])[1:])
    assert (tmp_path / "report.json").read_bytes() == before
    # A header that costs nothing is no real one.
    main(
        [
            "--bundle",
            str(content_bundle),
            "--snr",
            "12",
            "--trials",
            "1",
            "--out",
            str(tmp_path),
            "--header",
            "ideal",
        ]
    )
    assert "remark: the receiver was told the mode free of charge" in capsys.readouterr().out
    assert _report(tmp_path)["points"][0]["header_error_rate"] is None


@pytest.mark.usefixtures("only_json")
def test_the_report_does_not_depend_on_the_workers_and_is_replayed(bundle, tmp_path, capsys) -> None:
    def report(*words: str) -> str:
        out = tmp_path / "-".join(("out", *words))
        given = f"--bundle {bundle} --snr 6 --trials 6 --channel rayleigh --out {out}"
        assert main([*given.split(), *words]) in (0, 1, 3)
        assert not (out / ".blocks").exists()
        return (out / "report.json").read_text().replace(str(out), "OUT")

    alone = report()
    assert alone == report("--workers", "2")
    path = tmp_path / "report.json"
    path.write_text(alone)
    capsys.readouterr()
    assert main(["--replay", str(path)]) == 0
    assert capsys.readouterr().out.endswith("all equal\n")
    altered = json.loads(alone)
    altered["points"][0]["counts"]["bit_errors"] += 1
    path.write_text(json.dumps(altered))
    assert main(["--replay", str(path)]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("points[0].counts.bit_errors: ")
    assert printed.endswith("1 differ\n")


@pytest.mark.usefixtures("only_json")
def test_bundles_and_other_designs_stand_next_to_the_link(bundle: Path, tmp_path: Path, capsys) -> None:
    other = write_tiny_bundle(tmp_path / "second" / "bundle", router="table", hysteresis_db=1.0)
    words = f"--compare {bundle} {other} --out {tmp_path / 'sim'} --snr 12:8:20 --trials 2"
    assert main([*words.split(), "--code", "conv", "ldpc", "--baseline", "classify-and-send"]) == 0
    report = _report(tmp_path / "sim")
    assert report["bundle"] == str(bundle)
    assert [(entry["name"], len(entry["points"])) for entry in report["compare"]] == [("second", 2)]
    names = ["conv", "ldpc", "classify-and-send"]
    assert [entry["name"] for entry in report["companions"]] == names
    for point in report["points"]:
        assert list(point["companions"]) == names
        equal = point["companions"]["classify-and-send"]["symbols_per_sample"]
        assert equal == point["symbols_per_sample"]
        assert all(0.2 < entry["accuracy"] <= 1 for entry in point["companions"].values())
    assert set(names) <= set(capsys.readouterr().out.split())


@pytest.mark.usefixtures("only_json")
def test_a_precision_gives_each_point_the_trials_that_it_needs(bundle: Path, tmp_path: Path, capsys) -> None:
    words = ["--bundle", str(bundle), "--out", str(tmp_path), "--snr", "-5:25:20", "--trials", "2"]
    assert main([*words, "--precision", "0.02", "--max-trials", "16"]) in (0, 1, 3)
    noisy, clean = _report(tmp_path)["points"]
    assert clean["trials"] < noisy["trials"] <= 16
    assert clean["stop_reason"].startswith("precision reached: ")
    widths = [clean[name][1] - clean[name][0] for name in ("gap_ci", "accuracy_hard_ci")]
    assert min(widths) / 2 <= 0.02
    assert "the precision of 2 points is not reached at 1 of 2 points" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "known"),
    [
        ("", "block"),
        ("--csi none", "mean"),
        ("--semi-analytic", "mean"),
        ("--known-snr mean", "mean"),
        ("--csi pilot --known-snr block", "block"),
    ],
)
def test_the_snr_of_a_block_is_known_to_who_knows_its_gain(words, known, monkeypatch) -> None:
    seen: list[str] = []

    def caught(settings: Settings) -> None:
        seen.append(settings.known_snr)
        raise ArtifactError("far enough")

    monkeypatch.setattr("twophase.sim.channel.radio.check_radio", caught)
    assert main(["--channel", "rayleigh", "--coherence", "sample", *words.split()]) == 2
    assert seen == [known]
