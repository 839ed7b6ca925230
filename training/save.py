"""What training leaves for the exporter: the trained systems as ``torch.export`` programs, and ``link.json``.

A process that loads them needs no model class.  Of a link that takes sentences there is one program more, the
backbone, and the tokenizer; the others take what the backbone gives.
"""

from __future__ import annotations

import io
import platform
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from twophase.link.demap import LLR_CLIP
from twophase.link.files import atomic_path, write_text
from twophase.link.grid import Grid
from twophase.link.manifest import (
    BACKBONE_PROGRAM,
    CALIBRATION_FILE,
    EVAL_FILE,
    TOKENIZER_FILE,
    Front,
    Manifest,
    Reference,
    write_manifest,
)
from twophase.link.routing import Routing
from twophase.link.sentences import WITHOUT_LINK
from twophase.training.config import TrainConfig
from twophase.training.data import Split, Task
from twophase.training.evaluate import symbol_energy
from twophase.training.model.exported import HardTransmitter, Receiver, SoftTransmitter
from twophase.training.model.network import LinkModel

__all__ = ["TextBackbone", "save_programs"]

PACKAGES = ("twophase-link", "torch", "numpy", "scikit-learn")
PACKAGES_OF_SENTENCES = ("accelerate", "tokenizers", "transformers")


@dataclass(frozen=True)
class TextBackbone:
    """What stands ahead of a link that takes sentences, and what it is compared with."""

    front: Front
    program: nn.Module
    """Tokens to features: int64 (batch, length), int64 (batch, length) -> (batch, C)."""
    tokenizer_json: str
    test_arrays: Mapping[str, Any]
    """Of the test split, for ``eval.npz``: tokens, sentences, decisions of other classifiers."""
    record: dict[str, Any]
    """How it was tuned, for the manifest."""


def save_programs(
    config: TrainConfig,
    task: Task,
    deployed: tuple[LinkModel, float],
    learned: tuple[LinkModel, float] | None,
    routing: Routing,
    training: dict[str, Any],
    backbone: TextBackbone | None = None,
    without_link: NDArray[np.int64] | None = None,
) -> None:
    """Write ``programs/*.pt2``, ``eval.npz`` and, last of all, ``link.json``.

    ``deployed`` and ``learned`` are models with the temperature of their soft paths, the second the best of
    the learning phase, None if there was no such phase; ``training`` is what the manifest says of it all;
    ``without_link`` holds the classes that are decided for the test split without a channel; the arrays of a
    backbone hold their own.
    """
    model, temperature = deployed
    folder = config.folder
    files = [EVAL_FILE, CALIBRATION_FILE]
    more = {} if backbone is None else backbone.test_arrays
    if without_link is not None:
        more = {**more, WITHOUT_LINK: without_link}
    _save_split(folder / EVAL_FILE, task.test, {"classes": np.array(task.classes), **more})
    _save_split(folder / CALIBRATION_FILE, task.train, {})
    programs: dict[str, nn.Module] = {
        "tx" if backbone is None else "tx_head": HardTransmitter(model, routing),
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
            description="the deployed model on its soft path, with its receiver as trained",
            soft="soft.onnx",
            rx="rx.onnx",
            temperature=temperature,
        )
    )
    batch = torch.export.Dim("batch")
    for name, module in programs.items():
        example = _llr_example(model) if name.startswith("rx") else _feature_example(model, task)
        axes = tuple({0: batch} if len(values) > 1 else None for values in example)
        _save_program(folder / f"programs/{name}.pt2", module, example, axes)
        files.append(f"programs/{name}.pt2")
    if backbone is not None:
        _save_program(folder / BACKBONE_PROGRAM, backbone.program, *_sentence_example(backbone.front))
        write_text(folder / TOKENIZER_FILE, backbone.tokenizer_json)
        files += [BACKBONE_PROGRAM, TOKENIZER_FILE]
    books = [model.codebook(mode) for mode in model.one_mode_per_codebook()]
    manifest = Manifest(
        kind="run",
        task=task.name,
        classes=task.classes,
        input_shape=task.input_shape,
        input=deployed[0].encoder.scale,
        link=model.link,
        codebooks=tuple(tuple(map(tuple, book.words.detach().cpu().double().tolist())) for book in books),
        grid=_grid_of(model),
        labels=tuple(tuple(book.labels.cpu().tolist()) for book in books),
        usage=tuple(
            tuple((book.usage.cpu().double() / book.usage.cpu().double().sum()).tolist()) for book in books
        ),
        symbol_energy=tuple(symbol_energy(model, mode, task.train) for mode in model.modes),
        class_frequency=_class_frequency(task),
        llr_clip=LLR_CLIP,
        routing=routing,
        references=tuple(references),
        front=None if backbone is None else backbone.front,
        training=training,
        provenance={
            "command": config.command_line(),
            "python": platform.python_version(),
            "versions": {
                name: version(name) for name in PACKAGES + (PACKAGES_OF_SENTENCES if backbone else ())
            },
        },
    )
    write_manifest(folder, manifest, tuple(files))


def _class_frequency(task: Task) -> tuple[float, ...]:
    """Of the training split; a class that has no sample there counts as one, as its posterior is not 0."""
    counts = torch.bincount(task.train.labels, minlength=len(task.classes)).clamp(min=1).tolist()
    return tuple(count / sum(counts) for count in counts)


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


def _sentence_example(front: Front) -> tuple[tuple[torch.Tensor, ...], tuple[Any, ...]]:
    """Two sentences of other lengths, and the axes that are free."""
    mask = torch.ones(2, 6, dtype=torch.int64)
    mask[1, 4:] = 0
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", min=2, max=front.max_length)}
    return (torch.ones(2, 6, dtype=torch.int64), mask), (axes, axes)


def _save_program(
    path: Path, module: nn.Module, example: tuple[torch.Tensor, ...], axes: tuple[Any, ...]
) -> None:
    with warnings.catch_warnings(), atomic_path(path) as temporary:
        # torch 2.13's own tracer and serialiser call parts of torch that it has deprecated.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\..*|copyreg")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\..*|copyreg")
        program = torch.export.export(module.cpu().eval(), example, dynamic_shapes=axes)
        whole = io.BytesIO()  # where a write fails, as on a full disk, torch ends the process
        torch.export.save(program, whole)
        temporary.write_bytes(whole.getbuffer())


def _save_split(path: Path, split: Split, more: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, input=split.features.cpu().numpy(), label=split.labels.cpu().numpy(), **more)
