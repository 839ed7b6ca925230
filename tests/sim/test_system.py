"""Opening a bundle: what is wrong is named in one line."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tools.tiny_bundle import CLASSES, MODE_SNR, write_tiny_bundle
from twophase.link.errors import ArtifactError
from twophase.link.files import sha256_of
from twophase.link.manifest import load_manifest
from twophase.link.receiver import Receiver
from twophase.link.samples import load_samples
from twophase.link.transmitter import SoftTransmitter, Transmitter
from twophase.sim.system import load_system

SHAPE = (CLASSES + 1,)


def test_a_bundle_opens_with_its_references(bundle: Path) -> None:
    system, manifest = load_system(bundle)
    assert [reference.name for reference in system.references] == ["learning", "aligned"]
    # The aligned model is received by the deployed receiver, the learning model by its own.
    assert system.references[1].receiver is system.receiver
    assert system.references[0].receiver is not system.receiver
    assert system.classes == CLASSES
    assert manifest.task == "tiny"
    samples = load_samples(bundle / "eval.npz", manifest.input_shape, system.classes)
    assert samples.features.shape == (240, 5)
    assert samples.labels.dtype == np.int64


def test_every_file_is_hashed_once(bundle: Path, monkeypatch) -> None:
    hashed: Counter[str] = Counter()

    def counting(path: Path) -> str:
        hashed[path.name] += 1
        return sha256_of(path)

    monkeypatch.setattr("twophase.link.manifest.sha256_of", counting)
    _, manifest = load_system(bundle)
    assert hashed == Counter(manifest.files.keys())
    # Without a manifest at hand each class checks its own graph for itself.
    Transmitter(bundle)
    assert hashed - Counter(manifest.files.keys()) == Counter(["tx.onnx"])


def _altered_graph(source: Path, target: Path, change) -> None:
    model = onnx.load(source)
    change(model.graph)
    onnx.save(model, target)


def _rename_output(graph) -> None:
    last = graph.output[-1].name
    graph.node.append(helper.make_node("Identity", [last], ["other"]))
    graph.output[-1].name = "other"


def _more_inputs(graph) -> None:
    graph.input.append(helper.make_tensor_value_info("noise", onnx.TensorProto.FLOAT, ["batch"]))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tx.onnx", _rename_output, "must give mode, indices, bits, symbols, bit_count, symbol_count, not"),
        ("soft.onnx", _rename_output, "must give mode, symbols_iq, not mode, other"),
        ("rx.onnx", _rename_output, "must give logits, indices, not logits, posterior, other"),
        ("tx.onnx", _more_inputs, "must take input, snr_db, not input, snr_db, noise"),
        ("soft.onnx", _more_inputs, "must take input, snr_db, not"),
        ("rx.onnx", _more_inputs, "must take llr, mode, not llr, mode, noise"),
    ],
)
def test_a_graph_of_other_names_is_refused_when_it_is_opened(
    bundle: Path, tmp_path: Path, name: str, change, message: str
) -> None:
    manifest = load_manifest(bundle, "bundle")
    _altered_graph(bundle / name, tmp_path / name, change)
    opened = {
        "tx.onnx": lambda: Transmitter(tmp_path, manifest=manifest),
        "soft.onnx": lambda: SoftTransmitter(tmp_path, name, manifest=manifest),
        "rx.onnx": lambda: Receiver(tmp_path, manifest=manifest),
    }
    with pytest.raises(ArtifactError, match=message) as caught:
        opened[name]()
    assert "\n" not in str(caught.value)


def test_a_graph_that_fails_or_gives_other_shapes_is_named_in_one_line(bundle: Path, tmp_path: Path) -> None:
    manifest = load_manifest(bundle, "bundle")
    narrow = replace(manifest, input_shape=(CLASSES - 1,))
    with pytest.raises(ArtifactError, match=r"tx\.onnx' fails on inputs") as caught:
        Transmitter(bundle, manifest=narrow).send(np.zeros((2, CLASSES - 1)), 3.0)
    assert "\n" not in str(caught.value)
    more = replace(manifest, classes=(*manifest.classes, "e"), class_frequency=(0.2,) * 5)
    llr = np.zeros((2, manifest.modes.max_bits))
    with pytest.raises(ArtifactError, match=r"rx\.onnx' must give 'logits' the shape \(2, 5\), not \(2, 4\)"):
        Receiver(bundle, manifest=more).receive(llr, 0)


def test_an_unreadable_bundle_is_named(bundle: Path, monkeypatch) -> None:
    def refused(folder: Path, kind: str) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("twophase.sim.system.load_manifest", refused)
    with pytest.raises(ArtifactError, match=r"bundle' cannot be read: Permission denied"):
        load_system(bundle)


def test_the_mode_follows_from_the_snr_alone(bundle: Path) -> None:
    features = np.random.default_rng(0).standard_normal((50, *SHAPE))
    for number, esn0_db in enumerate(MODE_SNR):
        assert (Transmitter(bundle).send(features, esn0_db).mode == number).all()
        assert (SoftTransmitter(bundle, "soft.onnx").send(features, esn0_db)[0] == number).all()


def test_a_bundle_without_reference_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no soft reference"):
        load_system(write_tiny_bundle(tmp_path / "bundle", references=()))


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("tx.onnx", "missing"),
        ("rx_learning.onnx", "truncated"),
        ("eval.npz", "altered"),
        ("link.json", "altered"),
    ],
)
def test_a_damaged_bundle_is_refused(name: str, harm: str, tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle")
    path = folder / name
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    elif harm == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif name == "link.json":
        path.write_text(json.dumps(json.loads(content) | {"version": 99}))
    else:
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
        load_system(folder)
