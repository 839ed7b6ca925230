"""Settings of the tests of training."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """The tensors are small: with more threads, and workers beside, torch mostly waits for itself."""
    torch.set_num_threads(1)
