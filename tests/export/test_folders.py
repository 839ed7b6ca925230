"""Which run is taken and which folders a bundle may replace."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from twophase.export.folders import check_target, load_run, newest_run
from twophase.link.errors import ArtifactError, InputError
from twophase.link.manifest import load_manifest, write_manifest


def make_manifest(folder: Path, kind: str, time_s: int) -> Path:
    folder.mkdir(parents=True)
    path = folder / "link.json"
    path.write_text(json.dumps({"format": "twophase-link", "version": 1, "kind": kind}))
    os.utime(path, (time_s, time_s))
    return folder


def test_the_newest_finished_run_is_taken(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no finished run is under"):
        newest_run(tmp_path / "runs")
    newer = make_manifest(tmp_path / "runs" / "a", "run", 2000)
    make_manifest(tmp_path / "runs" / "b", "run", 1000)
    make_manifest(tmp_path / "runs" / "bundle", "bundle", 3000)
    (tmp_path / "runs" / "unfinished").mkdir()
    (make_manifest(tmp_path / "runs" / "damaged", "run", 4000) / "link.json").write_text("{")
    assert newest_run(tmp_path / "runs") == newer


def test_a_run_must_list_what_a_bundle_is_made_from(bare_run: Path, tmp_path: Path) -> None:
    assert load_run(bare_run).task == "tiny"
    files = ("eval.npz", "programs/tx.pt2")
    (tmp_path / "programs").mkdir()
    for name in files:
        (tmp_path / name).symlink_to(bare_run / name)
    write_manifest(tmp_path, load_manifest(bare_run, "run"), files)
    with pytest.raises(ArtifactError, match=r"must list .*; it lacks programs/rx\.pt2"):
        load_run(tmp_path)


def test_only_a_bundle_or_nothing_may_be_replaced(tmp_path: Path) -> None:
    check_target(tmp_path / "new" / "folder")
    (tmp_path / "empty").mkdir()
    check_target(tmp_path / "empty")
    check_target(make_manifest(tmp_path / "bundle", "bundle", 1))
    for other in (make_manifest(tmp_path / "run", "run", 1), tmp_path):
        with pytest.raises(InputError, match="must be a new or empty folder, or an older bundle"):
            check_target(other)
    file = tmp_path / "file"
    file.write_text("text")
    for out in (file, file / "bundle", file / "deep" / "bundle"):
        with pytest.raises(InputError, match=r"'out' must be a folder, and '.*/file' is a file"):
            check_target(out)


def test_a_folder_without_write_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the permission bits do not hold for root, as whom containers run tests
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK and Path(path) == tmp_path))
    with pytest.raises(InputError, match="'out' must be writable"):
        check_target(tmp_path / "bundle")
