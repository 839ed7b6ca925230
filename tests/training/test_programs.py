"""The saved programs are the model, and the manifest beside them says what they are."""

from __future__ import annotations

import platform
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from twophase.link.demap import LLR_CLIP
from twophase.link.manifest import Manifest, load_manifest
from twophase.link.routing import HeaderStep, Routing, SnrTable, fixed_routing
from twophase.training.config import TrainConfig
from twophase.training.data import Split, Task
from twophase.training.model.codebook import Codebook
from twophase.training.model.exported import HardTransmitter, Receiver, SoftTransmitter
from twophase.training.model.network import LinkModel
from twophase.training.save import save_programs

FEATURES = 6
TEMPERATURES = {"aligned": 0.7, "learning": 0.9}
TRAINING = {"method": "two-phase", "seed": 3, "deployed": {"epoch": 4}}
COMMAND = "tp-train --seed 3"
BATCHES = (1, 5)  # the programs are made with a batch of two


@dataclass(frozen=True)
class Saved:
    """A finished run folder and the models that it was made of."""

    folder: Path
    deployed: LinkModel
    learned: LinkModel
    task: Task


def split(size: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(size, FEATURES, generator=generator)
    return Split(features, torch.randint(3, (size,), generator=generator))


def make_model(config: TrainConfig, seed: int) -> LinkModel:
    torch.manual_seed(seed)
    model = LinkModel(config.link, (FEATURES,), 3, config.hidden, config.surrogate)
    codebook = model.codebook(model.modes[0])
    codebook.set_labels(torch.randperm(8))
    codebook.usage.copy_(torch.rand(8) + 0.1)
    return model.eval()


def save(folder: Path, with_learning: bool) -> Saved:
    # Nine bits in five QPSK symbols: one bit of padding.
    config = TrainConfig(
        codebook_sizes=(8,), tokens=(3,), qam_orders=(4,), embedding_dim=4, hidden=10, out=folder
    )
    task = Task("blobs", ("a", "b", "c"), split(20, 1), split(9, 2), split(13, 3), lambda x, *_: x)
    deployed, learned = make_model(config, 1), make_model(config, 2)
    save_programs(
        folder=folder,
        task=task,
        config=config,
        deployed=(deployed, TEMPERATURES["aligned"]),
        learned=(learned, TEMPERATURES["learning"]) if with_learning else None,
        routing=fixed_routing(),
        training=TRAINING,
        command=COMMAND,
    )
    return Saved(folder, deployed, learned, task)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return save(tmp_path_factory.mktemp("programs"), with_learning=True)


@pytest.fixture(scope="module")
def manifest(saved: Saved) -> Manifest:
    return load_manifest(saved.folder, "run")


def load(saved: Saved | SavedAdaptive, name: str) -> torch.nn.Module:
    """A saved program in a process that knows nothing of the model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls parts of itself that it has deprecated
        return torch.export.load(saved.folder / "programs" / f"{name}.pt2").module()


def call(saved: Saved | SavedAdaptive, name: str, *inputs: Tensor) -> tuple[Tensor, ...]:
    """What a saved program gives."""
    with torch.no_grad():
        result: tuple[Tensor, ...] = load(saved, name)(*inputs)
    return result


@pytest.mark.parametrize("size", BATCHES)
def test_the_transmitter_is_the_models_hard_path(saved: Saved, size: int) -> None:
    model, mode = saved.deployed, saved.deployed.modes[0]
    features = saved.task.test.features[:size]
    mode_out, indices, bits, symbols, bit_count, symbol_count = call(saved, "tx", features, torch.zeros(size))
    with torch.no_grad():
        hard = model.hard_transmit(
            model.codebook(mode).scores(model.latents(model.content(features), mode)), mode
        )
    assert torch.equal(indices, hard.indices)
    assert torch.equal(bits, hard.bits)
    assert torch.equal(symbols, hard.points)
    assert mode_out.tolist() == [0] * size
    assert bit_count.tolist() == [10] * size
    assert symbol_count.tolist() == [5] * size


@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.parametrize(("name", "which"), [("soft", "aligned"), ("soft_learning", "learning")])
def test_soft_transmitters_have_their_own_weights_and_temperature(
    name: str, which: str, size: int, saved: Saved
) -> None:
    models = {"aligned": saved.deployed, "learning": saved.learned}
    mode = saved.deployed.modes[0]
    features = saved.task.test.features[:size]
    mode_out, symbols = call(saved, name, features, torch.zeros(size))
    assert mode_out.tolist() == [0] * size
    for model in models.values():
        for temperature in TEMPERATURES.values():
            with torch.no_grad():
                scores = model.codebook(mode).scores(model.latents(model.content(features), mode))
                expected = model.soft_transmit(scores, mode, temperature).symbols
            own = model is models[which] and temperature == TEMPERATURES[which]
            assert torch.allclose(symbols, expected, atol=1e-5) == own


@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.parametrize(("name", "which"), [("rx", "deployed"), ("rx_learning", "learned")])
def test_receivers_have_their_own_weights(name: str, which: str, size: int, saved: Saved) -> None:
    model: LinkModel = getattr(saved, which)
    mode = model.modes[0]
    llr = 3 * torch.randn(size, mode.channel_bits, generator=torch.Generator().manual_seed(5))
    logits, posterior, indices = call(saved, name, llr, torch.zeros(size, dtype=torch.int64))
    with torch.no_grad():
        seen = model.receive(llr, mode)
        scores = model.classify(model.features(seen.embedding, seen.soft_bits, mode))
    torch.testing.assert_close(posterior, seen.posterior)
    torch.testing.assert_close(logits, scores)
    assert torch.equal(indices, seen.posterior.argmax(-1))


def test_eval_npz_is_the_test_split(saved: Saved) -> None:
    with np.load(saved.folder / "eval.npz") as arrays:
        assert sorted(arrays) == ["input", "label"]
        assert (arrays["input"].dtype, arrays["label"].dtype) == (np.float32, np.int64)
        np.testing.assert_array_equal(arrays["input"], saved.task.test.features)
        np.testing.assert_array_equal(arrays["label"], saved.task.test.labels)


def test_the_manifest_describes_task_and_link(saved: Saved, manifest: Manifest) -> None:
    assert (manifest.kind, manifest.task, manifest.classes) == ("run", "blobs", ("a", "b", "c"))
    assert manifest.input_shape == (FEATURES,)
    assert manifest.link == saved.deployed.link
    assert manifest.llr_clip == LLR_CLIP
    assert manifest.routing == fixed_routing()
    assert manifest.training == TRAINING
    assert manifest.provenance["command"] == COMMAND
    assert manifest.provenance["python"] == platform.python_version()
    assert manifest.provenance["versions"]["torch"] == version("torch")


def test_the_manifest_holds_the_deployed_codebook(saved: Saved, manifest: Manifest) -> None:
    codebook = saved.deployed.codebook(saved.deployed.modes[0])
    np.testing.assert_array_equal(manifest.codebook(0), codebook.codewords.detach().double())
    np.testing.assert_array_equal(manifest.label_array(0), codebook.labels)
    assert sum(manifest.usage[0]) == pytest.approx(1, abs=1e-12)
    shares = codebook.usage / codebook.usage.sum()
    assert codebook.usage.sum() > 1.5  # rounding lets it drift; the manifest's must not
    np.testing.assert_allclose(manifest.usage[0], shares, rtol=1e-6)


def test_the_manifest_names_references_with_their_temperatures(manifest: Manifest) -> None:
    entries = [(entry.name, entry.soft, entry.rx, entry.temperature) for entry in manifest.references]
    assert entries == [
        ("learning", "soft_learning.onnx", "rx_learning.onnx", 0.9),
        ("aligned", "soft.onnx", "rx.onnx", 0.7),
    ]


def test_the_manifest_lists_every_file(saved: Saved, manifest: Manifest) -> None:
    there = {path.relative_to(saved.folder).as_posix() for path in saved.folder.rglob("*") if path.is_file()}
    assert there == {*manifest.files, "link.json"}
    programs = {f"programs/{name}.pt2" for name in ("tx", "rx", "soft", "soft_learning", "rx_learning")}
    assert set(manifest.files) == {"eval.npz", "calibration.npz", *programs}


def test_without_a_learning_phase_there_is_one_reference(tmp_path: Path) -> None:
    manifest = load_manifest(save(tmp_path, with_learning=False).folder, "run")
    assert [entry.name for entry in manifest.references] == ["aligned"]
    assert set(manifest.files) == {
        *("eval.npz", "calibration.npz"),
        *("programs/tx.pt2", "programs/rx.pt2", "programs/soft.pt2"),
    }


# --- several modes ----------------------------------------------------------------------------------------

ADAPTIVE = TrainConfig(
    codebook_sizes=(8, 4), tokens=(3, 5), qam_orders=(4, 16), embedding_dim=4, hidden=10, out=Path("unused")
)
BY_TABLE = Routing("table", SnrTable((-1.5, 0.25, 8.0), (2, 0, 3, 1)), hysteresis_db=1.5, header=())
BY_CONTENT = Routing(
    "content",
    SnrTable((3.0,), (0, 1)),
    hysteresis_db=0.0,
    header=(HeaderStep(-10.0, "hamming84"), HeaderStep(6.0, "plain")),
)


@dataclass(frozen=True)
class SavedAdaptive:
    folder: Path
    model: LinkModel
    routing: Routing
    task: Task


@pytest.fixture(scope="module", params=["table", "content"])
def adaptive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SavedAdaptive:
    folder = tmp_path_factory.mktemp("adaptive")
    routing = BY_CONTENT if request.param == "content" else BY_TABLE
    torch.manual_seed(4)
    model = LinkModel(
        ADAPTIVE.link, (FEATURES,), 3, ADAPTIVE.hidden, "product", content_router=request.param == "content"
    ).eval()
    assert model.router is not None
    with torch.no_grad():
        for parameter in model.router.parameters():
            parameter *= 6
    for book in model.codebooks:
        assert isinstance(book, Codebook)
        book.set_labels(torch.randperm(book.size))
        book.usage.copy_(torch.rand(book.size) + 0.1)
    task = Task("blobs", ("a", "b", "c"), split(20, 1), split(9, 2), split(13, 3), lambda x, *_: x)
    save_programs(
        folder=folder,
        task=task,
        config=ADAPTIVE,
        deployed=(model, 0.7),
        learned=None,
        routing=routing,
        training=TRAINING,
        command=COMMAND,
    )
    return SavedAdaptive(folder, model, routing, task)


def test_programs_of_several_modes_are_the_deployed_modules(adaptive: SavedAdaptive) -> None:
    """For the router's choice and for every request; one example of a batch of two made them."""
    model, routing = adaptive.model, adaptive.routing
    modules = {"tx": HardTransmitter(model, routing), "soft": SoftTransmitter(model, routing, 0.7)}
    for name, module in modules.items():
        program = load(adaptive, name)
        sent = set()
        for size, request in product(BATCHES, range(-1, len(model.modes))):
            inputs = (
                adaptive.task.test.features[-size:],
                torch.linspace(-4, 12, size),
                torch.tensor([request]),
            )
            with torch.no_grad():
                found, expected = program(*inputs), module(*inputs)
            assert len(found) == len(expected)
            for one, other in zip(found, expected, strict=True):
                assert one.dtype == other.dtype
                torch.testing.assert_close(one, other)
            sent.add(tuple(expected[0].tolist()))
        assert len(sent) > 2 * len(model.modes), "the router mixes modes"


def test_the_program_of_a_table_decides_at_the_very_threshold(adaptive: SavedAdaptive) -> None:
    table = adaptive.routing.table
    edges = np.array(table.thresholds_db, dtype=np.float32)
    levels = np.concatenate(
        [edges, np.nextafter(edges, np.float32(-np.inf)), np.array([-99, 99], dtype=np.float32)]
    )
    esn0_db, features = torch.from_numpy(levels), adaptive.task.test.features[: len(levels)]
    mode, *_ = call(adaptive, "tx", features, esn0_db, torch.tensor([-1]))
    if adaptive.routing.router == "table":
        np.testing.assert_array_equal(mode, table.choose(levels))
    else:
        assert adaptive.model.router is not None
        with torch.no_grad():
            scores = adaptive.model.router.scores(adaptive.model.content(features), esn0_db)
        assert torch.equal(mode, scores.argmax(1))


def test_the_receiver_of_several_modes_takes_each_sample_in_its_mode(adaptive: SavedAdaptive) -> None:
    modes, program = adaptive.model.modes, load(adaptive, "rx")
    for size in BATCHES:
        llr = 3 * torch.randn(size, modes.max_bits, generator=torch.Generator().manual_seed(5))
        mode = torch.arange(size) % len(modes)
        with torch.no_grad():
            found, expected = program(llr, mode), Receiver(adaptive.model)(llr, mode)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)


def test_the_manifest_holds_routing_and_all_codebooks(adaptive: SavedAdaptive) -> None:
    manifest = load_manifest(adaptive.folder, "run")
    assert manifest.link == adaptive.model.link
    assert manifest.routing == adaptive.routing
    assert len(manifest.codebooks) == len(manifest.labels) == len(manifest.usage) == 2
    for number, book in enumerate(adaptive.model.codebooks):
        assert isinstance(book, Codebook)
        np.testing.assert_array_equal(manifest.codebook(number), book.codewords.detach().double())
        np.testing.assert_array_equal(manifest.label_array(number), book.labels)
        np.testing.assert_allclose(manifest.usage[number], book.usage / book.usage.sum(), rtol=1e-6)
