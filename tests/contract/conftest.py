"""An environment without some packages, as on a machine that has the base install alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

REFUSED = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(f"{{name}} is not installed here", name=name)
sys.meta_path.insert(0, Refuse())
"""
TRAINING = {"torch", "onnxscript", "sklearn", "safetensors", "tensorboard"}
TRAINING |= {"transformers", "accelerate", "datasets"}


@pytest.fixture
def without_training(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Variables of a process that finds none of the packages for training, nor those named."""

    def environment(*more: str) -> dict[str, str]:
        (tmp_path / "sitecustomize.py").write_text(REFUSED.format(names=TRAINING | set(more)))
        return {"PYTHONPATH": str(tmp_path)}

    return environment
