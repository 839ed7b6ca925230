"""The files of a report: complete, reproducible, written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tools.tiny_report import tiny_report
from twophase.link.errors import InputError
from twophase.sim.report.page import render, require_writable, write_report
from twophase.sim.report.plots import accuracy_png
from twophase.sim.results.figures import as_json
from twophase.sim.results.report_json import json_text


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_figures_of_modes_are_there_where_there_are_modes() -> None:
    report = tiny_report((8.0,), modes_report=True)
    files = render(report)
    figures = {name for name, content in files.items() if content.startswith(b"\x89PNG")}
    assert figures == {"accuracy.png", "usage.png", "modes.png"}
    assert list(files)[-1] == "report.json"
    assert accuracy_png(report) == files["accuracy.png"]  # reproducible
    short = tiny_report((8.0,), baselines=(), compare=0, scatter=False)
    assert not {"usage.png", "modes.png"} & set(render(replace(short, mode="4x4qam")))


def test_lists_of_numbers_take_one_line_of_the_json() -> None:
    # A text that looks like such a list stays as it is.
    report = replace(tiny_report((8.0,)), remarks=["[\n  1,\n  2\n]"])
    text, (point,) = json_text(report), report.points
    assert json.loads(text) == json.loads(json.dumps(as_json(report)))
    assert f'"llr_zeros": {json.dumps(point.llr_zeros)}' in text
    assert f'"gap_ci": {json.dumps(point.gap_ci)}' in text


def test_files_are_written_whole_and_what_is_not_of_a_report_stays(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "sim"
    write_report(folder, {"usage.png": b"1", "modes.png": b"1", "report.json": b"old"})
    (folder / "notes.txt").write_text("mine")
    new = {"usage.png": b"2", "report.json": b"new"}
    write_report(folder, new)
    assert _content(folder) == new | {"notes.txt": b"mine"}


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch) -> None:
    old = {"report.html": b"old", "report.json": b"old"}
    write_report(tmp_path, old)
    original = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name == "report.json":
            raise OSError(28, "No space left on device")
        return original(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"'out' must be a folder that can be written \(No space left"):
        write_report(tmp_path, {"report.html": b"new", "report.json": b"new"})
    assert _content(tmp_path) == old


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
