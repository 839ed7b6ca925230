"""The trainer with several modes: whose turn it is, what each codebook is told, what is recorded and kept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tools.blobs import blobs, unchanged
from twophase.link.labelling import make_labels
from twophase.training import trainer as module
from twophase.training.config import TrainConfig
from twophase.training.data import Task
from twophase.training.evaluate import evaluate_hard, usage_entropies
from twophase.training.model.codebook import Codebook
from twophase.training.monitor import EpochRecord, expected_mean_abs_llr
from twophase.training.phases import Batch, Step
from twophase.training.trainer import Trainer

TRAIN, BATCH = 128, 16
STEPS = TRAIN // BATCH
MODES = 4


def make_config(out: Path, **values: Any) -> TrainConfig:
    small: dict[str, Any] = {
        "epochs": 4,
        "alignment_start_epoch": 3,
        "codebook_sizes": (8, 4),
        "tokens": (2, 4),
        "qam_orders": (4, 16),
        "embedding_dim": 3,
        "hidden": 12,
        "batch_size": BATCH,
        "modes_per_step": 2,
    }
    return TrainConfig(out=out, **(small | values))


def make_task(train: int = TRAIN) -> Task:
    return Task("blobs", ("a", "b", "c"), blobs(train, 1), blobs(40, 2), blobs(20, 3), unchanged)


def make_trainer(out: Path, train: int = TRAIN, **values: Any) -> Trainer:
    trainer = Trainer(make_config(out, **values), make_task(train))
    trainer.checkpoints.mkdir(parents=True)
    return trainer


def run_epochs(trainer: Trainer, last: int) -> list[EpochRecord]:
    records = []
    while trainer.standing.epoch < last:
        record = trainer.epoch(trainer.standing.epoch + 1)
        trainer.keep(record)
        records.append(replace(record, seconds=0))
    return records


def books_of(trainer: Trainer) -> list[Codebook]:
    books = [book for book in trainer.model.codebooks if isinstance(book, Codebook)]
    assert len(books) == len(trainer.config.tokens)
    return books


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Batch, Step]]:
    """Every step that a trainer takes from here on."""
    seen: list[tuple[Batch, Step]] = []

    def watched(function: Callable[..., Step]) -> Callable[..., Step]:
        def step(model: Any, modes: Any, batch: Batch, *rest: Any) -> Step:
            result = function(model, modes, batch, *rest)
            seen.append((batch, result))
            return result

        return step

    for name in ("learning_step", "alignment_step"):
        monkeypatch.setattr(module, name, watched(getattr(module, name)))
    return seen


def turns(trainer: Trainer, taken: list[tuple[Batch, Step]]) -> list[list[int]]:
    every = list(trainer.model.modes)
    return [[every.index(entry.mode) for entry in step.passes] for _, step in taken]


# --- turns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("at_once", [2, 3, 4, 9])
def test_each_mode_gets_equally_many_turns(
    at_once: int, epoch: int, tmp_path: Path, steps: list[tuple[Batch, Step]]
) -> None:
    trainer = make_trainer(tmp_path, modes_per_step=at_once)
    trainer.epoch(epoch)
    dealt = turns(trainer, steps)
    count = min(at_once, MODES)
    assert len(dealt) == STEPS
    assert all(len(set(turn)) == count for turn in dealt)
    assert Counter(mode for turn in dealt for mode in turn) == dict.fromkeys(
        range(MODES), STEPS * count // MODES
    )


@pytest.mark.parametrize("at_once", [2, 3])
def test_turns_that_cannot_be_equal_differ_by_one(
    at_once: int, tmp_path: Path, steps: list[tuple[Batch, Step]]
) -> None:
    """Three modes of one codebook; at every step of the epoch."""
    trainer = make_trainer(
        tmp_path, codebook_sizes=(8,), tokens=(2,), qam_orders=(4, 16, 64), modes_per_step=at_once
    )
    trainer.epoch(1)
    counts = [0, 0, 0]
    for turn in turns(trainer, steps):
        for mode in turn:
            counts[mode] += 1
        assert max(counts) - min(counts) <= 1


def test_turns_come_in_another_order_in_each_epoch_and_for_each_seed(
    tmp_path: Path, steps: list[tuple[Batch, Step]]
) -> None:
    dealt: list[list[list[int]]] = []
    for seed, epoch in ((0, 1), (0, 2), (1, 1), (0, 1)):
        steps.clear()
        trainer = make_trainer(tmp_path / str(len(dealt)), seed=seed)
        trainer.epoch(epoch)
        dealt.append(turns(trainer, steps))
    assert dealt[0] != dealt[1]
    assert dealt[0] != dealt[2]
    assert dealt[0] == dealt[3]


# --- randomness -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("router", ["content", "snr", "table"])
def test_a_restored_run_goes_on_as_if_it_had_not_stopped(router: str, tmp_path: Path) -> None:
    values: dict[str, Any] = {"router": router, "input_noise": 0.1}
    whole = make_trainer(tmp_path / "whole", **values)
    records = run_epochs(whole, 4)
    for stop in (1, 2, 3):
        folder = tmp_path / str(stop)
        torch.manual_seed(stop)
        run_epochs(make_trainer(folder, **values), stop)
        resumed = Trainer(make_config(folder, **values), make_task())
        resumed.restore()
        assert resumed.standing.epoch == stop
        assert run_epochs(resumed, 4) == records[stop:]
        assert resumed.standing == whole.standing
        weights = resumed.model.state_dict()
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, weights[name]), name


def test_a_seed_fixes_every_record_and_another_seed_changes_it(tmp_path: Path) -> None:
    first = run_epochs(make_trainer(tmp_path / "first"), 4)
    again = run_epochs(make_trainer(tmp_path / "again"), 4)
    other = run_epochs(make_trainer(tmp_path / "other", seed=1), 4)
    assert again == first
    for one, two in zip(first, other, strict=True):
        assert one.losses != two.losses


def test_the_gates_noise_is_gumbel_and_normal_and_the_normal_part_ends_with_learning(
    tmp_path: Path, steps: list[tuple[Batch, Step]]
) -> None:
    """512 draws each: five standard errors of a deviation are a quarter of it at most."""
    trainer = make_trainer(tmp_path, epochs=6, alignment_start_epoch=5, router_noise=20.0)
    gumbel = math.pi / math.sqrt(6)
    for epoch, deviation in ((1, 20.0), (3, 10.0), (5, 0.0), (6, 0.0)):
        steps.clear()
        trainer.epoch(epoch)
        noise = torch.cat([batch.gate_noise for batch, _ in steps])
        assert noise.shape == (TRAIN, MODES)
        assert noise.std().item() == pytest.approx(math.hypot(gumbel, deviation), rel=0.25)
        assert len(noise.unique()) == noise.numel()


def test_only_a_content_router_reads_the_content(tmp_path: Path) -> None:
    for router in ("content", "snr", "table"):
        trainer = make_trainer(tmp_path / router, router=router)
        for model in (trainer.model, module._new_model(trainer.config, trainer.task)):
            assert model.router is not None
            assert model.router.reads_content == (router == "content")
    one = make_trainer(tmp_path / "one", router="content", codebook_sizes=(4,), tokens=(4,), qam_orders=(4,))
    assert one.model.router is None


# --- codebooks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [1, 3])
def test_each_codebook_counts_the_decisions_of_its_own_modes(
    epoch: int, tmp_path: Path, steps: list[tuple[Batch, Step]]
) -> None:
    trainer = make_trainer(tmp_path, modes_per_step=3)
    expected = [book.usage.double().clone() for book in books_of(trainer)]
    trainer.epoch(epoch)
    for _, step in steps:
        for entry in step.passes:
            number = entry.mode.codebook
            counts = torch.bincount(entry.hard.indices.flatten(), minlength=entry.mode.codebook_size)
            expected[number] = 0.99 * expected[number] + 0.01 * counts / counts.sum()
    for book, usage in zip(books_of(trainer), expected, strict=True):
        torch.testing.assert_close(book.usage.double(), usage, atol=1e-6, rtol=0)
        assert (book.usage - 1 / book.size).abs().max() > 1e-3


def test_every_codebook_is_labelled_at_the_start_and_at_alignment_and_fixed_between(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, search="float")
    for epoch in (1, 2, 3, 4):
        wanted = []
        for book in books_of(trainer):
            before = torch.arange(book.size).roll(epoch)
            book.set_labels(before)
            fitted = make_labels("kdtree", book.codewords.detach().double().numpy())
            wanted.append(fitted if epoch in (1, 3) else before.numpy())
        trainer.epoch(epoch)
        for book, labels in zip(books_of(trainer), wanted, strict=True):
            np.testing.assert_array_equal(book.labels, labels)


def push_away(book: Codebook, codeword: int) -> None:
    """Put a codeword where no latent ever comes, and forget that it was used."""
    with torch.no_grad():
        book.codewords[codeword] = 1e3
        book.usage[codeword] = 0
        book.usage /= book.usage.sum()


def test_dead_codewords_of_every_codebook_are_revived_while_learning(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, alignment_start_epoch=4)
    large, small = books_of(trainer)
    push_away(large, 5)
    push_away(large, 6)
    push_away(small, 1)
    assert trainer.epoch(1).revived == 3
    assert large.codewords[5:7].abs().max() < 10
    assert small.codewords[1].abs().max() < 10


def test_a_codebook_that_had_no_turn_is_left_alone(tmp_path: Path, steps: list[tuple[Batch, Step]]) -> None:
    """An epoch of one step in two modes of three, each with a codebook of its own."""
    link = {"codebook_sizes": (8, 4, 4), "tokens": (2, 4, 3), "qam_orders": (4,)}
    trainer = make_trainer(tmp_path, train=BATCH, alignment_start_epoch=4, modes_per_step=2, **link)
    books = books_of(trainer)
    for book in books:
        push_away(book, 1)
    record = trainer.epoch(1)
    (served,) = turns(trainer, steps)
    (idle,) = {0, 1, 2} - set(served)
    assert record.revived == 2
    for number in served:
        assert books[number].codewords[1].abs().max() < 10
    assert (books[idle].codewords[1] == 1e3).all()
    assert books[idle].usage[1] == 0
    assert [value > 0 for value in record.mean_abs_llr] == [mode in served for mode in range(3)]


# --- the record -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("router", ["content", "snr"])
def test_the_record_averages_the_steps_of_each_mode(
    router: str, epoch: int, tmp_path: Path, steps: list[tuple[Batch, Step]]
) -> None:
    trainer = make_trainer(tmp_path, router=router)
    record = trainer.epoch(epoch)
    taken = [step for _, step in steps]
    assert record.losses.keys() == {"total", *taken[0].terms}
    for name in taken[0].terms:
        assert record.losses[name] == pytest.approx(np.mean([step.terms[name].item() for step in taken]))
    assert record.losses["total"] == pytest.approx(np.mean([step.loss.item() for step in taken]))
    entropies = [step.router_entropy.item() for step in taken]
    assert record.router_entropy == pytest.approx(np.mean(entropies))
    assert record.train_accuracy_forward == pytest.approx(np.mean([step.accuracy.item() for step in taken]))
    for mode, found in zip(trainer.model.modes, record.mean_abs_llr, strict=True):
        passes = [entry for step in taken for entry in step.passes if entry.mode == mode]
        assert found == pytest.approx(
            torch.cat([entry.llr for entry in passes]).abs().mean().item(), rel=1e-5
        )
    assert (record.vq_entropy, record.symbol_entropy) == usage_entropies(trainer.model, trainer.train)
    assert (len(record.vq_entropy), len(record.symbol_entropy)) == (2, MODES)


def test_rates_follow_from_the_use_of_the_modes_on_the_validation_split(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    assert trainer.model.router is not None
    with torch.no_grad():
        for parameter in trainer.model.router.parameters():
            parameter *= 4
    record = trainer.epoch(1)
    found = evaluate_hard(trainer.model, trainer.task.validation, trainer.config, module.VALIDATION_REPEATS)
    usage = list(found.mode_usage)
    assert record.mode_usage == usage
    assert sum(usage) == pytest.approx(1)
    modes = list(trainer.model.modes)
    assert record.bits_per_sample == pytest.approx(
        sum(share * mode.information_bits for share, mode in zip(usage, modes, strict=True))
    )
    assert record.symbols_per_sample == pytest.approx(
        sum(share * mode.symbols for share, mode in zip(usage, modes, strict=True))
    )
    assert max(usage) < 1


def test_each_mode_has_the_reference_of_its_constellation(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, train_snr_low_db=-3.0, train_snr_high_db=9.0)
    quaternary, hexadecimal = (expected_mean_abs_llr(order, -3.0, 9.0) for order in (4, 16))
    assert trainer.llr_references == [quaternary, hexadecimal] * 2
    assert quaternary != hexadecimal


# --- what is kept -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> EpochRecord:
    return make_trainer(tmp_path_factory.mktemp("template")).epoch(3)


def pretend(
    trainer: Trainer, template: EpochRecord, accuracy: float, symbols: float, hard: float = 1.0
) -> None:
    """Keep an epoch that was never trained: its hard accuracy, its symbols, its share of the hard forward."""
    trainer.keep(
        replace(
            template,
            epoch=trainer.standing.epoch + 1,
            hard_forward=hard,
            validation_accuracy_hard=accuracy,
            validation_accuracy_soft=accuracy,
            symbols_per_sample=symbols,
        )
    )


def test_the_best_epoch_is_the_most_accurate_after_its_symbols_are_paid_for(
    tmp_path: Path, template: EpochRecord
) -> None:
    trainer = make_trainer(tmp_path, epochs=8, lambda_rate=0.01)
    for accuracy, symbols, best in (
        (0.80, 4.0, 1),
        (0.82, 7.0, 1),  # two points better, three symbols dearer
        (0.81, 4.5, 3),
        (0.80, 2.0, 4),
        (0.80, 2.0, 4),
    ):
        pretend(trainer, template, accuracy, symbols)
        assert trainer.stored("best")[1]["epoch"] == best


@pytest.mark.parametrize("price", [0.0, 1.0, 100.0])
def test_some_epoch_is_the_best_however_dear_a_symbol_is(
    price: float, tmp_path: Path, template: EpochRecord
) -> None:
    trainer = make_trainer(tmp_path, epochs=8, lambda_rate=price)
    pretend(trainer, template, 0.8, 4.0)
    assert trainer.stored("best")[1]["epoch"] == 1
    restored = Trainer(trainer.config, trainer.task)
    restored.restore()
    assert restored.standing == trainer.standing
