import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from twophase.link.errors import ArtifactError, InputError
from twophase.link.files import (
    atomic_folder,
    atomic_path,
    cache_folder,
    keeps_compiled,
    lock_file,
    read_json,
    read_plain,
    sha256,
    sha256_of,
    write_json,
    write_text,
)


class InterruptError(Exception):
    """Stands for whatever stops a block half way."""


@pytest.fixture
def blocked(tmp_path):
    """A path that cannot be written, even by root: its parent is a regular file."""
    (tmp_path / "file").write_text("in the way")
    return tmp_path / "file" / "name"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(path, content="new", stop=None):
    """Write a file; raise ``stop`` before it is complete."""
    with atomic_path(path) as temporary:
        temporary.write_text(content)
        if stop is not None:
            raise stop


def fill(path, content="new", stop=None):
    """Write a folder of one file; raise ``stop`` before it is complete."""
    with atomic_folder(path) as temporary:
        (temporary / "a").write_text(content)
        if stop is not None:
            raise stop


def content_of(path):
    return (path / "a" if path.is_dir() else path).read_text()


both_kinds = pytest.mark.parametrize("put", [write, fill], ids=["file", "folder"])


def test_hashes_are_openssls_without_openssl(tmp_path):
    """FIPS 180-2, appendix B.1, and random bytes of all lengths around a block; a file in several pieces."""
    assert sha256(b"abc").hexdigest() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    rng = np.random.default_rng(0)
    for length in (*range(130), 600_000):
        data = rng.bytes(length)
        split = sha256(data[: length // 3])
        split.update(data[length // 3 :])
        assert split.hexdigest() == hashlib.sha256(data).hexdigest()
    (tmp_path / "x").write_bytes(data)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("make", [atomic_path, atomic_folder])
def test_a_file_or_folder_appears_whole_and_alone(tmp_path, make):
    target = tmp_path / "deep" / "er" / "x"
    is_file = make is atomic_path
    with make(target) as temporary:
        (temporary if is_file else temporary / "a").write_text("whole")
        assert temporary.parent == target.parent
        assert not target.exists()
    assert content_of(target) == "whole"
    assert names(target.parent) == ["x"]
    assert is_file or stat.S_IMODE(target.stat().st_mode) == 0o755


@both_kinds
@pytest.mark.parametrize("stop", [InterruptError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_the_old_one_or_none_and_one_that_succeeds_replaces_it(tmp_path, put, stop):
    with pytest.raises(stop):
        put(tmp_path / "x", "half", stop())
    assert names(tmp_path) == []
    put(tmp_path / "x", "older")
    if put is fill:
        (tmp_path / "x" / "stale").mkdir()
    put(tmp_path / "x", "old")
    with pytest.raises(stop):
        put(tmp_path / "x", "half", stop())
    assert content_of(tmp_path / "x") == "old"
    assert names(tmp_path) == ["x"]
    assert put is write or names(tmp_path / "x") == ["a"]


@both_kinds
def test_what_cannot_be_written_is_bad_input(tmp_path, blocked, put):
    for path in (blocked, blocked / "deeper", tmp_path / ("n" * 300)):
        with pytest.raises(InputError, match=r"'path' must be writable \(.*\), not '.*n") as caught:
            put(path)
        assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["file"]


def test_neither_takes_the_place_of_the_other(tmp_path, blocked):
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError, match="'path' must be writable"):
        write_text(tmp_path / "x", "text")
    with pytest.raises(InputError, match="'path' must be a folder or not exist yet"):
        fill(blocked.parent)
    assert blocked.parent.read_text() == "in the way"
    assert names(tmp_path) == ["file", "x"]


@both_kinds
def test_the_blocks_own_errors_pass_unchanged(tmp_path, put):
    for error in (BrokenPipeError(errno.EPIPE, "no"), PermissionError(errno.EACCES, "no", "/else")):
        with pytest.raises(type(error)) as caught:
            put(tmp_path / "x", stop=error)
        assert caught.value is error
    assert names(tmp_path) == []


def test_the_folder_that_a_link_points_to_is_replaced_and_no_file_is_written_through_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "x")
    for content in ("old", "new"):
        fill(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink()
        assert content_of(tmp_path / "real" / "x") == content
    assert (names(tmp_path), names(tmp_path / "real")) == (["link", "real"], ["x"])
    for target in ("/dev/null", tmp_path / "real" / "x" / "a"):
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to(target)
        write(tmp_path / "link", "newer")
        assert (tmp_path / "link").is_file()
        assert not (tmp_path / "link").is_symlink()
    assert content_of(tmp_path / "real" / "x") == "new"
    assert Path("/dev/null").is_char_device()


def test_only_regular_files_are_read_and_no_link_is_followed_out_of_the_folder(tmp_path):
    """A pipe or /dev/zero would be read without end; /proc/kmsg is a regular file of no bytes that waits."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "file").write_text("in")
    (tmp_path / "outside").write_text("out")
    os.mkfifo(folder / "pipe")
    for name, target in (
        ("zero", "/dev/zero"),
        ("loop", "loop"),
        ("out", "../outside"),
        ("in", "file"),
        ("endless", "/proc/kmsg"),
    ):
        (folder / name).symlink_to(target)
    for read in (read_plain, sha256_of, read_json):
        for name in ("pipe", "zero"):
            with pytest.raises(ArtifactError, match=f"{name}' is no regular file"):
                read(folder / name)
        with pytest.raises(ArtifactError, match=r"loop' cannot be read"):
            read(folder / "loop")
        for name in ("out", "zero", "endless"):
            with pytest.raises(ArtifactError, match=f"{name}' leads out of"):
                read(folder / name, folder)
    assert read_plain(folder / "endless") == b""
    assert read_plain(folder / "in", folder) == b"in"
    assert read_plain(folder / "out") == b"out"
    with pytest.raises(ArtifactError, match="has 2 bytes, more than the 1"):
        read_plain(folder / "file", limit=1)


@both_kinds
def test_a_loop_of_links_is_refused(tmp_path, put):
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / one).symlink_to(tmp_path / other)
    for path in (tmp_path / "a", tmp_path / "a" / "x")[put is write :]:  # a file takes a link's place
        with pytest.raises(InputError, match="'path' must not be a loop of links"):
            put(path, "content")
    assert names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "kept"), [({}, False), ({"XDG_CACHE_HOME": "/x"}, True), ({"HOME": "/x"}, True)]
)
def test_what_numba_compiles_is_not_kept_without_a_home(given, kept, monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a user whom the system does not know
    assert keeps_compiled() == kept


def test_the_old_folder_comes_back_if_the_new_one_cannot_be_moved(tmp_path):
    fill(tmp_path / "bundle", "old")
    with (
        pytest.raises(InputError, match="'path' must be writable"),
        atomic_folder(tmp_path / "bundle") as temporary,
    ):
        os.rmdir(temporary)  # noqa: PTH106
    assert content_of(tmp_path / "bundle") == "old"
    assert names(tmp_path) == ["bundle"]


@both_kinds
def test_a_disk_full_on_the_way_is_bad_input(tmp_path, put):
    put(tmp_path / "x", "old")
    for stop in (OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EIO, "no")):
        with pytest.raises(InputError, match="'path' must be writable") as caught:
            put(tmp_path / "x", stop=stop)
        assert str(caught.value).endswith(f"not '{tmp_path / 'x'}'")
    assert content_of(tmp_path / "x") == "old"
    assert names(tmp_path) == ["x"]


def test_an_error_about_a_file_of_the_folder_is_one_of_writing_it(tmp_path):
    for error in (
        lambda new: OSError(errno.EINVAL, "no", "source", None, str(new / "b")),  # as shutil tells it
        lambda new: PermissionError(errno.EACCES, "no", str(new / "sub" / "b")),
    ):
        with (
            pytest.raises(InputError, match="'path' must be writable"),
            atomic_folder(tmp_path / "bundle") as new,
        ):
            raise error(new)


KILLED = """
import os, signal, sys
from pathlib import Path
from twophase.link.files import atomic_folder

with atomic_folder(Path(sys.argv[1])) as temporary:
    (temporary / "a").write_text("half")
    print(temporary, flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_at_the_next_start_and_what_a_living_one_works_on_stays(tmp_path):
    target = tmp_path / "bundle"
    others = [
        ".bundle2.12345678.tmp",
        ".bundle.json.12345678.tmp",
        ".bundle.1234567.tmp",
        "bundle.12345678.tmp",
    ]
    for name in others:
        (tmp_path / name).mkdir()
    words = [sys.executable, "-c", KILLED, target]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        its_folder = Path(other.stdout.readline().strip())
        fill(target)
        assert names(its_folder) == ["a"]
        other.stdin.close()
        assert other.wait(60) == -signal.SIGKILL
    assert its_folder.exists()
    fill(target)
    assert names(tmp_path) == sorted([*others, "bundle"])
    assert names(target) == ["a"]


@pytest.mark.parametrize("stop", [None, InterruptError])
def test_a_kill_between_the_two_renames_loses_nothing(tmp_path, stop):
    target = tmp_path / "bundle"
    fill(target, "old")
    target.rename(tmp_path / ".bundle.abcdefgh.tmp.old")
    (tmp_path / ".bundle.abcdefgh.tmp").mkdir()
    with pytest.raises(stop) if stop else nullcontext():
        fill(target, "new", stop and stop())
    assert content_of(target) == ("new" if stop is None else "old")
    assert names(tmp_path) == ["bundle"]


def test_what_cannot_be_read_is_named(tmp_path, blocked, monkeypatch):
    for read in (sha256_of, read_json):
        with pytest.raises(ArtifactError, match=r"x\.json' is missing"):
            read(tmp_path / "x.json")
        with pytest.raises(ArtifactError, match="cannot be read: Is a directory"):
            read(tmp_path)
        with pytest.raises(ArtifactError, match="cannot be read: Not a directory"):
            read(blocked)

    # the permission bits do not hold for root, as whom containers run tests
    def refuse(path, *_arguments, **_named):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    for read in (sha256_of, read_json):
        with pytest.raises(ArtifactError) as caught:
            read(tmp_path / "file")
        assert str(caught.value) == f"'{tmp_path / 'file'}' cannot be read: Permission denied"


def test_json_round_trip(tmp_path):
    value = {"a": [1, 2.5, None, True], "text": "größer ≥ 1"}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    assert (tmp_path / "x.json").read_text(encoding="utf-8").endswith("}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", [{"x": float("nan")}])
    assert read_json(tmp_path / "x.json") == value


@pytest.mark.parametrize("content", [b'{"a": 1', b"", b"\xff\xfe{}"])
def test_broken_json_is_a_broken_artifact(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ArtifactError, match="is not JSON: truncated or altered"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [
        ("/fast/here", "/var/xdg", "/fast/here"),
        ("~/here", "/var/xdg", "HOME/here"),
        ("kept", "/var/xdg", "HOME/kept"),
        ("", "/var/xdg", "/var/xdg/twophase-link"),
        ("", "relative", "HOME/.cache/twophase-link"),
        (None, None, "HOME/.cache/twophase-link"),
    ],
)
def test_the_cache_is_where_the_nearest_variable_says(monkeypatch, tmp_path, own, xdg, expected):
    monkeypatch.chdir(tmp_path)
    for name, value in (("HOME", str(tmp_path)), ("TWOPHASE_CACHE", own), ("XDG_CACHE_HOME", xdg)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected.replace("HOME", str(tmp_path)))
    assert not (tmp_path / ".cache").exists()
    monkeypatch.setenv("TWOPHASE_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(InputError, match="'TWOPHASE_CACHE' must name a folder"):
        cache_folder()


def test_a_lock_is_held_by_one_and_its_file_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.touch()  # what a killed process leaves is no lock
    for _ in range(2):
        with lock_file(path), pytest.raises(BlockingIOError), lock_file(path):
            pass
        assert not path.exists()


def test_where_a_file_system_has_no_locks_work_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", unsupported)
    with lock_file(tmp_path / "new" / ".lock"), lock_file(tmp_path / "new" / ".lock"):
        assert caplog.text.count("nothing keeps a second process out") == 2
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError), lock_file(tmp_path / "file" / ".lock"):
        pass
