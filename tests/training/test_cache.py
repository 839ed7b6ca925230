"""The cache folder follows the variables that people set, in their order."""

from __future__ import annotations

from pathlib import Path

import pytest

from twophase.link.errors import InputError
from twophase.link.files import cache_folder


@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [
        ("/fast/here", "/var/xdg", "/fast/here"),
        ("~/here", "/var/xdg", "HOME/here"),
        ("", "/var/xdg", "/var/xdg/twophase-link"),
        (None, "/var/xdg", "/var/xdg/twophase-link"),
        (None, "relative", "HOME/.cache/twophase-link"),
        (None, None, "HOME/.cache/twophase-link"),
    ],
)
def test_the_nearest_variable_decides(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: str | None, xdg: str | None, expected: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in (("TWOPHASE_CACHE", own), ("XDG_CACHE_HOME", xdg)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected.replace("HOME", str(tmp_path)))
    assert not (tmp_path / ".cache").exists()


def test_a_relative_folder_is_one_of_the_working_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWOPHASE_CACHE", "kept")
    assert cache_folder() == tmp_path / "kept"


def test_without_a_home_folder_one_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOPHASE_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(InputError, match="'TWOPHASE_CACHE' must name a folder"):
        cache_folder()
