"""Small runs, their programs and graphs, made once: converting one program to ONNX takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from onnx import ModelProto
from torch.export import ExportedProgram

from tools.tiny_run import (
    CONTENT,
    FOUR_MODES,
    ONE_MODE,
    TinyReceiver,
    TinySoftTransmitter,
    TinySpec,
    TinyTransmitter,
    build_run,
    export_program,
    feature_inputs,
    receiver_inputs,
    run_manifest,
)
from twophase.export.graphs.signature import signature_of
from twophase.export.graphs.torch_program import freeze
from twophase.link.manifest import Manifest


@dataclass(frozen=True, eq=False)
class Frozen:
    """A program and its graph."""

    program: ExportedProgram
    model: ModelProto
    manifest: Manifest

    def copy(self) -> ModelProto:
        """The graph, to be altered."""
        model = ModelProto()
        model.CopyFrom(self.model)
        return model


@cache
def _frozen(name: str, spec: TinySpec) -> Frozen:
    torch.manual_seed(spec.seed)
    module, inputs = {
        "tx.onnx": (TinyTransmitter(spec), feature_inputs(spec)),
        "rx.onnx": (TinyReceiver(spec), receiver_inputs(spec)),
        "soft.onnx": (TinySoftTransmitter(spec, 0.7), feature_inputs(spec)),
    }[name]
    manifest = run_manifest(spec, ("aligned",))
    program = export_program(module, inputs)
    return Frozen(program, freeze(name, program, signature_of(name, manifest)), manifest)


@pytest.fixture(scope="session")
def one_tx() -> Frozen:
    """Transmitter with one mode."""
    return _frozen("tx.onnx", ONE_MODE)


@pytest.fixture(scope="session")
def four_tx() -> Frozen:
    """Transmitter with four modes."""
    return _frozen("tx.onnx", FOUR_MODES)


@pytest.fixture(scope="session")
def four_rx() -> Frozen:
    """Receiver with four modes."""
    return _frozen("rx.onnx", FOUR_MODES)


@pytest.fixture(scope="session")
def four_soft() -> Frozen:
    """Soft transmitter with four modes."""
    return _frozen("soft.onnx", FOUR_MODES)


@pytest.fixture(scope="session")
def content_tx() -> Frozen:
    """Transmitter with four modes, chosen by content."""
    return _frozen("tx.onnx", CONTENT)


@pytest.fixture(scope="session")
def content_soft() -> Frozen:
    """Soft transmitter with four modes, chosen by content."""
    return _frozen("soft.onnx", CONTENT)


@pytest.fixture(scope="session")
def make_shared(
    tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Callable[[str, Callable[[Path], object]], Path]:
    """Make a folder once, also where several test workers ask for it.  Read only."""

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        base = tmp_path_factory.getbasetemp()
        folder = (base if worker_id == "master" else base.parent) / f"export-{name}"
        with FileLock(f"{folder}.lock"):
            if not folder.with_suffix(".done").exists():
                fill(folder)
                folder.with_suffix(".done").touch()
        return folder

    return make


@pytest.fixture(scope="session")
def four_run(make_shared: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A finished run with four modes and one reference."""
    return make_shared("four", lambda folder: build_run(folder, FOUR_MODES, references=("aligned",)))


@pytest.fixture(scope="session")
def content_run(make_shared: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A finished run with four modes that are chosen by content, and one reference."""
    return make_shared("content", lambda folder: build_run(folder, CONTENT, references=("aligned",)))


@pytest.fixture(scope="session")
def bare_run(make_shared: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A finished run with one mode and no reference: two programs only."""
    return make_shared("bare", lambda folder: build_run(folder, ONE_MODE, references=()))
