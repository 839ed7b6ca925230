"""Small runs and bundles made without training: what ``tp-export`` and ``tp-verify`` take, in seconds.

Nothing is trained: the weights are drawn from a seed.  The link has one mode or several; the transmitter
picks the mode of a sample by comparing its SNR with fixed thresholds, or by scores that see its features too.
It may compute on an integer grid, and a backbone of one layer may stand ahead of it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor, nn
from torch.export import ExportedProgram

from tools.tiny_text import WORDS, sentences, text_arrays, write_tokenizer
from twophase.export.artefacts.accuracy import measure_accuracy
from twophase.export.artefacts.conformance import set_files, write_vectors
from twophase.export.graphs.signature import signature_of
from twophase.export.graphs.torch_program import freeze
from twophase.export.graphs.view import serialize
from twophase.export.proof.hard import prove_hard
from twophase.link.grid import Grid, latent_limit
from twophase.link.header import HeaderStep
from twophase.link.input_scale import InputScale
from twophase.link.manifest import (
    BACKBONE_PROGRAM,
    CALIBRATION_FILE,
    EVAL_FILE,
    TOKENIZER_FILE,
    Front,
    Manifest,
    Reference,
    program_file,
    write_manifest,
)
from twophase.link.modes import LinkConfig, ModeTable
from twophase.link.receiver import Receiver
from twophase.link.routing import Router, Routing, SnrTable
from twophase.link.text import TextEncoder
from twophase.link.transmitter import Transmitter

INPUT_SHAPE = (2, 3)
CLASSES = 5
LLR_CLIP = 100.0


@dataclass(frozen=True)
class TinySpec:
    """The link of a small run."""

    link: LinkConfig
    router: Router = "fixed"
    seed: int = 0
    input_shape: tuple[int, ...] = INPUT_SHAPE
    classes: int = CLASSES

    @property
    def modes(self) -> ModeTable:
        return self.link.modes

    def codebook(self, index: int) -> NDArray[np.float32]:
        rng = np.random.default_rng([self.seed, 1, index])
        shape = (self.link.codebook_sizes[index], self.link.embedding_dim)
        return rng.standard_normal(shape).astype(np.float32)

    def labels(self, index: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, 2, index])
        return rng.permutation(self.link.codebook_sizes[index]).astype(np.int64)

    def label_bits(self, index: int) -> NDArray[np.uint8]:
        width = self.link.codebook_sizes[index].bit_length() - 1
        return np.array(
            [[int(c) for c in f"{label:0{width}b}"] for label in self.labels(index)], dtype=np.uint8
        )

    def thresholds(self) -> list[float]:
        """SNRs at which the next mode begins, within 0..20 dB."""
        count = len(self.modes)
        return [20.0 * (number + 1) / count for number in range(count - 1)]

    def routing(self) -> Routing:
        table = SnrTable(tuple(self.thresholds()), tuple(range(len(self.modes))))
        header = (HeaderStep(-10.0, "hamming84"), HeaderStep(10.0, "repeat2"))
        return Routing(self.router, table, 0.0, header if self.router == "content" else ())


ONE_MODE = TinySpec(LinkConfig(codebook_sizes=(8,), tokens=(3,), qam_orders=(16,), embedding_dim=4))
"""One mode: 9 information bits, padded to three 16-QAM symbols."""

FOUR_MODES = TinySpec(
    LinkConfig(codebook_sizes=(8, 16), tokens=(3, 2), qam_orders=(4, 16), embedding_dim=4), "snr"
)
"""Two codebooks over two constellations: widths differ in tokens, bits and symbols."""

CONTENT = TinySpec(FOUR_MODES.link, "content")
"""The same, with a router that sees the features and tells the mode in a header."""


class _Encoder(nn.Module):
    """Two layers, conditioned on the SNR; also the choice of the mode."""

    def __init__(self, spec: TinySpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.modes.max_tokens * spec.link.embedding_dim
        self.first = nn.Linear(int(np.prod(spec.input_shape)) + 1, 16)
        self.second = nn.Linear(16, width)
        self.register_buffer("thresholds", torch.tensor(spec.thresholds(), dtype=torch.float32))
        self.register_buffer("modes_of_step", torch.arange(len(spec.modes)))
        if spec.router == "content":
            self.router = nn.Linear(int(np.prod(spec.input_shape)) + 1, len(spec.modes))
        for index in range(len(spec.link.codebook_sizes)):
            codebook = torch.from_numpy(spec.codebook(index))
            self.register_buffer(f"codebook_{index}", codebook)
            self.register_buffer(f"offset_{index}", -0.5 * codebook.square().sum(dim=1))
            self.register_buffer(f"table_{index}", torch.from_numpy(spec.label_bits(index)))

    def mode(self, features: Tensor, snr_db: Tensor, mode_request: Tensor | None) -> Tensor:
        routed = self.routed(features, snr_db)
        if mode_request is None:
            return routed
        request = mode_request.expand_as(routed)
        return torch.where(request >= 0, request, routed)

    def routed(self, features: Tensor, snr_db: Tensor) -> Tensor:
        if self.spec.router == "content":
            seen = torch.cat([features.flatten(1), snr_db[:, None] / 10.0], dim=1)
            return torch.argmax(self.router(seen), dim=1)
        return self.modes_of_step[(snr_db[:, None] >= self.thresholds).sum(dim=1)]

    def latents(self, features: Tensor, snr_db: Tensor) -> Tensor:
        joined = torch.cat([features.flatten(1), snr_db[:, None] / 10.0], dim=1)
        hidden = torch.relu(self.first(joined))
        tokens = self.spec.modes.max_tokens
        return self.second(hidden).reshape(-1, tokens, self.spec.link.embedding_dim) * 3.0

    def scores(self, latents: Tensor, index: int) -> Tensor:
        tokens = self.spec.link.tokens[index]
        return F.linear(
            latents[:, :tokens], self.get_buffer(f"codebook_{index}"), self.get_buffer(f"offset_{index}")
        )


class TinyTransmitter(_Encoder):
    """The hard transmitter: bits and symbols are functions of ``indices`` and ``mode`` alone."""

    def __init__(self, spec: TinySpec) -> None:
        super().__init__(spec)
        modes = spec.modes
        self.register_buffer("codebook_of_mode", torch.tensor([mode.codebook for mode in modes]))
        self.register_buffer("bits_of_mode", torch.tensor([mode.channel_bits for mode in modes]))
        self.register_buffer("symbols_of_mode", torch.tensor([mode.symbols for mode in modes]))
        for number, mode in enumerate(modes):
            weights = [1 << shift for shift in reversed(range(mode.bits_per_symbol))]
            self.register_buffer(f"weights_{number}", torch.tensor(weights))

    def forward(
        self, features: Tensor, snr_db: Tensor, mode_request: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        mode = self.mode(features, snr_db, mode_request)
        indices = self.search(self.latents(features, snr_db), mode)
        bits, symbols = self.map(indices, mode)
        return mode, indices, bits, symbols, self.bits_of_mode[mode], self.symbols_of_mode[mode]

    def search(self, latents: Tensor, mode: Tensor) -> Tensor:
        widest = self.spec.modes.max_tokens
        indices = torch.full_like(latents[:, :, 0], -1, dtype=torch.int64)
        for index, tokens in enumerate(self.spec.link.tokens):
            found = self.choose(self.scores(latents, index))
            padded = F.pad(found, (0, widest - tokens), value=-1)
            indices = torch.where((self.codebook_of_mode[mode] == index)[:, None], padded, indices)
        return indices

    def choose(self, scores: Tensor) -> Tensor:
        return torch.argmax(scores, dim=-1)

    def map(self, indices: Tensor, mode: Tensor) -> tuple[Tensor, Tensor]:
        modes = self.spec.modes
        all_bits = torch.zeros_like(indices[:, :1], dtype=torch.uint8).expand(-1, modes.max_bits)
        all_symbols = torch.zeros_like(indices[:, :1]).expand(-1, modes.max_symbols)
        for number, entry in enumerate(modes):
            table = self.get_buffer(f"table_{entry.codebook}")
            kept = indices[:, : entry.tokens].clamp(0, entry.codebook_size - 1)
            bits = F.embedding(kept, table).flatten(1)
            bits = F.pad(bits, (0, entry.channel_bits - entry.information_bits))
            groups = bits.reshape(-1, entry.symbols, entry.bits_per_symbol).to(torch.int64)
            symbols = (groups * self.get_buffer(f"weights_{number}")).sum(dim=-1)
            here = (mode == number)[:, None]
            all_bits = torch.where(here, F.pad(bits, (0, modes.max_bits - entry.channel_bits)), all_bits)
            all_symbols = torch.where(
                here, F.pad(symbols, (0, modes.max_symbols - entry.symbols)), all_symbols
            )
        return all_bits, all_symbols


class TinySoftTransmitter(_Encoder):
    """Expected symbols under a softmax over the codewords; a stand-in for a trained surrogate."""

    def __init__(self, spec: TinySpec, temperature: float) -> None:
        super().__init__(spec)
        self.temperature = temperature

    def forward(
        self, features: Tensor, snr_db: Tensor, mode_request: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        mode = self.mode(features, snr_db, mode_request)
        latents = self.latents(features, snr_db)
        modes = self.spec.modes
        sent = torch.zeros_like(snr_db)[:, None, None].expand(-1, modes.max_symbols, 2)
        for number, entry in enumerate(modes):
            weights = torch.softmax(self.scores(latents, entry.codebook) / self.temperature, dim=-1)
            bits = (weights @ self.get_buffer(f"table_{entry.codebook}").to(torch.float32)).flatten(1)
            bits = F.pad(bits, (0, entry.channel_bits - entry.information_bits))
            pairs = bits.reshape(-1, entry.symbols, entry.bits_per_symbol)
            pairs = 1.0 - 2.0 * torch.stack([pairs[..., 0::2].mean(-1), pairs[..., 1::2].mean(-1)], dim=-1)
            padded = F.pad(pairs, (0, 0, 0, modes.max_symbols - entry.symbols))
            sent = torch.where((mode == number)[:, None, None], padded, sent)
        return mode, sent


class TinyReceiver(nn.Module):
    """LLRs to codeword posterior, embedding and class scores."""

    def __init__(self, spec: TinySpec) -> None:
        super().__init__()
        self.spec = spec
        modes = spec.modes
        self.head = nn.Linear(modes.max_tokens * spec.link.embedding_dim, spec.classes)
        for index in range(len(spec.link.codebook_sizes)):
            self.register_buffer(f"codebook_{index}", torch.from_numpy(spec.codebook(index)))
            signs = spec.label_bits(index).astype(np.float32) - 0.5
            self.register_buffer(f"signs_{index}", torch.from_numpy(signs))

    def forward(self, llr: Tensor, mode: Tensor) -> tuple[Tensor, ...]:
        modes, link = self.spec.modes, self.spec.link
        wide = (modes.max_tokens, modes.max_codebook_size)
        posterior = torch.zeros_like(llr[:, :1, None]).expand(-1, *wide)
        indices = torch.full_like(llr[:, :1], -1, dtype=torch.int64).expand(-1, modes.max_tokens)
        embedding = torch.zeros_like(llr[:, :1, None]).expand(-1, modes.max_tokens, link.embedding_dim)
        for number, entry in enumerate(modes):
            grouped = llr[:, : entry.information_bits].reshape(-1, entry.tokens, entry.bits_per_index)
            found = torch.softmax(F.linear(grouped, self.get_buffer(f"signs_{entry.codebook}")), dim=-1)
            tail = modes.max_tokens - entry.tokens
            here = mode == number
            widened = F.pad(found, (0, wide[1] - entry.codebook_size, 0, tail))
            posterior = torch.where(here[:, None, None], widened, posterior)
            indices = torch.where(here[:, None], F.pad(found.argmax(-1), (0, tail), value=-1), indices)
            embedded = F.pad(found @ self.get_buffer(f"codebook_{entry.codebook}"), (0, 0, 0, tail))
            embedding = torch.where(here[:, None, None], embedded, embedding)
        return self.head(embedding.flatten(1)), posterior, indices


def export_program(module: nn.Module, inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """The program of a module with a free batch axis; a request, the third input, is one for all samples."""
    batch = torch.export.Dim("batch")
    return _exported(
        module, inputs, tuple({0: batch} if number < 2 else None for number in range(len(inputs)))
    )


def _exported(module: nn.Module, inputs: tuple[Tensor, ...], axes: tuple[Any, ...]) -> ExportedProgram:
    with warnings.catch_warnings():
        # torch.export trips over its own deprecations
        warnings.simplefilter("ignore")
        return torch.export.export(module.eval(), inputs, dynamic_shapes=axes, strict=False)


def feature_inputs(spec: TinySpec) -> tuple[Tensor, ...]:
    """Example inputs of a transmitter."""
    inputs = torch.zeros(4, *spec.input_shape), torch.zeros(4)
    return inputs if len(spec.modes) == 1 else (*inputs, torch.full((1,), -1))


def receiver_inputs(spec: TinySpec) -> tuple[Tensor, Tensor]:
    """Example inputs of a receiver."""
    return torch.zeros(4, spec.modes.max_bits), torch.zeros(4, dtype=torch.int64)


def eval_split(spec: TinySpec, samples: int) -> dict[str, NDArray[Any]]:
    """The test split of a small run: noise around the centres of the classes."""
    rng = np.random.default_rng([spec.seed, 3])
    label = rng.integers(0, spec.classes, samples)
    centres = rng.uniform(-1.0, 1.0, (spec.classes, *spec.input_shape))
    features = centres[label] + 0.3 * rng.standard_normal((samples, *spec.input_shape))
    return {"input": features.astype(np.float32), "label": label.astype(np.int64)}


def run_manifest(spec: TinySpec, references: tuple[str, ...]) -> Manifest:
    """``link.json`` of a small run, its files not yet listed."""
    known = {
        "learning": Reference(
            "learning", "best of the learning phase", "soft_learning.onnx", "rx_learning.onnx", 0.9
        ),
        "aligned": Reference("aligned", "the aligned model, soft path", "soft.onnx", "rx.onnx", 0.7),
    }
    books = range(len(spec.link.codebook_sizes))
    return Manifest(
        kind="run",
        task="tiny",
        classes=tuple(str(number) for number in range(spec.classes)),
        input_shape=spec.input_shape,
        input=InputScale(),
        link=spec.link,
        routing=spec.routing(),
        codebooks=tuple(
            tuple(tuple(float(value) for value in word) for word in spec.codebook(index)) for index in books
        ),
        labels=tuple(tuple(int(label) for label in spec.labels(index)) for index in books),
        usage=tuple(
            (1.0 / spec.link.codebook_sizes[index],) * spec.link.codebook_sizes[index] for index in books
        ),
        symbol_energy=(1.0,) * len(spec.link.modes),
        class_frequency=(1 / spec.classes,) * spec.classes,
        llr_clip=LLR_CLIP,
        references=tuple(known[name] for name in references),
        training={"method": "none", "seed": spec.seed},
        provenance={"made_by": "tests"},
    )


Programs = dict[str, tuple[nn.Module, tuple[Tensor, ...]]]
"""Module and example inputs of each program."""


def build_run(
    folder: Path,
    spec: TinySpec,
    transmitter: nn.Module | None = None,
    references: tuple[str, ...] = ("learning", "aligned"),
    samples: int = 40,
    receiver: nn.Module | None = None,
    soft: nn.Module | None = None,
) -> Path:
    """Write a finished run folder; ``transmitter``, ``receiver``, ``soft`` are wrong ones to take instead."""
    programs = link_programs(spec, references)
    for name, wrong in (("tx", transmitter), ("rx", receiver), ("soft", soft)):
        if wrong is not None:
            programs[name] = (wrong, programs[name][1])
    folder.mkdir(parents=True)
    files = save_programs(folder, programs)
    np.savez(folder / EVAL_FILE, **eval_split(spec, samples))
    write_manifest(folder, run_manifest(spec, references), (EVAL_FILE, *files))
    return folder


def link_programs(spec: TinySpec, references: tuple[str, ...]) -> Programs:
    """The programs that take features, by name: ``tx``, ``rx`` and those of the references."""
    torch.manual_seed(spec.seed)
    programs: Programs = {
        "tx": (TinyTransmitter(spec), feature_inputs(spec)),
        "rx": (TinyReceiver(spec), receiver_inputs(spec)),
    }
    if "aligned" in references:
        programs["soft"] = (TinySoftTransmitter(spec, 0.7), feature_inputs(spec))
        programs["soft"][0].load_state_dict(programs["tx"][0].state_dict(), strict=False)
    if "learning" in references:
        programs["soft_learning"] = (TinySoftTransmitter(spec, 0.9), feature_inputs(spec))
        programs["rx_learning"] = (TinyReceiver(spec), receiver_inputs(spec))
    return programs


def save_programs(folder: Path, programs: Programs) -> tuple[str, ...]:
    """Write the programs of a run; names of the files."""
    (folder / "programs").mkdir()
    for name, (module, inputs) in programs.items():
        torch.export.save(export_program(module, inputs), folder / program_file(name))
    return tuple(map(program_file, programs))


# --- an integer grid

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
    manifest = replace(manifest, kind="bundle", files={})
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


# --- sentences: a backbone ahead of the link

FRONT = Front(backbone="tiny", max_length=16)
TEXT_GRID = GridSpec(FOUR_MODES.link, "content", input_shape=(12,), classes=2)


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


def export_backbone(backbone: nn.Module) -> ExportedProgram:
    """The program of a backbone with free axes ``batch`` and ``length``."""
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    inputs = torch.zeros(4, 6, dtype=torch.int64), torch.ones(4, 6, dtype=torch.int64)
    return _exported(backbone, inputs, (axes, axes))


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


def write_grid_text_run(folder: Path, references: tuple[str, ...] = ("learning", "aligned")) -> Path:
    """Write a finished run folder of a text task whose head computes on a grid."""
    spec = TEXT_GRID
    programs = link_programs(spec, references)
    _, inputs = programs.pop("tx")
    backbone = TinyBackbone(spec.input_shape[0], spec.seed)
    folder.mkdir(parents=True)
    files = save_programs(folder, {"tx_head": (GridTransmitter(spec), inputs), **programs})
    torch.export.save(export_backbone(backbone), folder / BACKBONE_PROGRAM)
    encoder = TextEncoder(write_tokenizer(folder / TOKENIZER_FILE), FRONT.max_length)
    np.savez(folder / EVAL_FILE, **text_split(spec, backbone, encoder, 40, 0))
    training = text_split(spec, backbone, encoder, 64, 1)
    np.savez(folder / CALIBRATION_FILE, input=training["input"], label=training["label"])
    others = (EVAL_FILE, CALIBRATION_FILE, BACKBONE_PROGRAM, TOKENIZER_FILE)
    write_manifest(folder, replace(grid_manifest(spec, references), front=FRONT), (*files, *others))
    return folder
