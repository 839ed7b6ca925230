"""Artefacts that several tests share, made once per test session even with several workers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tools.commands import run_command

LINK = ("--codebook-sizes", "2", "4", "--tokens", "24", "6", "--qam-orders", "4", "16")
"""Four modes, of 12, 6, 6 and 3 symbols: an adaptive link that is exported in seconds."""


def _once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = shared / name, shared / f"{name}.done"
    with FileLock(shared / f"{name}.lock"):
        if not done.exists():
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short but real training run on digits."""

    def make(folder: Path) -> None:
        done = run_command(
            "tp-train", "--out", folder, "--epochs", "14", "--alignment-start-epoch", "9", *LINK
        )
        assert done.returncode == 0, done.stderr

    return _once(tmp_path_factory, "digits", make)


@pytest.fixture(scope="session")
def digits_bundle(tmp_path_factory: pytest.TempPathFactory, digits_run: Path) -> Path:
    """Its bundle."""

    def make(folder: Path) -> None:
        done = run_command("tp-export", "--run", digits_run, "--out", folder, "--random-inputs", "5000")
        assert done.returncode == 0, done.stderr

    return _once(tmp_path_factory, "digits-bundle", make)
