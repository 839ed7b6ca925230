"""Files that are either whole or absent: written to a temporary name, then renamed.

SHA-256 comes from CPython itself, without OpenSSL: ``hashlib`` loads OpenSSL, 3.5 MiB that an edge process
would hold for a few hashes at its start.  The modules taken here are those that it falls back on itself; an
interpreter built without them gives OpenSSL's.  The digests are the same.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from twophase.link.errors import ArtifactError, InputError

if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        if sys.version_info >= (3, 12):
            from _sha2 import sha256
        else:
            from _sha256 import sha256
    except ImportError:
        from hashlib import sha256

__all__ = [
    "atomic_folder",
    "atomic_path",
    "cache_folder",
    "followed",
    "hash_of",
    "keeps_compiled",
    "lock_file",
    "opened",
    "read_json",
    "read_plain",
    "reading",
    "sha256",
    "sha256_of",
    "write_json",
    "write_text",
]


_log = logging.getLogger(__name__)

_STORAGE_ERRORS = frozenset({errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS})
"""What a write may fail with; such an error need not name its file."""

_NO_LOCKS = frozenset({errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What a lock fails with where the file system has none."""

_PIECE = 1 << 18

_LARGEST_JSON = 1 << 26
"""Bytes; a manifest of 65,536 codewords with 32 components takes about half."""

_READ_ONLY = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_NOFOLLOW", "O_BINARY")
)
"""Never waits, should a pipe have taken the place of the file that was looked at."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the system says when ``path`` cannot be read into an ``ArtifactError`` of one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise ArtifactError(f"'{error.filename or path}' is missing") from error
    except OSError as error:
        raise ArtifactError(
            f"'{error.filename or path}' cannot be read: {error.strerror or error}"
        ) from error


@contextlib.contextmanager
def opened(path: Path, folder: Path | None = None) -> Iterator[BinaryIO]:
    """Open a regular file to read: every input of the package is opened here.

    Devices and pipes, which may not end, are never opened; links are followed, but not out of ``folder``.

    Raises
    ------
    ArtifactError
        If it is missing, unreadable, no regular file, or a link out of ``folder``.
    """
    with reading(path):
        real = Path(os.path.realpath(path))
        if folder is not None and not real.is_relative_to(os.path.realpath(folder)):
            raise ArtifactError(f"'{path}' leads out of '{folder}', and such links are not followed")
        _check_plain(path, real.stat().st_mode)
        with os.fdopen(os.open(real, _READ_ONLY), "rb") as stream:
            _check_plain(path, os.fstat(stream.fileno()).st_mode)
            yield stream


def _check_plain(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise ArtifactError(f"'{path}' is no regular file: devices and pipes are not read")


def read_plain(path: Path, folder: Path | None = None, *, limit: int | None = None) -> bytes:
    """Bytes of a regular file, of at most ``limit`` if given; errors as of :func:`opened`.

    No more is read than its size said at first, so that nothing that grows is read without end.
    """
    with opened(path, folder) as stream:
        size = os.fstat(stream.fileno()).st_size
        if limit is not None and size > limit:
            raise ArtifactError(f"'{path}' has {size:,} bytes, more than the {limit:,} that it may have")
        return stream.read(size)


def sha256_of(path: Path, folder: Path | None = None) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; errors as of :func:`opened`."""
    with opened(path, folder) as stream:
        return hash_of(stream)


def hash_of(stream: BinaryIO) -> str:
    """SHA-256 of what an open file holds at this moment, in hexadecimal."""
    digest, left = sha256(), os.fstat(stream.fileno()).st_size
    while piece := stream.read(min(left, _PIECE)):
        digest.update(piece)
        left -= len(piece)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; rename it to ``path`` if the block succeeds.

    Nothing is written through a symbolic link: where ``path`` is one, the file takes its place.

    Raises
    ------
    InputError
        If the file cannot be written (no permission, disk full) or ``path`` is a device, pipe or folder.
    """
    target = followed(path.parent) / path.name
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    _make_parent(target, path)
    try:
        if target.exists() and not (target.is_symlink() or target.is_file()):
            raise OSError(errno.EEXIST, "a folder, device or pipe is there", str(temporary))
        if temporary.is_symlink():  # left there so that something else is written
            temporary.unlink()
        yield temporary
        temporary.replace(target)
    except OSError as error:
        if _is_of(error, temporary, target):
            raise _unwritable(path, error) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # where nothing could be written, nothing can be removed
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; put it in the place of ``path`` if the block succeeds.

    A folder that stood at ``path`` is replaced only then; a kill in between leaves the old one or none,
    never a mixture, and the next call clears up after it.  Where ``path`` is a symbolic link, the folder
    that it points to is replaced.

    Raises
    ------
    InputError
        If the folder cannot be written (no permission, disk full) or ``path`` is a file.
    """
    import shutil  # with what an edge process, which writes nothing, does not need
    import tempfile

    target = followed(path)
    _make_parent(target, path)
    try:
        if target.exists() and not target.is_dir():
            raise InputError("path", "be a folder or not exist yet", str(path))
        _clear_leftovers(target)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    except OSError as error:
        raise _unwritable(path, error) from error
    replaced = temporary.with_name(temporary.name + ".old")
    with _locked(temporary):
        try:
            temporary.chmod(0o755)
            yield temporary
            if target.exists():
                target.rename(replaced)
            temporary.rename(target)
        except OSError as error:
            if _is_of(error, temporary, target):
                raise _unwritable(path, error) from error
            raise
        finally:
            if replaced.exists() and not target.exists():
                replaced.rename(target)
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)


def followed(path: Path, name: str = "path") -> Path:
    """Where ``path`` lies when its links are followed; it need not exist.

    Raises
    ------
    InputError
        If its links lead to one another; ``name`` is the argument at fault.
    """
    target = Path(os.path.realpath(path))
    if any(map(os.path.islink, (target, *target.parents))):
        raise InputError(name, "not be a loop of links", str(path))
    return target


def _make_parent(target: Path, path: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError("path", f"be writable ({error.strerror or error})", str(path))


def _is_of(error: OSError, *written: Path) -> bool:
    """Whether an error arose from writing to, or moving, one of ``written`` or something in it."""
    names = [
        name for name in (error.filename, error.filename2) if isinstance(name, str | bytes | os.PathLike)
    ]
    if not names:
        return error.errno in _STORAGE_ERRORS
    paths = [Path(os.path.realpath(os.fsdecode(name))) for name in names]
    return any(name.is_relative_to(whole) for name in paths for whole in written)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold a lock on ``folder`` that goes with the process; yields whether it could be had."""
    import fcntl  # where there is none, at least all else of this module works

    held = False
    descriptor = -1
    with contextlib.suppress(OSError):  # held by another process, or a file system without locks
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = True
    try:
        yield held
    finally:
        if descriptor >= 0:
            os.close(descriptor)


@contextlib.contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Hold the system's lock on the file ``path``, made for it with its folder, and removed with it.

    On a file system without locks nothing is locked, with a warning.

    Raises
    ------
    BlockingIOError
        If another process, or another part of this one, holds it.
    OSError
        If the file cannot be made.
    """
    from filelock import FileLock, Timeout  # an edge process locks nothing

    lock = FileLock(path, is_singleton=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # More than once: whoever held it may have removed the file in the meantime.
        lock.acquire(timeout=0.1, poll_interval=0.02)
    except Timeout as error:
        raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), str(path)) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _log.warning("'%s' cannot be locked (%s): nothing keeps a second process out", path, error.strerror)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes it when it is released
            path.unlink()  # first, so that nobody finds it who could not have it
        lock.release()


def _clear_leftovers(target: Path) -> None:
    """Remove what killed processes left of ``target``; what a living one works on is locked and stays."""
    import shutil

    pattern = re.compile(rf"\.{re.escape(target.name)}\.\w{{8}}\.tmp(\.old)?")
    found = {path.name: path for path in target.parent.iterdir() if pattern.fullmatch(path.name)}
    for name in sorted({name.removesuffix(".old") for name in found}):
        temporary, replaced = target.with_name(name), target.with_name(name + ".old")
        if temporary.is_dir():
            with _locked(temporary) as dead:
                if not dead:
                    continue
                shutil.rmtree(temporary, ignore_errors=True)
        if replaced.is_dir() and not target.exists():
            replaced.rename(target)  # killed between the two renames
        shutil.rmtree(replaced, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` atomically in UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` atomically as indented JSON; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, folder: Path | None = None) -> Any:
    """Read a JSON file of at most 64 MiB.

    Raises
    ------
    ArtifactError
        As :func:`opened`, or if it is larger or no JSON.
    """
    try:
        return json.loads(read_plain(path, folder, limit=_LARGEST_JSON).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"'{path}' is not JSON: truncated or altered ({error})") from error


def cache_folder() -> Path:
    """The user's cache folder for this package; it need not exist yet.

    ``$TWOPHASE_CACHE``; else ``twophase-link`` in ``$XDG_CACHE_HOME``, which counts only if absolute, as its
    specification says; else ``~/.cache/twophase-link``.

    Raises
    ------
    InputError
        If there is no home folder to look in.
    """
    try:
        if named := os.environ.get("TWOPHASE_CACHE"):
            return Path(named).expanduser().absolute()
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return (base if base.is_absolute() else Path.home() / ".cache") / "twophase-link"
    except RuntimeError as error:
        raise InputError(
            "TWOPHASE_CACHE", f"name a folder, as no home folder is known ({error})", os.environ.get("HOME")
        ) from error


def keeps_compiled() -> bool:
    """Whether numba may keep what it compiles: without a home it would do so in a folder called ``~``."""
    known = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    return bool(known) or os.path.expanduser("~") != "~"  # noqa: PTH111 - pathlib raises
