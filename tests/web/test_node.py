"""Bundles on Node: ONNX Runtime as native library and as WebAssembly give what Python gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from tools.tiny_bundle import write_tiny_bundle
from twophase.link.manifest import VERSION, Manifest, load_manifest, write_manifest
from twophase.link.modem import stream_hash, symbol_stream
from twophase.link.receiver import Receiver
from twophase.link.transmitter import Transmitter

EXAMPLE = Path(__file__).parents[2] / "export" / "web" / "node"
TRANSMIT = Path(__file__).parent / "transmit.mjs"
RUNTIMES = ("node", "wasm")

RunNode = Callable[..., CompletedProcess[str]]

pytestmark = pytest.mark.usefixtures("packages")


@pytest.fixture
def copied(digits_bundle: Path, tmp_path: Path) -> tuple[Path, Manifest]:
    """A copy of the digits bundle to alter, and its manifest."""
    folder = tmp_path / "bundle"
    shutil.copytree(digits_bundle, folder)
    return folder, load_manifest(folder, "bundle")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_conformance_vectors_are_reproduced(node: RunNode, digits_bundle: Path, runtime: str) -> None:
    done = node(EXAMPLE / "conformance.mjs", digits_bundle, "--runtime", runtime, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    conformance = load_manifest(digits_bundle, "bundle").conformance
    assert conformance is not None
    assert [entry["folder"] for entry in result["sets"]] == [entry.folder for entry in conformance.sets]
    assert {entry["graph"] for entry in result["sets"]} == {"tx.onnx", "rx.onnx"}
    assert all(entry["passed"] and entry["samples"] > 0 for entry in result["sets"])
    assert result["sha256"] == conformance.symbols_sha256


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_another_output_is_found(node: RunNode, copied: tuple[Path, Manifest], runtime: str) -> None:
    folder, manifest = copied
    assert manifest.conformance is not None
    for graph, name, change in (
        ("tx.onnx", "indices", lambda values: values + (np.arange(values.size) == 2).reshape(values.shape)),
        ("rx.onnx", "logits", lambda values: values + np.float32(1e-3) * np.abs(values).max()),
    ):
        entry = next(entry for entry in manifest.conformance.sets if entry.graph == graph)
        _change(folder / entry.folder, name, change)
    write_manifest(folder, manifest, tuple(manifest.files))
    done = node(EXAMPLE / "conformance.mjs", folder, "--runtime", runtime)
    assert done.returncode == 1, done.stderr
    assert "1 indices differ" in done.stdout
    assert "logits differ" in done.stdout
    assert "SHA-256 equal" in done.stdout
    assert done.stdout.splitlines()[-1] == f"FAIL on {runtime}"


def _change(folder: Path, name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    for path in folder.glob("output_*.pb"):
        tensor = onnx.load_tensor(str(path))
        if tensor.name == name:
            values = numpy_helper.to_array(tensor)
            changed = change(values).astype(values.dtype)
            path.write_bytes(numpy_helper.from_array(changed, name).SerializeToString(deterministic=True))
            return
    raise AssertionError(f"no output {name} in {folder}")


def _version(data: bytes) -> bytes:
    return data.replace(b'"version": %d,' % VERSION, b'"version": 2,', 1)


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        ("tx.onnx", lambda data: data[:-1] + b"\0", "'tx.onnx' is altered"),
        ("rx.onnx", lambda data: data[:-1], "truncated or altered"),
        ("link.json", lambda data: data[: len(data) // 2], "'link.json' is no JSON"),
        ("link.json", lambda data: data.replace(b"twophase-link", b"other"), "no manifest of twophase-link"),
        ("link.json", _version, f"must be of version {VERSION}, not 2"),
    ],
)
def test_a_damaged_bundle_is_refused(
    node: RunNode, copied: tuple[Path, Manifest], file: str, edit: Callable[[bytes], bytes], message: str
) -> None:
    path = copied[0] / file
    before = path.read_bytes()
    path.write_bytes(edit(before))
    assert path.read_bytes() != before
    _refused(node(EXAMPLE / "conformance.mjs", copied[0]), message)


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("conformance.mjs", [], "usage: node conformance.mjs BUNDLE"),
        ("conformance.mjs", ["missing"], "link.json' cannot be read: ENOENT"),
        ("conformance.mjs", ["x", "--runtime", "gpu"], "'--runtime' must be one of node, wasm, not 'gpu'"),
        ("send.mjs", ["x", "--snr", "loud"], "'--snr' must be a number, not 'loud'"),
        ("compare.mjs", ["x", "y", "--batch", "0"], "'--batch' must be a whole number from 1, not '0'"),
        ("send.mjs", ["x", "--speed", "1"], "Unknown option '--speed'"),
    ],
)
def test_bad_arguments_are_answered_with_a_line(
    node: RunNode, script: str, arguments: list[str], message: str
) -> None:
    _refused(node(EXAMPLE / script, *arguments), message)


def _refused(done: CompletedProcess[str], message: str) -> None:
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert message in done.stderr


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_compare_counts_what_differs(
    node: RunNode, digits_bundle: Path, tmp_path: Path, runtime: str
) -> None:
    rng = np.random.default_rng(0)
    transmitter = Transmitter(digits_bundle)
    features = rng.uniform(0, 1, (700, 64)).astype(np.float32)
    snr_db = rng.uniform(-10, 30, 700).astype(np.float32)
    mode = rng.integers(0, len(transmitter.manifest.modes), 700)
    sent = transmitter.send(features, snr_db, mode)
    feed = {"input": features, "snr_db": snr_db, "mode_request": mode}
    outputs = {name: getattr(sent, name) for name in ("mode", "indices", "bits", "symbols", "symbol_count")}
    np.savez(tmp_path / "tx.npz", **feed, **outputs)
    llr = rng.normal(0, 5, (300, transmitter.manifest.modes.max_bits)).astype(np.float32)
    decided = vars(Receiver(digits_bundle).receive(llr, mode[:300]))
    np.savez_compressed(tmp_path / "rx.npz", llr=llr, mode=mode[:300], **decided)

    def compare(file: str) -> tuple[int, dict[str, Any]]:
        words = (digits_bundle, tmp_path / file, "--runtime", runtime, "--batch", 256, "--json")
        done = node(EXAMPLE / "compare.mjs", *words)
        assert done.returncode in (0, 1), done.stderr
        return done.returncode, json.loads(done.stdout)

    status, tx = compare("tx.npz")
    assert status == 0
    assert tx["samples"] == 700
    assert tx["differing"] == dict.fromkeys(outputs, 0)
    assert tx["symbols_sha256"] == stream_hash([symbol_stream(sent.mode, sent.symbols, sent.symbol_count)])
    status, rx = compare("rx.npz")
    assert status == 0
    assert rx["differing"] == {"logits": 0, "decision": 0, "indices": 0}

    sent.indices[[3, 3, 600], [0, 1, 2]] += 1
    sent.symbols[3, 0] += 1
    np.savez(tmp_path / "tx.npz", **feed, **outputs)
    status, tx = compare("tx.npz")
    assert status == 1
    assert tx["differing"] == {"mode": 0, "indices": 3, "bits": 0, "symbols": 1, "symbol_count": 0}
    assert tx["differing_samples"] == 2


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_header_and_a_requested_mode_go_through(node: RunNode, tmp_path: Path, runtime: str) -> None:
    """onnxruntime-node ignores inputs that have a default, so that a request would be lost without a word."""
    rng = np.random.default_rng(1)
    content_bundle = write_tiny_bundle(tmp_path / "bundle", router="content")
    transmitter, receiver = Transmitter(content_bundle), Receiver(content_bundle)
    features = np.load(content_bundle / "eval.npz")["input"][:40]
    snr_db = rng.uniform(-10, 30, 40).astype(np.float32)
    llr = rng.normal(0, 3, (40, transmitter.manifest.modes.max_bits)).astype(np.float32)
    for mode in (None, rng.integers(0, 4, 40)):
        sent = transmitter.send(features, snr_db, mode)
        received = receiver.receive(llr, sent.mode)
        task = {
            "features": features.tolist(),
            "snr_db": snr_db.tolist(),
            "mode": None if mode is None else mode.tolist(),
            "llr": llr.tolist(),
            "llr_mode": sent.mode.tolist(),
        }
        done = node(TRANSMIT, content_bundle, runtime, stdin=json.dumps(task))
        assert done.returncode == 0, done.stderr[-2000:]
        result = json.loads(done.stdout)
        for number, row in enumerate(result["sent"]):
            assert row["mode"] == sent.mode[number]
            assert row["header"] == sent.header[number, : sent.header_count[number]].tolist()
            assert row["bits"] == sent.bits[number, : sent.bit_count[number]].tolist()
            assert row["symbols"] == sent.symbols[number, : sent.symbol_count[number]].tolist()
            assert row["indices"] == [index for index in sent.indices[number].tolist() if index >= 0]
        assert result["classes"] == received.classes.tolist()
        np.testing.assert_allclose(result["logits"], received.logits.ravel(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_samples_are_sent_over_noise(node: RunNode, digits_bundle: Path, runtime: str) -> None:
    """Within 4 standard errors of what the exporter measured: a seed of its own, fixed."""
    accuracy = load_manifest(digits_bundle, "bundle").accuracy
    assert accuracy is not None
    place = accuracy.esn0_db.index(0.0)
    share = accuracy.correct[place] / (accuracy.samples * accuracy.trials)
    done = node(EXAMPLE / "send.mjs", digits_bundle, "--snr", 0, "--samples", 3, "--runtime", runtime)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + 3 + 1
    right = int(lines[-1].split(": ")[1].split(" of ")[0])
    assert abs(right / accuracy.samples - share) < 4 * np.sqrt(share * (1 - share) / accuracy.samples)
    assert f"{accuracy.symbols[place]:.2f} symbols per sample" in lines[-1]
