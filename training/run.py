"""A training run from its first epoch, or from where it was interrupted, to programs for the exporter."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from twophase.link.errors import ArtifactError, InputError
from twophase.link.files import read_json, write_json
from twophase.link.manifest import MANIFEST_NAME, Front
from twophase.link.text import pack_texts
from twophase.training.backbone.baselines import huffman_lengths, tfidf_decisions
from twophase.training.backbone.features import Prepared
from twophase.training.backbone.tune import TuneSettings, is_main_process
from twophase.training.config import TrainConfig
from twophase.training.data import TextTask
from twophase.training.monitor import EpochRecord, MetricsLog, collapse_warnings
from twophase.training.plots import plot_training
from twophase.training.progress import progress_bar, say
from twophase.training.routing_table import adapt
from twophase.training.save import Sentences, save_programs
from twophase.training.tasks import load_task
from twophase.training.trainer import Trainer, check_data

__all__ = [
    "CONFIG_NAME",
    "check_folder",
    "folder_lock",
    "load_config",
    "mark_unfinished",
    "sentences_of",
    "start_folder",
    "train",
    "tune_settings",
]


CONFIG_NAME = "config.json"
FORMAT = "twophase-training"
VERSION = 2


def check_folder(config: TrainConfig) -> None:
    """Refuse a run folder that cannot be used; changes nothing.

    Raises
    ------
    InputError
        If the folder cannot be written or holds something that is no run.
    """
    folder = config.folder
    if folder.is_dir():
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise InputError("out", "be readable and writable", str(folder))
        if any(folder.iterdir()) and not (folder / CONFIG_NAME).is_file():
            raise InputError("out", "be a new or empty folder, or hold an earlier run", str(folder))
        return
    standing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not standing.is_dir() or not os.access(standing, os.W_OK):
        raise InputError("out", "be writable", str(folder))


def start_folder(config: TrainConfig) -> None:
    """Make the run folder ready: a resumed run keeps it, a new one sets an earlier run aside.

    The earlier run is renamed to ``.NAME.previous``, or ``.NAME.unfinished`` if it had not ended, so that a
    kill during the new one loses nothing.

    Raises
    ------
    InputError
        As ``check_folder``.
    """
    check_folder(config)
    folder = config.folder
    if config.resume:
        # What may change on resuming is kept too.
        write_json(
            folder / CONFIG_NAME,
            {"format": FORMAT, "version": VERSION} | config.as_json() | {"resume": False},
        )
        return
    try:
        if (folder / CONFIG_NAME).is_file():
            _set_aside(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("out", f"be writable ({error.strerror})", str(folder)) from error
    write_json(folder / CONFIG_NAME, {"format": FORMAT, "version": VERSION} | config.as_json())


def mark_unfinished(config: TrainConfig) -> None:
    """Take the manifest of an earlier finish away: what is about to be written is not its result."""
    (config.folder / MANIFEST_NAME).unlink(missing_ok=True)


@contextmanager
def folder_lock(config: TrainConfig) -> Iterator[None]:
    """Keep a second ``tp-train`` out of the run folder; the lock goes with the process.

    Raises
    ------
    InputError
        If another one is at work there.
    """
    from filelock import FileLock, Timeout  # comes with torch; the rest of this module needs neither

    folder = config.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError("out", "not be in use by another tp-train", str(folder)) from error
    try:
        yield
    finally:
        lock.release()


def _set_aside(folder: Path) -> None:
    """Rename the run in ``folder``; only a run of its own kind, finished or not, gives way to it."""
    kind = "previous" if (folder / MANIFEST_NAME).is_file() else "unfinished"
    aside = folder.with_name(f".{folder.name}.{kind}")
    replaced = aside.with_name(aside.name + ".old")
    shutil.rmtree(replaced, ignore_errors=True)
    if aside.exists():
        aside.rename(replaced)
    folder.rename(aside)
    shutil.rmtree(replaced, ignore_errors=True)


def load_config(folder: Path) -> TrainConfig:
    """The settings of the run in ``folder``.

    Raises
    ------
    ArtifactError
        If there is no run or it is of another version.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise ArtifactError(f"'{folder}' holds no run to resume: '{CONFIG_NAME}' is missing")
    value = read_json(path)
    if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
        raise ArtifactError(f"'{path}' is not the configuration of a training run")
    found = value.pop("version", None)
    if found != VERSION:
        raise ArtifactError(f"'{path}' must be of version {VERSION}, not {found!r}: train again")
    try:
        return TrainConfig.from_json(value)
    except (TypeError, ValueError, LookupError) as error:
        raise ArtifactError(f"'{path}' is altered: {error}") from error


def tune_settings(config: TrainConfig) -> TuneSettings:
    """What the tuning of the backbone is told."""
    return TuneSettings(
        backbone=config.backbone,
        tune_layers=config.tune_layers,
        epochs=config.tune_epochs,
        learning_rate=config.tune_learning_rate,
        batch_size=config.tune_batch_size,
        max_length=config.max_length,
        mixed_precision=config.mixed_precision,
        seed=config.seed,
        device=config.device,
    )


def sentences_of(config: TrainConfig, data: TextTask, prepared: Prepared) -> Sentences:
    """What the exporter needs ahead of the link; the baselines are fitted on the training sentences."""
    text, ends = pack_texts(data.test.texts)
    return Sentences(
        front=Front(prepared.record["backbone"], config.max_length),
        backbone=prepared.backbone,
        tokenizer_json=prepared.tokenizer_json,
        test_arrays={
            "input_ids": prepared.input_ids,
            "attention_mask": prepared.attention_mask,
            "text": text,
            "text_ends": ends,
            "without_link": prepared.without_link,
            "tfidf": tfidf_decisions(data),
            "huffman_lengths": huffman_lengths(data.train.texts),
        },
    )


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
    from twophase.training.backbone.features import open_backbone, prepare
    from twophase.training.run import sentences_of, tune_settings

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
