"""Where a bundle may go.  Needs no torch, so that bad input is refused at once."""

from __future__ import annotations

import os
from pathlib import Path

from twophase.link.errors import InputError
from twophase.link.manifest import MANIFEST_NAME, kind_of

__all__ = ["check_target"]


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
    if target.is_dir() and kind_of(target / MANIFEST_NAME) != "bundle" and any(target.iterdir()):
        raise InputError("out", "be a new or empty folder, or an older bundle to replace", str(out))
    existing = next(path for path in (target, *target.parents) if path.exists())
    if not existing.is_dir():
        raise InputError("out", f"be a folder, and '{existing}' is a file", str(out))
    # a folder is replaced by renaming, which writes in the one around it
    for folder in dict.fromkeys((existing, target.parent if target.exists() else existing)):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError("out", f"be writable, and '{folder}' is not", str(out))
