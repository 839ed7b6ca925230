"""Bundles of a link that takes text: what they hold, what the commands say, and what no check lets pass."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from tools.mutants import Mutant, in_graph, make_mutant
from tools.mutate import constant, insert_behind, node, store
from tools.tiny_text import text_arrays
from twophase.export.artefacts.conformance import read_set
from twophase.export.cli import main
from twophase.export.graphs.run import OnnxRuntime
from twophase.export.graphs.view import all_nodes
from twophase.export.verify.bundle import Bundle
from twophase.export.verify.checks import NAMES, Check, check_bundle
from twophase.export.verify.cli import main as verify
from twophase.link.graphs import GraphOptions
from twophase.link.manifest import (
    EVAL_FILE,
    TOKENIZER_FILE,
    Manifest,
    load_manifest,
)
from twophase.link.text import TextEncoder, unpack_texts
from twophase.link.transmitter import FeatureTransmitter, Transmitter

FRONT_CHECKS = ("head in tx.onnx", "tokenizer", "text to symbols")


def split(folder: Path) -> dict[str, Any]:
    with np.load(folder / EVAL_FILE) as arrays:
        return dict(arrays)


def texts(folder: Path) -> tuple[str, ...]:
    arrays = split(folder)
    return unpack_texts(arrays["text"], arrays["text_ends"])


def told(command: Callable[[Sequence[str]], int], *words: str) -> tuple[int, str, str]:
    """Exit status and what a command prints on stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = command(words)
    return status, out.getvalue(), err.getvalue()


# what a bundle holds


@pytest.mark.parametrize("name", ["text_bundle", "int8_text_bundle"])
def test_every_check_passes(name: str, request: pytest.FixtureRequest) -> None:
    bundle: Path = request.getfixturevalue(name)
    checks = {check.name: check for check in check_bundle(Bundle(bundle), ("latency", "threads"))}
    assert {name: check.problems for name, check in checks.items() if check.problems} == {}
    assert set(FRONT_CHECKS) <= checks.keys()
    assert "features bit for bit as recorded" in checks["text to symbols"].detail


@pytest.mark.parametrize("name", ["text_bundle", "int8_text_bundle"])
def test_features_of_the_split_are_those_that_a_device_computes(
    name: str, request: pytest.FixtureRequest, text_run: Path
) -> None:
    bundle: Path = request.getfixturevalue(name)
    ours, trained = split(bundle), split(text_run)
    whole = Transmitter(bundle)
    np.testing.assert_array_equal(ours["input"], whole.features(texts(bundle)))
    assert list(ours) == list(trained)
    for key in ours.keys() - {"input"}:
        np.testing.assert_array_equal(ours[key], trained[key])
    rounded = 1e-6 if name == "text_bundle" else 0.05
    np.testing.assert_allclose(ours["input"], trained["input"], atol=rounded)


def test_the_whole_sends_what_the_head_sends(text_bundle: Path) -> None:
    snr_db = np.linspace(-5, 20, 40)
    sent = Transmitter(text_bundle).send(texts(text_bundle), snr_db)
    again = FeatureTransmitter(text_bundle).send(split(text_bundle)["input"], snr_db)
    converted = Transmitter(text_bundle, options=GraphOptions(format="ort")).send(texts(text_bundle), snr_db)
    for key, value in vars(sent).items():
        np.testing.assert_array_equal(value, vars(again)[key])
        np.testing.assert_array_equal(value, vars(converted)[key])


def test_int8_stores_the_backbone_in_8_bits_and_nothing_else_changes(
    text_bundle: Path, int8_text_bundle: Path
) -> None:
    model = onnx.load(int8_text_bundle / "tx.onnx")
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert sum(value.dtype == np.int8 for value in stored.values()) == 2
    assert not {entry.op_type for entry in all_nodes(model) if entry.name.startswith("backbone/")} & {
        "DequantizeLinear",
        "QuantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
    }
    record = load_manifest(int8_text_bundle, "bundle").provenance["export"]
    assert record["int8"]["bytes"].keys() == {"tx.onnx", "tx_head.onnx", "rx.onnx"}
    beside = record["front"]["int8"]["float32"]
    assert (beside["sentences"], beside["decisions"]["compared"]) == (40, 40)
    assert 0 < beside["features"] < 0.05
    assert record["int8"]["indices"]["test_split"]["different"] == 0
    assert "front" in load_manifest(text_bundle, "bundle").provenance["export"]


def test_the_whole_has_a_set_of_its_own(text_bundle: Path) -> None:
    manifest = load_manifest(text_bundle, "bundle")
    assert manifest.conformance is not None
    graphs = [entry.graph for entry in manifest.conformance.sets]
    assert graphs.count("tx.onnx") == 1
    assert {"tx_head.onnx", "rx.onnx"} <= set(graphs)
    (entry,) = [entry for entry in manifest.conformance.sets if entry.graph == "tx.onnx"]
    inputs, outputs = read_set(text_bundle, entry)
    assert list(inputs) == ["input_ids", "attention_mask", "snr_db", "mode_request"]
    assert list(outputs)[-1] == "features"
    assert set(outputs["mode"].tolist()) == set(range(len(manifest.modes)))
    lengths = inputs["attention_mask"].sum(axis=1)
    assert lengths.min() < inputs["input_ids"].shape[1]
    # features that are moved by what another runtime may move them give the same integers
    head = OnnxRuntime((text_bundle / "tx_head.onnx").read_bytes())
    moved = outputs["features"] + np.float32(1e-4) * np.sign(outputs["features"])
    routed = {"snr_db": inputs["snr_db"], "mode_request": inputs["mode_request"]}
    (indices,) = head.run(["indices"], {"input": moved, **routed})
    np.testing.assert_array_equal(indices, outputs["indices"])


def test_the_page_is_refused_before_any_work(text_run: Path, tmp_path: Path) -> None:
    status, out, err = told(main, "--run", str(text_run), "--out", str(tmp_path / "bundle"), "--web")
    assert (status, out) == (2, "")
    (line,) = err.strip().splitlines()
    assert "'web' must be left out for a link that takes text" in line
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("command", ["tp-export", "tp-verify"])
def test_without_the_tokenizers_library_one_line_says_so(
    command: str, text_run: Path, text_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    if command == "tp-export":
        status, out, err = told(main, "--run", str(text_run), "--out", str(tmp_path / "bundle"))
    else:
        status, out, err = told(verify, str(text_bundle))
    assert (status, out) == (2, "")
    (line,) = err.strip().splitlines()
    assert line.startswith(f"{command}: error: {command} needs tokenizers")
    assert line.endswith("pip install 'twophase-link[text]'")


# what no check lets pass


def swap_words(folder: Path, manifest: Manifest) -> Manifest:
    content = json.loads((folder / TOKENIZER_FILE).read_text())
    words = content["model"]["vocab"]
    words["the"], words["film"] = words["film"], words["the"]
    (folder / TOKENIZER_FILE).write_text(json.dumps(content))
    return manifest


def other_texts(folder: Path, manifest: Manifest) -> Manifest:
    assert manifest.front is not None
    arrays = split(folder)
    encoder = TextEncoder(folder / TOKENIZER_FILE, manifest.front.max_length)
    other = text_arrays(["the film."] * 40, arrays["label"], 2, encoder)
    np.savez(folder / EVAL_FILE, **(arrays | {"text": other["text"], "text_ends": other["text_ends"]}))
    return manifest


def other_features(folder: Path, manifest: Manifest) -> Manifest:
    arrays = split(folder)
    np.savez(folder / EVAL_FILE, **(arrays | {"input": arrays["input"] + np.float32(0.01)}))
    return manifest


def many_ids(folder: Path, manifest: Manifest) -> Manifest:
    arrays = split(folder)
    wide = {
        name: np.pad(arrays[name], ((0, 0), (0, 9)), mode="edge") for name in ("input_ids", "attention_mask")
    }
    np.savez(folder / EVAL_FILE, **(arrays | wide))
    return manifest


def other_head(model: ModelProto) -> None:
    store(model, "w1", -constant(model, "w1"))


def other_backbone(model: ModelProto) -> None:
    store(model, "backbone/layer.bias", constant(model, "backbone/layer.bias") + 1)


def noise(model: ModelProto) -> None:
    added = [node("RandomNormalLike", ["features_before"], "drawn", scale=1e-9)]
    insert_behind(model, "features", [*added, node("Add", ["features_before", "drawn"], "features")])


def in_whole(alter: Callable[[ModelProto], None]) -> Callable[[Path, Manifest], Manifest]:
    return in_graph(alter, "tx.onnx")


MUTANTS = (
    Mutant("swapped tokenizer", swap_words, "tokenizer", "it gives other ids", False),
    Mutant("other texts", other_texts, "tokenizer", "it gives other ids", False),
    Mutant("too many tokens", many_ids, "tokenizer", "must have at most 16 tokens, not 20", False),
    Mutant("features of another model", other_features, "text to symbols", "differ by up to", False),
    Mutant("other head", in_whole(other_head), "head in tx.onnx", "which the head stores", False),
    Mutant("other head sends", in_whole(other_head), "text to symbols", "is not what the head gives", False),
    Mutant("other backbone", in_whole(other_backbone), "text to symbols", "'features' differ by", False),
    Mutant("noise", in_whole(noise), "random operators", "RandomNormalLike", False),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_rejected_for_its_reason(text_bundle: Path, tmp_path: Path, mutant: Mutant) -> None:
    folder = make_mutant(text_bundle, tmp_path / "bundle", mutant)
    found = {
        check.name: check for check in check_bundle(Bundle(folder), set(NAMES) - {NAMES[0], mutant.check})
    }
    assert found[mutant.check].state == "fail"
    assert any(mutant.reason in problem for problem in found[mutant.check].problems), found[mutant.check]
    assert found[NAMES[0]].state == "pass"


def precision_of(folder: Path) -> Check:
    (check,) = [
        check
        for check in check_bundle(Bundle(folder), set(NAMES) - {"precision"})
        if check.state != "left out"
    ]
    assert check.state == "fail"
    return check


def test_float_weights_in_an_int8_bundle_are_rejected(int8_text_bundle: Path, tmp_path: Path) -> None:
    def alter(model: ModelProto) -> None:
        store(model, "backbone/filler", np.zeros(70_000, dtype=np.float32))

    mutant = Mutant("float weights", in_whole(alter), "precision", "", False)
    check = precision_of(make_mutant(int8_text_bundle, tmp_path / "bundle", mutant))
    assert "the backbone stores 70," in check.detail


def test_a_whole_in_8_bits_is_no_float32_graph(
    text_bundle: Path, int8_text_bundle: Path, tmp_path: Path
) -> None:
    def swap(folder: Path, manifest: Manifest) -> Manifest:
        shutil.copyfile(int8_text_bundle / "tx.onnx", folder / "tx.onnx")
        return manifest

    mutant = Mutant("int8", swap, "precision", "", False)
    check = precision_of(make_mutant(text_bundle, tmp_path / "bundle", mutant))
    assert any("is stored in int8" in problem for problem in check.problems)
