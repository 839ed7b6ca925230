"""How a command ends: statuses, one line, streams that are closed or full, signals at every moment."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from twophase.link.errors import InputError, VerificationError
from twophase.link.process import FAULT, Terminated, ended

Printed = pytest.CaptureFixture[str]

COMMAND = """
import atexit, sys, time
def stage(name):
    if name == sys.argv[1]:
        print(name, flush=True)
        time.sleep(60)
stage("import")
exec('stage("exec")')  # Python remembers an interrupt in here
def main():
    stage("work")
    atexit.register(stage, "end")
    print("done", *sys.argv[2:])
    return 3
"""


def start(folder: Path, *words: str, redirected: str = "") -> subprocess.Popen[str]:
    """A process whose command is ``COMMAND``."""
    (folder / "slow.py").write_text(COMMAND)
    start = "import sys\nfrom twophase.link.process import run\nsys.exit(run('tp-x', 'slow'))\n"
    (folder / "started.py").write_text(start)
    return subprocess.Popen(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-m", "started", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("stage", ["import", "exec", "work", "end"])
@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_is_a_line_and_a_status_at_every_moment(
    stage: str, number: signal.Signals, word: str, tmp_path: Path
) -> None:
    process = start(tmp_path, stage)
    assert process.stdout is not None
    while process.stdout.readline() != f"{stage}\n":
        assert process.poll() is None
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + number, f"tp-x: {word}; nothing half-written is left\n")


@pytest.mark.parametrize(
    ("redirected", "status", "said"),
    [
        ("", 3, ""),
        (">&-", 3, ""),
        (">&- 2>&- <&-", 3, ""),
        ("> /dev/full", 2, "No space left on device\n"),
    ],
)
def test_streams_may_be_closed_or_full(redirected: str, status: int, said: str, tmp_path: Path) -> None:
    process = start(tmp_path, "", "\udce9", redirected=redirected)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert len(errors.splitlines()) == bool(said)
    assert errors.endswith(said)
    assert printed == ("" if redirected else "done \\udce9\n")


def fault() -> ZeroDivisionError:
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError as error:
        return error
    raise AssertionError


def test_a_fault_is_one_line_with_its_place_and_a_file_with_the_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    error = fault()
    error.add_note("raised in a worker process:\nits traceback")
    assert ended("tp-x", error) == FAULT == 70
    (line,) = capsys.readouterr().err.splitlines()
    (path,) = tmp_path.iterdir()
    said = r"tp-x: fault of the program: ZeroDivisionError: division by zero at .*test_process\.py:\d+; .*"
    assert re.fullmatch(f"{said}'{re.escape(str(path))}'.*", line)
    report = path.read_text()
    for part in ("twophase-link", "Traceback (most recent call last)", "in fault\n", "its traceback"):
        assert part in report

    def full(**_: str) -> tuple[int, str]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    assert ended("tp-x", fault()) == FAULT
    said = capsys.readouterr().err
    assert "no file can be written (No space left on device): the traceback follows\n" in said
    assert "Traceback (most recent call last)" in said


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (InputError("x", "be y", "a\nb"), 2, "error: 'x' must be y, not 'a\\nb'\n"),
        (FileNotFoundError(2, "No such file", "a\x1b[2Jb"), 2, "error: 'a\\x1b[2Jb': No such file\n"),
        (MemoryError("8 GiB"), 2, "error: not enough memory (8 GiB)\n"),
        (VerificationError("it", ["a", "\x07b"]), 1, "error: it failed 2 check(s):\n  - a\n  - \\x07b\n"),
        (KeyboardInterrupt(), 130, "interrupted; nothing half-written is left\n"),
        (Terminated(), 143, "terminated; nothing half-written is left\n"),
    ],
)
def test_what_is_wrong_outside_the_program_has_a_status_of_its_own(
    error: BaseException, status: int, said: str, capsys: Printed
) -> None:
    assert ended("tp-x", error) == status
    assert capsys.readouterr().err == f"tp-x: {said}"
