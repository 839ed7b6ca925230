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


def make_config(out: Path, **values: Any) -> TrainConfig:
    return TrainConfig(out=out, **values)


def make_run(folder: Path, mark: str, finished: bool = True) -> Path:
    """A run folder with one file of its own, ``mark``."""
    folder.mkdir(parents=True)
    (folder / CONFIG_NAME).write_text("{}")
    (folder / mark).touch()
    if finished:
        (folder / "link.json").write_text("{}")
    return folder


def marks(parent: Path) -> dict[str, set[str]]:
    """Folders below ``parent`` and the marks in each."""
    known = {CONFIG_NAME, "link.json"}
    return {
        folder.name: {path.name for path in folder.iterdir()} - known
        for folder in parent.iterdir()
        if folder.is_dir()
    }


def test_a_new_folder_holds_the_settings(tmp_path: Path) -> None:
    config = make_config(tmp_path / "deep" / "run", seed=5, codebook_sizes=(16,), lambda_auxiliary=0.25)
    check_folder(config)
    assert not list(tmp_path.iterdir())
    start_folder(config)
    assert [path.name for path in config.folder.iterdir()] == [CONFIG_NAME]
    assert load_config(config.folder) == config


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    for refuse in (check_folder, start_folder):
        with pytest.raises(InputError, match="'out' must be a new or empty folder, or hold an earlier run"):
            refuse(make_config(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("inside", ["", "run", "deep/run"])
def test_a_file_in_the_way_is_refused(inside: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    for refuse in (check_folder, start_folder):
        with pytest.raises(InputError, match="'out' must be writable"):
            refuse(make_config(file / inside))
    assert file.read_text() == "kept"


def test_an_earlier_run_is_set_aside_whole(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "first")
    start_folder(make_config(run))
    assert marks(tmp_path) == {"run": set(), ".run.previous": {"first"}}
    assert (tmp_path / ".run.previous" / "link.json").is_file()
    assert not (run / "link.json").exists()


def test_an_unfinished_run_does_not_take_the_place_of_a_finished_one(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "precious")
    start_folder(make_config(run))
    for mark in ("broken-off", "again"):
        (run / mark).touch()
        start_folder(make_config(run))
        expected = {"run": set(), ".run.previous": {"precious"}, ".run.unfinished": {mark}}
        assert marks(tmp_path) == expected


def test_a_resumed_run_keeps_its_folder(tmp_path: Path) -> None:
    config = make_config(tmp_path / "run", seed=4)
    start_folder(config)
    (config.folder / "metrics.jsonl").write_text("kept")
    settings = (config.folder / CONFIG_NAME).read_text()
    start_folder(make_config(tmp_path / "run", seed=4, resume=True))
    assert (config.folder / "metrics.jsonl").read_text() == "kept"
    assert (config.folder / CONFIG_NAME).read_text() == settings
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_unfinished_mark_takes_the_manifest_alone_away(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "kept")
    for _ in range(2):
        mark_unfinished(make_config(run))
        assert sorted(path.name for path in run.iterdir()) == [CONFIG_NAME, "kept"]


def test_a_second_training_is_kept_out_until_the_first_ends(tmp_path: Path) -> None:
    first, other = make_config(tmp_path / "run"), make_config(tmp_path / "other")
    with folder_lock(first):
        second = folder_lock(make_config(tmp_path / "run", seed=1))
        with pytest.raises(InputError, match="'out' must not be in use by another tp-train"), second:
            pass
        with folder_lock(other):
            pass
    with folder_lock(first):
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
        ({"version": 0}, "must be of version 2, not 0: train again"),
        ({"version": None}, "must be of version 2, not None: train again"),
        ({"surprise": 1}, "is altered: .*surprise"),
        ({"epochs": 0}, "is altered: 'epochs' must be at least 1"),
        ({"epochs": "many"}, "is altered"),
    ],
)
def test_altered_settings_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    start_folder(make_config(tmp_path / "run"))
    path = tmp_path / "run" / CONFIG_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError, match=message):
        load_config(tmp_path / "run")


def test_no_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"holds no run to resume: 'config.json' is missing"):
        load_config(tmp_path)
