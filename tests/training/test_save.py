"""The saved programs are the model's modules, and the manifest beside them says what they are."""

from __future__ import annotations

import platform
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from tools import small_link
from twophase.link.demap import LLR_CLIP
from twophase.link.manifest import Manifest, load_manifest
from twophase.link.routing import HeaderStep, Routing, SnrTable
from twophase.training.config import TrainConfig
from twophase.training.data import Split, Task
from twophase.training.evaluate import symbol_energy
from twophase.training.model.codebook import Codebook
from twophase.training.model.exported import HardTransmitter, Receiver, SoftTransmitter
from twophase.training.model.network import LinkModel
from twophase.training.save import save_programs

FEATURES = 6
TRAINING = {"method": "two-phase", "seed": 3, "deployed": {"epoch": 4}}
BATCHES = (1, 5)  # the programs are made with a batch of two
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
    learned: LinkModel
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


def split(size: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(size, FEATURES, generator=generator)
    return Split(features, torch.randint(3, (size,), generator=generator))


def make_model(config: TrainConfig, routing: Routing, seed: int) -> LinkModel:
    content = routing.router == "content"
    model = small_link.make_model(config.link, FEATURES, 3, config.hidden, seed, content=content)
    small_link.give_opinions(model, split(200, 9).features, -4, 12, 6)
    for mode in model.one_mode_per_codebook():
        model.codebook(mode).usage.copy_(torch.rand(mode.codebook_size) + 0.1)
    return model.eval()


def save(folder: Path, routing: Routing, with_learning: bool = True) -> Saved:
    # Nine bits of the larger codebook in five QPSK symbols: one bit of padding.
    config = TrainConfig(
        codebook_sizes=(8, 4), tokens=(3, 5), qam_orders=(4, 16), embedding_dim=4, hidden=10, out=folder
    )
    task = Task("blobs", ("a", "b", "c"), split(20, 1), split(9, 2), split(13, 3))
    deployed, learned = (make_model(config, routing, seed) for seed in (1, 2))
    save_programs(
        config,
        task,
        deployed=(deployed, 0.7),
        learned=(learned, 0.9) if with_learning else None,
        routing=routing,
        training=TRAINING,
    )
    return Saved(config, deployed, learned, routing, task)


@pytest.fixture(scope="module", params=[BY_TABLE, BY_CONTENT], ids=["table", "content"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return save(tmp_path_factory.mktemp("programs"), request.param)


def test_programs_are_the_modules_of_their_own_model_and_temperature(saved: Saved) -> None:
    """For the router's choice and for every request; one example of a batch of two made them."""
    deployed, learned, routing = saved.deployed, saved.learned, saved.routing
    modes = deployed.modes
    transmitters = {
        "tx": HardTransmitter(deployed, routing),
        "soft": SoftTransmitter(deployed, routing, 0.7),
        "soft_learning": SoftTransmitter(learned, routing, 0.9),
    }
    requests = [torch.tensor([number]) for number in range(-1, len(modes))]
    chosen = set()
    for name, module in (transmitters | {"rx": Receiver(deployed), "rx_learning": Receiver(learned)}).items():
        program = saved.load(name)
        for size in BATCHES:
            llr = 3 * small_link.normal(size, modes.max_bits)
            sent = (saved.task.test.features[-size:], torch.linspace(-4, 12, size))
            received = [(llr, torch.arange(size) % len(modes))]
            for inputs in [(*sent, each) for each in requests] if name in transmitters else received:
                with torch.no_grad():
                    found, expected = program(*inputs), module(*inputs)
                for one, other in zip(found, expected, strict=True):
                    assert one.dtype == other.dtype
                    torch.testing.assert_close(one, other)
                if name == "tx":
                    chosen.add(tuple(expected[0].tolist()))
    assert len(chosen) > 2 * len(modes), "the router mixes modes"


def test_the_program_decides_at_the_very_threshold_of_a_table(saved: Saved) -> None:
    table = saved.routing.table
    edges = np.array(table.thresholds_db, dtype=np.float32)
    below = np.nextafter(edges, np.float32(-np.inf))
    levels = np.concatenate([edges, below, np.array([-99, 99], dtype=np.float32)])
    esn0_db, features = torch.from_numpy(levels), saved.task.test.features[: len(levels)]
    with torch.no_grad():
        mode, *_ = saved.load("tx")(features, esn0_db, torch.tensor([-1]))
        if saved.routing.router == "table":
            np.testing.assert_array_equal(mode, table.choose(levels))
        else:
            assert saved.deployed.router is not None
            scores = saved.deployed.router.scores(saved.deployed.content(features), esn0_db)
            assert torch.equal(mode, scores.argmax(1))


def test_eval_npz_is_the_test_split_and_calibration_the_training_split(saved: Saved) -> None:
    for name, part in (("eval.npz", saved.task.test), ("calibration.npz", saved.task.train)):
        with np.load(saved.config.folder / name) as arrays:
            assert sorted(arrays) == ["input", "label"]
            assert (arrays["input"].dtype, arrays["label"].dtype) == (np.float32, np.int64)
            np.testing.assert_array_equal(arrays["input"], part.features)
            np.testing.assert_array_equal(arrays["label"], part.labels)


def test_the_manifest_describes_task_link_and_references(saved: Saved) -> None:
    manifest = saved.manifest
    assert (manifest.kind, manifest.task, manifest.classes) == ("run", "blobs", ("a", "b", "c"))
    assert manifest.input_shape == (FEATURES,)
    assert manifest.link == saved.deployed.link
    assert manifest.llr_clip == LLR_CLIP
    assert manifest.routing == saved.routing
    assert manifest.training == TRAINING
    assert manifest.provenance["command"] == saved.config.command_line()
    assert manifest.provenance["python"] == platform.python_version()
    assert manifest.provenance["versions"]["torch"] == version("torch")
    energies = [symbol_energy(saved.deployed, mode, saved.task.train) for mode in saved.deployed.modes]
    assert manifest.symbol_energy == pytest.approx(energies)
    counts = torch.bincount(saved.task.train.labels, minlength=3) / 20
    assert manifest.class_frequency == pytest.approx(counts.tolist())
    references = {entry.name: (entry.soft, entry.rx, entry.temperature) for entry in manifest.references}
    assert references == {
        "learning": ("soft_learning.onnx", "rx_learning.onnx", 0.9),
        "aligned": ("soft.onnx", "rx.onnx", 0.7),
    }
    assert len(manifest.codebooks) == len(manifest.labels) == len(manifest.usage) == 2
    for number, book in enumerate(saved.deployed.codebooks):
        assert isinstance(book, Codebook)
        np.testing.assert_array_equal(manifest.codebook(number), book.codewords.detach().double())
        np.testing.assert_array_equal(manifest.label_array(number), book.labels)
        np.testing.assert_allclose(manifest.usage[number], book.usage / book.usage.sum(), rtol=1e-6)


def test_without_a_learning_phase_there_is_one_reference(tmp_path: Path) -> None:
    manifest = save(tmp_path, BY_TABLE, with_learning=False).manifest
    assert [entry.name for entry in manifest.references] == ["aligned"]
    assert set(manifest.files) == {
        *("eval.npz", "calibration.npz"),
        *("programs/tx.pt2", "programs/rx.pt2", "programs/soft.pt2"),
    }
