"""The link in JavaScript is the link in Python: constellations, LLRs, routing, headers, files."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from twophase.link.constellation import qam
from twophase.link.demap import llr_exact
from twophase.link.header import CODE_NAMES, Header, HeaderStep, plan_header
from twophase.link.routing import Hysteresis, SnrTable

Evaluate = Callable[[dict[str, list[list[Any]]]], dict[str, list[dict[str, Any]]]]

DEFAULTS = {"mode_request": np.array([-1]), "one": np.ones(300)}
TABLE = SnrTable((-2.5, 0.0, 3.0, 11.5), (0, 3, 1, 2, 0))


def _table(table: SnrTable) -> dict[str, list[Any]]:
    return {"thresholds_db": list(table.thresholds_db), "modes": list(table.modes)}


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_constellations_are_equal(evaluate: Evaluate) -> None:
    orders = (4, 16, 64, 256)
    for order, result in zip(orders, evaluate({"qam": [[order] for order in orders]})["qam"], strict=True):
        ours, value = qam(order), result["value"]
        assert np.array_equal(value["re"], ours.points.real)
        assert np.array_equal(value["im"], ours.points.imag)
        assert np.array_equal(value["levels"], ours.axis_levels)
        assert np.array_equal(value["labels"], ours.axis_labels)


def test_llrs_agree(evaluate: Evaluate) -> None:
    rng = np.random.default_rng(0)
    calls, expected = [], []
    for order in (4, 16, 64, 256):
        for noise_var in (1e-3, 0.1, 3.0, 100.0):
            for scale, gain, clip in ((1.0, 1.0, 100.0), (30.0, 0.8, 600.0), (1e6, 1.0, 100.0)):
                received = scale * (rng.standard_normal(7) + 1j * rng.standard_normal(7))
                calls.append([received.real.tolist(), received.imag.tolist(), order, noise_var, gain, clip])
                expected.append(llr_exact(received, qam(order), noise_var, gain, clip))
    for result, llr in zip(evaluate({"llr": calls})["llr"], expected, strict=True):
        np.testing.assert_allclose(result["value"], llr, rtol=1e-9, atol=1e-9)


def test_routing_and_hysteresis_are_equal(evaluate: Evaluate) -> None:
    edges = [
        np.nextafter(np.float32(edge), np.float32(way)) for edge in TABLE.thresholds_db for way in (-99, 99)
    ]
    snr = [*map(float, edges), *TABLE.thresholds_db, *np.random.default_rng(1).normal(3, 6, 300).tolist()]
    results = evaluate({"choose": [[_table(TABLE), snr]], "hold": [[_table(TABLE), 1.0, snr]]})
    assert results["choose"][0]["value"] == TABLE.choose(snr).tolist()
    held = Hysteresis(TABLE, 1.0).hold(snr)
    assert results["hold"][0]["value"] == held.tolist()
    assert (held != np.array(snr, dtype=np.float32)).sum() > 20  # something was held


def test_headers_are_equal(evaluate: Evaluate) -> None:
    rng = np.random.default_rng(2)
    calls, expected = [], []
    for modes_count in (2, 4, 9):
        plans = [plan_header(modes_count)]
        plans += [(HeaderStep(0.0, name),) for name in CODE_NAMES if name != "rm12" or modes_count <= 8]
        for steps in plans:
            header = Header(steps, modes_count)
            written = [{"from_db": step.from_db, "code": step.code} for step in steps]
            for snr_db in (-20.0, steps[-1].from_db, 30.0):
                llr = rng.normal(0, 3, (20, 2 * header.max_symbols))
                calls.append([written, modes_count, snr_db, llr.tolist()])
                symbols, count = header.encode(np.arange(modes_count), snr_db)
                decoded = header.decode(llr, snr_db).tolist()
                sent = symbols[:, : count[0]].tolist()
                expected.append({"symbols": sent, "count": int(count[0]), "decoded": decoded})
    for result, wanted in zip(evaluate({"header": calls})["header"], expected, strict=True):
        assert {name: result["value"][name] for name in wanted} == wanted


def test_sha256_is_that_of_the_standard(evaluate: Evaluate) -> None:
    rng = np.random.default_rng(3)
    contents = [rng.bytes(length) for length in (*range(130), 1000, 100_000)]
    calls = [[_encoded(content)] for content in contents]
    calls.append([_encoded(contents[5]), _encoded(contents[0]), _encoded(contents[77])])
    contents.append(contents[5] + contents[77])
    results = evaluate({"sha256": calls})["sha256"]
    assert [result["value"] for result in results] == [hashlib.sha256(item).hexdigest() for item in contents]


def test_tensors_are_read(evaluate: Evaluate) -> None:
    arrays: list[NDArray[Any]] = [
        np.array([[1.5, -2.0], [np.float32(1e-40), 3e38]], dtype=np.float32),
        np.array([[-1, 2**40], [3, -(2**50)]], dtype=np.int64),
        np.arange(256, dtype=np.uint8).reshape(2, 128),
        np.array(7, dtype=np.int64),
        np.zeros((0, 3), dtype=np.float32),
        np.ones((300, 2), dtype=np.int32),
    ]
    calls = [[_encoded(numpy_helper.from_array(array, "name").SerializeToString())] for array in arrays]
    for array, result in zip(arrays, evaluate({"tensor": calls})["tensor"], strict=True):
        expected = {"name": "name", "type": array.dtype.name, "dims": list(array.shape)}
        assert result["value"] == expected | {"data": array.ravel().tolist()}


def test_what_cannot_be_used_is_refused(evaluate: Evaluate) -> None:
    content = numpy_helper.from_array(np.arange(9), "name").SerializeToString()
    text = helper.make_tensor("words", TensorProto.STRING, [1], [b"a"])
    short = helper.make_tensor("short", TensorProto.INT64, [3], b"\0" * 24, raw=True)
    short.raw_data = b"\0" * 16
    damaged = (content[:-4], text.SerializeToString(), short.SerializeToString())
    results = evaluate(
        {
            "llr": [[[0.1], [0.2], 4, noise_var, 1, 100] for noise_var in (0.0, -1.0)],
            "qam": [[5]],
            "header": [[[{"from_db": 0.0, "code": code}], 9, 0.0, []] for code in ("rm12", "repeat")],
            "tensor": [[_encoded(part)] for part in damaged],
        }
    )
    assert [result["error"] for task in results.values() for result in task] == [
        "'noiseVar' must be positive and finite, not 0",
        "'noiseVar' must be positive and finite, not -1",
        "'order' must be 4, 16, 64 or 256, not 5",
        "header code 'rm12' cannot tell 9 modes",
        "header code 'repeat' is unknown",
        "a protobuf message is truncated",
        "tensor 'words' has data type 8, which is not read",
        "tensor 'short' must have 24 bytes of raw data, not 16",
    ]


def test_an_input_loses_its_default_and_nothing_else(evaluate: Evaluate) -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["mode_request", "one"], ["out"])],
        "graph",
        [helper.make_tensor_value_info("mode_request", TensorProto.INT64, ["requests"])],
        [helper.make_tensor_value_info("out", TensorProto.INT64, None)],
        [numpy_helper.from_array(value, name) for name, value in DEFAULTS.items()],
    )
    model = helper.make_model(graph)
    written = model.SerializeToString()
    calls = [[_encoded(written), name] for name in ("mode_request", "input")]
    without, same = (
        base64.b64decode(result["value"]) for result in evaluate({"withoutDefault": calls})["withoutDefault"]
    )
    assert same == written
    changed = onnx.load_from_string(without)
    assert [entry.name for entry in changed.graph.initializer] == ["one"]
    del model.graph.initializer[0]
    assert changed == model


def test_noise_is_gaussian_and_repeats(evaluate: Evaluate) -> None:
    """Each bound is 5 standard deviations; the seed is fixed, so the test cannot fail by chance."""
    count = 40_000
    first, again, other = (
        np.array(result["value"]["re"]) + 1j * np.array(result["value"]["im"])
        for result in evaluate({"noise": [[7, count], [7, count], [8, count]]})["noise"]
    )
    assert np.array_equal(first, again)
    assert abs(np.vdot(first, other)) / count < 5 / math.sqrt(count)
    assert abs(first.mean()) < 5 / math.sqrt(count)
    assert abs((np.abs(first) ** 2).mean() - 1) < 5 / math.sqrt(count)
    assert abs((first**2).mean()) < 5 * math.sqrt(2 / count)  # both axes alike and uncorrelated
    tails = (np.abs(np.concatenate([first.real, first.imag])) * math.sqrt(2) > 2).mean()
    expected = math.erfc(math.sqrt(2))
    assert abs(tails - expected) < 5 * math.sqrt(expected / (2 * count))


def test_strokes_become_features_of_the_frame(evaluate: Evaluate) -> None:
    stroke = [{"x": 10.0, "y": 10.0 + 4 * step} for step in range(26)]
    moved = [{"x": 3 + 2 * point["x"], "y": 2 * point["y"] - 7} for point in stroke]
    flat = [{"x": point["y"], "y": point["x"]} for point in stroke]
    dot = [{"x": 1.0, "y": 1.0}]
    results = evaluate({"features": [[[stroke]], [[moved]], [[flat]], [[dot]], [[]]]})["features"]
    upright, same, lying, point, nothing = (result["value"] for result in results)
    assert nothing is None
    assert upright == same  # place and size of a drawing do not matter
    image = np.array(upright).reshape(8, 8)
    assert np.array_equal(image, image[:, ::-1])
    assert np.array_equal(image, np.rint(image))
    assert image.max() == 16
    assert (image[:, 3:5].sum(axis=1) > 0).all()  # it fills the height
    assert (image[:, [0, 1, 6, 7]] == 0).all()  # and stays narrow
    assert 280 < image.sum() <= 330  # ink of a usual digit
    assert (np.array(lying).reshape(8, 8)[[0, 7]] == 0).all()
    assert np.array(point).sum() > 0


def test_units_of_the_input_are_those_of_the_training_data(evaluate: Evaluate) -> None:
    calls = [
        ([0, 255], "uint8", True),
        ([0, 255], "uint8", False),
        ([0.5, 3], "float32", False),
        ([0.5], "uint8", False),
        ([256], "uint8", False),
        ([3], "float32", True),
    ]
    results = evaluate({"units": [list(call) for call in calls]})["units"]
    assert [result.get("value", False) for result in results] == [True] * 3 + [False] * 3
    assert "pixels, whole numbers 0..255" in results[3]["error"]
    assert "units of the training data" in results[5]["error"]


def test_figures_on_the_page(evaluate: Evaluate) -> None:
    results = evaluate({"wilson": [[0, 10], [81, 263]], "probabilities": [[[1000.0, 1000.0, 0.0]]]})
    # Wilson (1927); 81 of 263 is Newcombe's example (Statist. Med. 17, 1998, table I): 0.2553 to 0.3662.
    assert results["wilson"][0]["value"] == pytest.approx([0.0, 0.2775], abs=1e-4)
    assert results["wilson"][1]["value"] == pytest.approx([0.2553, 0.3662], abs=1e-4)
    assert results["probabilities"][0]["value"] == pytest.approx([0.5, 0.5, 0.0])
