"""Which run is exported, and where its bundle may go; without torch, so that bad input is refused at once."""

from __future__ import annotations

import os
from pathlib import Path

from twophase.link.errors import ArtifactError, InputError
from twophase.link.files import read_json, reading
from twophase.link.manifest import FORMAT, MANIFEST_NAME

__all__ = ["check_target", "newest_run"]


def newest_run(runs: Path) -> Path:
    """The run under ``runs`` that was finished last.

    Folders with a leading dot do not count: training sets the run before aside as ``.NAME.previous``.

    Raises
    ------
    ArtifactError
        If there is none.
    """
    with reading(runs):
        found = [path for path in runs.glob(f"*/{MANIFEST_NAME}") if not path.parent.name.startswith(".")]
        finished = [path for path in found if _kind_of(path) == "run"]
        if finished:
            return max(finished, key=lambda path: (path.stat().st_mtime_ns, path)).parent
    raise ArtifactError(f"no finished run is under '{runs}': train one with tp-train, or name its folder")


def check_target(out: Path) -> None:
    """Refuse to replace anything but an older bundle, and a folder that cannot be replaced as a whole.

    Raises
    ------
    InputError
        If ``out`` cannot be written, is a file, a folder with something else in it, a mount point, or
        the working directory or a folder around it.
    """
    try:
        _check_target(out, Path(os.path.realpath(out)))
    except OSError as error:
        raise InputError("out", f"be writable ({error.strerror or error})", str(out)) from error


def _check_target(out: Path, target: Path) -> None:
    if Path.cwd().is_relative_to(target):
        raise InputError("out", "be no folder that you are in, for it is replaced as a whole", str(out))
    if target.is_mount():
        raise InputError("out", "be a folder below the mount point, for it is replaced as a whole", str(out))
    if target.is_dir() and _kind_of(target / MANIFEST_NAME) != "bundle" and any(target.iterdir()):
        raise InputError("out", "be a new or empty folder, or an older bundle to replace", str(out))
    existing = next(path for path in (target, *target.parents) if path.exists())
    if not existing.is_dir():
        raise InputError("out", f"be a folder, and '{existing}' is a file", str(out))
    # a folder is replaced by renaming, which writes in the one around it
    for folder in dict.fromkeys((existing, target.parent if target.exists() else existing)):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError("out", f"be writable, and '{folder}' is not", str(out))


def _kind_of(path: Path) -> object:
    """What a manifest says that it describes; None if it is no manifest."""
    if not path.is_file():
        return None
    try:
        value = read_json(path)
    except ArtifactError:
        return None
    return value.get("kind") if isinstance(value, dict) and value.get("format") == FORMAT else None
