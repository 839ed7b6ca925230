"""Small runs, their programs and graphs, made once: converting one program to ONNX takes seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from onnx import ModelProto
from torch.export import ExportedProgram

from tools.tiny_run import CONTENT, FOUR_MODES, ONE_MODE, build_run, run_manifest
from twophase.export.graphs.signature import signature_of
from twophase.export.graphs.torch_program import load_program
from twophase.link.manifest import Manifest, program_file


@pytest.fixture(scope="session")
def four_run(make_shared) -> Path:
    """A finished run with four modes, chosen by the SNR, and one reference."""
    return make_shared("four", lambda folder: build_run(folder, FOUR_MODES, references=("aligned",)))


@pytest.fixture(scope="session")
def content_run(make_shared) -> Path:
    """The same with modes that are chosen by the content."""
    return make_shared("content", lambda folder: build_run(folder, CONTENT, references=("aligned",)))


@pytest.fixture(scope="session")
def one_run(make_shared) -> Path:
    """A finished run with one mode and no reference: two programs only."""
    return make_shared("one", lambda folder: build_run(folder, ONE_MODE, references=()))


@dataclass(eq=False)
class Frozen:
    """A program of a run and its graph."""

    program: ExportedProgram
    model: ModelProto
    manifest: Manifest

    def copy(self) -> ModelProto:
        """The graph, to be altered."""
        model = ModelProto()
        model.CopyFrom(self.model)
        return model


def _frozen(link: str, name: str):
    @pytest.fixture(scope="session", name=f"{link}_{name}")
    def made(request: pytest.FixtureRequest, convert) -> Frozen:
        path = request.getfixturevalue(f"{link}_run") / program_file(name)
        manifest = run_manifest(SPECS[link], ("aligned",))
        program = load_program(path)
        return Frozen(program, convert(str(path), program, signature_of(f"{name}.onnx", manifest)), manifest)

    return made


SPECS = {"one": ONE_MODE, "four": FOUR_MODES, "content": CONTENT}
one_tx, four_tx, content_tx = (_frozen(link, "tx") for link in SPECS)
four_rx = _frozen("four", "rx")
four_soft, content_soft = (_frozen(link, "soft") for link in ("four", "content"))
