"""The files of a report: complete, reproducible, written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tools.fake_report import fake_report
from twophase.link.errors import InputError
from twophase.sim.report.write import render, require_writable, write_report
from twophase.sim.results.figures import Report, as_json
from twophase.sim.results.report_json import json_text


@pytest.fixture(scope="module")
def report() -> Report:
    """All that a report can hold, at one point."""
    return fake_report((8.0,), modes_report=True)


@pytest.fixture(scope="module")
def files(report) -> dict[str, bytes]:
    return render(report)


def test_figures_of_modes_are_there_where_there_are_modes(report, files) -> None:
    assert {name for name, content in files.items() if content.startswith(b"\x89PNG")} == {
        *("accuracy.png", "usage.png", "modes.png"),
    }
    short = replace(report, points=report.points[:1], baselines=[], compare=[], scatter=[], modes=None)
    assert not {"usage.png", "modes.png"} & set(render(replace(short, mode="2x4qam")))
    assert list(files)[-1] == "report.json"
    assert render(report) == files


def test_lists_of_numbers_take_one_line_of_the_json(report, files) -> None:
    text = files["report.json"].decode()
    point = report.points[0]
    assert json.loads(text) == as_json(report)
    assert f'"llr_zeros": {json.dumps(point.llr_zeros)}' in text
    assert f'"gap_ci": {json.dumps(point.gap_ci)}' in text
    # A text that looks like such a list stays as it is.
    odd = replace(report, remarks=["[\n  1,\n  2\n]"])
    assert json.loads(json_text(odd))["remarks"] == odd.remarks


def test_files_are_written_whole_and_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "sim"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    (folder / "report.json").write_text("old")
    write_report(folder, {"report.html": b"page", "report.json": b"new"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "notes.txt": b"mine",
        "report.html": b"page",
        "report.json": b"new",
    }


def test_figures_of_an_earlier_report_do_not_stay(tmp_path: Path) -> None:
    write_report(tmp_path, {"usage.png": b"1", "modes.png": b"1", "report.json": b"old"})
    write_report(tmp_path, {"usage.png": b"2", "report.json": b"new"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "usage.png": b"2",
        "report.json": b"new",
    }


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "sim"
    write_report(folder, {"report.html": b"old", "report.json": b"old"})
    original = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name == "report.json":
            raise OSError(28, "No space left on device")
        return original(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"'out' must be a folder that can be written \(No space left"):
        write_report(folder, {"report.html": b"new", "report.json": b"new"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "report.html": b"old",
        "report.json": b"old",
    }


def test_a_folder_that_cannot_be_written_is_named_before_the_run(tmp_path: Path, monkeypatch) -> None:
    require_writable(tmp_path / "new" / "sim")
    assert list(tmp_path.iterdir()) == []
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "sim"):
        with pytest.raises(InputError, match="'out' must be a folder that can be written"):
            require_writable(folder)

    def refused(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    with pytest.raises(InputError, match=r"\(Permission denied\), not '.*sim'"):
        require_writable(tmp_path / "sim")
