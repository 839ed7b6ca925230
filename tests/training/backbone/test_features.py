"""From sentences to features: learned, kept, resumed, and the same by every way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from twophase.link.command import Terminal
from twophase.link.errors import ArtifactError
from twophase.training.backbone.features import Prepared, open_backbone, prepare
from twophase.training.backbone.load import load_backbone
from twophase.training.config import TrainConfig
from twophase.training.data import TextTask


@pytest.fixture(scope="module")
def settings(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return TrainConfig(
        task="csv",
        backbone=str(tiny_folder),
        out=tmp_path_factory.mktemp("run"),
        tune_layers=1,
        tune_epochs=4,
        tune_learning_rate=1e-2,
        tune_batch_size=16,
        max_length=20,
        device="cpu",
    )


def run(task: TextTask, settings: TrainConfig, **values: Any) -> Prepared:
    return prepare(open_backbone(replace(settings, **values), task), Terminal(quiet=True))


@pytest.fixture(scope="module")
def first(text_task: TextTask, settings: TrainConfig) -> Prepared:
    """A run with the top layer tuned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWOPHASE_CACHE", str(settings.folder / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        return run(text_task, settings)


def by_the_backbone(prepared: Prepared) -> torch.Tensor:
    inputs = (prepared.input_ids, prepared.attention_mask)
    with torch.inference_mode():
        return prepared.backbone(*(torch.from_numpy(values.astype(np.int64)) for values in inputs))


@pytest.mark.parametrize("tuned", [0, 2, -1])
def test_features_are_those_of_the_exported_backbone(
    tuned: int, text_task: TextTask, settings: TrainConfig, tmp_path: Path
) -> None:
    torch.set_num_threads(2)
    prepared = run(text_task, settings, out=tmp_path / "run", tune_layers=tuned)
    assert torch.get_num_threads() == 2, "it is put back"
    torch.set_num_threads(1)
    torch.testing.assert_close(by_the_backbone(prepared), prepared.task.test.features, atol=1e-5, rtol=0)
    train = prepared.task.train
    torch.testing.assert_close(train.features.mean(0), torch.zeros(16), atol=1e-4, rtol=0)
    torch.testing.assert_close(train.teacher.sum(1), torch.ones(96))
    assert (train.teacher.argmax(1) == train.labels).float().mean() > 0.8
    assert prepared.task.test.teacher is None
    assert prepared.record["tune_layers"] == tuned
    assert (tmp_path / "cache" / "hidden").is_dir() == (tuned != -1)


def test_tuned_layers_change_and_serve_another_run_as_they_are(
    text_task: TextTask, settings: TrainConfig, first: Prepared, tmp_path: Path
) -> None:
    assert (first.without_link == first.task.test.labels.numpy()).mean() > 0.7
    folder = str(settings.folder / "backbone")
    before, after = (load_backbone(name, 20).model.state_dict() for name in (settings.backbone, folder))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(".layer.2." in name for name in changed)
    second = run(text_task, settings, backbone=folder, tune_layers=0, out=tmp_path)
    torch.testing.assert_close(second.task.test.features, first.task.test.features, atol=1e-4, rtol=1e-4)


def test_a_resumed_run_computes_nothing_again(
    text_task: TextTask, settings: TrainConfig, first: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("computed again")

    for name in ("compute_hidden", "open_hidden", "Tuner", "tuned_features"):
        monkeypatch.setattr(f"twophase.training.backbone.features.{name}", never)
    again = run(text_task, settings, resume=True)
    for name in ("train", "validation", "test"):
        assert torch.equal(getattr(first.task, name).features, getattr(again.task, name).features)
    assert np.array_equal(first.without_link, again.without_link)
    assert torch.equal(by_the_backbone(first), by_the_backbone(again))
    assert first.record == again.record


@pytest.mark.usefixtures("first")
def test_features_of_other_settings_or_sentences_are_refused(
    text_task: TextTask, settings: TrainConfig
) -> None:
    for task, seed in ((text_task, 1), (replace(text_task, train=text_task.validation), 0)):
        with pytest.raises(ArtifactError, match="train again without --resume"):
            run(task, settings, seed=seed, resume=True)
