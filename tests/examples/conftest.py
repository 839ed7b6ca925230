"""The edge examples: their modules, and the bundles that they run."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from tools.tiny_bundle import write_tiny_bundle

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("edge_frames")


@pytest.fixture
def radio(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("edge_radio")


@pytest.fixture(scope="session")
def edge_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The bundle of a kind: ``table``, ``content`` or ``text``, made once."""

    @cache
    def bundle(kind: str) -> Path:
        router, hysteresis = ("table", 1.5) if kind == "table" else ("content", 0.0)
        return write_tiny_bundle(
            tmp_path_factory.mktemp("edge") / kind,
            router=router,
            hysteresis_db=hysteresis,
            text=kind == "text",
            samples=24,
        )

    return bundle


@pytest.fixture
def table_bundle(edge_bundle: Callable[[str], Path]) -> Path:
    return edge_bundle("table")
