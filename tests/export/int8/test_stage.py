"""The INT8 step of an export: what it counts, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

from tools.mutate import changed
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


def quantise_link(link: Link, folder: Path) -> stage.Quantised:
    models, manifest = link
    return quantise(CALIBRATION, folder, models, manifest, SAMPLES, 300, 0, lambda step: None)


def problems_of(link: Link, folder: Path) -> tuple[str, ...]:
    with pytest.raises(VerificationError, match="the INT8 graphs failed") as caught:
        quantise_link(link, folder)
    return tuple(caught.value.problems)


def test_both_precisions_stand_side_by_side(float_link: Link, tmp_path: Path) -> None:
    result = quantise_link(float_link, tmp_path)
    models, manifest = float_link
    record = result.record
    for pair, name in ((models, "float32"), (result.models, "int8")):
        graphs = {graph: serialize(model) for graph, model in pair.items()}
        assert {graph: sizes[name] for graph, sizes in record["bytes"].items()} == {
            graph: len(content) for graph, content in graphs.items()
        }
        accuracy = accuracy_of(tmp_path, graphs, manifest, SAMPLES)
        assert record["accuracy"][name] == list(accuracy.correct)
    assert result.accuracy == accuracy
    # the split at six SNRs and once in each of four modes
    assert record["modes"] == {
        "test_split": {"compared": 400, "different": 0},
        "random": {"compared": 300, "different": 0},
    }
    for count in record["indices"].values():
        # INT8 changes some of the codewords of this link, but few
        assert 0 < count["different"] < 0.1 * count["compared"]
    assert record["decisions"]["compared"] == 3 * 4 + 300 // 5
    assert list(tmp_path.iterdir()) == []
    assert len(result.proof.searches) == 4


def test_on_a_grid_nothing_differs(grid_link: Link, tmp_path: Path) -> None:
    record = quantise_link(grid_link, tmp_path).record
    assert [count["different"] for count in record["indices"].values()] == [0, 0]
    assert record["indices"]["random"]["compared"] > 300


def test_graphs_that_are_not_int8_are_refused_both_at_once(
    float_link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("quantize_transmitter", "quantize_receiver"):
        monkeypatch.setattr(stage, name, lambda model, manifest, calibration: model)
    problems = problems_of(float_link, tmp_path)
    assert {problem.split(":")[0] for problem in problems} == {"tx.onnx", "rx.onnx"}
    assert any("must be of opset 21" in problem for problem in problems)


def spoilt(change: Callable[[NDArray], NDArray], *, largest: bool) -> Callable[..., ModelProto]:
    """Quantises, and alters the largest or the smallest matrix of uint8."""

    def quantize(model: ModelProto, manifest: Manifest, calibration: Values) -> ModelProto:
        result = quantize_transmitter(model, manifest, calibration)
        sizes = {
            tensor.name: np.prod(tensor.dims)
            for tensor in result.graph.initializer
            if tensor.data_type == onnx.TensorProto.UINT8 and len(tensor.dims) == 2
        }
        changed((max if largest else min)(sizes, key=lambda name: sizes[name]), change)(result)
        return result

    return quantize


def test_a_transmitter_that_is_not_hard_any_more_is_refused(
    float_link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mislabel = spoilt(lambda value: np.roll(value, 1, axis=0), largest=False)
    monkeypatch.setattr(stage, "quantize_transmitter", mislabel)
    problem, *_ = problems_of(float_link, tmp_path)
    assert problem.startswith("tx.onnx: mode 0 (8x4qam): 'bits' of indices")


def test_a_grid_that_int8_changes_is_refused(
    grid_link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarser = spoilt(lambda value: (value // 64) * 64, largest=True)
    monkeypatch.setattr(stage, "quantize_transmitter", coarser)
    monkeypatch.setattr(stage, "check_quantized", lambda model, original: [])
    (problem,) = problems_of(grid_link, tmp_path)
    assert problem.startswith("tx.onnx: ")
    assert problem.endswith("codewords differ from float32, and on a grid none may")
