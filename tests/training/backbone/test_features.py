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


@pytest.fixture
def settings(tiny_folder: Path) -> TrainConfig:
    return TrainConfig(
        task="csv",
        backbone=str(tiny_folder),
        tune_epochs=4,
        tune_learning_rate=1e-2,
        tune_batch_size=16,
        max_length=20,
        device="cpu",
    )


def run(task: TextTask, settings: TrainConfig, folder: Path, resume: bool = False) -> Prepared:
    settings = replace(settings, out=folder, resume=resume)
    prepared = prepare(open_backbone(settings, task), Terminal(quiet=True))
    assert prepared is not None
    return prepared


def by_the_backbone(prepared: Prepared) -> torch.Tensor:
    ids, mask = (
        torch.from_numpy(values.astype(np.int64)) for values in (prepared.input_ids, prepared.attention_mask)
    )
    with torch.inference_mode():
        return prepared.backbone(ids, mask)


def accuracy(prepared: Prepared) -> float:
    return float((prepared.without_link == prepared.task.test.labels.numpy()).mean())


@pytest.mark.parametrize("tuned", [0, 2, 3, -1])
def test_features_are_those_of_the_exported_backbone(
    tuned: int, text_task: TextTask, settings: TrainConfig, tmp_path: Path
) -> None:
    prepared = run(text_task, replace(settings, tune_layers=tuned), tmp_path / "run")
    torch.testing.assert_close(by_the_backbone(prepared), prepared.task.test.features, atol=1e-5, rtol=0)
    train = prepared.task.train
    torch.testing.assert_close(train.features.mean(0), torch.zeros(16), atol=1e-4, rtol=0)
    assert train.teacher is not None
    torch.testing.assert_close(train.teacher.sum(1), torch.ones(96))
    assert (train.teacher.argmax(1) == train.labels).float().mean() > 0.8
    assert prepared.task.test.teacher is None
    assert prepared.record["tune_layers"] == tuned
    assert (tmp_path / "cache" / "hidden").is_dir() == (tuned != -1)


def test_tuned_layers_change_and_the_others_do_not(
    text_task: TextTask, settings: TrainConfig, tmp_path: Path
) -> None:
    prepared = run(text_task, replace(settings, tune_layers=1), tmp_path / "run")
    assert accuracy(prepared) > 0.7
    before = load_backbone(settings.backbone, 20).model.state_dict()
    after = load_backbone(str(tmp_path / "run" / "backbone"), 20).model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(".layer.2." in name for name in changed)


def test_a_tuned_backbone_serves_another_run_as_it_is(
    text_task: TextTask, settings: TrainConfig, tmp_path: Path
) -> None:
    first = run(text_task, settings, tmp_path / "first")
    folder = str(tmp_path / "first" / "backbone")
    second = run(text_task, replace(settings, backbone=folder, tune_layers=0), tmp_path / "second")
    torch.testing.assert_close(second.task.test.features, first.task.test.features, atol=1e-4, rtol=1e-4)


def test_a_resumed_run_computes_nothing_again(
    text_task: TextTask, settings: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(text_task, settings, tmp_path / "run")

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("computed again")

    for name in ("compute_hidden", "open_hidden", "Tuner", "tuned_features"):
        monkeypatch.setattr(f"twophase.training.backbone.features.{name}", never)
    again = run(text_task, settings, tmp_path / "run", resume=True)
    for ours, theirs in zip(
        (first.task.train, first.task.validation, first.task.test),
        (again.task.train, again.task.validation, again.task.test),
        strict=True,
    ):
        assert torch.equal(ours.features, theirs.features)
    assert np.array_equal(first.without_link, again.without_link)
    assert torch.equal(by_the_backbone(first), by_the_backbone(again))
    assert first.record == again.record


def test_features_of_other_settings_or_sentences_are_refused(
    text_task: TextTask, settings: TrainConfig, tmp_path: Path
) -> None:
    settings = replace(settings, tune_epochs=1)
    run(text_task, settings, tmp_path)
    with pytest.raises(ArtifactError, match="train again without --resume"):
        run(text_task, replace(settings, seed=1), tmp_path, resume=True)
    with pytest.raises(ArtifactError, match="train again without --resume"):
        run(replace(text_task, train=text_task.validation), settings, tmp_path, resume=True)


def test_the_number_of_threads_is_put_back(
    text_task: TextTask, settings: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    run(text_task, replace(settings, tune_layers=0), tmp_path)
    assert torch.get_num_threads() == 1
