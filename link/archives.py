"""Arrays of an ``.npz``, whose headers are held against one another before anything is decompressed.

NumPy allocates what a header says and decompresses what a stream gives: a file of 3 MB can take 3 GB, and a
header of (10**30, 64) ends in a traceback.  Here an archive has no two members of one name, each array has
plain numbers or text of as many bytes as its header and the archive's index say alike, and all of them
together are not far larger than the file.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from twophase.link.errors import ArtifactError, first_line
from twophase.link.files import opened

__all__ = ["array_names", "read_arrays"]

_SMALL = 1 << 28
"""So many bytes of arrays are read of any archive."""
_RATIO = 100
"""How much larger than their archive those of a larger one may be; sparse images take 20."""
_SUFFIX = ".npy"
_KINDS = "biufcSU"
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_arrays(
    path: Path, content: bytes | None = None, only: Collection[str] | None = None
) -> dict[str, NDArray[np.generic]]:
    """The arrays of an ``.npz`` by name, or ``only`` those of some names; other members are left out.

    ``content`` is the file itself, if it lies in memory and ``path`` is what it was made from.

    Raises
    ------
    ArtifactError
        If the file is missing, no regular file or no readable ``.npz``, or a member is no array of plain
        numbers or text, or far larger than the file.
    """
    with _archive(path, content) as (archive, size):
        members = {name: entry for name, entry in _members(archive) if only is None or name in only}
        total = sum(entry.file_size for entry in members.values())
        if total > max(_SMALL, _RATIO * size):
            raise ValueError(
                f"its arrays take {total:,} bytes, more than {_RATIO} times the {size:,} of the file: "
                "save them by numpy.savez, which does not compress"
            )
        for entry in members.values():
            _check_size(archive, entry)
        return {name: _array(archive, entry) for name, entry in members.items()}


def array_names(path: Path) -> set[str]:
    """Names of the arrays of an ``.npz``, which are not read; errors as of :func:`read_arrays`."""
    with _archive(path, None) as (archive, _):
        return {name for name, _ in _members(archive)}


@contextmanager
def _archive(path: Path, content: bytes | None) -> Iterator[tuple[zipfile.ZipFile, int]]:
    """The archive and its size in bytes."""
    try:
        with opened(path) if content is None else io.BytesIO(content) as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            if stream.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
                raise ValueError("it holds a single array")
            if not zipfile.is_zipfile(stream):
                raise ValueError("it is no zip file, or cut off")
            with zipfile.ZipFile(stream) as archive:
                yield archive, size
    except ArtifactError:
        raise
    except (Exception, MemoryError) as error:
        # Damage surfaces as anything from a bad checksum to a syntax error in an array's header.
        raise ArtifactError(f"'{path}' is no readable .npz archive: {first_line(error)}") from error


def _members(archive: zipfile.ZipFile) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    seen: set[str] = set()
    for entry in archive.infolist():
        if entry.filename in seen:
            raise ValueError(f"it holds {entry.filename!r} more than once")
        seen.add(entry.filename)
        if entry.filename.endswith(_SUFFIX):
            yield entry.filename.removesuffix(_SUFFIX), entry


def _check_size(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Refuse a member that is no array of plain numbers or text, or not of the size that its header says."""
    name = repr(entry.filename)
    if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is encrypted, or compressed in another way than NumPy compresses")
    with archive.open(entry) as stream:
        try:
            version = npy.read_magic(stream)
            shape, _, dtype = _HEADERS[version](stream)
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{name} is no array: {first_line(error)}") from error
        place = stream.tell()
    if dtype.kind not in _KINDS or not dtype.itemsize:
        raise ValueError(f"{name} holds {dtype}, neither numbers nor text")
    if min(shape, default=0) < 0 or place + math.prod(shape) * dtype.itemsize != entry.file_size:
        raise ValueError(f"{name} is not of the size that its header says, {dtype} of shape {shape}")


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[np.generic]:
    with archive.open(entry) as stream:
        array: NDArray[np.generic] = npy.read_array(stream, allow_pickle=False)
    return array
