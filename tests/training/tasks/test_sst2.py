"""SST-2 through a stand-in for datasets: which parts become which, and what is said without a hub."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from twophase.link.errors import ArtifactError, PackageError
from twophase.training.tasks import load_task


def part(name: str, size: int) -> dict[str, Any]:
    labels = [int(number % 5 < 2) for number in range(size)]
    return {"sentence": [f"{name} {number} " for number in range(size)], "label": labels}


class Hub:
    """Stands for the packages datasets and huggingface_hub."""

    def __init__(self) -> None:
        self.reachable, self.kept = True, False
        self.parts: dict[str, Any] = {"train": part("phrase", 1000), "validation": part("sentence", 50)}
        self.config = SimpleNamespace(HF_ENDPOINT="https://hub.invalid", HF_HUB_OFFLINE=False)
        self.disable_progress_bars = lambda: None

    def load_dataset(self, *names: str) -> dict[str, Any]:
        assert names == ("nyu-mll/glue", "sst2")
        assert self.config.HF_HUB_OFFLINE is not self.reachable
        if not self.reachable and not self.kept:
            raise ConnectionError("Couldn't reach 'nyu-mll/glue' on the Hub\nand more")
        return self.parts

    def HfApi(self, endpoint: str) -> Hub:  # noqa: N802
        assert endpoint == self.config.HF_ENDPOINT
        return self

    def dataset_info(self, name: str, timeout: float) -> None:
        assert (name, timeout <= 10) == ("nyu-mll/glue", True)
        if not self.reachable:
            raise RuntimeError("an error of some HTTP library")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    for name in ("datasets", "huggingface_hub"):
        module = ModuleType(name)
        module.__getattr__ = lambda name: getattr(made, name)
        monkeypatch.setitem(sys.modules, name, module)
    return made


def test_what_glue_validates_with_tests_here(hub: Hub) -> None:
    task = load_task("sst2")
    assert task.classes == ("negative", "positive")
    assert task.test.texts == tuple(hub.parts["validation"]["sentence"])
    assert [len(task.train), len(task.validation)] == [950, 50]
    assert sorted(task.train.texts + task.validation.texts) == sorted(hub.parts["train"]["sentence"])
    assert task.validation.labels.mean() == pytest.approx(0.4)
    assert load_task("sst2").validation.texts == task.validation.texts
    hub.parts["train"] = part("phrase", 60_000)
    assert len(load_task("sst2").validation) == 2000, "the validation part has a limit"


def test_without_a_hub_what_was_kept_is_taken_or_one_line_says_so(hub: Hub) -> None:
    hub.reachable, hub.kept = False, True
    assert len(load_task("sst2").test) == 50
    hub.kept = False
    said = r"^.*'sst2'.* hub https://hub\.invalid is not reachable .*reviews.*$"
    with pytest.raises(ArtifactError, match=said):
        load_task("sst2")
    assert not hub.config.HF_HUB_OFFLINE


def test_other_data_and_an_absent_package_are_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.parts["validation"] = {"text": [], "label": []}
    with pytest.raises(ArtifactError, match="cannot be loaded: 'sentence'"):
        load_task("sst2")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PackageError, match=r"pip install '\.\[sst2\]'"):
        load_task("sst2")
