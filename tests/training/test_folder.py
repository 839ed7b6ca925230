"""The run folder: what is refused, what is set aside, what a resumed run finds."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from twophase.link.errors import ArtifactError, InputError
from twophase.training.config import TrainConfig
from twophase.training.folder import (
    CONFIG_NAME,
    check_folder,
    folder_lock,
    load_config,
    mark_unfinished,
    start_folder,
)


def marks(parent: Path) -> dict[str, set[str]]:
    """Folders below ``parent`` and what each holds beyond its settings."""
    return {each.name: {path.name for path in each.iterdir()} - {CONFIG_NAME} for each in parent.iterdir()}


def test_a_new_folder_holds_the_settings_and_a_resumed_run_keeps_it(tmp_path: Path) -> None:
    config = TrainConfig(out=tmp_path / "deep" / "run", seed=5, codebook_sizes=(16,), lambda_auxiliary=0.25)
    check_folder(config)
    assert not list(tmp_path.iterdir())
    start_folder(config)
    assert load_config(config.folder) == config
    (config.folder / "metrics.jsonl").write_text("kept")
    start_folder(replace(config, resume=True))
    assert load_config(config.folder) == config
    assert marks(tmp_path / "deep") == {"run": {"metrics.jsonl"}}


@pytest.mark.parametrize("inside", [".", "file", "file/run", "file/deep/run"])
def test_a_folder_of_something_else_or_a_file_in_the_way_is_refused(inside: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    rule = "hold an earlier run" if inside == "." else "be writable"
    for refuse in (check_folder, start_folder):
        with pytest.raises(InputError, match=f"'out' must .*{rule}"):
            refuse(TrainConfig(out=tmp_path / inside))
    assert (tmp_path / "file").read_text() == "kept"


def test_earlier_runs_are_set_aside_whole_and_a_finished_one_stays(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in (CONFIG_NAME, "link.json", "precious"):
        (run / name).touch()
    finished = {".run.previous": {"link.json", "precious"}}
    start_folder(TrainConfig(out=run))
    assert marks(tmp_path) == finished | {"run": set()}
    for mark in ("broken-off", "again"):
        (run / mark).touch()
        start_folder(TrainConfig(out=run))
        assert marks(tmp_path) == finished | {"run": set(), ".run.unfinished": {mark}}


def test_a_link_to_a_run_stays_one_and_has_one_lock_with_it(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "run")
    config = TrainConfig(out=tmp_path / "link")
    for _ in range(2):  # a new run, and one that takes its place
        start_folder(config)
        assert (tmp_path / "link").is_symlink()
        assert load_config(tmp_path / "disk" / "run") == config
    assert {path.name for path in (tmp_path / "disk").iterdir()} == {"run", ".run.unfinished"}
    with (
        folder_lock(config),
        pytest.raises(InputError, match="in use by another"),
        folder_lock(TrainConfig(out=tmp_path / "disk" / "run")),
    ):
        pass
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match="'out' must not be a loop of links"):
        check_folder(TrainConfig(out=tmp_path / "loop"))


def test_an_unfinished_mark_takes_the_manifest_alone_away(tmp_path: Path) -> None:
    for name in ("link.json", "kept"):
        (tmp_path / name).touch()
    for _ in range(2):
        mark_unfinished(TrainConfig(out=tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_second_training_is_kept_out_until_the_first_ends(tmp_path: Path) -> None:
    first, other = TrainConfig(out=tmp_path / "run"), TrainConfig(out=tmp_path / "other")
    second = folder_lock(replace(first, seed=1))
    with suppress(KeyError), folder_lock(first):
        with pytest.raises(InputError, match="in use by another"), second:
            pass
        with folder_lock(other):
            raise KeyError
    with folder_lock(first):
        pass
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "is not the configuration of a training run"),
        ({"version": None}, "must be of version 2, not None"),
        ({"surprise": 1}, "is altered: .*surprise"),
        ({"epochs": 0}, "is altered: 'epochs'"),
        (None, r"holds no run to resume: 'config.json' is missing"),
    ],
)
def test_altered_or_absent_settings_are_refused(
    change: dict[str, Any] | None, message: str, tmp_path: Path
) -> None:
    if change is not None:
        start_folder(TrainConfig(out=tmp_path))
        path = tmp_path / CONFIG_NAME
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError, match=message):
        load_config(tmp_path)
