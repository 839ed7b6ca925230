"""A receiver specialised to one mode gives what the graph of all modes gives, or is not used."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from twophase.link.manifest import load_manifest
from twophase.link.receiver import Receiver
from twophase.sim import folding
from twophase.sim.folding import FoldedReceiver, fold_mode


def _stacked_receiver() -> onnx.ModelProto:
    """As torch exports it: every mode's layer for each sample, stacked, and one picked by the mode."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((8, 4)).astype(np.float32) for _ in range(3)]
    constants = {f"w{n}": weight for n, weight in enumerate(weights)} | {
        "one": np.array([1]),
        "shape": np.array([-1, 1, 1]),
        "wide": np.array([1, 1, 4]),
        "first": np.array(0),
        "to": np.array([0, 2, 1]),
    }
    nodes = [
        *(helper.make_node("MatMul", ["llr", f"w{n}"], [f"layer{n}"]) for n in range(3)),
        *(helper.make_node("Unsqueeze", [f"layer{n}", "one"], [f"entry{n}"]) for n in range(3)),
        helper.make_node("Concat", ["entry0", "entry1", "entry2"], ["stack"], axis=1),
        helper.make_node("Gather", ["to", "mode"], ["place"]),
        helper.make_node("Reshape", ["place", "shape"], ["column"]),
        helper.make_node("Expand", ["column", "wide"], ["index"]),
        helper.make_node("GatherElements", ["stack", "index"], ["picked"], axis=1),
        helper.make_node("Gather", ["picked", "first"], ["logits"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["indices"], axis=1, keepdims=1),
    ]
    inputs = [
        helper.make_tensor_value_info("llr", TensorProto.FLOAT, ["batch", 8]),
        helper.make_tensor_value_info("mode", TensorProto.INT64, ["batch"]),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4]),
        helper.make_tensor_value_info("indices", TensorProto.INT64, ["batch", 1]),
    ]
    initial = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "receiver", inputs, outputs, initial)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_what_other_modes_need_is_left_out() -> None:
    import onnxruntime

    whole = _stacked_receiver()
    llr = np.random.default_rng(1).standard_normal((5, 8)).astype(np.float32)
    both = onnxruntime.InferenceSession(whole.SerializeToString(), providers=["CPUExecutionProvider"])
    for mode, layer in enumerate((0, 2, 1)):
        folded = fold_mode(whole, mode)
        assert [entry.name for entry in folded.graph.input] == ["llr"]
        assert [entry.name for entry in folded.graph.initializer if entry.name[0] == "w"] == [f"w{layer}"]
        alone = onnxruntime.InferenceSession(folded.SerializeToString(), providers=["CPUExecutionProvider"])
        expected = both.run(["logits", "indices"], {"llr": llr, "mode": np.full(5, mode)})
        for found, wanted in zip(alone.run(["logits", "indices"], {"llr": llr}), expected, strict=True):
            assert np.array_equal(found, wanted)


@pytest.mark.parametrize("file", ["rx.onnx", "rx_learning.onnx"])
def test_each_mode_is_received_as_by_the_whole_graph(bundle: Path, file: str, caplog) -> None:
    manifest = load_manifest(bundle, "bundle")
    whole, folded = Receiver(bundle, file=file), FoldedReceiver(bundle, 1, file, manifest)
    rng = np.random.default_rng(2)
    llr = rng.normal(0, 8, (17, manifest.modes.max_bits)).astype(np.float32)
    for number in range(len(manifest.modes)):
        found, wanted = folded.receive(llr, np.full(17, number)), whole.receive(llr, number)
        assert np.array_equal(found.logits, wanted.logits)
        assert np.array_equal(found.indices, wanted.indices)
    mixed = np.arange(17) % len(manifest.modes)
    assert np.array_equal(folded.receive(llr, mixed).logits, whole.receive(llr, mixed).logits)
    assert caplog.text == ""


def test_a_graph_that_differs_is_not_used(bundle: Path, monkeypatch, caplog) -> None:
    manifest = load_manifest(bundle, "bundle")
    nothing = np.zeros((manifest.modes.max_bits, len(manifest.classes)), dtype=np.float32)

    def other(model: onnx.ModelProto, mode: int) -> onnx.ModelProto:
        nodes = [
            helper.make_node("MatMul", ["llr", "nothing"], ["logits"]),
            helper.make_node("ArgMax", ["logits"], ["indices"], axis=1, keepdims=1),
        ]
        llr = helper.make_tensor_value_info("llr", TensorProto.FLOAT, ["batch", len(nothing)])
        outputs = [entry for entry in model.graph.output if entry.name in ("logits", "indices")]
        constants = [numpy_helper.from_array(nothing, "nothing")]
        graph = helper.make_graph(nodes, "other", [llr], outputs, constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    whole = Receiver(bundle)
    llr = np.random.default_rng(3).normal(0, 8, (9, manifest.modes.max_bits)).astype(np.float32)
    monkeypatch.setattr(folding, "fold_mode", other)
    found = FoldedReceiver(bundle, 1, "rx.onnx", manifest).receive(llr, np.zeros(9, dtype=np.int64))
    assert np.array_equal(found.logits, whole.receive(llr, 0).logits)
    assert "gives other logits: the whole graph is used" in caplog.text


def test_without_onnx_the_whole_graph_is_used(bundle: Path, monkeypatch) -> None:
    manifest = load_manifest(bundle, "bundle")
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr(folding, "fold_mode", None)
    receiver = FoldedReceiver(bundle, 1, "rx.onnx", manifest)
    llr = np.zeros((2, manifest.modes.max_bits))
    assert np.array_equal(
        receiver.receive(llr, np.array([1, 1])).logits, Receiver(bundle).receive(llr, 1).logits
    )
