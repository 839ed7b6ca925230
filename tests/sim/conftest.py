from pathlib import Path

import pytest

from tools.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four modes, chosen by the SNR; both references.  Read-only: who alters a bundle makes one."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "runs" / "tiny" / "bundle")


@pytest.fixture(scope="session")
def content_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four modes in every batch, chosen by the content and told in a header."""
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
