"""The files that a manifest lists: in its folder, of the size and hash that it says, used as they were read.

What is checked is what is used: :func:`read_listed` gives the bytes that were hashed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from twophase.link.errors import ArtifactError, InputError
from twophase.link.files import hash_of, opened, read_plain, sha256

__all__ = ["Listed", "check_listing", "is_inside", "problems_of_files", "read_listed"]

Listed = Mapping[str, Mapping[str, Any]]
"""File name -> ``{"sha256": ..., "bytes": ...}``."""


def check_listing(files: Listed) -> None:
    """Refuse a name that is no file of the folder, and one without size or hash.

    Raises
    ------
    InputError
        Names what is wrong.
    """
    for name, entry in files.items():
        if not is_inside(name):
            raise InputError("files", "name files of the folder", name)
        size, digest = entry.get("bytes"), entry.get("sha256")
        if type(size) is not int or size < 0 or set(entry) != {"bytes", "sha256"}:
            raise InputError(f"files['{name}']", "hold its bytes and its SHA-256", sorted(entry))
        if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise InputError(f"files['{name}']", "hold a SHA-256 in hexadecimal", digest)


def is_inside(name: str) -> bool:
    """Whether a name is a plain relative path on every system: no way up, no drive, nothing invisible."""
    path = PurePosixPath(name)
    plain = name.isprintable() and not re.search(r"[\\:]", name) and path.as_posix() == name
    return bool(plain and path.parts and not path.is_absolute() and ".." not in path.parts and name != ".")


def problems_of_files(folder: Path, files: Listed, only: Collection[str] | None = None) -> Iterator[str]:
    """Why listed files, or ``only`` some of them, are not what the manifest says: a sentence for each."""
    for name in files if only is None else sorted(set(only) & set(files)):
        try:
            with _of_listed_size(folder, name, files) as stream:
                if hash_of(stream) != files[name]["sha256"]:
                    yield _altered(folder / name)
        except ArtifactError as error:
            yield str(error)


def read_listed(folder: Path, name: str, files: Listed) -> bytes:
    """Bytes of a listed file, checked.

    Where ``files`` is empty, of a bundle in the making, it is read unchecked.

    Raises
    ------
    ArtifactError
        If it is not listed, missing, unreadable, no regular file of the folder, or altered.
    """
    if not files:
        return read_plain(folder / name, folder)
    if name not in files:
        raise ArtifactError(f"'{folder / name}' is not listed in the manifest")
    with _of_listed_size(folder, name, files) as stream:
        content = stream.read(files[name]["bytes"])
    if sha256(content).hexdigest() != files[name]["sha256"]:
        raise ArtifactError(_altered(folder / name))
    return content


@contextmanager
def _of_listed_size(folder: Path, name: str, files: Listed) -> Iterator[BinaryIO]:
    """The open file, whose size is looked at before it is read."""
    wanted = files[name]["bytes"]
    with opened(folder / name, folder) as stream:
        if (size := os.fstat(stream.fileno()).st_size) != wanted:
            raise ArtifactError(
                f"'{folder / name}' must have {wanted} bytes, not {size}: truncated or altered"
            )
        yield stream


def _altered(path: Path) -> str:
    return f"'{path}' is altered: its SHA-256 is not the one in the manifest"
