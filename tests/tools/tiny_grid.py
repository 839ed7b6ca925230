"""A small transmitter on an integer grid, and a bundle of it: what ``tiny_run`` has, in whole numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor

from tools.tiny_run import (
    CONTENT,
    FOUR_MODES,
    TinyReceiver,
    TinySpec,
    TinyTransmitter,
    eval_split,
    export_program,
    feature_inputs,
    receiver_inputs,
    run_manifest,
)
from tools.tiny_text_run import TEXT, write_text_run
from twophase.export.artefacts.accuracy import measure_accuracy
from twophase.export.artefacts.conformance import set_files, write_vectors
from twophase.export.graphs.signature import signature_of
from twophase.export.graphs.torch_program import freeze
from twophase.export.graphs.view import serialize
from twophase.export.proof.hard import prove_hard
from twophase.link.grid import Grid, latent_limit
from twophase.link.manifest import Manifest, write_manifest
from twophase.link.runtime import Receiver, Transmitter

EXPONENT = -5
"""One unit of codewords and latents is 2^-5."""


@dataclass(frozen=True)
class GridSpec(TinySpec):
    """A link whose codewords are whole numbers of units."""

    def codebook(self, index: int) -> NDArray[np.float32]:
        units = np.clip(np.rint(super().codebook(index) * 2.0**-EXPONENT), -127, 127)
        return (units * 2.0**EXPONENT).astype(np.float32)


FOUR_GRID = GridSpec(FOUR_MODES.link, "snr")
CONTENT_GRID = GridSpec(CONTENT.link, "content")
TEXT_GRID = GridSpec(TEXT.link, "snr", input_shape=TEXT.input_shape, classes=TEXT.classes)


def grid_manifest(spec: GridSpec, references: tuple[str, ...] = ()) -> Manifest:
    """``link.json`` of a small run on a grid, its files not yet listed."""
    exponents = (EXPONENT,) * len(spec.link.codebook_sizes)
    return replace(
        run_manifest(spec, references), grid=Grid(exponents, latent_limit(spec.link.embedding_dim))
    )


class GridTransmitter(TinyTransmitter):
    """Every tensor between the features and the indices holds whole numbers, in float32."""

    def __init__(self, spec: GridSpec) -> None:
        super().__init__(spec)
        rng = np.random.default_rng([spec.seed, 4])
        width = spec.modes.max_tokens * spec.link.embedding_dim
        shapes = {"w1": (16, int(np.prod(spec.input_shape))), "b1": (16,), "w2": (width, 16), "b2": (width,)}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.from_numpy(rng.integers(-127, 128, shape).astype(np.float32)))
        self.limit = float(latent_limit(spec.link.embedding_dim))
        for index in range(len(spec.link.codebook_sizes)):
            units = torch.from_numpy(spec.codebook(index) * 2.0**-EXPONENT)
            self.register_buffer(f"units_{index}", 2.0 * units)
            self.register_buffer(f"energy_{index}", -units.square().sum(dim=1))

    def latents(self, features: Tensor, snr_db: Tensor) -> Tensor:
        inputs = torch.clamp(torch.round(features.flatten(1) * 64.0), -128.0, 127.0)
        hidden = self.first_layer(inputs)
        deep = F.linear(hidden, self.get_buffer("w2"), self.get_buffer("b2")) * 2.0**-7
        deep = torch.clamp(torch.round(deep), -self.limit, self.limit)
        return deep.reshape(-1, self.spec.modes.max_tokens, self.spec.link.embedding_dim)

    def first_layer(self, inputs: Tensor) -> Tensor:
        first = F.linear(inputs, self.get_buffer("w1"), self.get_buffer("b1")) * 2.0**-6
        return torch.clamp(torch.round(first), 0.0, 255.0)

    def scores(self, latents: Tensor, index: int) -> Tensor:
        tokens = self.spec.link.tokens[index]
        return F.linear(
            latents[:, :tokens], self.get_buffer(f"units_{index}"), self.get_buffer(f"energy_{index}")
        )


def write_grid_bundle(folder: Path, spec: GridSpec = FOUR_GRID) -> Path:
    """A complete bundle with vectors and accuracy; its receiver is not trained."""
    torch.manual_seed(spec.seed)
    manifest = grid_manifest(spec)
    modules = {
        "tx.onnx": (GridTransmitter(spec), feature_inputs(spec)),
        "rx.onnx": (TinyReceiver(spec), receiver_inputs(spec)),
    }
    models = {
        name: freeze(name, export_program(module, inputs), signature_of(name, manifest))
        for name, (module, inputs) in modules.items()
    }
    return write_complete_bundle(folder, spec, manifest, models)


def write_complete_bundle(
    folder: Path, spec: TinySpec, manifest: Manifest, models: dict[str, ModelProto]
) -> Path:
    """A bundle of a transmitter and a receiver with all that ``tp-verify`` asks for."""
    folder.mkdir(parents=True)
    graphs = {name: serialize(model) for name, model in models.items()}
    for name, content in graphs.items():
        (folder / name).write_bytes(content)
    split = eval_split(spec, 40)
    np.savez(folder / "eval.npz", **split)
    proof, problems = prove_hard(models["tx.onnx"], manifest)
    assert proof is not None, problems
    manifest = replace(manifest, kind="bundle")
    conformance = write_vectors(folder, graphs, manifest, split["input"], proof, 0)
    accuracy = measure_accuracy(
        Transmitter(folder, manifest=manifest),
        Receiver(folder, manifest=manifest),
        split["input"],
        split["label"],
        trials=4,
        seed=0,
        esn0_db=(0.0, 12.0),
    )
    manifest = replace(manifest, conformance=conformance, accuracy=accuracy)
    write_manifest(folder, manifest, ("eval.npz", *graphs, *set_files(folder, conformance)))
    return folder


def write_grid_text_run(
    folder: Path, spec: GridSpec = TEXT_GRID, references: tuple[str, ...] = ("learning", "aligned")
) -> Path:
    """A run of a text task whose head computes on a grid."""
    return write_text_run(
        folder,
        spec,
        transmitter=GridTransmitter(spec),
        references=references,
        manifest=grid_manifest(spec, references),
    )
