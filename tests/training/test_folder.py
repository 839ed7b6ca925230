"""The run folder: what is refused, what is set aside, what a resumed run finds."""

from __future__ import annotations

import json
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


def make_run(folder: Path, mark: str) -> Path:
    """A finished run folder with one file of its own, ``mark``."""
    folder.mkdir(parents=True)
    for name in (CONFIG_NAME, "link.json"):
        (folder / name).write_text("{}")
    (folder / mark).touch()
    return folder


def marks(parent: Path) -> dict[str, set[str]]:
    """Folders below ``parent`` and the marks in each."""
    known = {CONFIG_NAME, "link.json"}
    return {each.name: {path.name for path in each.iterdir()} - known for each in parent.iterdir()}


def test_a_new_folder_holds_the_settings_and_a_resumed_run_keeps_it(tmp_path: Path) -> None:
    config = TrainConfig(out=tmp_path / "deep" / "run", seed=5, codebook_sizes=(16,), lambda_auxiliary=0.25)
    check_folder(config)
    assert not list(tmp_path.iterdir())
    start_folder(config)
    assert [path.name for path in config.folder.iterdir()] == [CONFIG_NAME]
    assert load_config(config.folder) == config
    (config.folder / "metrics.jsonl").write_text("kept")
    settings = (config.folder / CONFIG_NAME).read_text()
    start_folder(TrainConfig(**(vars(config) | {"resume": True})))
    assert (config.folder / "metrics.jsonl").read_text() == "kept"
    assert (config.folder / CONFIG_NAME).read_text() == settings
    assert marks(tmp_path / "deep") == {"run": {"metrics.jsonl"}}


@pytest.mark.parametrize("inside", [".", "file", "file/run", "file/deep/run"])
def test_a_folder_of_something_else_or_a_file_in_the_way_is_refused(inside: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for refuse in (check_folder, start_folder):
        with pytest.raises(
            InputError, match="hold an earlier run" if inside == "." else "writable"
        ) as caught:
            refuse(TrainConfig(out=tmp_path / inside))
        assert caught.value.name == "out"
    assert (tmp_path / "file").read_text() == "kept"


def test_earlier_runs_are_set_aside_whole_and_a_finished_one_stays(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "precious")
    start_folder(TrainConfig(out=run))
    assert marks(tmp_path) == {"run": set(), ".run.previous": {"precious"}}
    assert (tmp_path / ".run.previous" / "link.json").is_file()
    assert not (run / "link.json").exists()
    for mark in ("broken-off", "again"):
        (run / mark).touch()
        start_folder(TrainConfig(out=run))
        expected = {"run": set(), ".run.previous": {"precious"}, ".run.unfinished": {mark}}
        assert marks(tmp_path) == expected


def test_an_unfinished_mark_takes_the_manifest_alone_away(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "kept")
    for _ in range(2):
        mark_unfinished(TrainConfig(out=run))
        assert sorted(path.name for path in run.iterdir()) == [CONFIG_NAME, "kept"]


def test_a_second_training_is_kept_out_until_the_first_ends(tmp_path: Path) -> None:
    first, other = TrainConfig(out=tmp_path / "run"), TrainConfig(out=tmp_path / "other")
    with folder_lock(first):
        second = folder_lock(TrainConfig(out=tmp_path / "run", seed=1))
        with pytest.raises(InputError, match="in use by another"), second:
            pass
        with folder_lock(other):
            pass
    with pytest.raises(KeyError), folder_lock(first):
        raise KeyError
    with folder_lock(first):
        pass
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "is not the configuration of a training run"),
        ({"version": 0}, "must be of version 2, not 0"),
        ({"version": None}, "must be of version 2, not None"),
        ({"surprise": 1}, "is altered: .*surprise"),
        ({"epochs": 0}, "is altered: 'epochs'"),
        ({"epochs": "many"}, "is altered"),
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
