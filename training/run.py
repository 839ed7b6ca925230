"""A training run from its first epoch, or from where it was interrupted, to programs for the exporter."""

from __future__ import annotations

import math
from typing import Any

import torch

from twophase.link.command import Terminal
from twophase.link.manifest import Front
from twophase.link.text import pack_texts
from twophase.training.backbone.baselines import huffman_lengths, tfidf_decisions
from twophase.training.backbone.features import Prepared, open_backbone, prepare
from twophase.training.backbone.tune import is_main_process
from twophase.training.config import TrainConfig
from twophase.training.data import TextTask
from twophase.training.folder import folder_lock, mark_unfinished, start_folder
from twophase.training.monitor import (
    TABLE_HEAD,
    EpochRecord,
    MetricsLog,
    collapse_warnings,
    reported_lines,
    table_row,
)
from twophase.training.plots import plot_training
from twophase.training.routing_table import adapt
from twophase.training.save import TextBackbone, save_programs
from twophase.training.tasks import load_task
from twophase.training.trainer import Trainer, check_data

__all__ = ["text_backbone", "train"]


def train(config: TrainConfig, terminal: Terminal) -> dict[str, Any] | None:
    """Train, keeping everything in the run folder; return what the manifest says of the training.

    None in a process of a launch that is not the main one, which alone trains the link.
    """
    data = load_task(config.task, config.data, config.samples, config.ignore)
    check_data(config, data)
    if not isinstance(data, TextTask):
        if not is_main_process():
            return None
        with folder_lock(config):
            start_folder(config)
            return _train_link(Trainer(config, data), terminal)

    # All processes of a launch tune the backbone; the link is trained on the features that it gives.
    work = open_backbone(config, data)
    if not is_main_process():
        prepare(work, terminal)
        return None
    if data.citation:
        terminal.say(f"cite: {data.citation}")
    with folder_lock(config):
        start_folder(config)
        prepared = prepare(work, terminal)
        assert prepared is not None
        backbone = text_backbone(config, data, prepared)
        return _train_link(Trainer(config, prepared.task), terminal, backbone)


def text_backbone(config: TrainConfig, data: TextTask, prepared: Prepared) -> TextBackbone:
    """What the exporter needs ahead of the link; the baselines are fitted on the training sentences."""
    text, ends = pack_texts(data.test.texts)
    return TextBackbone(
        front=Front(prepared.record["backbone"], config.max_length),
        program=prepared.backbone,
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
        record=prepared.record | {"distillation": config.distillation},
    )


def _train_link(trainer: Trainer, terminal: Terminal, backbone: TextBackbone | None = None) -> dict[str, Any]:
    if trainer.config.resume:
        trainer.restore()
        if trainer.finished:
            terminal.say(
                f"'{trainer.config.folder}' is finished after {trainer.standing.epoch} epochs: nothing is "
                "trained, and its programs are written anew"
            )
    records = _train_epochs(trainer, terminal)
    return _finish(trainer, records, terminal, backbone)


def _train_epochs(trainer: Trainer, terminal: Terminal) -> list[EpochRecord]:
    config, done = trainer.config, trainer.standing.epoch
    shown: set[str] = set()
    with (
        MetricsLog(config.folder, done) as metrics,
        terminal.progress(f"{config.task}, {config.method}", config.epochs, done) as progress,
    ):
        if config.log == "table" and not trainer.finished:
            terminal.say(TABLE_HEAD)
        while not trainer.finished:
            mark_unfinished(config)
            record = trainer.epoch(trainer.standing.epoch + 1)
            warned = collapse_warnings(record, metrics.records, config, trainer.llr_references)
            metrics.add(record)
            trainer.keep(record)
            for line in reported_lines(record) if config.log == "reported" else (table_row(record),):
                terminal.say(line)
            for kind in warned.keys() - shown:
                terminal.say(f"warning: {warned[kind]}")
            shown = set(warned)
            progress.show(done=record.epoch)
        return metrics.records


def _finish(
    trainer: Trainer, records: list[EpochRecord], terminal: Terminal, backbone: TextBackbone | None
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
        terminal.say(f"warning: {warned['table of one step']}")
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
    counts = torch.bincount(trainer.task.validation.labels)
    training["majority_share"] = float(counts.max() / counts.sum())
    without_link = None
    if backbone is not None:
        training["backbone"] = backbone.record
        training["ceiling"] = {"validation_accuracy": backbone.record.get("validation_accuracy")}
    else:
        ceiling = trainer.ceiling()
        without_link = ceiling.test
        training["ceiling"] = {
            "train_accuracy": ceiling.train_accuracy,
            "validation_accuracy": ceiling.validation_accuracy,
        }
    mark_unfinished(config)
    plot_training(
        config.folder / "plots" / "training.png",
        records,
        config.link,
        f"{config.task}: {config.method}, {config.surrogate}",
    )
    save_programs(
        config,
        trainer.task,
        deployed=(deployed, state["record"]["vq_temperature"]),
        learned=None
        if learned is None or learned_state is None
        else (learned, learned_state["record"]["vq_temperature"]),
        routing=adaptation.routing,
        training=training,
        backbone=backbone,
        without_link=without_link,
    )
    return training
