"""Which run is taken, and which folders a bundle may replace."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from twophase.export.options import check_target
from twophase.link.errors import ArtifactError, InputError
from twophase.link.manifest import newest


def make_manifest(folder: Path, kind: str, time_s: int) -> Path:
    folder.mkdir(parents=True)
    path = folder / "link.json"
    path.write_text(json.dumps({"format": "twophase-link", "version": 1, "kind": kind}))
    os.utime(path, (time_s, time_s))
    return folder


def test_the_newest_finished_run_is_taken(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no finished run is under"):
        newest(tmp_path / "runs", "run")
    newer = make_manifest(tmp_path / "runs" / "a", "run", 2000)
    make_manifest(tmp_path / "runs" / "b", "run", 1000)
    make_manifest(tmp_path / "runs" / "bundle", "bundle", 3000)
    (tmp_path / "runs" / "unfinished").mkdir()
    (make_manifest(tmp_path / "runs" / "damaged", "run", 4000) / "link.json").write_text("{")
    assert newest(tmp_path / "runs", "run") == newer


def test_a_run_set_aside_is_not_taken(tmp_path: Path) -> None:
    make_manifest(tmp_path / "runs" / ".digits.previous", "run", 2000)
    with pytest.raises(ArtifactError, match="no finished run is under"):
        newest(tmp_path / "runs", "run")
    older = make_manifest(tmp_path / "runs" / "digits", "run", 1000)
    assert newest(tmp_path / "runs", "run") == older
    with pytest.raises(ArtifactError, match="no finished bundle is under"):
        newest(tmp_path / "runs", "bundle")
    bundle = make_manifest(tmp_path / "runs" / "digits" / "bundle", "bundle", 1)
    make_manifest(tmp_path / "runs" / "digits" / "bundle-int8", "bundle", 2)
    make_manifest(tmp_path / "runs" / ".digits.previous" / "bundle", "bundle", 3)
    assert newest(tmp_path / "runs", "bundle") == bundle


def test_runs_without_read_permission_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_manifest(tmp_path / "runs" / "a", "run", 1)

    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(ArtifactError, match=r"link\.json' cannot be read: Permission denied"):
        newest(tmp_path / "runs", "run")
    with pytest.raises(InputError, match=r"'out' must be writable \(Permission denied\)"):
        check_target(tmp_path / "runs" / "a")


def test_the_folder_that_one_is_in_cannot_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_manifest(tmp_path / "bundle", "bundle", 1)
    (bundle / "inside").mkdir()
    (tmp_path / "link").symlink_to(bundle)
    check_target(bundle)
    for here in (bundle, bundle / "inside"):
        monkeypatch.chdir(here)
        for out in (Path(os.path.relpath(bundle)), bundle, tmp_path / "link"):
            with pytest.raises(InputError, match="'out' must be no folder that you are in"):
                check_target(out)
    monkeypatch.chdir(tmp_path)
    check_target(Path("bundle"))


def test_a_mount_point_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "volume").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "volume")
    with pytest.raises(InputError, match="'out' must be a folder below the mount point"):
        check_target(tmp_path / "volume")
    check_target(tmp_path / "volume" / "bundle")


def test_the_folder_around_an_older_bundle_must_be_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_manifest(tmp_path / "bundle", "bundle", 1)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(InputError, match=f"'out' must be writable, and '{tmp_path}' is not"):
        check_target(bundle)


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
