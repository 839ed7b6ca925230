"""A small run folder of a text task, without training code: a backbone of one layer ahead of a tiny link."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tools.tiny_run import FOUR_MODES, TinySpec, link_programs, run_manifest, save_programs
from tools.tiny_text import WORDS, sentences, text_arrays, write_tokenizer
from twophase.link.manifest import (
    BACKBONE_PROGRAM,
    CALIBRATION_FILE,
    EVAL_FILE,
    TOKENIZER_FILE,
    Front,
    Manifest,
    write_manifest,
)
from twophase.link.text import TextEncoder

TEXT = TinySpec(FOUR_MODES.link, "snr", input_shape=(12,), classes=2)
"""The link of a text task, for :func:`write_text_run`."""

TEXT_CONTENT = TinySpec(FOUR_MODES.link, "content", input_shape=(12,), classes=2)
"""The same, with a router that sees the features and tells the mode in a header."""

FRONT = Front(backbone="tiny", max_length=16)


class TinyBackbone(nn.Module):
    """Token ids and mask to features: one layer for each token, then the mean over the mask."""

    def __init__(self, features: int, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(len(WORDS), 16)
        self.layer = nn.Linear(16, features)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = attention_mask.to(torch.float32)[:, :, None]
        hidden = torch.tanh(self.layer(self.embedding(input_ids)))
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


def export_backbone(backbone: nn.Module) -> torch.export.ExportedProgram:
    """The program of a backbone with free axes ``batch`` and ``length``."""
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    inputs = torch.zeros(4, 6, dtype=torch.int64), torch.ones(4, 6, dtype=torch.int64)
    with warnings.catch_warnings():
        # torch.export trips over its own deprecations
        warnings.simplefilter("ignore")
        return torch.export.export(backbone.eval(), inputs, dynamic_shapes=(axes, axes), strict=False)


def text_split(
    spec: TinySpec, backbone: nn.Module, encoder: TextEncoder, samples: int, seed: int
) -> dict[str, NDArray[Any]]:
    """Samples of a text task: made-up sentences, and the features that the backbone gives in one batch."""
    rng = np.random.default_rng([spec.seed, 3, seed])
    label = rng.integers(0, spec.classes, samples)
    arrays = text_arrays(sentences(label, rng), label, spec.classes, encoder, spec.seed)
    with torch.no_grad():
        ids, mask = (
            torch.from_numpy(arrays[name].astype(np.int64)) for name in ("input_ids", "attention_mask")
        )
        features = backbone(ids, mask).numpy()
    return {"input": features, **arrays}


def write_text_run(
    folder: Path,
    spec: TinySpec = TEXT,
    transmitter: nn.Module | None = None,
    references: tuple[str, ...] = ("learning", "aligned"),
    samples: int = 40,
    backbone: nn.Module | None = None,
    manifest: Manifest | None = None,
) -> Path:
    """Write a finished run folder of a text task.

    ``transmitter`` and ``backbone`` are others to take instead of the tiny ones, of ``spec.input_shape``;
    ``manifest`` is another to take instead of ``run_manifest(spec, references)``, without front.
    """
    programs = link_programs(spec, references)
    head, inputs = programs.pop("tx")
    backbone = backbone or TinyBackbone(spec.input_shape[0], spec.seed)
    folder.mkdir(parents=True)
    files = save_programs(folder, {"tx_head": (transmitter or head, inputs), **programs})
    torch.export.save(export_backbone(backbone), folder / BACKBONE_PROGRAM)
    encoder = TextEncoder(write_tokenizer(folder / TOKENIZER_FILE), FRONT.max_length)
    np.savez(folder / EVAL_FILE, **text_split(spec, backbone, encoder, samples, 0))
    training = text_split(spec, backbone, encoder, 64, 1)
    np.savez(folder / CALIBRATION_FILE, input=training["input"], label=training["label"])
    told = replace(manifest or run_manifest(spec, references), front=FRONT)
    others = (EVAL_FILE, CALIBRATION_FILE, BACKBONE_PROGRAM, TOKENIZER_FILE)
    write_manifest(folder, told, (*files, *others))
    return folder
