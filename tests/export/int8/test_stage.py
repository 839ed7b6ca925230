"""The INT8 step of an export: what it counts, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from tools.mutate import constant, store
from tools.tiny_run import FOUR_MODES, eval_split, write_grid_bundle
from twophase.export.artefacts.accuracy import accuracy_of
from twophase.export.graphs.run import Values
from twophase.export.graphs.view import serialize
from twophase.export.int8 import stage
from twophase.export.int8.quantize import quantize_transmitter
from twophase.export.int8.stage import quantise
from twophase.link.errors import VerificationError
from twophase.link.manifest import Manifest, load_manifest
from twophase.link.samples import Samples

SPLIT = eval_split(FOUR_MODES, 40)
SAMPLES = Samples(SPLIT["input"], SPLIT["label"])
CALIBRATION: Values = {
    "input": SPLIT["input"],
    "snr_db": np.linspace(-5.0, 20.0, 40, dtype=np.float32),
}
Link = tuple[dict[str, ModelProto], Manifest]


@pytest.fixture(scope="module")
def float_link(four_tx, four_rx) -> Link:
    return {"tx.onnx": four_tx.model, "rx.onnx": four_rx.model}, four_tx.manifest


@pytest.fixture(scope="module")
def grid_link(make_shared) -> Link:
    folder = make_shared("grid-bundle", write_grid_bundle)
    models = {name: onnx.load(folder / name) for name in ("tx.onnx", "rx.onnx")}
    return models, load_manifest(folder, "bundle")


def quantise_link(link: Link, folder: Path, random_inputs: int = 300) -> stage.Quantised:
    models, manifest = link
    return quantise(CALIBRATION, folder, models, manifest, SAMPLES, random_inputs, 0, lambda step: None)


def test_both_precisions_stand_side_by_side(float_link: Link, tmp_path: Path) -> None:
    result = quantise_link(float_link, tmp_path)
    models, manifest = float_link
    record = result.record
    for name, model in result.models.items():
        assert record["bytes"][name] == {
            "float32": len(serialize(models[name])),
            "int8": len(serialize(model)),
        }
        assert model.opset_import[0].version == 21
    # the split at six SNRs and once in each of four modes
    assert record["modes"] == {
        "test_split": {"compared": 400, "different": 0},
        "random": {"compared": 300, "different": 0},
    }
    for count in record["indices"].values():
        # INT8 changes some of the codewords of this link, but few
        assert 0 < count["different"] < 0.1 * count["compared"]
    assert record["decisions"]["compared"] == 3 * 4 + 300 // 5
    for pair, name in ((models, "float32"), (result.models, "int8")):
        graphs = {graph: serialize(model) for graph, model in pair.items()}
        accuracy = accuracy_of(tmp_path, graphs, manifest, SAMPLES)
        assert record["accuracy"][name] == list(accuracy.correct)
    assert result.accuracy == accuracy
    assert list(tmp_path.iterdir()) == []
    assert len(result.proof.searches) == 4


def test_on_a_grid_nothing_differs(grid_link: Link, tmp_path: Path) -> None:
    record = quantise_link(grid_link, tmp_path).record
    assert [count["different"] for count in record["indices"].values()] == [0, 0]
    assert record["indices"]["random"]["compared"] > 300


def test_graphs_that_are_not_int8_are_refused_both_at_once(
    float_link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep(model: ModelProto, manifest: Manifest, calibration: Values) -> ModelProto:
        return model

    monkeypatch.setattr(stage, "quantize_transmitter", keep)
    monkeypatch.setattr(stage, "quantize_receiver", keep)
    with pytest.raises(VerificationError) as caught:
        quantise_link(float_link, tmp_path)
    assert {problem.split(":")[0] for problem in caught.value.problems} == {"tx.onnx", "rx.onnx"}
    assert any("must be of opset 21" in problem for problem in caught.value.problems)


def test_a_transmitter_that_is_not_hard_any_more_is_refused(
    float_link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mislabel(model: ModelProto, manifest: Manifest, calibration: Values) -> ModelProto:
        result = quantize_transmitter(model, manifest, calibration)
        (name,) = [t.name for t in result.graph.initializer if list(t.dims) == [8, 3] and t.data_type == 2]
        store(result, name, np.roll(constant(result, name), 1, axis=0))
        return result

    monkeypatch.setattr(stage, "quantize_transmitter", mislabel)
    with pytest.raises(VerificationError, match="the INT8 graphs failed") as caught:
        quantise_link(float_link, tmp_path)
    assert any(
        problem.startswith("tx.onnx: mode 0 (8x4qam): 'bits' of indices") for problem in caught.value.problems
    )


def test_a_grid_that_int8_changes_is_refused(
    grid_link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def coarser(model: ModelProto, manifest: Manifest, calibration: Values) -> ModelProto:
        result = quantize_transmitter(model, manifest, calibration)
        name = max(
            (t.name for t in result.graph.initializer if t.data_type == 2 and 16 in t.dims),
            key=lambda name: constant(result, name).size,
        )
        store(result, name, (constant(result, name) // 64) * 64)
        return result

    monkeypatch.setattr(stage, "quantize_transmitter", coarser)
    monkeypatch.setattr(stage, "check_quantized", lambda model, original: [])
    with pytest.raises(VerificationError) as caught:
        quantise_link(grid_link, tmp_path)
    (problem,) = caught.value.problems
    assert problem.startswith("tx.onnx: ")
    assert problem.endswith("codewords differ from float32, and on a grid none may")
