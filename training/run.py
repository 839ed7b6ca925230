"""A training run from its first epoch, or from where it was interrupted, to programs for the exporter."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console

from twophase.training.adaptation import adapt
from twophase.training.backbone.processes import is_main_process
from twophase.training.config import TrainConfig
from twophase.training.data import TextTask
from twophase.training.evaluate import symbol_energy
from twophase.training.folder import folder_lock, mark_unfinished, start_folder
from twophase.training.monitor import EpochRecord, MetricsLog, collapse_warnings
from twophase.training.plots import plot_training
from twophase.training.programs import Sentences, save_programs
from twophase.training.progress import progress_bar, say
from twophase.training.tasks import load_task
from twophase.training.trainer import Trainer, check_data

__all__ = ["train"]


def train(config: TrainConfig, console: Console) -> dict[str, Any] | None:
    """Train, keeping everything in the run folder; return what the manifest says of the training.

    Parameters
    ----------
    console
        Where epoch lines, warnings and, on a terminal, progress bars go.

    Returns
    -------
    dict or None
        None in a process of a launch that is not the main one, which alone trains the link.
    """
    data = load_task(config.task, config.data, config.samples)
    check_data(config, data)
    if isinstance(data, TextTask):
        return _train_on_sentences(config, data, console)
    if not is_main_process():
        return None
    with folder_lock(config):
        start_folder(config)
        return _train_link(Trainer(config, data), console)


def _train_on_sentences(config: TrainConfig, data: TextTask, console: Console) -> dict[str, Any] | None:
    """Tune a backbone, by all processes of a launch; then train the link on the features that it gives."""
    # Late: a task of features needs no transformers.
    from twophase.training.backbone.features import prepare
    from twophase.training.backbone.opened import open_backbone
    from twophase.training.sentences import sentences_of, tune_settings

    backbone = open_backbone(tune_settings(config), data)
    if not is_main_process():
        prepare(backbone, config.folder, config.resume, Console(quiet=True))
        return None
    if data.citation:
        say(console, f"cite: {data.citation}")
    with folder_lock(config):
        start_folder(config)
        prepared = prepare(backbone, config.folder, config.resume, console)
        assert prepared is not None
        sentences = sentences_of(config, data, prepared)
        return _train_link(Trainer(config, prepared.task), console, sentences, prepared.record)


def _train_link(
    trainer: Trainer,
    console: Console,
    sentences: Sentences | None = None,
    backbone: dict[str, Any] | None = None,
) -> dict[str, Any]:
    if trainer.config.resume:
        trainer.restore()
    records = _train_epochs(trainer, console)
    return _finish(trainer, records, console, sentences, backbone)


def _train_epochs(trainer: Trainer, console: Console) -> list[EpochRecord]:
    config = trainer.config
    seen: set[str] = set()
    with MetricsLog(config.folder, trainer.standing.epoch) as metrics, progress_bar(console) as progress:
        bar = progress.add_task(
            f"{config.task}, {config.method}", total=config.epochs, completed=trainer.standing.epoch
        )
        while not trainer.finished:
            mark_unfinished(config)
            record = trainer.epoch(trainer.standing.epoch + 1)
            warned = collapse_warnings(record, metrics.records, config, trainer.llr_references)
            metrics.add(record)
            trainer.keep(record)
            say(console, record.line())
            for kind in warned.keys() - seen:
                say(console, f"warning: {warned[kind]}")
            seen = set(warned)
            progress.update(bar, completed=record.epoch)
        return metrics.records


def _finish(
    trainer: Trainer,
    records: list[EpochRecord],
    console: Console,
    sentences: Sentences | None,
    backbone: dict[str, Any] | None,
) -> dict[str, Any]:
    config = trainer.config
    warned = collapse_warnings(records[-1], records[:-1], config, trainer.llr_references)
    deployed, state = trainer.stored(config.deploy)
    learned, learned_state = trainer.stored("learning") if config.last_learning_epoch else (None, None)
    adaptation = adapt(deployed, config, trainer.task)
    if config.router == "table" and len(config.link.modes) > 1 and len(adaptation.routing.table.modes) == 1:
        warned["table of one step"] = (
            "the table has one mode for every SNR: raise --table-tolerance, train longer or over more SNRs"
        )
        say(console, f"warning: {warned['table of one step']}")
    training = {
        "method": config.method,
        "surrogate": config.surrogate,
        "seed": config.seed,
        "samples": {name: len(getattr(trainer.task, name)) for name in ("train", "validation", "test")},
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
    if backbone is not None:
        training["backbone"] = backbone | {"distillation": config.distillation}
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
        sentences=sentences,
    )
    return training
