"""The saved programs are the model, and the manifest beside them says what they are."""

from __future__ import annotations

import platform
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from twophase.link.demap import LLR_CLIP
from twophase.link.manifest import Manifest, load_manifest
from twophase.training.config import TrainConfig
from twophase.training.data import Split, Task
from twophase.training.model import LinkModel
from twophase.training.programs import save_programs

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


def call(saved: Saved, name: str, *inputs: Tensor) -> tuple[Tensor, ...]:
    """What a saved program gives in a process that knows nothing of the model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls parts of itself that it has deprecated
        program = torch.export.load(saved.folder / "programs" / f"{name}.pt2").module()
    with torch.no_grad():
        result: tuple[Tensor, ...] = program(*inputs)
    return result


@pytest.mark.parametrize("size", BATCHES)
def test_the_transmitter_is_the_models_hard_path(saved: Saved, size: int) -> None:
    model, mode = saved.deployed, saved.deployed.modes[0]
    features = saved.task.test.features[:size]
    mode_out, indices, bits, symbols, bit_count, symbol_count = call(saved, "tx", features, torch.zeros(size))
    with torch.no_grad():
        hard = model.hard_transmit(model.codebook(mode).scores(model.latents(features, mode)), mode)
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
                scores = model.codebook(mode).scores(model.latents(features, mode))
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
    assert set(manifest.files) == {"eval.npz", *programs}


def test_without_a_learning_phase_there_is_one_reference(tmp_path: Path) -> None:
    manifest = load_manifest(save(tmp_path, with_learning=False).folder, "run")
    assert [entry.name for entry in manifest.references] == ["aligned"]
    assert set(manifest.files) == {"eval.npz", "programs/tx.pt2", "programs/rx.pt2", "programs/soft.pt2"}
