"""What an epoch does to model and records, and which epoch is kept as what."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tools.small_link import blob_task, give_opinions, small_config
from twophase.link.errors import ArtifactError, InputError
from twophase.link.labelling import make_labels
from twophase.training import trainer as module
from twophase.training.data import Task
from twophase.training.evaluate import evaluate_hard, evaluate_soft, usage_entropies
from twophase.training.model.codebook import Codebook
from twophase.training.monitor import EpochRecord, expected_mean_abs_llr
from twophase.training.phases import Batch, StepResult, learning_rate
from twophase.training.trainer import Trainer

TRAIN, BATCH, MODES = 128, 16, 4
STEPS = TRAIN // BATCH
NOISY: dict[str, Any] = {"input_noise": 0.01, "augmentation": 0.5}


def some_task(train: int = TRAIN) -> Task:
    """A task whose augmentation shrinks the features by its strength."""
    return blob_task(train, 40, augment=lambda features, strength, _generator: features * strength)


def four_modes(out: Path, train: int = TRAIN, **values: Any) -> Trainer:
    several = {"codebook_sizes": (8, 4), "tokens": (2, 4), "qam_orders": (4, 16), "modes_per_step": 2}
    return one_mode(out, train, **({"router": "content"} | several | values))


def one_mode(out: Path, train: int = TRAIN, **values: Any) -> Trainer:
    trainer = Trainer(small_config(out, **values), some_task(train))
    trainer.checkpoints.mkdir(parents=True, exist_ok=True)
    return trainer


def run_epochs(trainer: Trainer, last: int) -> list[EpochRecord]:
    """Train up to epoch ``last``; the records, without the time that they took."""
    records = []
    while trainer.standing.epoch < last:
        record = trainer.epoch(trainer.standing.epoch + 1)
        trainer.keep(record)
        records.append(replace(record, seconds=0))
    return records


@dataclass(frozen=True)
class Step:
    phase: str
    batch: Batch
    result: StepResult


@contextmanager
def watched() -> Iterator[list[Step]]:
    """Every step that is taken inside."""
    seen: list[Step] = []

    def watch(phase: str) -> Any:
        step_of = getattr(module, f"{phase}_step")

        def step(model: Any, modes: Any, batch: Batch, *rest: Any) -> StepResult:
            seen.append(Step(phase, batch, step_of(model, modes, batch, *rest)))
            return seen[-1].result

        return step

    with pytest.MonkeyPatch.context() as patch:
        for phase in ("learning", "alignment"):
            patch.setattr(module, f"{phase}_step", watch(phase))
        yield seen


class Run:
    """A whole run of four modes, with the records and the steps of its epochs."""

    def __init__(self, out: Path) -> None:
        self.trainer = four_modes(out, **NOISY)
        self.records: list[EpochRecord] = []
        self.steps: list[list[Step]] = []
        for epoch in (1, 2, 3, 4):
            with watched() as steps:
                self.records.extend(run_epochs(self.trainer, epoch))
            self.steps.append(steps)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run"))


# --- data and randomness ----------------------------------------------------------------------------------


def test_each_epoch_meets_every_sample_once_in_another_order_varied_and_noisy(run: Run) -> None:
    samples, orders = run.trainer.task.train, []
    for steps in run.steps:
        met = torch.cat([step.batch.features for step in steps])
        order = torch.cdist(2 * met, samples.features).argmin(1)
        assert torch.equal(order.sort().values, torch.arange(TRAIN))
        assert torch.equal(torch.cat([step.batch.labels for step in steps]), samples.labels[order])
        # 1,024 draws: five standard errors of their standard deviation are 0.0011.
        assert (met - samples.features[order] / 2).std().item() == pytest.approx(0.01, abs=0.0011)
        orders.append(order)
    assert all(not torch.equal(orders[0], order) for order in orders[1:])


def test_another_seed_changes_samples_and_noise(run: Run, tmp_path: Path) -> None:
    with watched() as steps:
        four_modes(tmp_path, seed=1, **NOISY).epoch(1)
    for name in ("features", "noise", "gate_noise", "esn0_db"):
        assert not torch.equal(getattr(run.steps[0][0].batch, name), getattr(steps[0].batch, name)), name


@pytest.mark.parametrize("stop", [1, 3])
def test_a_restored_run_goes_on_as_if_it_had_not_stopped(stop: int, run: Run, tmp_path: Path) -> None:
    """Whatever the state of torch's own generator: a seed fixes every record."""
    torch.manual_seed(456)
    assert run_epochs(four_modes(tmp_path, **NOISY), stop) == run.records[:stop]
    torch.manual_seed(stop)
    resumed = four_modes(tmp_path, **NOISY)
    resumed.restore()
    assert resumed.standing.epoch == stop
    assert run_epochs(resumed, 4) == run.records[stop:]
    assert resumed.standing == run.trainer.standing
    weights = resumed.model.state_dict(), run.trainer.model.state_dict()
    torch.testing.assert_close(*weights, atol=0, rtol=0)


def test_a_checkpoint_whose_state_is_altered_is_refused(run: Run, tmp_path: Path) -> None:
    trainer = one_mode(tmp_path)
    trainer.keep(run.records[2])
    path = trainer.checkpoints / "last.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"standing": {"epochs": 3}}))
    with pytest.raises(ArtifactError, match=r"last.json' is altered"):
        trainer.restore()


def test_the_gates_noise_is_gumbel_and_normal_and_the_normal_part_ends_with_learning(tmp_path: Path) -> None:
    """512 draws each: five standard errors of a deviation are a quarter of it at most."""
    trainer = four_modes(tmp_path, epochs=6, alignment_start_epoch=5, router_noise=20.0)
    gumbel = math.pi / math.sqrt(6)
    for epoch, deviation in ((1, 20.0), (3, 10.0), (5, 0.0)):
        with watched() as steps:
            trainer.epoch(epoch)
        noise = torch.cat([step.batch.gate_noise for step in steps])
        assert noise.shape == (TRAIN, MODES)
        assert noise.std().item() == pytest.approx(math.hypot(gumbel, deviation), rel=0.25)
        assert len(noise.unique()) == noise.numel()


@pytest.mark.parametrize(("modes", "at_once"), [(3, 2), (4, 2), (4, 3), (4, 4), (3, 9)])
def test_each_mode_gets_as_many_turns_as_the_others(modes: int, at_once: int) -> None:
    dealt, other = (module._turns(modes, at_once, 24, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert len(dealt) == 24
    assert all(len(set(turn)) == len(turn) == min(at_once, modes) for turn in dealt)
    for steps in range(1, 25):
        so_far = Counter(mode for turn in dealt[:steps] for mode in turn)
        counts = [so_far[mode] for mode in range(modes)]
        assert max(counts) - min(counts) <= 1
    assert (other == dealt) == (at_once >= modes)


# --- the epoch --------------------------------------------------------------------------------------------


def test_each_phase_takes_its_own_step_in_the_modes_whose_turn_it_is(run: Run) -> None:
    phases = ["learning", "learning", "alignment", "alignment"]
    assert [(record.phase, record.hard_forward) for record in run.records] == [
        (phase, phase == "alignment") for phase in phases
    ]
    for phase, steps in zip(phases, run.steps, strict=True):
        assert {step.phase for step in steps} == {phase}
        taken = Counter(entry.mode for step in steps for entry in step.result.passes)
        assert taken == dict.fromkeys(run.trainer.model.modes, STEPS * 2 // MODES)
    assert run.trainer.finished


@pytest.mark.parametrize("router", ["content", "snr", "table"])
def test_only_a_content_router_reads_the_content(router: str, tmp_path: Path) -> None:
    assert four_modes(tmp_path, router=router).model.router.reads_content == (router == "content")


def test_one_mode_has_no_router(tmp_path: Path) -> None:
    single = one_mode(tmp_path)
    record = single.epoch(3)
    assert single.model.router is None
    assert (record.mode_usage, record.router_entropy) == ([1.0], 0.0)
    assert (record.bits_per_sample, record.symbols_per_sample) == (6, 3)
    assert len(record.vq_entropy) == len(record.symbol_entropy) == len(record.mean_abs_llr) == 1


def books_of(trainer: Trainer) -> list[Codebook]:
    return list(trainer.model.codebooks)


def test_each_codebook_counts_the_decisions_of_its_own_modes(tmp_path: Path) -> None:
    trainer = four_modes(tmp_path, method="hard-only")
    with watched() as steps:
        trainer.epoch(1)
    for number, book in enumerate(books_of(trainer)):
        expected = torch.full((book.size,), 1 / book.size, dtype=torch.float64)
        for entry in (entry for step in steps for entry in step.result.passes):
            if entry.mode.codebook == number:
                counts = torch.bincount(entry.hard.indices.flatten(), minlength=book.size)
                expected = 0.99 * expected + 0.01 * counts / counts.sum()
        torch.testing.assert_close(book.usage.double(), expected, atol=1e-6, rtol=0)
        assert (book.usage - 1 / book.size).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("method", "expected"), [("two-phase", (1, 3)), ("single-phase", (1,)), ("hard-only", (1,))]
)
def test_labels_are_made_at_the_start_and_at_alignment_and_fixed_between(
    method: str, expected: tuple[int, ...], tmp_path: Path
) -> None:
    trainer = four_modes(tmp_path, 2 * BATCH, method=method, search="float")
    for epoch in (1, 2, 3, 4):
        wanted = []
        for book in books_of(trainer):
            before = torch.arange(book.size).roll(epoch)
            book.set_labels(before)
            fitted = make_labels("kdtree", book.codewords.detach().double().numpy())
            wanted.append(fitted if epoch in expected else before.numpy())
        trainer.epoch(epoch)
        for book, labels in zip(books_of(trainer), wanted, strict=True):
            np.testing.assert_array_equal(book.labels, labels)


def push_away(book: Codebook, codeword: int) -> None:
    """Put a codeword where no latent ever comes, and forget that it was used."""
    with torch.no_grad():
        book.codewords[codeword] = 1e3
        book.usage[codeword] = 0
        book.usage /= book.usage.sum()


def test_dead_codewords_of_every_codebook_are_revived_while_learning_and_not_later(tmp_path: Path) -> None:
    """At its end labels are about to be fitted to the codewords, then they are fixed: none may jump."""
    trainer = four_modes(tmp_path, alignment_start_epoch=4)
    large, small = books_of(trainer)
    for epoch in (1, 2):
        for book, codeword in ((large, 5), (large, 6), (small, 1)):
            push_away(book, codeword)
        assert trainer.epoch(epoch).revived == 3
        assert large.codewords[5:7].abs().max() < 10
        assert small.codewords[1].abs().max() < 10
    for epoch in (3, 4):
        push_away(large, 5)
        assert trainer.epoch(epoch).revived == 0
        assert (large.codewords[5] > 900).all()


def test_a_codebook_that_had_no_turn_is_left_alone(tmp_path: Path) -> None:
    """An epoch of one step in two modes of three, each with a codebook of its own."""
    link = {"codebook_sizes": (8, 4, 4), "tokens": (2, 4, 3), "qam_orders": (4,)}
    trainer = four_modes(tmp_path, BATCH, alignment_start_epoch=4, **link)
    for book in books_of(trainer):
        push_away(book, 1)
    with watched() as steps:
        record = trainer.epoch(1)
    served = {entry.mode.codebook for entry in steps[0].result.passes}
    assert record.revived == len(served) == 2
    for number, book in enumerate(books_of(trainer)):
        assert bool((book.codewords[1] == 1e3).all()) == (book.usage[1] == 0) == (number not in served)
        assert (record.mean_abs_llr[number] > 0) == (number in served)


@pytest.mark.parametrize("scale", [1e4, 1e-2])
def test_the_gradient_is_clipped_and_the_rate_follows_its_schedule(
    scale: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AdamW hides the scale of a gradient from the weights, so the gradient itself is watched."""
    trainer, step_of = one_mode(tmp_path), module.learning_step
    descend, norms, rates = trainer.optimizer.step, [], []

    def steep(*arguments: Any) -> StepResult:
        step = step_of(*arguments)
        return replace(step, loss=step.loss * scale)

    def watched_descent() -> None:
        gradients = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
        norms.append(torch.cat(gradients).norm().item())
        rates.extend(group["lr"] for group in trainer.optimizer.param_groups)
        descend()

    monkeypatch.setattr(module, "learning_step", steep)
    monkeypatch.setattr(trainer.optimizer, "step", watched_descent)
    trainer.epoch(2)
    if scale > 1:
        assert norms == pytest.approx([module.GRADIENT_LIMIT] * STEPS, rel=1e-3)
    else:
        assert 0 < max(norms) < 1
    assert rates == [learning_rate(trainer.config, STEPS + index, 4 * STEPS) for index in range(STEPS)]


def test_a_loss_that_is_not_finite_names_the_learning_rate(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'learning_rate' must keep the loss finite .* in epoch 1"):
        one_mode(tmp_path, learning_rate=1e30).epoch(1)


# --- the record -------------------------------------------------------------------------------------------


def test_the_record_averages_the_steps_of_each_mode(run: Run) -> None:
    for record, steps in zip(run.records[::2], run.steps[::2], strict=True):
        taken = [step.result for step in steps]
        for name in taken[0].terms:
            assert record.losses[name] == pytest.approx(np.mean([step.terms[name].item() for step in taken]))
        assert record.losses.keys() == {"total", *taken[0].terms}
        for found, values in (
            (record.losses["total"], [step.loss for step in taken]),
            (record.router_entropy, [step.router_entropy for step in taken]),
            (record.train_accuracy_forward, [step.accuracy for step in taken]),
        ):
            assert found == pytest.approx(np.mean([value.item() for value in values]))
        for mode, mean in zip(run.trainer.model.modes, record.mean_abs_llr, strict=True):
            llr = [entry.llr for step in taken for entry in step.passes if entry.mode == mode]
            assert mean == pytest.approx(torch.cat(llr).abs().mean().item(), rel=1e-5)


def test_the_record_holds_what_the_model_reaches_on_either_split(tmp_path: Path) -> None:
    trainer = four_modes(tmp_path, learning_rate=1e-6)
    model, config, task = trainer.model, trainer.config, trainer.task
    give_opinions(model, task.train.features, config.train_snr_low_db, config.train_snr_high_db)
    record = trainer.epoch(3)
    heat = record.vq_temperature
    hard = evaluate_hard(model, task.validation, config, module.VALIDATION_REPEATS)
    soft = evaluate_soft(model, task.validation, config, module.VALIDATION_REPEATS, heat)
    assert (record.validation_accuracy_hard, record.validation_loss_hard) == (hard.accuracy, hard.loss)
    assert (record.validation_accuracy_soft, record.validation_loss_soft) == (soft.accuracy, soft.loss)
    assert record.train_accuracy_hard == evaluate_hard(model, task.train, config, 1).accuracy
    assert record.train_accuracy_soft == evaluate_soft(model, task.train, config, 1, heat).accuracy
    assert (record.vq_entropy, record.symbol_entropy) == usage_entropies(model, task.train)
    assert record.mode_usage == list(hard.mode_usage)
    for rate, per_mode in (
        (record.bits_per_sample, [mode.information_bits for mode in model.modes]),
        (record.symbols_per_sample, [mode.symbols for mode in model.modes]),
    ):
        assert rate == pytest.approx(np.dot(record.mode_usage, per_mode))
    assert max(record.mode_usage) < 1


def test_each_mode_has_the_reference_of_its_constellation(run: Run) -> None:
    config = run.trainer.config
    levels = config.train_snr_low_db, config.train_snr_high_db
    assert run.trainer.llr_references == [expected_mean_abs_llr(order, *levels) for order in (4, 16, 4, 16)]


# --- what is kept -----------------------------------------------------------------------------------------


@pytest.fixture
def template(run: Run) -> EpochRecord:
    """A record of the alignment phase whose soft and hard system agree, for others to be made of."""
    return replace(run.records[2], losses=run.records[2].losses | {"consistency": 0.01})


def pretend(trainer: Trainer, template: EpochRecord, **values: Any) -> None:
    """Keep an epoch that was never trained; the first component of the first codeword is its number."""
    number = trainer.standing.epoch + 1
    with torch.no_grad():
        books_of(trainer)[0].codewords[0, 0] = number
    trainer.keep(replace(template, epoch=number, **values))


def scored(soft: float, hard: float, hardness: float = 1.0) -> dict[str, Any]:
    """The values of an epoch by its accuracies; a wholly soft one belongs to the learning phase."""
    accuracies = {"validation_accuracy_soft": soft, "validation_accuracy_hard": hard}
    return {"phase": "alignment" if hardness else "learning", "hard_forward": hardness, **accuracies}


def kept(trainer: Trainer, name: str) -> int:
    """The epoch of a checkpoint, by its weights and by its state, which must agree."""
    model, state = trainer.stored(name)
    epoch = int(model.codebooks[0].codewords[0, 0].item())
    assert state["epoch"] == state["record"]["epoch"] == epoch
    assert "seconds" not in state["record"]
    return epoch


def test_the_best_epoch_is_chosen_by_hard_accuracy_of_hard_epochs(
    tmp_path: Path, template: EpochRecord
) -> None:
    """The price of symbols means nothing to a link of one mode."""
    trainer = one_mode(tmp_path, epochs=8, hardening_epochs=1, lambda_rate=10.0)
    for values in (scored(0.7, 0.99, 0.0), scored(0.6, 0.99, 0.0), scored(1.0, 0.98, 0.5)):
        pretend(trainer, template, **values)
    assert not (trainer.checkpoints / "best.json").exists()
    for soft, hard, best in ((0.9, 0.5, 4), (0.2, 0.6, 5), (1.0, 0.55, 5), (1.0, 0.6, 5)):
        pretend(trainer, template, **scored(soft, hard))
        assert kept(trainer, "best") == best
    assert (trainer.standing.best, trainer.standing.learning) == (0.6, 0.7)
    assert (kept(trainer, "last"), kept(trainer, "learning")) == (7, 1)


def test_the_best_epoch_is_the_most_accurate_after_its_symbols_are_paid_for(
    tmp_path: Path, template: EpochRecord
) -> None:
    trainer = four_modes(tmp_path / "cheap", epochs=8, lambda_rate=0.01)
    for accuracy, symbols, best in (
        (0.80, 4.0, 1),
        (0.82, 7.0, 1),  # two points better, three symbols dearer
        (0.81, 4.5, 3),
        (0.80, 2.0, 4),
        (0.80, 2.0, 4),
    ):
        pretend(trainer, template, symbols_per_sample=symbols, **scored(accuracy, accuracy))
        assert kept(trainer, "best") == best
    dear = four_modes(tmp_path / "dear", epochs=8, lambda_rate=100.0)
    pretend(dear, template, **scored(0.8, 0.8))
    assert kept(dear, "best") == 1, "some epoch is the best, however dear a symbol is"


STEADY = scored(0.803, 0.8)


def test_aligned_epochs_in_a_row_stop_the_run(tmp_path: Path, template: EpochRecord) -> None:
    trainer = one_mode(tmp_path, epochs=20, early_stop_patience=3)
    for number in range(4):
        assert not trainer.finished
        pretend(trainer, template, **STEADY)
        assert trainer.standing.aligned_in_a_row == number, "the first one is the best"
    restored = Trainer(trainer.config, trainer.task)
    restored.restore()
    assert trainer.finished
    assert restored.finished
    assert not Trainer(replace(trainer.config, early_stop_patience=0), trainer.task).finished


@pytest.mark.parametrize(
    "values",
    [
        scored(0.9, 0.9),  # a new best
        scored(0.81, 0.8),  # soft above hard
        scored(0.79, 0.8),  # soft below hard
        scored(0.8, 0.8, 0.9),  # not yet wholly hard
        STEADY | {"losses": {"consistency": 0.06}},
    ],
)
def test_an_epoch_that_is_not_aligned_starts_the_count_anew(
    values: dict[str, Any], tmp_path: Path, template: EpochRecord
) -> None:
    trainer = one_mode(tmp_path, epochs=20)
    for given, count in ((STEADY, 0), (STEADY, 1), (values, 0)):
        pretend(trainer, template, **given)
        assert trainer.standing.aligned_in_a_row == count
