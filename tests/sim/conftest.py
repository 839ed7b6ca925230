from pathlib import Path

import pytest

from tools.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four modes in one batch, both references.  Read only: tests that alter a bundle make their own."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "runs" / "tiny" / "bundle")
