"""Files that are either whole or absent: written to a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twophase.link.errors import ArtifactError, InputError

__all__ = ["atomic_folder", "atomic_path", "read_json", "sha256_of", "write_json", "write_text"]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; rename it to ``path`` if the block succeeds.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except FileNotFoundError:
        raise  # the block looked for another file
    except OSError as error:
        raise InputError("path", f"be writable ({error.strerror or error})", str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # where nothing could be written, nothing can be removed
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; put it in the place of ``path`` if the block succeeds.

    A folder that stood at ``path`` is replaced only then; a kill in between leaves the old one or none,
    never a mixture.

    Raises
    ------
    InputError
        If the parent folder cannot be written or ``path`` is a file.
    """
    try:
        if path.exists() and not path.is_dir():
            raise InputError("path", "be a folder or not exist yet", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    except OSError as error:
        raise InputError("path", f"be writable ({error.strerror or error})", str(path)) from error
    temporary.chmod(0o755)
    replaced = temporary.with_name(temporary.name + ".old")
    try:
        yield temporary
        if path.exists():
            path.rename(replaced)
        temporary.rename(path)
    finally:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` atomically in UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` atomically as indented JSON; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    ArtifactError
        If it is missing, unreadable or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"'{path}' is missing") from error
    except OSError as error:
        raise ArtifactError(f"'{path}' cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"'{path}' is not JSON: truncated or altered ({error})") from error
