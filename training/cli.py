"""``tp-train``: learn soft, align hard, leave programs for ``tp-export``."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twophase.link.command import Terminal, require, run_command
from twophase.link.errors import InputError
from twophase.link.escape import visible
from twophase.link.options import option_of
from twophase.link.plotting import require_matplotlib
from twophase.link.quality import trained_quality
from twophase.training.config import TrainConfig, preset_of

__all__ = ["main"]

DESCRIPTION = """Train a neural digital link: phase 1 learns with soft symbols, phase 2 aligns with the hard,
digital forward pass, so that what is deployed is what was trained.

Examples:
  tp-train                                    the digits task with its measured settings
  tp-train --seed 1 --out runs/second         another seed, another folder
  tp-train --method single-phase              the baseline that anneals and stays soft
  tp-train --resume                           continue an interrupted run
  tp-train --router content --out runs/content   a router that sees the content, and a header
  tp-train --codebook-sizes 4 --tokens 12 --qam-orders 16 --out runs/single   one mode
  tp-train --task reviews                     sentences, over a transformer whose top is tuned
  tp-train --task csv --data mine.csv --backbone roberta-base   your texts, another backbone
  tp-train --task npz --data mine.npz         your images or features
  accelerate launch --multi_gpu --num_processes 2 -m twophase.training --task reviews   on two GPUs
"""

SECTIONS = {
    "Task": "task",
    "Run": "out",
    "Backbone (tasks of text)": "backbone",
    "Method": "deploy",
    "Loss": "lambda_commitment",
    "Channel and samples": "train_snr_low_db",
    "Link": "codebook_sizes",
    "Router (several modes)": "router",
    "Encoder and codebooks": "embedding_dim",
    "Optimisation": "batch_size",
}
"""Of the help, each with the option that it begins with."""

CHECKPOINTS = ("tuning.json", "features.json", "last.json")
"""In the order in which a run gets them; from each it can go on."""

FREE_WHEN_RESUMING = ("resume", "device", "threads", "deploy", "out", "table_tolerance", "hysteresis_db")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run_command(
        "tp-train", TrainConfig, _train, DESCRIPTION, argv, usual=_usual, sections=SECTIONS, extra="train"
    )


def _usual(argv: Sequence[str]) -> dict[str, Any]:
    """The task's measured settings, or those of the run that is resumed."""
    task = _value_of("--task", argv) or TrainConfig.task
    usual = {"task": task, **preset_of(task)}
    if "--resume" not in argv:
        return usual
    from twophase.training.folder import load_config

    out = _value_of("--out", argv)
    return vars(load_config(Path(out) if out else TrainConfig(**usual).folder)) | {"resume": True}


def _value_of(option: str, argv: Sequence[str]) -> str | None:
    for place, word in enumerate(argv):
        if word == option and place + 1 < len(argv):
            return argv[place + 1]
        if word.startswith(option + "="):
            return word.partition("=")[2]
    return None


def _train(config: TrainConfig) -> int:
    # Cheap checks first: a mistyped folder must not wait for torch.
    from twophase.training.folder import check_folder, load_config

    check_folder(config)
    if config.resume:
        _check_unchanged(config, load_config(config.folder))
    for package in ("torch", "safetensors", "sklearn", "tensorboard", "filelock"):
        require(package, "train", "tp-train")
    require_matplotlib("train", "tp-train")
    from twophase.training.backbone.tune import is_main_process
    from twophase.training.run import train

    if is_main_process():
        logging.getLogger("twophase.training").setLevel(logging.INFO)
    before = _checkpoints(config)
    try:
        training = train(config, Terminal())
    except KeyboardInterrupt:
        if is_main_process():
            way_on = visible(_way_on(config, before))
            print(f"tp-train: interrupted; {way_on}", file=sys.stderr)  # noqa: T201
        return 130
    if training is None:
        return 0
    deployed = training["deployed"]
    _print_table(config)
    lines = (
        f"deployed: epoch {deployed['epoch']} of {training['epochs']}, validation accuracy over "
        f"{config.train_snr_low_db:g}..{config.train_snr_high_db:g} dB: hard "
        f"{deployed['validation_accuracy_hard']:.4f}, soft {deployed['validation_accuracy_soft']:.4f}\n"
        f"{_against(training)}"
        f"plots: {config.folder / 'plots' / 'training.png'}\n"
        f"run: {config.folder}"
    )
    print(visible(lines, "\n"))  # noqa: T201
    quality = trained_quality(training)
    for warning in quality.warnings():
        print(f"tp-train: warning: {warning}", file=sys.stderr)  # noqa: T201
    return 1 if quality.collapsed else 0


def _against(training: dict[str, Any]) -> str:
    """What the accuracy is to be read against; a line, or nothing."""
    quality = trained_quality(training)
    if quality.ceiling_validation is None or quality.majority_share is None or quality.train is None:
        return ""
    return (
        f"without a channel {quality.ceiling_validation:.4f}; "
        f"most frequent class {quality.majority_share:.4f}; "
        f"on the training samples {quality.train:.4f}\n"
    )


def _checkpoints(config: TrainConfig) -> set[tuple[str, int]]:
    """What the run folder holds to go on from, each with the time at which it was written."""
    paths = (config.folder / "checkpoints" / name for name in CHECKPOINTS)
    return {(path.name, path.stat().st_mtime_ns) for path in paths if path.is_file()}


def _way_on(config: TrainConfig, before: set[tuple[str, int]]) -> str:
    """What an interrupted run may tell its user; ``before`` is what the folder held when it began."""
    held = _checkpoints(config)
    if not (held if config.resume else held - before):
        return "nothing was trained yet"
    words = ["tp-train", "--resume"]
    if config.out is not None:
        words += ["--out", str(config.out)]
    elif config.task != TrainConfig.task:
        words += ["--task", config.task]
    return f"'{shlex.join(words)}' continues after the last epoch"


def _print_table(config: TrainConfig) -> None:
    """The steps of a link whose mode follows from the SNR."""
    from twophase.link.manifest import load_manifest
    from twophase.link.routing import table_lines

    manifest = load_manifest(config.folder, "run")
    if manifest.routing.router in ("snr", "table"):
        print("mode by the SNR that each end estimates:")  # noqa: T201
        print("\n".join(f"  {line}" for line in table_lines(manifest.routing.table, manifest.modes)))  # noqa: T201


def _check_unchanged(config: TrainConfig, stored: TrainConfig) -> None:
    for name, value in stored.as_json().items():
        if name == "router" and "content" not in (config.router, stored.router):
            continue  # trained alike; they differ in what is made of the weights at the end
        if name not in FREE_WHEN_RESUMING and config.as_json()[name] != value:
            raise InputError(
                "resume", f"keep the run's settings; {option_of(name)} was {value!r}", config.as_json()[name]
            )
