"""ONNX Runtime's own format gives the same results.  (The same bytes in another process: ``test_bundle``.)"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tools.tiny_bundle import write_tiny_bundle
from twophase.export.artefacts.ort import CONFIG_FILE, canonical_ort, ort_runner, write_ort
from twophase.export.graphs.run import OnnxRuntime
from twophase.link.errors import ArtifactError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("ort") / "bundle")


@pytest.fixture(scope="module")
def converted(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    assert write_ort(bundle, folder) == ("tx.ort", "rx.ort", CONFIG_FILE)
    return folder


def test_the_graphs_give_what_the_originals_give(bundle: Path, converted: Path) -> None:
    rng = np.random.default_rng(0)
    features, snr_db = rng.standard_normal((40, 5)), rng.uniform(-5.0, 15.0, 40)
    sent = {"input": features.astype(np.float32), "snr_db": snr_db.astype(np.float32)}
    received = {"llr": rng.standard_normal((40, 8)).astype(np.float32), "mode": rng.integers(0, 4, 40)}
    # an input that may be left out may also be given
    feeds = (("tx.onnx", sent), ("tx.onnx", {**sent, "mode_request": np.array([2])}), ("rx.onnx", received))
    run = ort_runner(converted)
    for graph, feed in feeds:
        original = onnx.load(bundle / graph)
        names = [value.name for value in original.graph.output]
        for one, other in zip(run(graph, names, feed), OnnxRuntime(original).run(names, feed), strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_list_of_operators_is_that_of_the_graphs_and_names_no_folder(
    bundle: Path, converted: Path
) -> None:
    text = (converted / CONFIG_FILE).read_text().splitlines()
    lines = [line for line in text if not line.startswith("#")]
    assert [line for line in text if line.startswith("#")] == [
        "# Generated from model/s:",
        "# - rx.ort",
        "# - tx.ort",
    ]
    assert all(line.startswith("ai.onnx;") for line in lines)
    listed = {name for line in lines for name in line.split(";")[2].split(",")}
    graphs = [onnx.load(bundle / name).graph for name in ("tx.onnx", "rx.onnx")]
    # what is folded away needs no kernel, and nothing is fused to operators that ONNX does not have
    assert {"ArgMax", "Gather", "MatMul", "Softmax"} <= listed
    assert listed <= {node.op_type for graph in graphs for node in graph.node}


def test_what_the_runtime_writes_in_another_order_each_time_is_written_in_one(
    bundle: Path, converted: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "raw.ort"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(raw)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(bundle / "tx.onnx"), options, providers=["CPUExecutionProvider"])
    assert canonical_ort(raw.read_bytes()) == (converted / "tx.ort").read_bytes()


def test_a_graph_that_is_missing_or_damaged_is_named(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    (folder / "rx.onnx").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match=r"rx.onnx' cannot be converted to ONNX Runtime's format"):
        write_ort(folder, tmp_path / "out")
    (folder / "tx.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"tx.onnx' cannot be converted"):
        write_ort(folder, tmp_path / "out")
    with pytest.raises(ArtifactError, match=r"tx.ort' is missing"):
        ort_runner(tmp_path / "nowhere")
