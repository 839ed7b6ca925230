from pathlib import Path

import pytest

from tools.tiny_bundle import write_tiny_bundle
from twophase.link.samples import Samples, load_samples
from twophase.sim.system import System, load_system


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four modes, chosen by the SNR; both references.  Read-only: who alters a bundle makes one."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "runs" / "tiny" / "bundle")


@pytest.fixture(scope="session")
def content_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four modes in every batch, chosen by the content and sent in a header."""
    folder = tmp_path_factory.mktemp("content") / "runs" / "tiny" / "bundle"
    return write_tiny_bundle(folder, router="content")


@pytest.fixture(scope="session")
def table_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four modes by a table over the SNR, with 1 dB of hysteresis."""
    folder = tmp_path_factory.mktemp("table") / "runs" / "tiny" / "bundle"
    return write_tiny_bundle(folder, router="table", hysteresis_db=1.0)


@pytest.fixture(scope="session")
def text_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``bundle``, with sentences ahead of it."""
    folder = tmp_path_factory.mktemp("text") / "runs" / "tiny" / "bundle"
    return write_tiny_bundle(folder, text=True)


def _opened(folder: Path) -> tuple[System, Samples]:
    system, manifest = load_system(folder)
    return system, load_samples(folder / "eval.npz", manifest.input_shape, system.classes)


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
    """All modes in one batch, sent in a header."""
    return content[0]


@pytest.fixture(scope="session")
def samples(content: tuple[System, Samples]) -> Samples:
    """Those of ``system``."""
    return content[1]
