"""The saved programs are the model's modules, and the manifest beside them says what they are."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from tools import small_link
from tools.small_link import FEATURES, blob_task, blobs, small_config
from twophase.link.demap import LLR_CLIP
from twophase.link.manifest import Manifest, load_manifest
from twophase.link.routing import HeaderStep, Routing, SnrTable
from twophase.training.config import TrainConfig
from twophase.training.data import Task
from twophase.training.evaluate import symbol_energy
from twophase.training.model.exported import HardTransmitter, Receiver, SoftTransmitter
from twophase.training.model.network import LinkModel
from twophase.training.save import save_programs

TRAINING = {"method": "two-phase", "seed": 3, "deployed": {"epoch": 4}}
BY_TABLE = Routing("table", SnrTable((-1.5, 0.25, 8.0), (2, 0, 3, 1)), hysteresis_db=1.5, header=())
BY_CONTENT = Routing(
    "content",
    SnrTable((3.0,), (0, 1)),
    hysteresis_db=0.0,
    header=(HeaderStep(-10.0, "hamming84"), HeaderStep(6.0, "plain")),
)


@dataclass(frozen=True)
class Saved:
    """A finished run folder and what it was made of."""

    config: TrainConfig
    deployed: LinkModel
    learned: LinkModel | None
    routing: Routing
    task: Task

    def load(self, name: str) -> torch.nn.Module:
        """A program, as a process that knows nothing of the model gets it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls parts of itself that it has deprecated
            return torch.export.load(self.config.folder / "programs" / f"{name}.pt2").module()

    @property
    def manifest(self) -> Manifest:
        return load_manifest(self.config.folder, "run")


def make_model(config: TrainConfig, routing: Routing, seed: int) -> LinkModel:
    content = routing.router == "content"
    model = small_link.make_model(config.link, FEATURES, 3, config.hidden, seed, content=content)
    small_link.give_opinions(model, blobs(200, 9).features, -4, 12, 6)
    for mode in model.one_mode_per_codebook():
        model.codebook(mode).usage.copy_(torch.rand(mode.codebook_size) + 0.1)
    return model.eval()


@pytest.fixture(scope="module", params=["table", "content"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A run folder with two references, and one of a table without a learning phase."""
    routing = BY_CONTENT if request.param == "content" else BY_TABLE
    # Nine bits of the larger codebook in five QPSK symbols: one bit of padding.
    link = {"codebook_sizes": (8, 4), "tokens": (3, 5), "qam_orders": (4, 16), "embedding_dim": 4}
    config = small_config(tmp_path_factory.mktemp("programs"), **link)
    task = blob_task(20, 9, blobs(13, 3))
    deployed, learned = (make_model(config, routing, seed) for seed in (1, 2))
    last = learned if request.param == "content" else None
    save_programs(
        config,
        task,
        deployed=(deployed, 0.7),
        learned=None if last is None else (last, 0.9),
        routing=routing,
        training=TRAINING,
    )
    return Saved(config, deployed, last, routing, task)


def test_programs_are_the_modules_of_their_own_model_and_temperature(saved: Saved) -> None:
    """For the router's choice and for every request; one example of a batch of two made them."""
    modes, routing = saved.deployed.modes, saved.routing
    modules = {
        "tx": HardTransmitter(saved.deployed, routing),
        "soft": SoftTransmitter(saved.deployed, routing, 0.7),
        "rx": Receiver(saved.deployed),
    }
    if saved.learned is not None:
        modules["soft_learning"] = SoftTransmitter(saved.learned, routing, 0.9)
        modules["rx_learning"] = Receiver(saved.learned)
    listed = {f"programs/{name}.pt2" for name in modules} | {"eval.npz", "calibration.npz"}
    assert set(saved.manifest.files) == listed
    requests = [torch.tensor([number]) for number in range(-1, len(modes))]
    chosen = set()
    for name, module in modules.items():
        program = saved.load(name)
        for size in (1, 5):
            sent = (saved.task.test.features[-size:], torch.linspace(-4, 12, size))
            received = (3 * small_link.normal(size, modes.max_bits), torch.arange(size) % len(modes))
            for inputs in [received] if name.startswith("rx") else [(*sent, each) for each in requests]:
                with torch.no_grad():
                    found, expected = program(*inputs), module(*inputs)
                torch.testing.assert_close(found, expected)
                if name == "tx":
                    chosen.add(tuple(expected[0].tolist()))
    assert len(chosen) > 2 * len(modes), "the router mixes modes"


def test_eval_npz_is_the_test_split_and_calibration_the_training_split(saved: Saved) -> None:
    for name, part in (("eval.npz", saved.task.test), ("calibration.npz", saved.task.train)):
        with np.load(saved.config.folder / name) as arrays:
            assert sorted(arrays) == ["classes"] * (name == "eval.npz") + ["input", "label"]
            np.testing.assert_array_equal(arrays["input"], part.features.numpy(), strict=True)
            np.testing.assert_array_equal(arrays["label"], part.labels.numpy(), strict=True)


def test_the_manifest_describes_task_link_and_references(saved: Saved) -> None:
    manifest = saved.manifest
    assert (manifest.kind, manifest.task, manifest.classes) == ("run", "blobs", ("a", "b", "c"))
    assert manifest.input_shape == (FEATURES,)
    assert manifest.link == saved.deployed.link
    assert manifest.llr_clip == LLR_CLIP
    assert manifest.routing == saved.routing
    assert manifest.training == TRAINING
    assert manifest.provenance["command"] == saved.config.command_line()
    assert manifest.provenance["versions"]["torch"] == version("torch")
    energies = [symbol_energy(saved.deployed, mode, saved.task.train) for mode in saved.deployed.modes]
    assert manifest.symbol_energy == pytest.approx(energies)
    counts = torch.bincount(saved.task.train.labels, minlength=3) / 20
    assert manifest.class_frequency == pytest.approx(counts.tolist())
    references = {entry.name: (entry.soft, entry.rx, entry.temperature) for entry in manifest.references}
    expected = {"aligned": ("soft.onnx", "rx.onnx", 0.7)}
    if saved.learned is not None:
        expected["learning"] = ("soft_learning.onnx", "rx_learning.onnx", 0.9)
    assert references == expected
    for number, book in enumerate(saved.deployed.codebooks):
        np.testing.assert_array_equal(manifest.codebook(number), book.codewords.detach().double())
        np.testing.assert_array_equal(manifest.label_array(number), book.labels)
        np.testing.assert_allclose(manifest.usage[number], book.usage / book.usage.sum(), rtol=1e-6)


def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
import torch
from twophase.training.save import _save_program
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
_save_program(Path({str(tmp_path / "x.pt2")!r}), torch.nn.Linear(60, 60), (torch.zeros(2, 60),), (None,))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    assert "InputError: 'path' must be writable (File too large)" in done.stderr
