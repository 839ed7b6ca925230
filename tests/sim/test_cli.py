"""tp-sim from the outside: exit status, one clear line, files, quick help."""

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

from tools.tiny_bundle import write_tiny_bundle
from twophase.link.files import sha256_of
from twophase.sim.cli import _next_to, main

QUICK = ("--snr", "12:4:20", "--trials", "2")


def _run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    script = "import sys; from twophase.sim.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:twophase", "-c", script, *words],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "40"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_newest_bundle_is_simulated_without_arguments_about_it(tmp_path: Path) -> None:
    old = write_tiny_bundle(tmp_path / "runs" / "zebra" / "bundle", wrong_receiver=True)
    new = write_tiny_bundle(tmp_path / "runs" / "apple" / "bundle")
    os.utime(old / "link.json", (1_000_000_000, 1_000_000_000))
    result = _run(*QUICK, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    # A pipe gets no progress bar and no wrapped table.
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[-2] == (
        "verdict: PASS (deployed - soft >= -2 points at all 3 points, one-sided 95 %; "
        "against: learning, aligned)"
    )
    assert lines[-1] == "report: runs/apple/sim/report.html"
    assert [line.split()[0] for line in lines[2:5]] == ["12", "16", "20"]
    assert lines[5] == ""
    assert lines[6].startswith("gap: ")
    assert "\x1b" not in result.stdout
    folder = tmp_path / "runs" / "apple" / "sim"
    assert sorted(path.name for path in folder.iterdir()) == [
        "accuracy.png",
        "report.csv",
        "report.html",
        "report.json",
        "usage.png",
    ]
    report = json.loads((folder / "report.json").read_text())
    assert (report["verdict"], report["remarks"]) == ("PASS", [])
    assert report["bundle_sha256"] == sha256_of(new / "link.json")
    assert report["versions"]["scikit-commpy"] == version("scikit-commpy")
    assert [entry["name"] for entry in report["references"]] == ["learning", "aligned"]
    # The command in the report repeats it to the last digit.
    before = (folder / "report.json").read_bytes()
    words = shlex.split(report["command"])
    assert words[0] == "tp-sim"
    assert _run(*words[1:], cwd=tmp_path).returncode == 0
    assert (folder / "report.json").read_bytes() == before


def test_a_bundle_in_int8_has_a_report_of_its_own() -> None:
    assert _next_to(Path("runs/digits/bundle")) == Path("runs/digits/sim")
    assert _next_to(Path("runs/digits/bundle-int8")) == Path("runs/digits/sim-int8")
    assert _next_to(Path("link-v1")) == Path("sim")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_progress_bar_on_stderr_only(
    bundle: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["--bundle", str(bundle), "--out", str(tmp_path), *QUICK]) == 0
    assert "20 dB" in terminal.getvalue()
    assert "6/6 trials" in terminal.getvalue()
    assert "\x1b" not in capsys.readouterr().out


def test_a_bundle_that_does_not_work_as_trained_fails(tmp_path: Path, capsys) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle", wrong_receiver=True)
    status = main(["--bundle", str(folder), "--snr", "15", "--trials", "1", "--out", str(tmp_path / "here")])
    assert status == 1
    assert "verdict: FAIL" in capsys.readouterr().out
    assert json.loads((tmp_path / "here" / "report.json").read_text())["verdict"] == "FAIL"


def test_other_data_channel_and_demapper(bundle: Path, tmp_path: Path, capsys) -> None:
    with np.load(bundle / "eval.npz") as archive:
        np.savez(tmp_path / "few.npz", input=archive["input"][:30], label=archive["label"][:30])
    out = tmp_path / "sim"
    words = ["--bundle", str(bundle), "--data", str(tmp_path / "few.npz"), "--out", str(out)]
    words += [
        "--channel",
        "rayleigh",
        "--demapper",
        "commpy",
        "--snr",
        "-2.5:5:3",
        "--trials",
        "1",
        "--seed",
        "9",
    ]
    assert main(words) == 1  # thirty samples cannot show two points
    printed = capsys.readouterr().out
    assert "commpy could not give" in printed
    report = json.loads((out / "report.json").read_text())
    assert (report["channel"], report["demapper"], report["seed"]) == ("rayleigh", "commpy", 9)
    assert report["samples"] == 30
    assert [point["esn0_db"] for point in report["points"]] == [-2.5, 2.5]
    assert "--snr=-2.5:5:3" in report["command"] or "--snr -2.5:5:3" in report["command"]
    assert str(tmp_path / "few.npz") in report["command"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        # One of each kind: no option, number or choice; a rule of Settings or of the radio; what would change
        # nothing; files and folders.  Every rule is tested where it lives.
        (["--frequency", "5"], "frequency"),
        (["--trials", "many"], "many"),
        (["--code", "turbo"], "turbo"),
        (["--snr", "20:"], "'snr' must be"),
        (["--trials", "0"], "'trials' must be at least 1, not 0"),
        (["--code", "conv", "conv"], "'codes' must name each only once"),
        (["--code", "none", "conv"], "'code' must be 'none' or names, not both"),
        (["--csi", "pilot", "--channel", "rayleigh"], "'coherence' must be a number of symbols"),
        (["--rician-k-db", "3"], "'rician_k_db' must be left out unless --channel rician"),
        (["--delay-spread-ns", "100"], "'delay_spread_ns' must be left out unless --channel is tdl"),
        (["--estimator", "ls", "--csi", "none"], "'estimator' must be left out unless --csi pilot"),
        (["--max-trials", "50"], "'max_trials' must be left out unless --precision is given, not 50"),
        (["--semi-analytic", "--code", "conv"], "'code' must be left out with --semi-analytic, not 'conv'"),
        (["--semi-analytic", "--workers", "2"], "'workers' must be left out with --semi-analytic, not 2"),
        (["--semi-analytic", "--trials", "5"], "'trials' must be left out with --semi-analytic, not 5"),
        (["--semi-analytic", "--modes-report"], "'semi_analytic' must stand without --modes-report"),
        (["--workers", "2", "--scheduler", "tcp://x:1"], "'workers' must be left out with --scheduler"),
        (["--mode", "4x4qam", "--modes-report"], "'mode' must be left to the router with --modes-report"),
        (["--mode", "8x8qam"], "'mode' must be one of 4x4qam"),
        (["--router-snr-error"], "'router_snr_error' must be BIAS or BIAS JITTER"),
        (["--router-snr-error", "nan"], "'router_snr_error' must have a bias"),
        (["--mode", "0", "--router-snr-error", "3"], "'router_snr_error' must be left out with --mode"),
        (["--compare", "{tmp}/absent"], "no bundle is there"),
        (["--data", "{tmp}/nan.npz"], "'input' must be finite"),
        (["--data", "{tmp}/text.npz"], "is no readable .npz archive"),
        (["--out", "{tmp}/text.npz/sim"], "'out' must be a folder that can be written"),
    ],
)
def test_bad_input_is_one_line_and_status_2(words, message, bundle: Path, tmp_path: Path, capsys) -> None:
    label = np.zeros(4, dtype=np.int64)
    np.savez(tmp_path / "nan.npz", input=np.full((4, 5), np.nan), label=label)
    (tmp_path / "text.npz").write_text("no archive")
    held = {path.name for path in tmp_path.iterdir()}
    given = [word.replace("{tmp}", str(tmp_path)) for word in words]
    defaults = {"--bundle": str(bundle), "--out": str(tmp_path / "sim")}
    for option, value in defaults.items():
        if option not in given:
            given += [option, value]
    assert main(given) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tp-sim: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert {path.name for path in tmp_path.iterdir()} == held


def _report(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())


def test_every_option_of_the_signalling_is_in_the_report_and_its_command(
    content_bundle: Path, tmp_path: Path, capsys
) -> None:
    words = ["--bundle", str(content_bundle), "--snr", "4:2:6", "--trials", "1", "--modes-report"]
    words += ["--channel", "rayleigh", "--coherence", "sample", "--router-snr-error", "-1.5", "0.5"]
    words += ["--router-snr-error-at", "both", "--out", str(tmp_path)]
    assert main(words) in (0, 1)
    printed = capsys.readouterr().out
    assert "Rayleigh block fading" in printed
    assert "best fixed: " in printed
    report = _report(tmp_path)
    assert (report["router"], report["header"], report["mode"]) == ("content", "coded", None)
    assert report["router_snr_error"] == {"bias_db": -1.5, "jitter_db": 0.5, "at": "both"}
    assert (report["coherence"], report["known_snr"]) == ("sample", "block")
    assert report["signalling"] in printed
    assert report["estimates"] == (
        "error of the estimated Es/N0 of each block: -1.5 dB at both ends; "
        "0.5 dB standard deviation, shared by both ends"
    )
    assert [entry["mode"] for entry in report["modes"]] == ["4x4qam", "4x16qam", "16x4qam", "16x16qam"]
    assert all(0 < point["header_error_rate"] < 1 for point in report["points"])
    assert {path.name for path in tmp_path.iterdir()} >= {"usage.png", "modes.png"}
    before = (tmp_path / "report.json").read_bytes()
    again = shlex.split(report["command"])
    assert again[0] == "tp-sim"
    main(again[1:])
    assert (tmp_path / "report.json").read_bytes() == before


def test_an_ideal_header_is_said_plainly(content_bundle: Path, tmp_path: Path, capsys) -> None:
    words = ["--bundle", str(content_bundle), "--snr", "12", "--trials", "2", "--out", str(tmp_path)]
    main([*words, "--header", "ideal"])
    assert "remark: the receiver was told the mode free of charge" in capsys.readouterr().out
    assert "no header symbol is sent or counted" in (tmp_path / "report.html").read_text()
    assert _report(tmp_path)["points"][0]["header_error_rate"] is None
    main(words)
    assert "free of charge" not in capsys.readouterr().out


def test_an_altered_bundle_is_refused_from_the_outside(tmp_path: Path) -> None:
    name = "rx.onnx"
    folder = write_tiny_bundle(tmp_path / "runs" / "tiny" / "bundle")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    result = _run(cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert f"{name}' is altered" in result.stderr
    assert not (folder.parent / "sim").exists()


def test_no_bundle_at_all(tmp_path: Path) -> None:
    result = _run(cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert "no finished bundle is under 'runs'" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_is_quick_because_it_imports_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from twophase.sim.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "finally:\n"
        "    heavy = {'commpy', 'matplotlib', 'onnxruntime', 'scipy', 'numpy', 'jinja2', 'torch', 'onnx'}\n"
        "    print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    assert result.stderr == "[]\n"
    assert "tp-sim --snr -5:2.5:20 --channel rayleigh" in result.stdout
    options = "snr channel coherence demapper header mode modes-report router-snr-error router-snr-error-at "
    options += "trials seed bundle data out tolerance"
    for option in options.split():
        assert f"--{option}" in result.stdout


def test_the_simulator_runs_without_torch(bundle: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from twophase.sim.cli import main\n"
        f"status = main(['--bundle', {str(bundle)!r}, '--out', 'sim', '--snr', '9', '--trials', '1'])\n"
        "print(sorted({'torch', 'sklearn', 'onnxscript'} & set(sys.modules)))\n"
        "sys.exit(status)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"
