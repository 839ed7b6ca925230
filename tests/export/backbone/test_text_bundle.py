"""Bundles of a link that takes text: what they hold, what the commands say, and what no check lets pass."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tools.mutants import Change, Mutant, in_graph, make_mutant
from tools.mutate import after, changed, store
from twophase.export.artefacts.conformance import read_set
from twophase.export.backbone import whole
from twophase.export.cli import main
from twophase.export.compare.inputs import SPLIT_SNRS_DB
from twophase.export.graphs.run import OnnxRuntime
from twophase.export.graphs.view import all_nodes
from twophase.export.verify.bundle import Bundle
from twophase.export.verify.checks import NAMES, check_bundle
from twophase.export.verify.cli import main as verify
from twophase.link.bits import symbols_to_bits
from twophase.link.graphs import GraphOptions
from twophase.link.header import HeaderStep
from twophase.link.manifest import EVAL_FILE, TOKENIZER_FILE, Manifest, load_manifest
from twophase.link.receiver import Receiver
from twophase.link.text import unpack_texts
from twophase.link.transmitter import FeatureTransmitter, Transmitter


def split(folder: Path) -> dict[str, Any]:
    with np.load(folder / EVAL_FILE) as arrays:
        return dict(arrays)


def texts(folder: Path) -> tuple[str, ...]:
    arrays = split(folder)
    return unpack_texts(arrays["text"], arrays["text_ends"])


# what a bundle holds


def test_every_check_passes(text_bundle: Path) -> None:
    checks = {check.name: check for check in check_bundle(Bundle(text_bundle), ("latency", "threads"))}
    assert {name: check.problems for name, check in checks.items() if check.problems} == {}
    assert {"head in tx.onnx", "tokenizer", "text to symbols"} <= checks.keys()
    assert "features bit for bit as recorded" in checks["text to symbols"].detail


@pytest.mark.parametrize(("name", "rounded"), [("text_bundle", 1e-6), ("int8_text_bundle", 0.05)])
def test_features_of_the_split_are_those_that_a_device_computes(
    name: str, rounded: float, request: pytest.FixtureRequest, text_run: Path
) -> None:
    bundle: Path = request.getfixturevalue(name)
    ours, trained = split(bundle), split(text_run)
    np.testing.assert_array_equal(ours["input"], Transmitter(bundle).features(texts(bundle)))
    np.testing.assert_allclose(ours.pop("input"), trained.pop("input"), atol=rounded)
    assert list(ours) == list(trained)
    for key, value in ours.items():
        np.testing.assert_array_equal(value, trained[key])


def test_the_whole_sends_what_the_head_sends(text_bundle: Path) -> None:
    snr_db = np.linspace(-5, 20, 40)
    sent = Transmitter(text_bundle).send(texts(text_bundle), snr_db)
    again = FeatureTransmitter(text_bundle).send(split(text_bundle)["input"], snr_db)
    converted = Transmitter(text_bundle, options=GraphOptions(format="ort")).send(texts(text_bundle), snr_db)
    for key, value in vars(sent).items():
        np.testing.assert_array_equal(value, vars(again)[key])
        np.testing.assert_array_equal(value, vars(converted)[key])


def test_nothing_tells_where_it_was_made(text_bundle: Path, text_run: Path) -> None:
    for path in (str(text_run), str(Path(whole.__file__).parent)):
        assert path.encode() not in (text_bundle / "tx.onnx").read_bytes()


def test_the_mode_that_the_content_decides_travels_in_the_header_that_was_asked_for(
    text_bundle: Path, text_run: Path
) -> None:
    manifest, trained = load_manifest(text_bundle, "bundle"), load_manifest(text_run, "run").routing
    assert manifest.routing == replace(trained, header=(HeaderStep(-10.0, "rm14"),))
    record = manifest.provenance["export"]
    assert (record["router"], record["proof"]["snr_points"]) == ("trained", 0)
    assert [entry["esn0_db"] for entry in record["modes"]] == list(SPLIT_SNRS_DB)
    assert {(entry["header"], entry["header_symbols"]) for entry in record["modes"]} == {("rm14", 8)}
    assert all(sum(entry["shares"].values()) == pytest.approx(1.0) for entry in record["modes"])
    # far apart, for this router is not trained
    features, sender = 30 * split(text_bundle)["input"], FeatureTransmitter(text_bundle)
    sent = sender.send(features, 15.0)
    assert len(set(sent.mode)) > 1
    llr = 20.0 * symbols_to_bits(sent.header, 2) - 10.0
    received = Receiver(text_bundle).mode_of(np.full(len(features), 15.0), llr)
    np.testing.assert_array_equal(received, sent.mode)
    for mode in range(len(manifest.modes)):
        assert set(sender.send(features, 15.0, mode).mode) == {mode}


def test_int8_stores_the_backbone_in_8_bits_and_nothing_else_changes(int8_text_bundle: Path) -> None:
    model = onnx.load(int8_text_bundle / "tx.onnx")
    assert (model.opset_import[0].version, model.ir_version) == (21, 10)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert sum(value.dtype == np.int8 for value in stored.values()) == 2
    operators = {entry.op_type for entry in all_nodes(model) if entry.name.startswith("backbone/")}
    assert not [name for name in operators if "Quantize" in name or name == "MatMulInteger"]
    manifest = load_manifest(int8_text_bundle, "bundle")
    record = manifest.provenance["export"]
    assert (manifest.precision, record["opset"], record["ir_version"]) == ("int8", 21, 10)
    assert manifest.accuracy is not None
    assert record["int8"]["accuracy"]["int8"] == list(manifest.accuracy.correct)
    compared_with = record["front"]["int8"]["float32"]
    assert (compared_with["sentences"], compared_with["decisions"]["compared"]) == (40, 40)
    assert 0 < compared_with["features"] < 0.05
    assert record["int8"]["indices"]["test_split"]["different"] == 0
    said = int8_text_bundle.with_suffix(".report").read_text()
    assert "INT8 and float32" in said
    assert "## INT8 and float32" in (int8_text_bundle / "LINK_CARD.md").read_text()
    assert set(record["int8"]["bytes"]) == {"tx.onnx", "tx_head.onnx", "rx.onnx"}
    for name, size in record["int8"]["bytes"].items():
        assert size["int8"] == manifest.files[name]["bytes"]
        (line,) = [line for line in said.splitlines() if line.startswith(f"{name} ") and line.endswith(" %")]
        assert f"{100 * size['int8'] / size['float32']:.1f} %" in line


def test_the_whole_has_a_set_of_its_own(text_bundle: Path) -> None:
    manifest = load_manifest(text_bundle, "bundle")
    assert manifest.conformance is not None
    assert {entry.graph for entry in manifest.conformance.sets} == {"tx.onnx", "tx_head.onnx", "rx.onnx"}
    (entry,) = [entry for entry in manifest.conformance.sets if entry.graph == "tx.onnx"]
    inputs, outputs = read_set(text_bundle, entry)
    assert list(inputs) == ["input_ids", "attention_mask", "snr_db", "mode_request"]
    assert list(outputs)[-1] == "features"
    assert set(outputs["mode"].tolist()) == set(range(len(manifest.modes)))
    assert inputs["attention_mask"].sum(axis=1).min() < inputs["input_ids"].shape[1]
    # features that are moved by what another runtime may move them give the same integers
    head = OnnxRuntime((text_bundle / "tx_head.onnx").read_bytes())
    moved = outputs["features"] + np.float32(1e-4) * np.sign(outputs["features"])
    routed = {"snr_db": inputs["snr_db"], "mode_request": inputs["mode_request"]}
    (indices,) = head.run(["indices"], {"input": moved, **routed})
    np.testing.assert_array_equal(indices, outputs["indices"])


def test_what_cannot_be_done_is_refused_in_one_line_before_any_work(
    text_run: Path,
    text_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    export = ["--run", str(text_run), "--out", str(tmp_path / "bundle")]
    remedy = "pip install '.[text]'"
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for command, words, parts in (
        (main, [*export, "--web"], ["tp-export: error: '--web' must be left out for a link that takes text"]),
        (main, export, ["tp-export: error: tp-export needs tokenizers", remedy]),
        (verify, [str(text_bundle)], ["tp-verify: error: tp-verify needs tokenizers", remedy]),
    ):
        assert command(words) == 2
        out, error = capsys.readouterr()
        (line,) = error.strip().splitlines()
        assert out == ""
        for part in parts:
            assert part in line
    assert not (tmp_path / "bundle").exists()


# what no check lets pass


def in_split(alter: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    def change(folder: Path, manifest: Manifest) -> Manifest:
        arrays = split(folder)
        np.savez(folder / EVAL_FILE, **(arrays | alter(arrays)))
        return manifest

    return change


def swapped_words(folder: Path, manifest: Manifest) -> Manifest:
    content = (folder / TOKENIZER_FILE).read_text()
    swapped = content.replace('"the":', '"?":').replace('"film":', '"the":').replace('"?":', '"film":')
    assert swapped != content
    (folder / TOKENIZER_FILE).write_text(swapped)
    return manifest


def many_ids(arrays: dict[str, Any]) -> dict[str, Any]:
    names = ("input_ids", "attention_mask")
    return {name: np.pad(arrays[name], ((0, 0), (0, 9)), mode="edge") for name in names}


def other_features(arrays: dict[str, Any]) -> dict[str, Any]:
    return {"input": arrays["input"] + np.float32(0.01)}


def stored(*filler: Any) -> Change:
    """More weights in the whole."""
    return in_graph(lambda model: store(model, "backbone/filler", np.zeros(*filler)))


OTHER_HEAD = in_graph(changed("w1", np.negative))
NOISE = "drawn = RandomNormalLike<scale=0.000000001>(it); features = Add(it, drawn)"
FLOAT, INT8 = "text_bundle", "int8_text_bundle"
MUTANTS = (
    (FLOAT, swapped_words, "tokenizer", "it gives other ids"),
    (FLOAT, in_split(many_ids), "tokenizer", "must have at most 16 tokens, not 20"),
    (FLOAT, in_split(other_features), "text to symbols", "differ by up to"),
    (FLOAT, OTHER_HEAD, "head in tx.onnx", "which the head stores"),
    (FLOAT, OTHER_HEAD, "text to symbols", "is not what the head gives"),
    (
        FLOAT,
        in_graph(changed("backbone/layer.bias", lambda value: value + 1)),
        "text to symbols",
        "differ by",
    ),
    (FLOAT, in_graph(after("features", NOISE)), "random operators", "RandomNormalLike"),
    (FLOAT, stored(1, np.int8), "precision", "is stored in int8"),
    (INT8, stored(70_000, np.float32), "precision", "the backbone stores 70,"),
)


@pytest.mark.parametrize(("bundle", "change", "check", "reason"), MUTANTS)
def test_a_mutant_is_rejected_for_its_reason(
    bundle: str, change: Change, check: str, reason: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    mutant = Mutant(check, change, check, reason, resigned=False)
    folder = make_mutant(request.getfixturevalue(bundle), tmp_path / "bundle", mutant)
    found = {each.name: each for each in check_bundle(Bundle(folder), set(NAMES) - {NAMES[0], check})}
    assert (found[NAMES[0]].state, found[check].state) == ("pass", "fail")
    assert any(reason in text for text in (found[check].detail, *found[check].problems)), found[check]
