"""Tuning: what changes, what stays, and that an interruption changes nothing of the result."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from twophase.link.command import Terminal
from twophase.link.errors import InputError
from twophase.training.backbone.layers import split_backbone, tokenize
from twophase.training.backbone.load import load_backbone
from twophase.training.backbone.tune import (
    LAST,
    Tuner,
    backbone_threads,
    is_main_process,
    load_tuning,
    make_accelerator,
)
from twophase.training.config import TrainConfig
from twophase.training.data import TextTask

CONFIG = TrainConfig(
    task="csv", tune_epochs=3, tune_learning_rate=1e-2, tune_batch_size=16, max_length=20, device="cpu"
)

Make = Callable[..., Tuner]


@pytest.fixture
def make(tiny_folder: Path, text_task: TextTask, tmp_path: Path) -> Make:
    """A tuner of all layers above the embeddings, or of the whole, that takes token ids."""

    def tuner(name: str, config: TrainConfig = CONFIG, fingerprint: str = "one") -> Tuner:
        loaded = load_backbone(str(tiny_folder), 20)
        tokens = tokenize(text_task, loaded.tokenizer_json, 20)
        upper = split_backbone(loaded.model, -1).upper
        accelerator = make_accelerator(config)
        config = replace(config, out=tmp_path / name)
        return Tuner(upper, 16, 2, tokens, tokens, config, accelerator, fingerprint)

    return tuner


def weights_of(tuner: Tuner) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in tuner.model.state_dict().items()}


def test_a_resumed_tuning_is_the_uninterrupted_one_bit_for_bit(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make("whole")
    whole.train(Terminal(quiet=True))

    broken = make("broken")
    epoch = broken.epoch

    def interrupted(number: int, *rest: Any) -> float:
        loss = epoch(number, *rest)
        if number == 2:
            raise KeyboardInterrupt
        return loss

    monkeypatch.setattr(broken, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        broken.train(Terminal(quiet=True))
    assert load_tuning(tmp_path / "broken" / "checkpoints", LAST, "one").state["epoch"] == 1

    torch.manual_seed(99)
    resumed = make("broken")
    resumed.restore()
    assert resumed.state.epoch == 1
    resumed.train(Terminal(quiet=True))
    assert replace(resumed.state, seconds=0) == replace(whole.state, seconds=0)
    torch.testing.assert_close(weights_of(resumed), weights_of(whole), atol=0, rtol=0)
    torch.testing.assert_close(
        resumed.best_model().state_dict(), whole.best_model().state_dict(), atol=0, rtol=0
    )
    other = make("other", replace(CONFIG, seed=1))
    other.train(Terminal(quiet=True))
    assert not torch.equal(other.model.classifier.weight, whole.model.classifier.weight)


def test_the_best_epoch_is_kept_and_every_epoch_gets_a_line(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = iter([0.5, 0.9, 0.7])
    kept: list[dict[str, torch.Tensor]] = []
    tuner = make("run")

    def measured(*_: Any) -> float:
        kept.append(weights_of(tuner))
        return next(accuracies)

    monkeypatch.setattr("twophase.training.backbone.tune.accuracy_of", measured)
    output = io.StringIO()
    tuner.train(Terminal(output))
    lines = output.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == ["tuning 1/3", "tuning 2/3", "tuning 3/3"]
    assert ["the best so far" in line for line in lines] == [True, True, False]
    assert (tuner.state.best_epoch, tuner.state.best) == (2, 0.9)
    torch.testing.assert_close(tuner.best_model().state_dict(), kept[1], atol=0, rtol=0)


def test_a_loss_that_is_not_finite_names_the_learning_rate(make: Make) -> None:
    with pytest.raises(InputError, match=r"'tune_learning_rate' must keep the loss finite .* not 1e\+30"):
        make("run", replace(CONFIG, tune_learning_rate=1e30)).train(Terminal(quiet=True))


def test_half_precision_needs_a_gpu_and_the_launcher_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="'mixed_precision' must be no or bf16 without a GPU, not 'fp16'"):
        make_accelerator(replace(CONFIG, mixed_precision="fp16"))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(InputError, match="'mixed_precision' must be bf16, as the launcher was given"):
        make_accelerator(CONFIG)


def test_main_process_and_threads_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert is_main_process()
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert backbone_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert backbone_threads() >= 1
