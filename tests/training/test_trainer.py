"""What an epoch does to model and records, and which epoch is kept as what."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tools.blobs import blobs
from twophase.link.errors import ArtifactError
from twophase.link.labelling import make_labels
from twophase.training import trainer as module
from twophase.training.config import TrainConfig
from twophase.training.data import Task
from twophase.training.evaluate import evaluate_hard, evaluate_soft, usage_entropies
from twophase.training.model.codebook import Codebook
from twophase.training.monitor import EpochRecord, expected_mean_abs_llr
from twophase.training.phases import Batch, StepResult
from twophase.training.schedule import learning_rate
from twophase.training.trainer import Trainer

TRAIN, BATCH, MODES = 128, 16, 4
STEPS = TRAIN // BATCH
ONE_MODE: dict[str, Any] = {"codebook_sizes": (8,), "tokens": (2,), "qam_orders": (4,)}


class Sealed:
    """Stands for a split at which nobody may look."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the sealed split was asked for {name!r}")

    def __len__(self) -> int:
        raise AssertionError("the sealed split was measured")


def make_task(train: int = TRAIN, **values: Any) -> Task:
    sealed: Any = Sealed()
    return Task("blobs", ("a", "b", "c"), blobs(train, 1), blobs(40, 2), sealed, **values)


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
        "router": "content",
    }
    return TrainConfig(out=out, **(small | values))


def make_trainer(out: Path, task: Task | None = None, **values: Any) -> Trainer:
    trainer = Trainer(make_config(out, **values), make_task() if task is None else task)
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


def books_of(trainer: Trainer) -> list[Codebook]:
    return [book for book in trainer.model.codebooks if isinstance(book, Codebook)]


@contextmanager
def watched() -> Iterator[dict[str, list[tuple[Batch, StepResult]]]]:
    """Every step that is taken inside, by its function's name."""
    seen: dict[str, list[tuple[Batch, StepResult]]] = defaultdict(list)

    def watch(name: str) -> Any:
        step_of = getattr(module, name)

        def step(model: Any, modes: Any, batch: Batch, *rest: Any) -> StepResult:
            result: StepResult = step_of(model, modes, batch, *rest)
            seen[name].append((batch, result))
            return result

        return step

    with pytest.MonkeyPatch.context() as patch:
        for name in ("learning_step", "alignment_step"):
            patch.setattr(module, name, watch(name))
        yield seen


@dataclass
class Epoch:
    """One epoch of a run, and what was seen of it from outside."""

    record: EpochRecord
    steps: dict[str, list[tuple[Batch, StepResult]]]
    augmented: list[Tensor]
    """Features that the augmentation was given."""
    usage: list[tuple[Tensor, Tensor]]
    """Of each codebook, before and after."""
    measured: dict[str, Any]
    """Figures of the model as the epoch left it."""

    @property
    def taken(self) -> list[tuple[Batch, StepResult]]:
        return [pair for pairs in self.steps.values() for pair in pairs]


@dataclass
class Run:
    """A whole run of four modes."""

    trainer: Trainer
    epochs: list[Epoch] = field(default_factory=list)

    @property
    def records(self) -> list[EpochRecord]:
        return [replace(epoch.record, seconds=0) for epoch in self.epochs]


NOISY: dict[str, Any] = {"input_noise": 0.1, "augmentation": 0.7}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    strengths: list[float] = []
    given: list[Tensor] = []

    def augment(features: Tensor, strength: float, _generator: torch.Generator) -> Tensor:
        strengths.append(strength)
        given.append(features)
        return features / 2

    trainer = make_trainer(tmp_path_factory.mktemp("run"), make_task(augment=augment), **NOISY)
    model, config, task = trainer.model, trainer.config, trainer.task
    found = Run(trainer)
    for number in (1, 2, 3, 4):
        before = [book.usage.clone() for book in books_of(trainer)]
        given.clear()
        with watched() as steps:
            record = trainer.epoch(number)
        trainer.keep(record)
        measured = {
            "hard": evaluate_hard(model, task.validation, config, module.VALIDATION_REPEATS),
            "soft": evaluate_soft(
                model, task.validation, config, module.VALIDATION_REPEATS, record.vq_temperature
            ),
            "train": evaluate_hard(model, task.train, config, 1),
            "entropies": usage_entropies(model, task.train),
        }
        after = [book.usage.clone() for book in books_of(trainer)]
        usage = list(zip(before, after, strict=True))
        found.epochs.append(Epoch(record, dict(steps), list(given), usage, measured))
    assert strengths == [0.7] * 4 * STEPS
    return found


# --- data and randomness ----------------------------------------------------------------------------------


def halving() -> Task:
    return make_task(augment=lambda features, *_: features / 2)


def test_each_epoch_meets_every_sample_once_in_another_order_varied_and_noisy(run: Run) -> None:
    samples = run.trainer.task.train
    orders = []
    for epoch in run.epochs:
        met = torch.cat(epoch.augmented)
        order = (met[:, None] == samples.features).all(-1).int().argmax(1)
        assert torch.equal(order.sort().values, torch.arange(TRAIN))
        assert torch.equal(torch.cat([batch.labels for batch, _ in epoch.taken]), samples.labels[order])
        noise = torch.cat([batch.features for batch, _ in epoch.taken]) - met / 2
        # 1,024 draws: five standard errors of their standard deviation are 0.011.
        assert noise.std().item() == pytest.approx(0.1, abs=0.011)
        orders.append(order)
    assert all(not torch.equal(orders[0], order) for order in orders[1:])


def test_without_noise_and_augmentation_samples_are_as_they_are(tmp_path: Path) -> None:
    def never(*_: Any) -> Tensor:
        raise AssertionError("augmented")

    with watched() as steps:
        make_trainer(tmp_path, make_task(augment=never)).epoch(1)
    met = torch.cat([batch.features for batch, _ in steps["learning_step"]])
    assert torch.equal(met.sum(1).sort().values, blobs(TRAIN, 1).features.sum(1).sort().values)


def test_another_seed_changes_samples_and_noise(run: Run, tmp_path: Path) -> None:
    with watched() as steps:
        other = run_epochs(make_trainer(tmp_path, halving(), seed=1, **NOISY), 1)
    assert other[0].losses != run.records[0].losses
    ours, theirs = run.epochs[0].taken[0][0], steps["learning_step"][0][0]
    for name in ("features", "noise", "gate_noise", "esn0_db"):
        assert not torch.equal(getattr(ours, name), getattr(theirs, name)), name


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_restored_run_goes_on_as_if_it_had_not_stopped(stop: int, run: Run, tmp_path: Path) -> None:
    """Whatever the state of torch's own generator: a seed fixes every record."""
    torch.manual_seed(456)
    assert run_epochs(make_trainer(tmp_path, halving(), **NOISY), stop) == run.records[:stop]
    torch.manual_seed(stop)
    resumed = make_trainer(tmp_path, halving(), **NOISY)
    resumed.restore()
    assert resumed.standing.epoch == stop
    assert run_epochs(resumed, 4) == run.records[stop:]
    assert resumed.standing == run.trainer.standing
    weights = resumed.model.state_dict()
    for name, value in run.trainer.model.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_a_checkpoint_whose_state_is_altered_is_refused(tmp_path: Path, template: EpochRecord) -> None:
    trainer = make_trainer(tmp_path)
    trainer.keep(template)
    path = trainer.checkpoints / "last.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"standing": {"epochs": 3}}))
    with pytest.raises(ArtifactError, match=r"last.json' is altered"):
        trainer.restore()


def test_the_gates_noise_is_gumbel_and_normal_and_the_normal_part_ends_with_learning(tmp_path: Path) -> None:
    """512 draws each: five standard errors of a deviation are a quarter of it at most."""
    trainer = make_trainer(tmp_path, epochs=6, alignment_start_epoch=5, router_noise=20.0)
    gumbel = math.pi / math.sqrt(6)
    for epoch, deviation in ((1, 20.0), (3, 10.0), (5, 0.0)):
        with watched() as steps:
            trainer.epoch(epoch)
        noise = torch.cat([batch.gate_noise for pairs in steps.values() for batch, _ in pairs])
        assert noise.shape == (TRAIN, MODES)
        assert noise.std().item() == pytest.approx(math.hypot(gumbel, deviation), rel=0.25)
        assert len(noise.unique()) == noise.numel()


@pytest.mark.parametrize(("modes", "at_once"), [(3, 2), (4, 2), (4, 3), (4, 4), (3, 9)])
def test_each_mode_gets_as_many_turns_as_the_others(modes: int, at_once: int) -> None:
    dealt = module._turns(modes, at_once, 24, torch.Generator().manual_seed(0))
    assert len(dealt) == 24
    assert all(len(set(turn)) == len(turn) == min(at_once, modes) for turn in dealt)
    for steps in range(1, 25):
        so_far = Counter(mode for turn in dealt[:steps] for mode in turn)
        counts = [so_far[mode] for mode in range(modes)]
        assert max(counts) - min(counts) <= 1
    other = module._turns(modes, at_once, 24, torch.Generator().manual_seed(1))
    assert (other == dealt) == (at_once >= modes)


# --- the epoch --------------------------------------------------------------------------------------------


def test_each_phase_takes_its_own_step_in_the_modes_whose_turn_it_is(run: Run) -> None:
    modes = list(run.trainer.model.modes)
    phases = ["learning", "learning", "alignment", "alignment"]
    assert [record.phase for record in run.records] == phases
    assert [record.hard_forward for record in run.records] == [0, 0, 1, 1]
    assert [list(epoch.steps) for epoch in run.epochs] == [[f"{phase}_step"] for phase in phases]
    for epoch in run.epochs:
        taken = [modes.index(entry.mode) for _, step in epoch.taken for entry in step.passes]
        assert Counter(taken) == dict.fromkeys(range(MODES), STEPS * 2 // MODES)
    assert run.trainer.finished


def test_only_a_content_router_reads_the_content_and_one_mode_has_no_router(tmp_path: Path) -> None:
    for router in ("content", "snr", "table"):
        trainer = make_trainer(tmp_path / router, router=router)
        assert trainer.model.router is not None
        assert trainer.model.router.reads_content == (router == "content")
    single = make_trainer(tmp_path / "one", **ONE_MODE)
    assert single.model.router is None
    record = single.epoch(3)
    assert (record.mode_usage, record.router_entropy) == ([1.0], 0.0)
    assert (record.bits_per_sample, record.symbols_per_sample) == (6, 3)
    assert len(record.vq_entropy) == len(record.symbol_entropy) == len(record.mean_abs_llr) == 1


def test_each_codebook_counts_the_decisions_of_its_own_modes(run: Run) -> None:
    for epoch in run.epochs[::2]:
        for number, (before, after) in enumerate(epoch.usage):
            expected = before.double()
            for _, step in epoch.taken:
                for entry in step.passes:
                    if entry.mode.codebook == number:
                        counts = torch.bincount(entry.hard.indices.flatten(), minlength=len(before))
                        expected = 0.99 * expected + 0.01 * counts / counts.sum()
            torch.testing.assert_close(after.double(), expected, atol=1e-6, rtol=0)
            assert (after - before).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("method", "expected"), [("two-phase", (1, 3)), ("single-phase", (1,)), ("hard-only", (1,))]
)
def test_labels_are_made_at_the_start_and_at_alignment_and_fixed_between(
    method: str, expected: tuple[int, ...], tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, make_task(2 * BATCH), method=method, search="float")
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
    trainer = make_trainer(tmp_path, alignment_start_epoch=4)
    large, small = books_of(trainer)
    for epoch in (1, 2):
        for book, codeword in ((large, 5), (large, 6), (small, 1)):
            push_away(book, codeword)
        assert trainer.epoch(epoch).revived == 3
        assert large.codewords[5:7].abs().max() < 10
        assert small.codewords[1].abs().max() < 10
    hard_only = make_trainer(tmp_path / "hard", method="hard-only")
    for one, epoch in ((trainer, 3), (trainer, 4), (hard_only, 1)):
        book = books_of(one)[0]
        push_away(book, 5)
        assert one.epoch(epoch).revived == 0
        assert (book.codewords[5] > 900).all()


def test_a_codebook_that_had_no_turn_is_left_alone(tmp_path: Path) -> None:
    """An epoch of one step in two modes of three, each with a codebook of its own."""
    link = {"codebook_sizes": (8, 4, 4), "tokens": (2, 4, 3), "qam_orders": (4,)}
    trainer = make_trainer(tmp_path, make_task(BATCH), alignment_start_epoch=4, **link)
    books = books_of(trainer)
    for book in books:
        push_away(book, 1)
    with watched() as steps:
        record = trainer.epoch(1)
    ((_, step),) = steps["learning_step"]
    served = {entry.mode.codebook for entry in step.passes}
    (idle,) = {0, 1, 2} - served
    assert record.revived == 2
    assert all(books[number].codewords[1].abs().max() < 10 for number in served)
    assert (books[idle].codewords[1] == 1e3).all()
    assert books[idle].usage[1] == 0
    assert [value > 0 for value in record.mean_abs_llr] == [mode in served for mode in range(3)]


def test_the_gradient_is_clipped_and_the_rate_follows_its_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AdamW hides the scale of a gradient from the weights, so the gradient itself is watched."""
    trainer = make_trainer(tmp_path, **ONE_MODE)
    parameters, descend = list(trainer.model.parameters()), trainer.optimizer.step
    norms, rates = [], []

    def watched_descent() -> None:
        gradients = [p.grad.flatten() for p in parameters if p.grad is not None]
        norms.append(torch.cat(gradients).norm().item())
        rates.append([group["lr"] for group in trainer.optimizer.param_groups])
        descend()

    monkeypatch.setattr(trainer.optimizer, "step", watched_descent)
    step_of = module.learning_step
    for epoch, scale in ((1, 1e4), (2, 1e-2)):

        def steep(*arguments: Any, scale: float = scale) -> StepResult:
            step = step_of(*arguments)
            return replace(step, loss=step.loss * scale)

        monkeypatch.setattr(module, "learning_step", steep)
        trainer.epoch(epoch)
    assert norms[:STEPS] == pytest.approx([module.GRADIENT_LIMIT] * STEPS, rel=1e-3)
    assert 0 < max(norms[STEPS:]) < 1
    assert rates == [[learning_rate(trainer.config, index, 4 * STEPS)] for index in range(2 * STEPS)]


# --- the record -------------------------------------------------------------------------------------------


def test_the_record_averages_the_steps_of_each_mode(run: Run) -> None:
    for epoch in run.epochs[::2]:
        record, taken = epoch.record, [step for _, step in epoch.taken]
        assert record.losses.keys() == {"total", *taken[0].terms}
        for name in taken[0].terms:
            assert record.losses[name] == pytest.approx(np.mean([step.terms[name].item() for step in taken]))
        for found, values in (
            (record.losses["total"], [step.loss for step in taken]),
            (record.router_entropy, [step.router_entropy for step in taken]),
            (record.train_accuracy_forward, [step.accuracy for step in taken]),
        ):
            assert found == pytest.approx(np.mean([value.item() for value in values]))
        for mode, mean in zip(run.trainer.model.modes, record.mean_abs_llr, strict=True):
            llr = [entry.llr for step in taken for entry in step.passes if entry.mode == mode]
            assert mean == pytest.approx(torch.cat(llr).abs().mean().item(), rel=1e-5)


def test_the_record_holds_what_the_model_reaches_on_either_split(run: Run) -> None:
    modes = run.trainer.model.modes
    for record, found in ((epoch.record, epoch.measured) for epoch in run.epochs):
        hard, soft = found["hard"], found["soft"]
        assert (record.validation_accuracy_hard, record.validation_loss_hard) == (hard.accuracy, hard.loss)
        assert (record.validation_accuracy_soft, record.validation_loss_soft) == (soft.accuracy, soft.loss)
        assert record.train_accuracy_hard == found["train"].accuracy
        assert (record.vq_entropy, record.symbol_entropy) == found["entropies"]
        usage = record.mode_usage
        assert usage == list(hard.mode_usage)
        for rate, per_mode in (
            (record.bits_per_sample, [mode.information_bits for mode in modes]),
            (record.symbols_per_sample, [mode.symbols for mode in modes]),
        ):
            assert rate == pytest.approx(np.dot(usage, per_mode))


def test_each_mode_has_the_reference_of_its_constellation(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, train_snr_low_db=-3.0, train_snr_high_db=9.0)
    quaternary, hexadecimal = (expected_mean_abs_llr(order, -3.0, 9.0) for order in (4, 16))
    assert trainer.llr_references == [quaternary, hexadecimal] * 2
    assert quaternary != hexadecimal


# --- what is kept -----------------------------------------------------------------------------------------


@pytest.fixture
def template(run: Run) -> EpochRecord:
    """A record of the alignment phase, for others to be made of."""
    return run.records[2]


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
            books_of(trainer)[0].codewords[0, 0] = number
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
    """The price of symbols means nothing to a link of one mode."""
    trainer = make_trainer(tmp_path, epochs=8, hardening_epochs=1, lambda_rate=10.0, **ONE_MODE)
    pretend(trainer, template, [("learning", 0.0, 0.7, 0.99), ("learning", 0.0, 0.6, 0.99)])
    pretend(trainer, template, [("alignment", 0.5, 1.0, 0.98)])
    assert not (trainer.checkpoints / "best.json").exists()
    for soft, hard, best in ((0.9, 0.5, 4), (0.2, 0.6, 5), (1.0, 0.55, 5), (1.0, 0.6, 5)):
        pretend(trainer, template, [("alignment", 1.0, soft, hard)])
        assert kept(trainer, "best") == best
    assert (trainer.standing.best, trainer.standing.learning) == (0.6, 0.7)
    assert (kept(trainer, "last"), kept(trainer, "learning")) == (7, 1)


def test_the_best_epoch_is_the_most_accurate_after_its_symbols_are_paid_for(
    tmp_path: Path, template: EpochRecord
) -> None:
    trainer = make_trainer(tmp_path / "cheap", epochs=8, lambda_rate=0.01)
    for accuracy, symbols, best in (
        (0.80, 4.0, 1),
        (0.82, 7.0, 1),  # two points better, three symbols dearer
        (0.81, 4.5, 3),
        (0.80, 2.0, 4),
        (0.80, 2.0, 4),
    ):
        pretend(trainer, template, [("alignment", 1.0, accuracy, accuracy)], symbols_per_sample=symbols)
        assert kept(trainer, "best") == best
    dear = make_trainer(tmp_path / "dear", epochs=8, lambda_rate=100.0)
    pretend(dear, template, [("alignment", 1.0, 0.8, 0.8)])
    assert kept(dear, "best") == 1, "some epoch is the best, however dear a symbol is"
    restored = Trainer(dear.config, dear.task)
    restored.restore()
    assert restored.standing == dear.standing


def test_the_other_methods_have_their_own_best(tmp_path: Path, template: EpochRecord) -> None:
    """The single-phase baseline by soft accuracy; hard-only has no learning checkpoint."""
    values: dict[str, Any] = {"epochs": 8, "alignment_start_epoch": 2, **ONE_MODE}
    soft = make_trainer(tmp_path / "soft", method="single-phase", **values)
    pretend(soft, template, [("learning", 0.0, *both) for both in ((0.5, 0.4), (0.7, 0.3), (0.6, 0.9))])
    assert [kept(soft, name) for name in ("best", "learning", "last")] == [2, 2, 3]
    hard = make_trainer(tmp_path / "hard", method="hard-only", **values)
    pretend(hard, template, [("alignment", 1.0, 0.9, 0.4), ("alignment", 1.0, 0.1, 0.5)])
    assert kept(hard, "best") == 2
    assert not (hard.checkpoints / "learning.json").exists()


STEADY = ("alignment", 1.0, 0.803, 0.8)


def test_aligned_epochs_in_a_row_stop_the_run_where_patience_is_set(
    tmp_path: Path, template: EpochRecord
) -> None:
    for patience, epochs in ((3, 4), (0, 6)):
        trainer = make_trainer(tmp_path / str(patience), epochs=6, early_stop_patience=patience, **ONE_MODE)
        for number in range(epochs):
            assert not trainer.finished
            pretend(trainer, template, [STEADY])
            assert trainer.standing.aligned_in_a_row == number
        restored = Trainer(trainer.config, trainer.task)
        restored.restore()
        assert trainer.finished
        assert restored.finished


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
    trainer = make_trainer(tmp_path, epochs=20, early_stop_patience=3, **ONE_MODE)
    pretend(trainer, template, [STEADY] * 3)
    assert trainer.standing.aligned_in_a_row == 2
    pretend(trainer, template, [epoch], **values)
    assert trainer.standing.aligned_in_a_row == 0
    assert not trainer.finished
