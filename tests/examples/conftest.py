"""The edge examples: their modules, and bundles whose payloads have unit energy."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tools.tiny_bundle import write_tiny_bundle
from twophase.link import load_manifest, qam
from twophase.link.manifest import write_manifest
from twophase.link.transmitter import FeatureTransmitter

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def load_example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A module of the examples by name."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


@pytest.fixture
def frames(load_example: Callable[[str], ModuleType]) -> ModuleType:
    return load_example("edge_frames")


@pytest.fixture
def radio(load_example: Callable[[str], ModuleType]) -> ModuleType:
    return load_example("edge_radio")


def with_energy(folder: Path) -> Path:
    """Write into the manifest the mean energy of what each mode sends, as training does."""
    link = load_manifest(folder, "bundle")
    with np.load(folder / "eval.npz") as data:
        features = data["input"]
    sender = FeatureTransmitter(folder, manifest=link)
    energies = []
    for number, mode in enumerate(link.modes):
        sent = sender.send(features, 0.0, number).symbols[:, : mode.symbols]
        energies.append(float(np.mean(np.abs(qam(mode.order).points[sent]) ** 2)))
    write_manifest(folder, replace(link, symbol_energy=tuple(energies)), tuple(link.files))
    return folder


@pytest.fixture(scope="session")
def edge_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The bundle of a kind: ``table``, ``content`` or ``text``, made once."""
    made: dict[str, Path] = {}

    def bundle(kind: str) -> Path:
        if kind not in made:
            router, hysteresis = ("table", 1.5) if kind == "table" else ("content", 0.0)
            folder = tmp_path_factory.mktemp("edge") / kind
            made[kind] = with_energy(
                write_tiny_bundle(
                    folder, router=router, hysteresis_db=hysteresis, text=kind == "text", samples=24
                )
            )
        return made[kind]

    return bundle


@pytest.fixture
def table_bundle(edge_bundle: Callable[[str], Path]) -> Path:
    return edge_bundle("table")


@pytest.fixture
def text_bundle(edge_bundle: Callable[[str], Path]) -> Path:
    return edge_bundle("text")
