"""A receiver specialised to one mode gives what the graph of all modes gives, or is not used."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tools.tiny_bundle import LINK
from twophase.link.manifest import Manifest, load_manifest
from twophase.link.receiver import Receiver
from twophase.sim import folding
from twophase.sim.folding import FoldedReceiver, fold_mode

PLACES = (0, 2, 3, 1)
"""Which layer serves each mode."""


def _stacked_receiver() -> onnx.ModelProto:
    """As torch exports it: every mode's layer for each sample, stacked, and one picked by the mode."""
    rng, width, places = np.random.default_rng(0), LINK.modes.max_bits, range(4)
    constants = {f"w{n}": rng.standard_normal((width, 4)).astype(np.float32) for n in places} | {
        "one": np.array([1]),
        "shape": np.array([-1, 1, 1]),
        "wide": np.array([1, 1, 4]),
        "first": np.array(0),
        "to": np.array(PLACES),
    }
    nodes = [
        *(helper.make_node("MatMul", ["llr", f"w{n}"], [f"layer{n}"]) for n in places),
        *(helper.make_node("Unsqueeze", [f"layer{n}", "one"], [f"entry{n}"]) for n in places),
        helper.make_node("Concat", [f"entry{n}" for n in places], ["stack"], axis=1),
        helper.make_node("Gather", ["to", "mode"], ["place"]),
        helper.make_node("Reshape", ["place", "shape"], ["column"]),
        helper.make_node("Expand", ["column", "wide"], ["index"]),
        helper.make_node("GatherElements", ["stack", "index"], ["picked"], axis=1),
        helper.make_node("Gather", ["picked", "first"], ["logits"], axis=1),
        helper.make_node("TopK", ["logits", "three"], ["largest", "indices"], axis=1),
    ]
    inputs = [
        helper.make_tensor_value_info("llr", TensorProto.FLOAT, ["batch", width]),
        helper.make_tensor_value_info("mode", TensorProto.INT64, ["batch"]),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4]),
        helper.make_tensor_value_info("indices", TensorProto.INT64, ["batch", LINK.modes.max_tokens]),
    ]
    constants["three"] = np.array([LINK.modes.max_tokens])
    initial = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "receiver", inputs, outputs, initial)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def stacked(bundle: Path, tmp_path: Path) -> tuple[Path, Manifest]:
    """A folder with such a receiver, and a manifest that it fits."""
    onnx.save(_stacked_receiver(), tmp_path / "rx.onnx")
    return tmp_path, replace(load_manifest(bundle, "bundle"), files={})


def _assert_as_whole(folder: Path, manifest: Manifest) -> FoldedReceiver:
    """Each mode by itself, and all in one batch."""
    whole = Receiver(folder, manifest=manifest)
    folded = FoldedReceiver(folder, 1, "rx.onnx", manifest)
    llr = np.random.default_rng(2).normal(0, 8, (17, manifest.modes.max_bits)).astype(np.float32)
    for mode in (*(np.full(17, number) for number in range(4)), np.arange(17) % 4):
        found, wanted = folded.receive(llr, mode), whole.receive(llr, mode)
        assert np.array_equal(found.logits, wanted.logits)
        assert np.array_equal(found.indices, wanted.indices)
    return folded


def test_what_other_modes_need_is_left_out() -> None:
    whole = _stacked_receiver()
    for mode, layer in enumerate(PLACES):
        graph = fold_mode(whole, mode).graph
        assert [entry.name for entry in graph.input] == ["llr"]
        assert [entry.name for entry in graph.initializer if entry.name[0] == "w"] == [f"w{layer}"]


def test_each_mode_is_received_as_by_the_whole_graph(stacked, bundle: Path, caplog) -> None:
    folded = _assert_as_whole(*stacked)
    assert all(session is not None for session in folded._folded.values())
    # One that picks nothing stays whole, and nothing need be said.
    plain = _assert_as_whole(bundle, stacked[1])
    assert set(plain._folded.values()) == {None}
    assert caplog.text == ""


def test_a_graph_that_differs_or_fails_is_not_used(stacked, monkeypatch, caplog) -> None:
    monkeypatch.setattr(folding, "fold_mode", lambda model, mode: fold_mode(model, (mode + 1) % 4))
    _assert_as_whole(*stacked)
    assert "gives other logits: the whole graph is used" in caplog.text
    monkeypatch.setattr(folding, "fold_mode", lambda model, mode: None)
    _assert_as_whole(*stacked)
    assert "does not run" in caplog.text


def test_without_onnx_the_whole_graph_is_used(stacked, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr(folding, "fold_mode", None)
    _assert_as_whole(*stacked)
