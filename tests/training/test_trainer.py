"""What an epoch does to model and records, and which epoch is kept as what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tools.blobs import CLASSES, FEATURES, blobs, unchanged
from twophase.link.labelling import make_labels
from twophase.training import trainer as module
from twophase.training.config import TrainConfig
from twophase.training.data import Split, Task
from twophase.training.evaluate import evaluate_hard, evaluate_soft
from twophase.training.model.codebook import Codebook
from twophase.training.monitor import EpochRecord
from twophase.training.phases import Batch, Step
from twophase.training.schedule import learning_rate
from twophase.training.trainer import Trainer

TRAIN, BATCH = 96, 16


class Sealed:
    """Stands for a split at which nobody may look."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the sealed split was asked for {name!r}")

    def __len__(self) -> int:
        raise AssertionError("the sealed split was measured")


def make_task(**values: Any) -> Task:
    parts: dict[str, Any] = {
        "train": blobs(TRAIN, 1),
        "validation": blobs(40, 2),
        "test": Sealed(),
        "augment": unchanged,
    }
    return Task(name="blobs", classes=("a", "b", "c"), **(parts | values))


def make_config(out: Path, **values: Any) -> TrainConfig:
    small: dict[str, Any] = {
        "epochs": 4,
        "alignment_start_epoch": 3,
        "codebook_sizes": (8,),
        "tokens": (2,),
        "qam_orders": (4,),
        "embedding_dim": 3,
        "hidden": 12,
        "batch_size": BATCH,
    }
    return TrainConfig(out=out, **(small | values))


def make_trainer(out: Path, task: Task | None = None, **values: Any) -> Trainer:
    trainer = Trainer(make_config(out, **values), make_task() if task is None else task)
    trainer.checkpoints.mkdir(parents=True)
    return trainer


def run_epochs(trainer: Trainer, last: int) -> list[EpochRecord]:
    """Train up to epoch ``last``; the records, without the time that they took."""
    records = []
    while trainer.standing.epoch < last:
        record = trainer.epoch(trainer.standing.epoch + 1)
        trainer.keep(record)
        records.append(replace(record, seconds=0))
    return records


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[Batch, Step]]]:
    """Every step that a trainer takes from here on, by its function's name."""
    seen: dict[str, list[tuple[Batch, Step]]] = defaultdict(list)

    def watched(name: str, function: Callable[..., Step]) -> Callable[..., Step]:
        def step(model: Any, modes: Any, batch: Batch, *rest: Any) -> Step:
            result = function(model, modes, batch, *rest)
            seen[name].append((batch, result))
            return result

        return step

    for name in ("learning_step", "alignment_step"):
        monkeypatch.setattr(module, name, watched(name, getattr(module, name)))
    return seen


def codebook_of(trainer: Trainer, number: int = 0) -> Codebook:
    book = trainer.model.codebooks[number]
    assert isinstance(book, Codebook)
    return book


def push_away(trainer: Trainer, codeword: int) -> None:
    """Put a codeword where no latent ever comes, and forget that it was used."""
    codebook = codebook_of(trainer)
    with torch.no_grad():
        codebook.codewords[codeword] = 1e3
        codebook.usage[codeword] = 0
        codebook.usage /= codebook.usage.sum()


# --- data -------------------------------------------------------------------------------------------------


def test_training_never_looks_at_the_test_split(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    run_epochs(trainer, 4)
    assert trainer.finished
    trainer.stored("best")


def test_validation_figures_are_those_of_the_validation_split(tmp_path: Path) -> None:
    task = make_task()
    trainer = make_trainer(tmp_path, task)
    for number in (1, 3):
        record = trainer.epoch(number)
        hard = evaluate_hard(trainer.model, task.validation, trainer.config, module.VALIDATION_REPEATS)
        soft = evaluate_soft(
            trainer.model, task.validation, trainer.config, module.VALIDATION_REPEATS, record.vq_temperature
        )
        assert (record.validation_accuracy_hard, record.validation_loss_hard) == (hard.accuracy, hard.loss)
        assert (record.validation_accuracy_soft, record.validation_loss_soft) == (soft.accuracy, soft.loss)
        train = evaluate_hard(trainer.model, task.train, trainer.config, 1)
        assert record.train_accuracy_hard == train.accuracy
        assert record.train_accuracy_soft != record.validation_accuracy_soft


def test_an_epoch_meets_every_sample_once_and_each_epoch_in_another_order(
    tmp_path: Path, steps: dict[str, list[tuple[Batch, Step]]]
) -> None:
    numbered = torch.arange(TRAIN, dtype=torch.float32)[:, None].repeat(1, FEATURES) / TRAIN
    task = make_task(train=Split(numbered, torch.arange(TRAIN) % CLASSES))
    trainer = make_trainer(tmp_path, task)
    orders = []
    for number in (1, 2):
        steps.clear()
        trainer.epoch(number)
        batches = [batch for batch, _ in steps["learning_step"]]
        order = torch.cat([batch.features[:, 0] * TRAIN for batch in batches]).round().long()
        labels = torch.cat([batch.labels for batch in batches])
        assert torch.equal(order.sort().values, torch.arange(TRAIN))
        assert torch.equal(labels, order % CLASSES)
        orders.append(order)
    assert not torch.equal(*orders)


@pytest.mark.parametrize("epoch", [1, 3])
def test_augmentation_reaches_every_batch(
    epoch: int, tmp_path: Path, steps: dict[str, list[tuple[Batch, Step]]]
) -> None:
    strengths = []

    def mark(features: Tensor, strength: float, _generator: torch.Generator) -> Tensor:
        strengths.append(strength)
        return torch.full_like(features, 0.25)

    trainer = make_trainer(tmp_path / "with", make_task(augment=mark), augmentation=0.7)
    trainer.epoch(epoch)
    assert strengths == [0.7] * (TRAIN // BATCH)
    (taken,) = steps.values()
    assert all((batch.features == 0.25).all() for batch, _ in taken)

    strengths.clear()
    make_trainer(tmp_path / "without", make_task(augment=mark)).epoch(epoch)
    assert not strengths


@pytest.mark.parametrize("epoch", [1, 3])
def test_input_noise_reaches_every_batch(
    epoch: int, tmp_path: Path, steps: dict[str, list[tuple[Batch, Step]]]
) -> None:
    dark = make_task(train=Split(torch.zeros(TRAIN, FEATURES), torch.arange(TRAIN) % CLASSES))
    make_trainer(tmp_path / "with", dark, input_noise=0.3).epoch(epoch)
    (taken,) = steps.values()
    features = torch.stack([batch.features for batch, _ in taken])
    # 768 draws: five standard errors of their standard deviation are 0.038.
    assert features.std().item() == pytest.approx(0.3, abs=0.038)
    assert len(features.unique()) == features.numel()

    steps.clear()
    make_trainer(tmp_path / "without", dark).epoch(epoch)
    (taken,) = steps.values()
    assert not any(batch.features.any() for batch, _ in taken)


# --- randomness -------------------------------------------------------------------------------------------


def test_a_seed_fixes_every_record_and_another_seed_changes_it(tmp_path: Path) -> None:
    noisy = {"input_noise": 0.1}
    torch.manual_seed(123)
    first = run_epochs(make_trainer(tmp_path / "first", **noisy), 4)
    torch.manual_seed(456)
    torch.rand(7)
    again = run_epochs(make_trainer(tmp_path / "again", **noisy), 4)
    other = run_epochs(make_trainer(tmp_path / "other", seed=1, **noisy), 4)
    assert again == first
    for one, two in zip(first, other, strict=True):
        assert one.losses != two.losses


def test_the_order_of_samples_depends_on_the_seed_beside_the_weights(
    tmp_path: Path, steps: dict[str, list[tuple[Batch, Step]]]
) -> None:
    seen = []
    for seed in (0, 1):
        steps.clear()
        make_trainer(tmp_path / str(seed), seed=seed).epoch(1)
        seen.append(steps["learning_step"][0][0])
    assert not torch.equal(seen[0].features, seen[1].features)
    assert not torch.equal(seen[0].noise, seen[1].noise)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_restored_run_goes_on_as_if_it_had_not_stopped(stop: int, tmp_path: Path) -> None:
    whole = run_epochs(make_trainer(tmp_path / "whole"), 4)
    run_epochs(make_trainer(tmp_path / "broken"), stop)
    resumed = Trainer(make_config(tmp_path / "broken"), make_task())
    resumed.restore()
    assert resumed.standing.epoch == stop
    assert run_epochs(resumed, 4) == whole[stop:]


# --- the epoch --------------------------------------------------------------------------------------------


def test_each_phase_takes_its_own_step(tmp_path: Path, steps: dict[str, list[tuple[Batch, Step]]]) -> None:
    records = run_epochs(make_trainer(tmp_path), 4)
    assert [record.phase for record in records] == ["learning", "learning", "alignment", "alignment"]
    assert [record.hard_forward for record in records] == [0, 0, 1, 1]
    assert {name: len(taken) for name, taken in steps.items()} == {
        "learning_step": 2 * TRAIN // BATCH,
        "alignment_step": 2 * TRAIN // BATCH,
    }


@pytest.mark.parametrize("epoch", [1, 3])
def test_usage_follows_the_hard_decisions(
    epoch: int, tmp_path: Path, steps: dict[str, list[tuple[Batch, Step]]]
) -> None:
    trainer = make_trainer(tmp_path)
    codebook = codebook_of(trainer)
    expected = codebook.usage.double().clone()
    trainer.epoch(epoch)
    (taken,) = steps.values()
    for _, step in taken:
        (entry,) = step.passes
        share = torch.bincount(entry.hard.indices.flatten(), minlength=8) / entry.hard.indices.numel()
        expected = 0.99 * expected + 0.01 * share
    torch.testing.assert_close(codebook.usage.double(), expected, atol=1e-6, rtol=0)
    assert (codebook.usage - 1 / 8).abs().max() > 1e-3


def test_dead_codewords_are_revived_while_learning(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, alignment_start_epoch=4)
    codewords = codebook_of(trainer).codewords
    for number in (1, 2):
        push_away(trainer, 5)
        assert trainer.epoch(number).revived == 1
        assert codewords[5].abs().max() < 10


def test_no_codeword_is_revived_at_the_end_of_learning_or_later(tmp_path: Path) -> None:
    """Labels are about to be fitted to the codewords, or are fixed: none may jump any more."""
    trainer = make_trainer(tmp_path)
    codewords = codebook_of(trainer).codewords
    for number in (2, 3, 4):
        push_away(trainer, 5)
        assert trainer.epoch(number).revived == 0
        assert (codewords[5] > 900).all()
    hard_only = make_trainer(tmp_path / "hard", method="hard-only")
    push_away(hard_only, 5)
    assert hard_only.epoch(1).revived == 0


@pytest.mark.parametrize(
    ("method", "expected"), [("two-phase", (1, 3)), ("single-phase", (1,)), ("hard-only", (1,))]
)
def test_labels_are_made_at_the_start_and_at_alignment_and_fixed_between(
    method: str, expected: tuple[int, ...], tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, method=method, search="float")
    codebook = codebook_of(trainer)
    for number in (1, 2, 3, 4):
        before = torch.arange(8).roll(number)
        codebook.set_labels(before)
        codewords = codebook.codewords.detach().double().numpy()
        fitted = make_labels("kdtree", codewords)
        assert not np.array_equal(fitted, before)
        trainer.epoch(number)
        wanted = fitted if number in expected else before
        np.testing.assert_array_equal(codebook.labels, wanted)


def test_the_gradient_is_clipped_and_the_rate_follows_its_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AdamW hides the scale of a gradient from the weights, so the gradient itself is watched."""
    trainer = make_trainer(tmp_path)
    parameters = list(trainer.model.parameters())
    norms, rates, scale = [], [], {"loss": 1e4}
    step_of, descend = module.learning_step, trainer.optimizer.step

    def steep(*arguments: Any) -> Step:
        step = step_of(*arguments)
        return replace(step, loss=step.loss * scale["loss"])

    def watched() -> None:
        gradients = [p.grad.flatten() for p in parameters if p.grad is not None]
        norms.append(torch.cat(gradients).norm().item())
        rates.append([group["lr"] for group in trainer.optimizer.param_groups])
        descend()

    monkeypatch.setattr(module, "learning_step", steep)
    monkeypatch.setattr(trainer.optimizer, "step", watched)
    per_epoch = TRAIN // BATCH
    trainer.epoch(1)
    scale["loss"] = 1e-2
    trainer.epoch(2)
    assert norms[:per_epoch] == pytest.approx([module.GRADIENT_LIMIT] * per_epoch, rel=1e-3)
    assert 0 < max(norms[per_epoch:]) < 1
    expected = [[learning_rate(trainer.config, index, 4 * per_epoch)] for index in range(2 * per_epoch)]
    assert rates == expected


def test_the_record_averages_the_steps(tmp_path: Path, steps: dict[str, list[tuple[Batch, Step]]]) -> None:
    record = make_trainer(tmp_path).epoch(3)
    taken = [step for _, step in steps["alignment_step"]]
    assert record.losses["total"] == pytest.approx(np.mean([step.loss.item() for step in taken]))
    for name in ("task", "consistency", "auxiliary", "commitment", "entropy", "latent"):
        assert record.losses[name] == pytest.approx(np.mean([step.terms[name].item() for step in taken]))
    correct = torch.cat([step.passes[0].correct for step in taken]).double().mean().item()
    assert record.train_accuracy_forward == pytest.approx(correct)
    llr = torch.cat([step.passes[0].llr for step in taken]).abs().double().mean().item()
    assert record.mean_abs_llr == [pytest.approx(llr, rel=1e-5)]
    assert (record.mode_usage, record.router_entropy) == ([1.0], 0.0)
    assert (record.bits_per_sample, record.symbols_per_sample) == (6, 3)


# --- what is kept -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> EpochRecord:
    """A record of the alignment phase, for others to be made of."""
    return make_trainer(tmp_path_factory.mktemp("template")).epoch(3)


def pretend(
    trainer: Trainer, template: EpochRecord, scores: list[tuple[str, float, float, float]], **values: Any
) -> None:
    """Keep epochs that were never trained: phase, share of the hard forward, soft and hard accuracy of each.

    The first component of the first codeword is the number of the epoch.
    """
    calm = template.losses | {"consistency": 0.01}
    for phase, hardness, soft, hard in scores:
        number = trainer.standing.epoch + 1
        with torch.no_grad():
            codebook_of(trainer).codewords[0, 0] = number
        record = replace(
            template,
            epoch=number,
            phase=phase,
            hard_forward=hardness,
            validation_accuracy_soft=soft,
            validation_accuracy_hard=hard,
            **({"losses": calm} | values),
        )
        trainer.keep(record)


def kept(trainer: Trainer, name: str) -> int:
    """The epoch of a checkpoint, by its weights and by its state, which must agree."""
    model, state = trainer.stored(name)
    epoch = int(model.codebook(model.modes[0]).codewords[0, 0].item())
    assert state["epoch"] == state["record"]["epoch"] == epoch
    assert "seconds" not in state["record"]
    return epoch


def test_the_best_epoch_is_chosen_by_hard_accuracy_of_hard_epochs(
    tmp_path: Path, template: EpochRecord
) -> None:
    trainer = make_trainer(tmp_path, epochs=8, hardening_epochs=1)
    pretend(trainer, template, [("learning", 0.0, 0.7, 0.99), ("learning", 0.0, 0.6, 0.99)])
    pretend(trainer, template, [("alignment", 0.5, 1.0, 0.98)])
    assert not (trainer.checkpoints / "best.json").exists()
    pretend(trainer, template, [("alignment", 1.0, 0.9, 0.5)])
    assert kept(trainer, "best") == 4
    pretend(trainer, template, [("alignment", 1.0, 0.2, 0.6)])
    assert kept(trainer, "best") == 5
    pretend(trainer, template, [("alignment", 1.0, 1.0, 0.55), ("alignment", 1.0, 1.0, 0.6)])
    assert kept(trainer, "best") == 5
    assert trainer.standing.best == 0.6
    assert kept(trainer, "last") == 7
    assert kept(trainer, "learning") == 1
    assert trainer.standing.learning == 0.7


def test_the_price_of_symbols_means_nothing_to_a_link_of_one_mode(
    tmp_path: Path, template: EpochRecord
) -> None:
    trainer = make_trainer(tmp_path, epochs=8, lambda_rate=10.0)
    pretend(trainer, template, [("alignment", 1.0, 0.9, 0.5)])
    assert kept(trainer, "best") == 1
    assert trainer.standing.best == 0.5


def test_the_single_phase_baseline_is_chosen_by_soft_accuracy(tmp_path: Path, template: EpochRecord) -> None:
    trainer = make_trainer(tmp_path, method="single-phase", epochs=8, alignment_start_epoch=2)
    pretend(
        trainer,
        template,
        [("learning", 0.0, 0.5, 0.4), ("learning", 0.0, 0.7, 0.3), ("learning", 0.0, 0.6, 0.9)],
    )
    assert kept(trainer, "best") == 2
    assert kept(trainer, "learning") == 2
    assert kept(trainer, "last") == 3


def test_hard_only_has_no_learning_checkpoint(tmp_path: Path, template: EpochRecord) -> None:
    trainer = make_trainer(tmp_path, method="hard-only", epochs=8)
    pretend(trainer, template, [("alignment", 1.0, 0.9, 0.4), ("alignment", 1.0, 0.1, 0.5)])
    assert kept(trainer, "best") == 2
    assert not (trainer.checkpoints / "learning.json").exists()


STEADY = ("alignment", 1.0, 0.803, 0.8)


def test_aligned_epochs_in_a_row_stop_the_run(tmp_path: Path, template: EpochRecord) -> None:
    trainer = make_trainer(tmp_path, epochs=20, early_stop_patience=3)
    pretend(trainer, template, [STEADY])
    counts = []
    while not trainer.finished:
        pretend(trainer, template, [STEADY])
        counts.append(trainer.standing.aligned_in_a_row)
    assert counts == [1, 2, 3]
    assert trainer.standing.epoch == 4

    restored = Trainer(trainer.config, trainer.task)
    restored.restore()
    assert restored.finished
    assert restored.standing == trainer.standing


@pytest.mark.parametrize(
    ("epoch", "values"),
    [
        (("alignment", 1.0, 0.9, 0.9), {}),  # a new best
        (("alignment", 1.0, 0.81, 0.8), {}),  # soft above hard
        (("alignment", 1.0, 0.79, 0.8), {}),  # soft below hard
        (("alignment", 0.9, 0.8, 0.8), {}),  # not yet wholly hard
        (STEADY, {"losses": {"consistency": 0.06}}),
    ],
)
def test_an_epoch_that_is_not_aligned_starts_the_count_anew(
    epoch: tuple[str, float, float, float], values: dict[str, Any], tmp_path: Path, template: EpochRecord
) -> None:
    trainer = make_trainer(tmp_path, epochs=20, early_stop_patience=3)
    pretend(trainer, template, [STEADY] * 3)
    assert trainer.standing.aligned_in_a_row == 2
    pretend(trainer, template, [epoch], **values)
    assert trainer.standing.aligned_in_a_row == 0
    assert not trainer.finished


def test_without_patience_all_epochs_are_trained(tmp_path: Path, template: EpochRecord) -> None:
    trainer = make_trainer(tmp_path, epochs=8)
    for _ in range(8):
        assert not trainer.finished
        pretend(trainer, template, [STEADY])
    assert trainer.finished
