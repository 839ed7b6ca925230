"""A small run of sentences on a grid, and its bundles in both precisions, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.tiny_run import write_grid_text_run
from twophase.export.artefacts.write import Extras
from twophase.export.build import build_bundle
from twophase.export.report import report

_RANDOM_INPUTS = 200


@pytest.fixture(scope="session")
def text_run(make_shared: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A finished run of two programs and a backbone.  Read only."""
    return make_shared("text", lambda folder: write_grid_text_run(folder, references=()))


@pytest.fixture(scope="session")
def text_bundle(make_shared: Callable[[str, Callable[[Path], object]], Path], text_run: Path) -> Path:
    """Its bundle, with converted graphs.  Read only."""
    return make_shared("text-bundle", lambda folder: _build(text_run, folder, extras=Extras(ort=True)))


@pytest.fixture(scope="session")
def int8_text_bundle(make_shared: Callable[[str, Callable[[Path], object]], Path], text_run: Path) -> Path:
    """Its bundle in INT8.  Read only."""
    return make_shared("text-bundle-int8", lambda folder: _build(text_run, folder, precision="int8"))


def _build(run: Path, folder: Path, **options: Any) -> None:
    summary = build_bundle(run, folder, _RANDOM_INPUTS, **options)
    folder.with_suffix(".report").write_text(report(summary))
