"""SST-2 through a stand-in for datasets: which parts become which, and what is said without a hub."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from twophase.link.errors import ArtifactError, PackageError
from twophase.training.data import TextTask
from twophase.training.tasks import load_task


class Hub:
    """Stands for the packages datasets and huggingface_hub."""

    def __init__(self) -> None:
        self.reachable = True
        self.kept = False
        self.parts: dict[str, Any] = {
            "train": self.part("phrase", 1000),
            "validation": self.part("sentence", 50),
            "test": {"sentence": ["unlabelled"] * 9, "label": [-1] * 9},
        }
        self.config = SimpleNamespace(HF_ENDPOINT="https://hub.invalid", HF_HUB_OFFLINE=False)

    @staticmethod
    def part(name: str, size: int) -> dict[str, Any]:
        labels = [int(number % 5 < 2) for number in range(size)]
        return {"sentence": [f"{name} {number} " for number in range(size)], "label": labels}

    def load_dataset(self, *names: str) -> dict[str, Any]:
        assert names == ("nyu-mll/glue", "sst2")
        assert self.config.HF_HUB_OFFLINE is not self.reachable
        if not self.reachable and not self.kept:
            raise ConnectionError("Couldn't reach 'nyu-mll/glue' on the Hub\nand more")
        return self.parts

    def disable_progress_bars(self) -> None:
        """Called where stderr is no terminal."""

    def HfApi(self, endpoint: str) -> Hub:  # noqa: N802
        assert endpoint == self.config.HF_ENDPOINT
        return self

    def dataset_info(self, name: str, timeout: float) -> None:
        assert name == "nyu-mll/glue"
        assert timeout <= 10
        if not self.reachable:
            raise RuntimeError("an error of some HTTP library")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    for name, parts in (
        ("datasets", ("config", "load_dataset", "disable_progress_bars")),
        ("huggingface_hub", ("HfApi",)),
    ):
        module = ModuleType(name)
        for part in parts:
            setattr(module, part, getattr(made, part))
        monkeypatch.setitem(sys.modules, name, module)
    return made


def load() -> TextTask:
    task = load_task("sst2")
    assert isinstance(task, TextTask)
    return task


def test_what_glue_validates_with_tests_here(hub: Hub) -> None:
    task = load()
    assert task.test.texts == tuple(hub.parts["validation"]["sentence"])
    assert [len(task.train), len(task.validation)] == [950, 50]
    assert sorted(task.train.texts + task.validation.texts) == sorted(hub.parts["train"]["sentence"])
    assert task.validation.labels.mean() == pytest.approx(0.4)
    assert task.classes == ("negative", "positive")
    assert load().validation.texts == task.validation.texts
    hub.parts["train"] = hub.part("phrase", 60_000)
    assert len(load().validation) == 2000, "the validation part has a limit"


def test_without_a_hub_what_was_kept_is_taken_or_one_line_says_so(hub: Hub) -> None:
    hub.reachable, hub.kept = False, True
    assert len(load().test) == 50
    assert not hub.config.HF_HUB_OFFLINE
    hub.kept = False
    with pytest.raises(
        ArtifactError, match=r"^.*'sst2'.* hub https://hub\.invalid is not reachable .*reviews.*$"
    ):
        load()
    assert not hub.config.HF_HUB_OFFLINE


def test_other_data_and_an_absent_package_are_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.parts["validation"] = {"text": [], "label": []}
    with pytest.raises(ArtifactError, match="cannot be loaded: 'sentence'"):
        load()
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PackageError, match=r"pip install 'twophase-link\[sst2\]'"):
        load()
