"""One training run: model, optimiser and checkpoints, epoch by epoch."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from twophase.link.errors import ArtifactError, InputError
from twophase.link.input_scale import CONSTANT_EXPONENT, InputScale
from twophase.training.ceiling import Ceiling, train_ceiling
from twophase.training.checkpoint import (
    load_checkpoint,
    load_weights,
    model_tensors,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from twophase.training.config import TrainConfig
from twophase.training.data import Task, TextTask
from twophase.training.evaluate import evaluate_hard, evaluate_soft, usage_entropies
from twophase.training.model.network import LinkModel
from twophase.training.model.router import gumbel_noise
from twophase.training.monitor import EpochRecord, expected_mean_abs_llr
from twophase.training.phases import (
    Batch,
    EpochPlan,
    alignment_step,
    learning_rate,
    learning_step,
    plan_of,
    training_snr,
)

__all__ = ["Standing", "Trainer", "check_data"]

VALIDATION_REPEATS = 8
GRADIENT_LIMIT = 5.0
EARLY_STOP_GAP = 0.005
EARLY_STOP_CONSISTENCY = 0.05


@dataclass
class Standing:
    """What a run carries from epoch to epoch apart from weights, optimiser and records."""

    epoch: int = 0
    best: float | None = None
    """Validation accuracy of checkpoint ``best``, less the price of its symbols where there is a router; None
    if there is no such checkpoint yet."""
    learning: float = -1.0
    """Validation accuracy of checkpoint ``learning``."""
    aligned_in_a_row: int = 0


class Trainer:
    """One training run: the parts that the epochs share."""

    def __init__(self, config: TrainConfig, task: Task) -> None:
        self.config, self.task = config, task
        self.device = _device(config)
        check_data(config, task)
        torch.set_num_threads(config.threads)
        self.train, self.validation = task.train.to(self.device), task.validation.to(self.device)
        self.scale = task.input_scale()
        self.noise_unit = _noise_unit(self.scale, task.input_shape).to(self.device)
        self.model = self._new_model().to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.checkpoints = config.folder / "checkpoints"
        self.standing = Standing()
        references = {
            order: expected_mean_abs_llr(order, config.train_snr_low_db, config.train_snr_high_db)
            for order in config.qam_orders
        }
        self.llr_references = [references[mode.order] for mode in self.model.modes]

    def restore(self) -> None:
        """Continue from checkpoint ``last``; a run that was stopped in its first epoch starts anew."""
        if not (self.checkpoints / "last.json").is_file():
            return
        checkpoint = load_checkpoint(self.checkpoints, "last")
        load_weights(self.model, checkpoint, self.checkpoints)
        restore_optimizer(self.optimizer, checkpoint)
        try:
            self.standing = Standing(**checkpoint.state["standing"])
        except (TypeError, LookupError) as error:
            raise ArtifactError(f"'{self.checkpoints / 'last.json'}' is altered: {error}") from error

    def epoch(self, number: int) -> EpochRecord:
        """Train one epoch, then measure the hard and the soft system.

        All randomness is drawn from generators made of (seed, epoch), so that an epoch does not depend on
        whether the run was interrupted before it.
        """
        started = time.perf_counter()
        config, model = self.config, self.model
        now = plan_of(config, number)
        generator = _epoch_generator(config.seed, number)
        if config.grid_start_epoch is not None and number >= config.grid_start_epoch:
            model.cover_grid(self.train.features)
        if number in (1, config.last_learning_epoch + 1):
            for mode in model.one_mode_per_codebook():
                model.codebook(mode).relabel(config.labelling, config.seed)
        model.train()
        step_of = alignment_step if now.phase == "alignment" else learning_step
        order = torch.randperm(len(self.train), generator=generator)
        steps = len(self.train) // config.batch_size
        turns = _turns(len(model.modes), config.modes_per_step, steps, generator)
        sums: dict[str, float] = defaultdict(float)
        llr: dict[int, list[float]] = defaultdict(list)
        latents: dict[int, torch.Tensor] = {}
        for index in range(steps):
            rate = learning_rate(config, (number - 1) * steps + index, config.epochs * steps)
            members = order[index * config.batch_size : (index + 1) * config.batch_size]
            modes = [model.modes[turn] for turn in turns[index]]
            step = step_of(model, modes, self._batch(members, now, generator), config, now)
            self._descend(step.loss, rate, number)
            for turn, entry in zip(turns[index], step.passes, strict=True):
                model.codebook(entry.mode).count(entry.hard.indices)
                llr[turn].append(entry.llr.detach().abs().mean().item())
                latents[entry.mode.codebook] = entry.latents.detach()
            figures = {"total": step.loss, "correct": step.accuracy, "router_entropy": step.router_entropy}
            for name, value in (figures | step.terms).items():
                sums[name] += value.item() / steps
        revived = 0
        if number < config.last_learning_epoch:
            for mode in model.one_mode_per_codebook():
                if mode.codebook in latents:
                    found = latents[mode.codebook].flatten(0, 1)
                    revived += model.codebook(mode).revive(found, generator)
        model.eval()
        mean_llr = [sum(llr[turn]) / max(1, len(llr[turn])) for turn in range(len(model.modes))]
        return self._record(now, rate, dict(sums), mean_llr, revived, started)

    def keep(self, record: EpochRecord) -> None:
        """Update checkpoints ``learning``, ``best`` and ``last`` and the early-stop count after an epoch."""
        standing, soft = self.standing, record.validation_accuracy_soft
        standing.epoch = record.epoch
        weights = model_tensors(self.model)
        if record.phase == "learning" and soft > standing.learning:
            standing.learning = soft
            save_checkpoint(self.checkpoints, "learning", weights, _checkpoint_state(record))
        score = soft if self.config.method == "single-phase" else record.validation_accuracy_hard
        if self.model.router is not None:
            score -= self.config.lambda_rate * record.symbols_per_sample
        if self.config.method == "single-phase":
            deployable = record.epoch >= (self.config.grid_start_epoch or 1)
        else:
            deployable = record.hard_forward == 1
        improved = deployable and (standing.best is None or score > standing.best)
        if improved:
            standing.best = score
            save_checkpoint(self.checkpoints, "best", weights, _checkpoint_state(record))
        aligned = (
            record.hard_forward == 1
            and record.losses["consistency"] < EARLY_STOP_CONSISTENCY
            and abs(soft - record.validation_accuracy_hard) <= EARLY_STOP_GAP
            and not improved
        )
        standing.aligned_in_a_row = standing.aligned_in_a_row + 1 if aligned else 0
        everything = weights | optimizer_tensors(self.optimizer)
        save_checkpoint(
            self.checkpoints, "last", everything, _checkpoint_state(record) | {"standing": asdict(standing)}
        )

    @property
    def finished(self) -> bool:
        """All epochs trained, or stopped early."""
        patience = self.config.early_stop_patience
        return self.standing.epoch >= self.config.epochs or 0 < patience <= self.standing.aligned_in_a_row

    def stored(self, name: str) -> tuple[LinkModel, dict[str, Any]]:
        """A model with the weights of a checkpoint, and the checkpoint's state."""
        checkpoint = load_checkpoint(self.checkpoints, name)
        model = self._new_model()
        load_weights(model, checkpoint, self.checkpoints)
        return model.eval(), checkpoint.state

    def _new_model(self) -> LinkModel:
        config, task = self.config, self.task
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            return LinkModel(
                config.link,
                task.input_shape,
                len(task.classes),
                config.hidden,
                config.surrogate,
                content_router=config.router == "content",
                snr_range_db=(config.train_snr_low_db, config.train_snr_high_db),
                on_grid=config.search == "grid",
                scale=self.scale,
            )

    def ceiling(self) -> Ceiling:
        """What the encoder allows without a channel; trained apart, and from nothing."""
        config = self.config
        return train_ceiling(
            self._new_model().to(self.device),
            (self.train, self.validation, self.task.test.features.to(self.device)),
            self._varied,
            config.batch_size,
            config.learning_rate,
            config.weight_decay,
        )

    def _varied(self, features: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A batch of features as training sees it: augmented and in noise, where that is asked for."""
        config = self.config
        if config.augmentation:
            features = self.task.augment(features, config.augmentation, generator)
        if config.input_noise:
            noise = torch.randn(features.shape, generator=generator).to(self.device)
            features = features + config.input_noise * self.noise_unit * noise
        return features

    def _batch(self, members: torch.Tensor, now: EpochPlan, generator: torch.Generator) -> Batch:
        config, modes = self.config, self.model.modes
        features = self._varied(self.train.features[members.to(self.device)], generator)
        return Batch(
            features=features,
            labels=self.train.labels[members.to(self.device)],
            teacher=None if self.train.teacher is None else self.train.teacher[members.to(self.device)],
            esn0_db=training_snr(len(members), config, generator).to(self.device),
            noise=torch.randn(len(members), modes.max_symbols, 2, generator=generator).to(self.device),
            gate_noise=self._gate_noise(len(members), now, generator),
        )

    def _gate_noise(self, count: int, now: EpochPlan, generator: torch.Generator) -> torch.Tensor:
        """Gumbel draws, and normal ones of the plan's deviation (noisy gating): (count, modes)."""
        shape = (count, len(self.model.modes))
        if self.model.router is None:
            return torch.zeros(shape, device=self.device)
        gate = now.router_noise * torch.randn(shape, generator=generator)
        return (gumbel_noise(shape, generator) + gate).to(self.device)

    def _descend(self, loss: torch.Tensor, rate: float, epoch: int) -> None:
        if not torch.isfinite(loss):
            rule = f"keep the loss finite (it is {loss.item()} in epoch {epoch}): lower it"
            raise InputError("learning_rate", rule, self.config.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_LIMIT)
        self.optimizer.step()

    def _record(
        self,
        now: EpochPlan,
        rate: float,
        sums: dict[str, float],
        mean_llr: list[float],
        revived: int,
        started: float,
    ) -> EpochRecord:
        config, model = self.config, self.model
        train_hard = evaluate_hard(model, self.train, config, 1)
        train_soft = evaluate_soft(model, self.train, config, 1, now.temperature)
        hard = evaluate_hard(model, self.validation, config, VALIDATION_REPEATS)
        soft = evaluate_soft(model, self.validation, config, VALIDATION_REPEATS, now.temperature)
        vq_entropy, symbol_entropy = usage_entropies(model, self.train)
        correct, router_entropy = sums.pop("correct"), sums.pop("router_entropy")
        usage = list(zip(hard.mode_usage, model.modes, strict=True))
        return EpochRecord(
            epoch=now.epoch,
            phase=now.phase,
            vq_temperature=now.temperature,
            symbol_temperature=now.symbol_temperature,
            hard_forward=now.hardness,
            learning_rate=rate,
            losses=sums,
            train_accuracy_forward=correct,
            train_accuracy_hard=train_hard.accuracy,
            train_accuracy_soft=train_soft.accuracy,
            validation_accuracy_hard=hard.accuracy,
            validation_accuracy_soft=soft.accuracy,
            validation_loss_hard=hard.loss,
            validation_loss_soft=soft.loss,
            vq_entropy=vq_entropy,
            symbol_entropy=symbol_entropy,
            mean_abs_llr=mean_llr,
            revived=revived,
            mode_usage=list(hard.mode_usage),
            router_entropy=router_entropy,
            bits_per_sample=sum(share * mode.information_bits for share, mode in usage),
            symbols_per_sample=sum(share * mode.symbols for share, mode in usage),
            seconds=time.perf_counter() - started,
        )


def check_data(config: TrainConfig, data: Task | TextTask) -> None:
    """Refuse settings that this machine or the data do not allow; errors as of :class:`Trainer`."""
    _device(config)
    if config.batch_size > len(data.train):
        raise InputError("batch_size", f"be at most {len(data.train)} (training samples)", config.batch_size)


def _device(config: TrainConfig) -> torch.device:
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise InputError("device", "be auto or cpu where torch finds no CUDA device", config.device)
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


def _noise_unit(scale: InputScale, shape: tuple[int, ...]) -> torch.Tensor:
    """What 1 of a scaled input is in the units of the data, 0 of a constant feature: () or of this shape."""
    units = [0.0 if exponent == CONSTANT_EXPONENT else 2.0**exponent for exponent in scale.exponent]
    return torch.tensor(units).reshape(() if len(units) == 1 else shape)


def _turns(modes: int, at_once: int, steps: int, generator: torch.Generator) -> list[list[int]]:
    """Which modes each step runs: dealt from a shuffled deck, so that all come equally often."""
    count = min(at_once, modes)
    if count == modes:
        return [list(range(modes))] * steps
    turns: list[list[int]] = []
    deck: list[int] = []
    for _ in range(steps):
        hand, deck = deck[:count], deck[count:]
        if len(hand) < count:
            # A new deck; what the hand holds already stays in it for a later step.
            fresh = torch.randperm(modes, generator=generator).tolist()
            drawn = [mode for mode in fresh if mode not in hand][: count - len(hand)]
            deck = [mode for mode in fresh if mode not in drawn]
            hand = hand + drawn
        turns.append(sorted(hand))
    return turns


def _epoch_generator(seed: int, epoch: int) -> torch.Generator:
    state = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state >> 1)


def _checkpoint_state(record: EpochRecord) -> dict[str, Any]:
    entries = {name: value for name, value in asdict(record).items() if name != "seconds"}
    return {"epoch": record.epoch, "record": entries}
