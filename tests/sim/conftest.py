"""Tiny bundles that all tests share: read-only, who alters a bundle makes one."""

from pathlib import Path
from typing import Any

import pytest

from tools.tiny_bundle import write_tiny_bundle
from twophase.link.samples import Samples, load_samples
from twophase.sim.results.figures import Report
from twophase.sim.results.report_json import json_text
from twophase.sim.system import System, load_system

Factory = pytest.TempPathFactory


@pytest.fixture
def only_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without their figures and pages, which take most of the time of a short run."""

    def render(report: Report) -> dict[str, bytes]:
        return {"report.json": json_text(report).encode()}

    monkeypatch.setattr("twophase.sim.report.page.render", render)


def _bundle(factory: Factory, name: str, **options: Any) -> Path:
    return write_tiny_bundle(factory.mktemp(name) / "runs" / "tiny" / "bundle", **options)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: Factory) -> Path:
    """Four modes, chosen by the SNR; both references."""
    return _bundle(tmp_path_factory, "tiny")


@pytest.fixture(scope="session")
def content_bundle(tmp_path_factory: Factory) -> Path:
    """Four modes in every batch, chosen by the content and sent in a header."""
    return _bundle(tmp_path_factory, "content", router="content")


@pytest.fixture(scope="session")
def text_bundle(tmp_path_factory: Factory) -> Path:
    """As ``bundle``, with sentences ahead of it."""
    return _bundle(tmp_path_factory, "text", text=True)


def _opened(folder: Path) -> tuple[System, Samples]:
    system, manifest = load_system(folder)
    return system, load_samples(folder / "eval.npz", manifest)


@pytest.fixture(scope="session")
def by_snr(bundle: Path) -> tuple[System, Samples]:
    """``bundle``, opened, and its samples."""
    return _opened(bundle)


@pytest.fixture(scope="session")
def content(content_bundle: Path) -> tuple[System, Samples]:
    """``content_bundle``, opened, and its samples."""
    return _opened(content_bundle)


@pytest.fixture(scope="session")
def system(content: tuple[System, Samples]) -> System:
    """That of ``content``."""
    return content[0]


@pytest.fixture(scope="session")
def samples(content: tuple[System, Samples]) -> Samples:
    """Those of ``content``."""
    return content[1]
