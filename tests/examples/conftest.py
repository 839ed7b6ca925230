"""The edge examples: their modules, and bundles whose symbols have a known energy."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tools.tiny_bundle import write_tiny_bundle
from twophase.link.manifest import load_manifest, write_manifest

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
    from twophase.link.constellation import qam
    from twophase.link.runtime import FeatureTransmitter

    manifest = load_manifest(folder, "bundle")
    with np.load(folder / "eval.npz") as data:
        features = data["input"]
    sender = FeatureTransmitter(folder, manifest=manifest)
    energies = []
    for number, mode in enumerate(manifest.modes):
        sent = sender.send(features, 0.0, number).symbols[:, : mode.symbols]
        energies.append(float(np.mean(np.abs(qam(mode.order).points[sent]) ** 2)))
    trained = replace(manifest, training={**manifest.training, "symbol_energy": energies})
    write_manifest(folder, trained, tuple(manifest.files))
    return folder


@pytest.fixture(scope="session")
def table_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edge") / "table"
    return with_energy(write_tiny_bundle(folder, router="table", hysteresis_db=1.5, samples=24))


@pytest.fixture(scope="session")
def content_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edge") / "content"
    return with_energy(write_tiny_bundle(folder, router="content", samples=24))


@pytest.fixture(scope="session")
def text_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edge") / "text"
    return with_energy(write_tiny_bundle(folder, router="content", text=True, samples=24))
