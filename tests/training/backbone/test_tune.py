"""Tuning: what changes, what stays, and that an interruption changes nothing of the result."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from twophase.link.errors import ArtifactError, InputError
from twophase.training.backbone.layers import bucketed, longest_first, split_backbone
from twophase.training.backbone.load import load_backbone
from twophase.training.backbone.tokens import tokenize
from twophase.training.backbone.tune import (
    LAST,
    Tuner,
    TuneSettings,
    is_main_process,
    load_tuning,
    make_accelerator,
)
from twophase.training.data import TextTask

SETTINGS = TuneSettings(epochs=3, learning_rate=1e-2, batch_size=16, max_length=20, device="cpu")

Make = Callable[..., Tuner]


@pytest.fixture
def make(tiny_folder: Path, text_task: TextTask, tmp_path: Path) -> Make:
    """A tuner of all layers above the embeddings, or of the whole, that takes token ids."""

    def tuner(name: str, settings: TuneSettings = SETTINGS, fingerprint: str = "one") -> Tuner:
        loaded = load_backbone(str(tiny_folder), 20)
        tokens = tokenize(text_task, loaded.tokenizer_json, 20)
        upper = split_backbone(loaded.model, -1).upper
        accelerator = make_accelerator(settings)
        return Tuner(upper, 16, 2, tokens, tokens, settings, accelerator, tmp_path / name, fingerprint)

    return tuner


def quiet_console() -> Console:
    return Console(quiet=True)


def weights_of(tuner: Tuner) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in tuner.model.state_dict().items()}


def test_a_resumed_tuning_is_the_uninterrupted_one_bit_for_bit(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make("whole")
    whole.train(quiet_console())

    broken = make("broken")
    epoch = broken.epoch

    def interrupted(number: int, *rest: Any) -> float:
        loss = epoch(number, *rest)
        if number == 2:
            raise KeyboardInterrupt
        return loss

    monkeypatch.setattr(broken, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        broken.train(quiet_console())
    assert load_tuning(tmp_path / "broken", LAST, "one").state["epoch"] == 1

    torch.manual_seed(99)
    resumed = make("broken")
    resumed.restore()
    assert resumed.standing.epoch == 1
    resumed.train(quiet_console())
    assert resumed.standing.accuracies == whole.standing.accuracies
    assert resumed.standing.best_epoch == whole.standing.best_epoch
    for name, value in weights_of(whole).items():
        assert torch.equal(weights_of(resumed)[name], value), name
    for name, value in whole.best_model().state_dict().items():
        assert torch.equal(resumed.best_model().state_dict()[name], value), name


def test_a_tuning_stopped_in_its_first_epoch_begins_anew(make: Make) -> None:
    tuner = make("none")
    tuner.restore()
    assert tuner.standing.epoch == 0


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
    tuner.train(Console(file=output))
    lines = output.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == ["tuning 1/3", "tuning 2/3", "tuning 3/3"]
    assert ["the best so far" in line for line in lines] == [True, True, False]
    assert tuner.standing.best_epoch == 2
    assert tuner.standing.best == 0.9
    for name, value in tuner.best_model().state_dict().items():
        assert torch.equal(kept[1][name], value), name


def test_a_seed_decides_everything(make: Make) -> None:
    first, again = make("first"), make("again")
    other = make("other", replace(SETTINGS, seed=1))
    for tuner in (first, again, other):
        tuner.epoch(1)
    name = "classifier.weight"
    assert torch.equal(weights_of(first)[name], weights_of(again)[name])
    assert not torch.equal(weights_of(first)[name], weights_of(other)[name])


def test_a_loss_that_is_not_finite_names_the_learning_rate(make: Make) -> None:
    with pytest.raises(InputError, match=r"'tune_learning_rate' must keep the loss finite .* not 1e\+30"):
        make("run", replace(SETTINGS, learning_rate=1e30)).train(quiet_console())


def test_a_batch_must_fit(make: Make) -> None:
    with pytest.raises(InputError, match=r"'tune_batch_size' must lie in 1..96 .* not 97"):
        make("run", replace(SETTINGS, batch_size=97))


def test_checkpoints_of_another_tuning_are_refused(make: Make) -> None:
    make("run", replace(SETTINGS, epochs=1)).train(quiet_console())
    with pytest.raises(ArtifactError, match="belongs to other sentences, settings or another backbone"):
        make("run", fingerprint="two").restore()


def test_half_precision_needs_a_gpu_and_the_launcher_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="'mixed_precision' must be no or bf16 without a GPU, not 'fp16'"):
        make_accelerator(replace(SETTINGS, mixed_precision="fp16"))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(InputError, match="'mixed_precision' must be bf16, which the launcher was told"):
        make_accelerator(SETTINGS)


def test_the_main_process_is_known_from_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert is_main_process()
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()


def test_batches_hold_every_text_once_and_alike_lengths() -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 60, 500)
    members = generator.permutation(500)[:403].astype(np.int64)
    batches = bucketed(lengths, members, 8, np.random.default_rng(1))
    assert [len(batch) for batch in batches] == [8] * 50
    assert len(set(np.concatenate(batches).tolist())) == 400
    padded = sum(8 * lengths[batch].max() for batch in batches)
    assert padded < 1.3 * lengths[np.concatenate(batches)].sum()
    sorted_batches = list(longest_first(lengths, members, 100))
    assert sorted(np.concatenate(sorted_batches)) == sorted(members)
    assert all(len(batch) * lengths[batch].max() <= 100 for batch in sorted_batches)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"tune_layers": -2}, "'tune_layers' must be at least -1"),
        ({"epochs": 0}, "'tune_epochs' must be at least 1"),
        ({"batch_size": 0}, "'tune_batch_size' must be at least 1"),
        ({"max_length": 1}, "'max_length' must be at least 2"),
        ({"learning_rate": float("nan")}, "'tune_learning_rate' must be positive"),
        ({"mixed_precision": "fp8"}, "'mixed_precision' must be one of no, fp16, bf16"),
        ({"device": "tpu"}, "'device' must be one of auto, cpu, cuda"),
        ({"backbone": ""}, "'backbone' must be a name or a folder"),
        ({"threads": 0}, "'threads' must be at least 1"),
        ({"seed": -1}, "'seed' must be at least 0"),
    ],
)
def test_settings_are_checked(entries: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TuneSettings(**entries)


def test_threads_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert TuneSettings().torch_threads == 3
    assert TuneSettings(threads=2).torch_threads == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert TuneSettings().torch_threads >= 1
