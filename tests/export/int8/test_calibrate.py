"""What INT8 is calibrated on: samples of the run, received in every mode over the channel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tools.mutate import node, store
from tools.tiny_run import FOUR_MODES, INPUT_SHAPE, eval_split, run_manifest
from twophase.export.graphs.run import OnnxRuntime, Values
from twophase.export.int8.calibrate import (
    CALIBRATION_FILE,
    CLEARANCE,
    SNRS_DB,
    load_calibration,
    observe,
    receptions,
    steady_rows,
)
from twophase.link.errors import ArtifactError
from twophase.link.graphs import MODE_REQUEST

MANIFEST = run_manifest(FOUR_MODES, ("aligned",))


def samples(count: int, snr_db: float | None = None) -> Values:
    levels = SNRS_DB if snr_db is None else (snr_db,)
    features = eval_split(FOUR_MODES, count)["input"]
    return {"input": features, "snr_db": np.resize(np.array(levels, dtype=np.float32), count)}


def adder(operator: str = "Add") -> ModelProto:
    """``inner``: the input and 2, by ``operator``; ``turned``: its negative."""
    graph = helper.make_graph(
        [node(operator, ["input", "two"], "inner"), node("Neg", ["inner"], "turned")],
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("turned", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.float32(2.0), "two")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


# --- the samples that a run keeps


def test_the_samples_are_those_of_the_file_and_take_all_snrs_in_turn(tmp_path: Path) -> None:
    split = eval_split(FOUR_MODES, 20)
    np.savez(tmp_path / CALIBRATION_FILE, **split)
    loaded = load_calibration(tmp_path, MANIFEST)
    np.testing.assert_array_equal(loaded["input"], split["input"])
    assert loaded["snr_db"].dtype == np.float32
    assert loaded["snr_db"][:7].tolist() == [*SNRS_DB, SNRS_DB[0]]
    assert len(loaded["snr_db"]) == 20


def test_a_run_without_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"calibration.npz' is missing: INT8 is calibrated on training"):
        load_calibration(tmp_path, MANIFEST)


# --- what a receiver gets of them


def test_every_sample_is_received_in_every_mode(four_tx) -> None:
    received = receptions(four_tx.model, MANIFEST, samples(30), 0)
    assert received["llr"].shape == (4 * 30, MANIFEST.modes.max_bits)
    assert received["llr"].dtype == np.float32
    assert received["mode"].tolist() == np.repeat(range(4), 30).tolist()
    assert np.abs(received["llr"]).max() <= MANIFEST.llr_clip
    for number, mode in enumerate(MANIFEST.modes):
        rows = received["llr"][received["mode"] == number]
        assert (rows[:, mode.channel_bits :] == 0).all()
        assert (rows[:, : mode.channel_bits] != 0).all()


def test_without_noise_worth_mentioning_the_signs_are_the_bits_that_were_sent(four_tx) -> None:
    feed = samples(50, snr_db=40.0)
    received = receptions(four_tx.model, MANIFEST, feed, 0)
    for number, mode in enumerate(MANIFEST.modes):
        request = {MODE_REQUEST: np.array([number])}
        (bits,) = OnnxRuntime(four_tx.model).run(["bits"], {**feed, **request})
        llr = received["llr"][received["mode"] == number, : mode.channel_bits]
        np.testing.assert_array_equal(llr > 0, bits[:, : mode.channel_bits] == 1)


def test_the_seed_decides_the_noise(four_tx) -> None:
    first, again, other = (
        receptions(four_tx.model, MANIFEST, samples(10), seed)["llr"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_transmitter_that_fails_is_reported(four_tx) -> None:
    wrong = replace(MANIFEST, input_shape=(3, 3))
    feed = samples(4) | {"input": np.zeros((4, 3, 3), dtype=np.float32)}
    with pytest.raises(ArtifactError, match="the transmitter does not run on the calibration data"):
        receptions(four_tx.model, wrong, feed, 0)


# --- ranges


def test_ranges_are_the_extremes_over_all_samples_with_zero() -> None:
    values = np.random.default_rng(0).uniform(-1, 5, (5000, 2)).astype(np.float32)
    seen = observe(adder(), ("input", "inner", "turned"), {"input": values})
    assert seen["input"] == (float(values.min()), float(values.max()))
    assert seen["inner"] == (0.0, float((values + np.float32(2)).max()))
    assert seen["turned"] == (-seen["inner"][1], 0.0)


def test_what_is_not_finite_is_no_range() -> None:
    model = adder("Div")
    store(model, "two", np.float32(0.0))
    with pytest.raises(ArtifactError, match="'inner' is not finite on the calibration data"):
        observe(model, ("inner",), {"input": np.ones((3, 2), dtype=np.float32)})


@pytest.mark.parametrize("feed", [{}, {"input": np.zeros((0, 2), dtype=np.float32)}])
def test_no_sample_is_no_calibration(feed: Values) -> None:
    with pytest.raises(ArtifactError, match="hold no sample"):
        observe(adder(), ("inner",), feed)


def test_inputs_of_another_shape_are_reported() -> None:
    feed = {"input": np.zeros((3, *INPUT_SHAPE), dtype=np.float32)}
    with pytest.raises(ArtifactError, match="the graph does not run on the calibration data"):
        observe(adder(), ("inner",), feed)


# --- samples that are rounded alike everywhere


STEP = 0.25


def rounding(*before: str, source: str = "input") -> ModelProto:
    """``input`` (batch, 2) through unary operators or a product with 1, then rounded to steps of 0.25."""
    nodes = []
    for number, operator in enumerate(before):
        inputs = [source, "one"] if operator == "Mul" else [source]
        nodes.append(node(operator, inputs, f"inner_{number}"))
        source = f"inner_{number}"
    nodes += [
        node("QuantizeLinear", [source, "step", "zero"], "whole"),
        node("DequantizeLinear", ["whole", "step", "zero"], "output"),
    ]
    stored = {"one": np.float32(1), "step": np.float32(STEP), "zero": np.uint8(128)}
    graph = helper.make_graph(
        nodes,
        "rounding",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


MIDDLE = STEP * 1.5
FEED = {
    "input": np.array(
        [
            [0.1, 0.5],
            [MIDDLE, 0.5],
            [0.5, -STEP / 2],
            [MIDDLE + 0.5 * CLEARANCE * STEP, 0.5],
            [MIDDLE + 2.0 * CLEARANCE * STEP, 0.5],
        ],
        dtype=np.float32,
    )
}


def test_what_was_computed_must_keep_clear_of_the_middle_between_two_steps() -> None:
    wanted = [True, False, False, False, True]
    assert steady_rows(rounding("Mul"), FEED).tolist() == wanted
    assert steady_rows(rounding("Mul", "Clip"), FEED).tolist() == wanted


def test_what_was_given_is_rounded_alike_everywhere() -> None:
    assert steady_rows(rounding(), FEED).all()
    assert steady_rows(rounding("Clip", "Identity"), FEED).all()
    assert steady_rows(rounding("Max", "Min"), FEED).all()


def test_a_graph_without_roundings_is_steady() -> None:
    model = rounding("Mul")
    del model.graph.node[1:]
    model.graph.node[0].output[0] = "output"
    assert steady_rows(model, FEED).all()
