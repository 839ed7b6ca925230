"""Which run is exported, and where its bundle may go.  Needs no torch, so that bad input is told at once."""

from __future__ import annotations

import os
from pathlib import Path

from twophase.export.signature import graph_files, program_file
from twophase.link.errors import ArtifactError, InputError
from twophase.link.files import read_json
from twophase.link.manifest import FORMAT, MANIFEST_NAME, Manifest, load_manifest

__all__ = ["EVAL_FILE", "check_target", "load_run", "newest_run"]

EVAL_FILE = "eval.npz"


def newest_run(runs: Path) -> Path:
    """The run under ``runs`` that was finished last.

    Raises
    ------
    ArtifactError
        If there is none.
    """
    finished = [path for path in runs.glob(f"*/{MANIFEST_NAME}") if _kind_of(path) == "run"]
    if not finished:
        raise ArtifactError(f"no finished run is under '{runs}': train one with tp-train, or name its folder")
    return max(finished, key=lambda path: (path.stat().st_mtime_ns, path)).parent


def load_run(run: Path) -> Manifest:
    """Manifest of a finished run that holds everything a bundle is made from; all hashes are checked.

    Raises
    ------
    ArtifactError
        If the run is unfinished, of another version, or a file is missing, truncated or altered.
    """
    manifest = load_manifest(run, "run")
    needed = [EVAL_FILE, *(program_file(name) for name in graph_files(manifest))]
    missing = [name for name in needed if name not in manifest.files]
    if missing:
        raise ArtifactError(
            f"'{run / MANIFEST_NAME}' must list {', '.join(needed)}; it lacks {', '.join(missing)}"
        )
    return manifest


def check_target(out: Path) -> None:
    """Refuse to replace anything but an older bundle.

    Raises
    ------
    InputError
        If ``out`` cannot be written, is a file, or is a folder with something else in it.
    """
    if out.is_dir() and _kind_of(out / MANIFEST_NAME) != "bundle" and any(out.iterdir()):
        raise InputError("out", "be a new or empty folder, or an older bundle to replace", str(out))
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError("out", f"be a folder, and '{existing}' is a file", str(out))
    if not os.access(existing, os.W_OK):
        raise InputError("out", f"be writable, and '{existing}' is not", str(out))


def _kind_of(path: Path) -> object:
    """What a manifest says that it describes; None if it is no manifest."""
    if not path.is_file():
        return None
    try:
        value = read_json(path)
    except ArtifactError:
        return None
    return value.get("kind") if isinstance(value, dict) and value.get("format") == FORMAT else None
