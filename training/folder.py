"""The run folder: started fresh beside what was there before, or taken up again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from twophase.link.errors import ArtifactError, InputError
from twophase.link.files import read_json, write_json
from twophase.link.manifest import MANIFEST_NAME
from twophase.training.config import TrainConfig

__all__ = ["CONFIG_NAME", "check_folder", "load_config", "start_folder"]

CONFIG_NAME = "config.json"
FORMAT = "twophase-training"
VERSION = 1


def check_folder(config: TrainConfig) -> None:
    """Refuse a run folder that cannot be used; changes nothing.

    Raises
    ------
    InputError
        If the folder cannot be written or holds something that is no run.
    """
    folder = config.folder
    if folder.is_dir():
        if any(folder.iterdir()) and not (folder / CONFIG_NAME).is_file():
            raise InputError("out", "be a new or empty folder, or hold an earlier run", str(folder))
        return
    standing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not standing.is_dir() or not os.access(standing, os.W_OK):
        raise InputError("out", "be writable", str(folder))


def start_folder(config: TrainConfig) -> None:
    """Make the run folder ready: a resumed run keeps it, a new one sets an earlier run aside.

    The earlier run is renamed to ``.NAME.previous``, so that a kill during the new one loses nothing.

    Raises
    ------
    InputError
        As ``check_folder``.
    """
    check_folder(config)
    folder = config.folder
    if config.resume:
        # While epochs are being added, the programs of an earlier finish are not this run's result.
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        return
    try:
        if (folder / CONFIG_NAME).is_file():
            aside = folder.with_name(f".{folder.name}.previous")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        folder.mkdir(parents=True, exist_ok=True)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise InputError("out", f"be writable ({error.strerror})", str(folder)) from error
    write_json(folder / CONFIG_NAME, {"format": FORMAT, "version": VERSION} | config.as_json())


def load_config(folder: Path) -> TrainConfig:
    """The settings of the run in ``folder``.

    Raises
    ------
    ArtifactError
        If there is no run or it is of another version.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise ArtifactError(f"'{folder}' holds no run to resume: '{CONFIG_NAME}' is missing")
    value = read_json(path)
    if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
        raise ArtifactError(f"'{path}' is not the configuration of a training run")
    found = value.pop("version", None)
    if found != VERSION:
        raise ArtifactError(f"'{path}' must be of version {VERSION}, not {found!r}: train again")
    try:
        return TrainConfig.from_json(value)
    except TypeError as error:
        raise ArtifactError(f"'{path}' is altered: {error}") from error
