"""What training leaves for the exporter: the trained systems as ``torch.export`` programs, and ``link.json``.

A process that loads them needs no model class.
"""

from __future__ import annotations

import platform
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from twophase.link.demap import LLR_CLIP
from twophase.link.files import atomic_path
from twophase.link.grid import Grid
from twophase.link.manifest import CALIBRATION_FILE, EVAL_FILE, Manifest, Reference, write_manifest
from twophase.link.routing import Routing
from twophase.training.config import TrainConfig
from twophase.training.data import Split, Task
from twophase.training.deployed import HardTransmitter, Receiver, SoftTransmitter
from twophase.training.model import LinkModel

__all__ = ["save_programs"]

PACKAGES = ("twophase-link", "torch", "numpy", "scikit-learn")


def save_programs(
    folder: Path,
    task: Task,
    config: TrainConfig,
    deployed: tuple[LinkModel, float],
    learned: tuple[LinkModel, float] | None,
    routing: Routing,
    training: dict[str, Any],
    command: str,
) -> None:
    """Write ``programs/*.pt2``, ``eval.npz`` and, last of all, ``link.json``.

    Parameters
    ----------
    deployed
        The model to deploy and the temperature of its soft path.
    learned
        The best model of the learning phase and its temperature; None if there was no such phase.
    routing
        Who chooses the mode, and how the receiver learns it.
    training
        What the manifest says of the training.
    """
    model, temperature = deployed
    files = [EVAL_FILE, CALIBRATION_FILE]
    _save_split(folder / EVAL_FILE, task.test)
    _save_split(folder / CALIBRATION_FILE, task.train)
    programs: dict[str, nn.Module] = {
        "tx": HardTransmitter(model, routing),
        "rx": Receiver(model),
        "soft": SoftTransmitter(model, routing, temperature),
    }
    references = []
    if learned is not None:
        programs["soft_learning"] = SoftTransmitter(learned[0], routing, learned[1])
        programs["rx_learning"] = Receiver(learned[0])
        references.append(
            Reference(
                name="learning",
                description="best model of the learning phase on its soft path, with its own receiver",
                soft="soft_learning.onnx",
                rx="rx_learning.onnx",
                temperature=learned[1],
            )
        )
    references.append(
        Reference(
            name="aligned",
            description="the deployed model on its soft path, with the deployed receiver",
            soft="soft.onnx",
            rx="rx.onnx",
            temperature=temperature,
        )
    )
    for name, module in programs.items():
        example = _llr_example(model) if name.startswith("rx") else _feature_example(model, task)
        _save_program(folder / "programs" / f"{name}.pt2", module, example)
        files.append(f"programs/{name}.pt2")
    books = [model.codebook(mode) for mode in model.one_mode_per_codebook()]
    manifest = Manifest(
        kind="run",
        task=task.name,
        classes=task.classes,
        input_shape=task.input_shape,
        link=model.link,
        codebooks=tuple(tuple(map(tuple, book.words.detach().cpu().double().tolist())) for book in books),
        grid=_grid_of(model),
        labels=tuple(tuple(book.labels.cpu().tolist()) for book in books),
        usage=tuple(
            tuple((book.usage.cpu().double() / book.usage.cpu().double().sum()).tolist()) for book in books
        ),
        llr_clip=LLR_CLIP,
        routing=routing,
        references=tuple(references),
        training=training,
        provenance={
            "command": command,
            "python": platform.python_version(),
            "versions": {name: version(name) for name in PACKAGES},
        },
    )
    write_manifest(folder, manifest, tuple(files))


def _grid_of(model: LinkModel) -> Grid | None:
    """Units of the codebook searches; None for a transmitter in float32."""
    if not model.on_grid:
        return None
    books = [model.codebook(mode) for mode in model.one_mode_per_codebook()]
    return Grid(tuple(book.unit.known for book in books), books[0].latent_limit)


def _feature_example(model: LinkModel, task: Task) -> tuple[torch.Tensor, ...]:
    example = torch.zeros(2, *task.input_shape), torch.zeros(2)
    return (*example, torch.full((1,), -1)) if len(model.modes) > 1 else example


def _llr_example(model: LinkModel) -> tuple[torch.Tensor, ...]:
    return torch.zeros(2, model.modes.max_bits), torch.zeros(2, dtype=torch.int64)


def _save_program(path: Path, module: nn.Module, example: tuple[torch.Tensor, ...]) -> None:
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings(), atomic_path(path) as temporary:
        # torch 2.13's own tracer and serialiser call parts of torch that it has deprecated.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\..*|copyreg")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\..*|copyreg")
        axes = ({0: batch}, {0: batch}, None)[: len(example)]
        program = torch.export.export(module.cpu().eval(), example, dynamic_shapes=axes)
        with temporary.open("wb") as stream:
            torch.export.save(program, stream)


def _save_split(path: Path, split: Split) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, input=split.features.cpu().numpy(), label=split.labels.cpu().numpy())
