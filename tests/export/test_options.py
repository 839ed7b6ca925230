"""Which routing a bundle gets, which run is taken, and which folders a bundle may replace."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tools.tiny_run import CONTENT, FOUR_MODES, ONE_MODE, run_manifest
from twophase.export.options import check_target, exported_routing
from twophase.link.errors import ArtifactError, InputError
from twophase.link.header import HeaderStep
from twophase.link.manifest import newest

ONE, FOUR, BY_CONTENT = (run_manifest(spec, ()) for spec in (ONE_MODE, FOUR_MODES, CONTENT))
BY_TABLE = replace(FOUR, routing=replace(FOUR.routing, router="table", hysteresis_db=2.0))


def test_a_table_or_a_code_takes_the_place_of_what_was_trained() -> None:
    for manifest in (ONE, FOUR, BY_CONTENT, BY_TABLE):
        assert exported_routing(manifest) == manifest.routing
    for manifest in (FOUR, BY_CONTENT):
        by_table = replace(manifest.routing, router="table", hysteresis_db=1.0, header=())
        assert exported_routing(manifest, "table") == by_table
        assert exported_routing(manifest, "table", 0.0) == replace(by_table, hysteresis_db=0.0)
    # a table keeps its own hysteresis unless another is given
    assert exported_routing(BY_TABLE, "table") == BY_TABLE.routing
    for router in ("table", "trained"):
        assert exported_routing(BY_TABLE, router, 0.5) == replace(BY_TABLE.routing, hysteresis_db=0.5)
    one_code = (HeaderStep(BY_CONTENT.routing.header[0].from_db, "rm14"),)
    assert exported_routing(BY_CONTENT, header="rm14") == replace(BY_CONTENT.routing, header=one_code)


@pytest.mark.parametrize(
    ("manifest", "options", "message"),
    [
        (FOUR, {"router": "oracle"}, "'router' must be one of trained, table"),
        (ONE, {"router": "table"}, "'router' must be 'trained'"),
        (BY_CONTENT, {"hysteresis_db": 1.0}, "'hysteresis_db' must be left out"),
        (FOUR, {"router": "table", "hysteresis_db": -0.5}, "must be finite and at least 0, not -0.5"),
        (FOUR, {"header": "rm14"}, "'header' must be 'auto'"),
        (BY_CONTENT, {"router": "table", "header": "rm14"}, "'header' must be 'auto'"),
        (BY_CONTENT, {"header": "turbo"}, "'header' must be one of "),
    ],
)
def test_wishes_that_contradict_the_link_are_refused(manifest, options, message: str) -> None:
    with pytest.raises(InputError) as caught:
        exported_routing(manifest, **options)
    assert message in str(caught.value)


def make_manifest(folder: Path, kind: str, time_s: int = 1) -> Path:
    folder.mkdir(parents=True)
    path = folder / "link.json"
    path.write_text(json.dumps({"format": "twophase-link", "version": 1, "kind": kind}))
    os.utime(path, (time_s, time_s))
    return folder


def test_the_newest_finished_run_or_bundle_is_taken(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    make_manifest(runs / ".digits.previous", "run", 5000)
    make_manifest(runs / "bundle", "bundle", 3000)
    (runs / "unfinished").mkdir()
    (make_manifest(runs / "damaged", "run", 4000) / "link.json").write_text("{")
    for folder in (tmp_path / "nowhere", runs):
        with pytest.raises(ArtifactError, match="no finished run is under"):
            newest(folder, "run")
    newer = make_manifest(runs / "a", "run", 2000)
    make_manifest(runs / "b", "run", 1000)
    assert newest(runs, "run") == newer
    with pytest.raises(ArtifactError, match="no finished bundle is under"):
        newest(runs, "bundle")
    bundle = make_manifest(runs / "a" / "bundle", "bundle", 1)
    make_manifest(runs / "a" / "bundle-int8", "bundle", 2)
    make_manifest(runs / ".digits.previous" / "bundle", "bundle", 3)
    assert newest(runs, "bundle") == bundle


def test_only_a_bundle_or_nothing_may_be_replaced_and_no_folder_that_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, run = make_manifest(tmp_path / "bundle", "bundle"), make_manifest(tmp_path / "run", "run")
    for folder in (tmp_path / "empty", bundle / "inside"):
        folder.mkdir()
    (tmp_path / "link").symlink_to(bundle)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match="'out' must not be a loop of links"):
        check_target(tmp_path / "loop")
    file = tmp_path / "file"
    file.write_text("text")

    def refused(out: Path, reason: str) -> None:
        with pytest.raises(InputError, match=f"'out' must be {reason}"):
            check_target(out)

    for out in (tmp_path / "new" / "folder", tmp_path / "empty", bundle):
        check_target(out)
    for out in (run, tmp_path):
        refused(out, "a new or empty folder, or an older bundle")
    for out in (file, file / "deep" / "bundle"):
        refused(out, "a folder, and '.*/file' is a file")
    for here in (bundle, bundle / "inside"):
        monkeypatch.chdir(here)
        for out in (Path(os.path.relpath(bundle)), bundle, tmp_path / "link"):
            refused(out, "no folder that you are in")
    monkeypatch.chdir(tmp_path)
    check_target(Path("bundle"))


def test_what_the_machine_does_not_let_be_replaced_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, bundle = tmp_path / "volume", make_manifest(tmp_path / "a" / "bundle", "bundle")
    volume.mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == volume)
    with pytest.raises(InputError, match="'out' must be a folder below the mount point"):
        check_target(volume)
    check_target(volume / "bundle")
    # the permission bits do not hold for root, as whom containers run tests
    for closed, out in ((tmp_path, tmp_path / "bundle"), (bundle.parent, bundle)):
        with monkeypatch.context() as patch:
            patch.setattr(os, "access", lambda path, mode, closed=closed: Path(path) != closed)
            with pytest.raises(InputError, match=f"'out' must be writable, and '{closed}' is not"):
                check_target(out)

    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(ArtifactError, match=r"link\.json' cannot be read: Permission denied"):
        newest(bundle.parent, "run")
    with pytest.raises(InputError, match=r"'out' must be writable \(Permission denied\)"):
        check_target(bundle)
