"""The run folder: who may use it, what it was given, and what becomes of the run that was there before.

Needs no torch, so that a mistyped folder is refused at once.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from twophase.link.errors import ArtifactError, InputError
from twophase.link.files import followed, lock_file, read_json, write_json
from twophase.link.manifest import MANIFEST_NAME
from twophase.training.config import TrainConfig

__all__ = ["CONFIG_NAME", "check_folder", "folder_lock", "load_config", "mark_unfinished", "start_folder"]

CONFIG_NAME = "config.json"
FORMAT = "twophase-training"
VERSION = 2


def check_folder(config: TrainConfig) -> None:
    """Refuse a folder that cannot be written or holds something that is no run; changes nothing."""
    folder = followed(config.folder, "out")
    if folder.is_dir():
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise InputError("out", "be readable and writable", str(folder))
        if any(folder.iterdir()) and not (folder / CONFIG_NAME).is_file():
            raise InputError("out", "be a new or empty folder, or hold an earlier run", str(folder))
        return
    standing = next(path for path in (folder, *folder.parents) if path.exists())
    if not standing.is_dir() or not os.access(standing, os.W_OK):
        raise InputError("out", "be writable", str(folder))


def start_folder(config: TrainConfig) -> None:
    """Make the run folder ready: a resumed run keeps it, a new one sets an earlier run aside.

    The earlier run is renamed to ``.NAME.previous``, or ``.NAME.unfinished`` if it had not ended, so that a
    kill during the new one loses nothing.  A link to a folder stays one.
    """
    check_folder(config)
    folder = followed(config.folder, "out")
    if not config.resume:
        try:
            if (folder / CONFIG_NAME).is_file():
                _set_aside(folder)
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError("out", f"be writable ({error.strerror})", str(folder)) from error
    # A resumed run keeps its settings and what may change on resuming.
    settings = config.as_json() | {"resume": False}
    write_json(folder / CONFIG_NAME, {"format": FORMAT, "version": VERSION} | settings)


def mark_unfinished(config: TrainConfig) -> None:
    """Take the manifest of an earlier finish away: what is about to be written is not its result."""
    (config.folder / MANIFEST_NAME).unlink(missing_ok=True)


@contextmanager
def folder_lock(config: TrainConfig) -> Iterator[None]:
    """Keep a second ``tp-train`` out of the run folder; the lock goes with the process."""
    folder = followed(config.folder, "out")
    with ExitStack() as lock:
        try:
            lock.enter_context(lock_file(folder.with_name(f".{folder.name}.lock")))
        except BlockingIOError as error:
            raise InputError("out", "not be in use by another tp-train", str(folder)) from error
        yield


def _set_aside(folder: Path) -> None:
    """Rename the run in ``folder``; only a run of its own kind, finished or not, gives way to it."""
    kind = "previous" if (folder / MANIFEST_NAME).is_file() else "unfinished"
    aside = folder.with_name(f".{folder.name}.{kind}")
    replaced = aside.with_name(aside.name + ".old")
    shutil.rmtree(replaced, ignore_errors=True)
    if aside.exists():
        aside.rename(replaced)
    folder.rename(aside)
    shutil.rmtree(replaced, ignore_errors=True)


def load_config(folder: Path) -> TrainConfig:
    """The settings of the run in ``folder``; ArtifactError if there is none or it is of another version."""
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
    except ValueError as error:
        raise ArtifactError(f"'{path}' is altered: {error}") from error
