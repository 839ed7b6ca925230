"""The reviews through a pip that brings a made-up distribution: what is checked, kept and said."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import shlex
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from twophase.link.errors import ArtifactError, PackageError
from twophase.training.data import TextTask
from twophase.training.tasks import load_task, reviews

RATINGS = (-3.9, -0.6, 0.5, 0.51, -0.5, 2.0)
LINES = "".join(f"{n}\t{RATINGS[n % 6]}\t``it's ''number {n}'' ü\r\n" for n in range(120)).encode()
SOURCE = reviews.SOURCE
NO_NETWORK = (
    "WARNING: Retrying after connection broken by 'NewConnectionError('<pip.HTTPSConnection object>: "
    "Failed to establish a new connection: [Errno 111] Connection refused')': /simple/vadersentiment/\n"
    "ERROR: No matching distribution found for vaderSentiment==3.3.2\n"
)
OTHER_HASH = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."


def packed(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Index:
    """Stands for pip and its index: brings ``sdist``, counts how often, keeps the command."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.commands: list[list[str]] = []
        self.status, self.stderr = 0, ""
        self.hold(LINES)

    def hold(self, content: bytes) -> None:
        """A distribution with ``content`` in it, which is the one expected."""
        self.sdist = packed(SOURCE.archive, packed(SOURCE.member, content))
        self.expect(self.sdist, member_sha256=digest(content))

    def expect(self, sdist: bytes, **values: str) -> None:
        self.sdist = sdist
        source = replace(SOURCE, sdist_sha256=digest(sdist), **values)
        self.monkeypatch.setattr(reviews, "SOURCE", source)

    def run(self, command: list[str], *, cwd: Path, timeout: float, **_: Any) -> Any:
        self.commands.append(command)
        assert 0 < timeout <= 600
        wanted = Path(command[command.index("--requirement") + 1]).read_text()
        assert wanted == f"vaderSentiment==3.3.2 --hash=sha256:{reviews.SOURCE.sdist_sha256}\n"
        if not self.status:
            target = Path(command[command.index("--dest") + 1])
            assert target.is_relative_to(cwd)
            target.mkdir()
            (target / "vaderSentiment-3.3.2.tar.gz").write_bytes(self.sdist)
        return subprocess.CompletedProcess(command, self.status, "", self.stderr)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TWOPHASE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Index:
    made = Index(monkeypatch)
    monkeypatch.setattr(subprocess, "run", made.run)
    return made


def load() -> TextTask:
    task = load_task("reviews")
    assert isinstance(task, TextTask)
    return task


def refused(kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        load()
    assert "\n" not in str(caught.value)


def test_the_sentences_are_fetched_once_and_kept(index: Index, cache: Path) -> None:
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
    assert [path.name for path in cache.rglob("*") if path.is_file()] == [Path(SOURCE.member).name]
    assert load().test.texts == task.test.texts
    assert len(index.commands) == 1
    assert index.commands[0][:4] == [sys.executable, "-m", "pip", "download"]


@pytest.mark.parametrize(
    ("stderr", "kind", "said"),
    [
        (
            NO_NETWORK,
            PackageError,
            r"fetch vaderSentiment==3\.3\.2: its index is not reachable \(.*refused\)$",
        ),
        (NO_NETWORK.splitlines()[1], PackageError, "No matching distribution found for"),
        ("python: something else\n\n", PackageError, "python: something else$"),
        ("", PackageError, "it gives no reason"),
        (OTHER_HASH, ArtifactError, "is not the one expected: its SHA-256 is another"),
    ],
)
def test_what_pip_says_becomes_one_line(
    index: Index, cache: Path, stderr: str, kind: type[Exception], said: str
) -> None:
    index.status, index.stderr = 1, stderr
    refused(kind, said)
    assert not cache.exists()


def test_without_pip_or_beyond_its_time_the_way_on_is_said(
    index: Index, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(command: list[str], **_: Any) -> Any:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(subprocess, "run", hang)
    refused(PackageError, r"pip did not fetch vaderSentiment==3\.3\.2 within 300 s")
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else there(name))
    refused(PackageError, "this Python has none: .* -m ensurepip")
    assert not cache.exists()


@pytest.mark.parametrize(
    ("sdist", "said"),
    [
        (b"no archive", "lacks 'vaderSentiment-3.3.2/additional"),
        (packed("other", b""), "lacks 'vaderSentiment-3.3.2/additional"),
        (packed(SOURCE.archive, b"no archive"), "lacks 'hutto_ICWSM_2014/movie"),
        (packed(SOURCE.archive, packed("../../etc/own", b"")), "lacks 'hutto_ICWSM_2014/movie"),
        (packed(SOURCE.archive, packed(SOURCE.member, LINES)[:40]), "lacks 'hutto"),
        (packed(SOURCE.archive, packed(SOURCE.member, b"1")), "is not the file expected"),
    ],
    ids=[
        "no archive",
        "another archive",
        "no archive inside",
        "another file inside",
        "cut short",
        "another text",
    ],
)
def test_another_archive_or_one_without_the_file_is_refused(
    index: Index, cache: Path, sdist: bytes, said: str
) -> None:
    index.expect(sdist)
    refused(ArtifactError, said)
    index.sdist += b"\0"
    refused(ArtifactError, f"not the one expected: its SHA-256 is {digest(index.sdist)}")
    assert not cache.exists()


def test_an_altered_file_is_named_and_left(index: Index) -> None:
    load()
    path = reviews.SOURCE.path
    path.write_bytes(LINES[:-1])
    refused(ArtifactError, f"^'{path}' was altered.*delete it, and it is fetched again$")
    assert len(index.commands) == 1
    path.unlink()
    assert len(load().train) == 64


@pytest.mark.parametrize(
    "line",
    [b"1\t2.0\tgood\textra", b"1\t2.0", b"1\ttwo\tgood", b"1\t4.5\tgood", b"1\tnan\tgood", b"1\t2.0\t "],
)
def test_lines_are_read_strictly(index: Index, line: bytes) -> None:
    index.hold(LINES + line)
    refused(ArtifactError, "line 121, is not id, rating")


def test_another_encoding_is_named_with_its_place(index: Index) -> None:
    index.hold(LINES + b"1\t2.0\t\xff")
    refused(ArtifactError, "is not UTF-8 at byte")


def test_a_real_process_is_run_and_its_words_are_read(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python, sdist = tmp_path / "python", tmp_path / "sdist.tar.gz"
    sdist.write_bytes(Index(monkeypatch).sdist)
    bring = 'while [ "$1" != --dest ]; do shift; done; mkdir "$2"; cp'
    python.write_text(f'#!/bin/sh\n{bring} {shlex.quote(str(sdist))} "$2"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert len(load().test) == 8
    reviews.SOURCE.path.unlink()
    python.write_text("#!/bin/sh\nprintf 'ERROR: \\377 no\\n' >&2\nexit 1\n")
    refused(PackageError, r"3\.3\.2: \ufffd no$")
    python.unlink()
    refused(PackageError, "No such file or directory")
