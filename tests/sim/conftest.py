from pathlib import Path

import pytest

from tools.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four modes, chosen by the SNR; both references.  Read-only: who alters a bundle makes one."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "runs" / "tiny" / "bundle")
