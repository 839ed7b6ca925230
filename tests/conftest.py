"""Artefacts that several tests share, made once per test session even with several workers.  Read only."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tools.commands import run_command
from twophase.link.files import sha256_of

LINK = ("--codebook-sizes", "2", "4", "--tokens", "24", "6", "--qam-orders", "16")
"""Two modes over 16-QAM, of 6 and 3 symbols: an adaptive link that is exported in seconds."""


def pytest_configure() -> None:
    """Processes that tests interrupt take SIGINT also where a shell runs the tests in the background."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


MakeShared = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def make_shared(tmp_path_factory: pytest.TempPathFactory) -> MakeShared:
    """Make a folder by its name and what fills it, once, also where several test workers ask for it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = shared / "shared" / name, shared / "shared" / f"{name}.done"
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not done.exists():
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def digits_run(make_shared: MakeShared) -> Path:
    """A short but real training run on digits."""

    def make(folder: Path) -> None:
        done = run_command(
            "tp-train", "--out", folder, "--epochs", "14", "--alignment-start-epoch", "9", *LINK
        )
        assert done.returncode == 0, done.stderr

    return make_shared("digits", make)


@pytest.fixture(scope="session")
def digits_bundle(make_shared: MakeShared, digits_run: Path) -> Path:
    """Its bundle, made by a command without a folder: ``runs/digits/bundle`` of a folder of its own."""

    def make(folder: Path) -> None:
        shutil.copytree(digits_run, folder / "runs" / "digits", ignore=shutil.ignore_patterns("tensorboard"))
        done = run_command("tp-export", "--random-inputs", "500", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().endswith("bundle: runs/digits/bundle")

    return make_shared("digits-bundle", make) / "runs" / "digits" / "bundle"


@pytest.fixture(scope="session")
def text_run(make_shared: MakeShared) -> Path:
    """A run on sentences, not trained: a backbone, a head on a grid, a router that sees the content."""

    def make(folder: Path) -> None:
        from tools.tiny_run import write_grid_text_run

        write_grid_text_run(folder, references=())

    return make_shared("text", make)


@pytest.fixture(scope="session")
def convert(make_shared: MakeShared) -> Callable[..., Any]:
    """``freeze`` of a program in a file: each is converted once in a session, for that takes seconds."""

    def converted(path: str, program: Any, signature: Any) -> Any:
        import onnx

        from twophase.export.graphs.torch_program import freeze
        from twophase.export.graphs.view import serialize

        def fill(folder: Path) -> None:
            folder.mkdir()
            (folder / "graph.onnx").write_bytes(serialize(freeze(path, program, signature)))

        return onnx.load(make_shared(f"graph-{sha256_of(Path(path))}", fill) / "graph.onnx")

    return converted


@pytest.fixture(scope="session")
def build(convert: Callable[..., Any]) -> Callable[..., Any]:
    """``build_bundle`` that takes conversions of programs, possibly altered ones, from elsewhere."""

    def built(*arguments: Any, converted: Callable[..., Any] = convert, **options: Any) -> Any:
        from twophase.export import build
        from twophase.export.backbone import whole

        with pytest.MonkeyPatch.context() as patch:
            for module in (build, whole):
                patch.setattr(module, "freeze", converted)
            return build.build_bundle(*arguments, **options)

    return built


@pytest.fixture(scope="session")
def text_bundle(make_shared: MakeShared, text_run: Path, build: Callable[..., Any]) -> Path:
    """Its bundle, with converted graphs and one code for the header."""

    def fill(folder: Path) -> None:
        from twophase.export.artefacts.write import Extras

        build(text_run, folder, 200, header="rm14", extras=Extras(ort=True))

    return make_shared("text-bundle", fill)


@pytest.fixture(scope="session")
def int8_text_bundle(make_shared: MakeShared, text_run: Path, build: Callable[..., Any]) -> Path:
    """Its bundle in INT8; next to it, in ``.report``, what the command prints."""

    def fill(folder: Path) -> None:
        from twophase.export.report import report

        summary = build(text_run, folder, 200, header="rm14", precision="int8")
        folder.with_suffix(".report").write_text(report(summary))

    return make_shared("text-bundle-int8", fill)
