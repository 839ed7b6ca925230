"""A training run from its first epoch, or from where it was interrupted, to programs for the exporter."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from twophase.training.adaptation import adapt
from twophase.training.config import TrainConfig
from twophase.training.data import TASKS
from twophase.training.evaluate import symbol_energy
from twophase.training.folder import folder_lock, mark_unfinished, start_folder
from twophase.training.monitor import EpochRecord, MetricsLog, collapse_warnings
from twophase.training.plots import plot_training
from twophase.training.programs import save_programs
from twophase.training.trainer import Trainer

__all__ = ["train"]


def train(config: TrainConfig, console: Console) -> dict[str, Any]:
    """Train, keeping everything in the run folder; return what the manifest says of the training.

    Parameters
    ----------
    console
        Where epoch lines, warnings and, on a terminal, the progress bar go.
    """
    trainer = Trainer(config, TASKS[config.task]())
    with folder_lock(config):
        start_folder(config)
        if config.resume:
            trainer.restore()
        records = _train_epochs(trainer, console)
        return _finish(trainer, records, console)


def _train_epochs(trainer: Trainer, console: Console) -> list[EpochRecord]:
    config = trainer.config
    seen: set[str] = set()
    with MetricsLog(config.folder, trainer.standing.epoch) as metrics, _progress(console) as progress:
        bar = progress.add_task(
            f"{config.task}, {config.method}", total=config.epochs, completed=trainer.standing.epoch
        )
        while not trainer.finished:
            mark_unfinished(config)
            record = trainer.epoch(trainer.standing.epoch + 1)
            warned = collapse_warnings(record, metrics.records, config, trainer.llr_references)
            metrics.add(record)
            trainer.keep(record)
            console.print(record.line(), markup=False, highlight=False, soft_wrap=True)
            for kind in warned.keys() - seen:
                console.print(f"warning: {warned[kind]}", markup=False, highlight=False, soft_wrap=True)
            seen = set(warned)
            progress.update(bar, completed=record.epoch)
        return metrics.records


def _finish(trainer: Trainer, records: list[EpochRecord], console: Console) -> dict[str, Any]:
    config = trainer.config
    warned = collapse_warnings(records[-1], records[:-1], config, trainer.llr_references)
    deployed, state = trainer.stored(config.deploy)
    learned, learned_state = trainer.stored("learning") if config.last_learning_epoch else (None, None)
    adaptation = adapt(deployed, config, trainer.task)
    if config.router == "table" and len(config.link.modes) > 1 and len(adaptation.routing.table.modes) == 1:
        warned["table of one step"] = (
            "the table has one mode for every SNR: raise --table-tolerance, train longer or over more SNRs"
        )
        console.print(
            f"warning: {warned['table of one step']}", markup=False, highlight=False, soft_wrap=True
        )
    training = {
        "method": config.method,
        "surrogate": config.surrogate,
        "seed": config.seed,
        "epochs": trainer.standing.epoch,
        "alignment_start_epoch": config.alignment_start_epoch if config.method == "two-phase" else None,
        "train_snr_db": [config.train_snr_low_db, config.train_snr_high_db],
        "deployed": {"checkpoint": config.deploy} | state["record"],
        "learning": None if learned_state is None else learned_state["record"],
        "perplexity": [math.exp(entropy) for entropy in state["record"]["vq_entropy"]],
        # On training data; an amplifier divides by its root to send Es = 1.
        "symbol_energy": [symbol_energy(deployed, mode, trainer.task.train) for mode in deployed.modes],
        "warnings_at_the_end": sorted(warned),
    } | adaptation.measured
    mark_unfinished(config)
    plot_training(
        config.folder / "plots" / "training.png",
        records,
        config.link,
        f"{config.task}: {config.method}, {config.surrogate}",
    )
    save_programs(
        folder=config.folder,
        task=trainer.task,
        config=config,
        deployed=(deployed, state["record"]["vq_temperature"]),
        learned=None
        if learned is None or learned_state is None
        else (learned, learned_state["record"]["vq_temperature"]),
        routing=adaptation.routing,
        training=training,
        command=config.command_line(),
    )
    return training


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
