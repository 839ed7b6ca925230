"""Weights in 8 bits: small steps, the same numbers on every runtime, and nothing large left in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from twophase.export.graphs.run import OnnxReference, OnnxRuntime, Runner
from twophase.export.graphs.torch_program import IR_VERSION, OPSET
from twophase.export.int8.nodes import INT8_IR_VERSION, INT8_OPSET
from twophase.export.int8.weights import check_weights, quantise_weights

WORDS, WIDTH, FEATURES = 50, 128, 8
RNG = np.random.default_rng(0)


def model(nodes: list[Any], stored: dict[str, NDArray[Any]]) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "backbone",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", FEATURES])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


@pytest.fixture(scope="module")
def backbone() -> ModelProto:
    """A table, a product in blocks of rows, one of a single block, and a product in the form of Gemm."""
    stored = {
        "table": RNG.standard_normal((WORDS, WIDTH)).astype(np.float32),
        "wide": (RNG.standard_normal((WIDTH, 12)) * RNG.uniform(0.1, 9.0, (WIDTH, 1))).astype(np.float32),
        "narrow": RNG.standard_normal((12, 10)).astype(np.float32),
        "dense": RNG.standard_normal((FEATURES, 10)).astype(np.float32),
        "bias": RNG.standard_normal(FEATURES).astype(np.float32),
        "one": np.array([1]),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"], name="look", axis=0),
        helper.make_node("MatMul", ["rows", "wide"], ["first"], name="first"),
        helper.make_node("MatMul", ["first", "narrow"], ["second"], name="second"),
        helper.make_node("ReduceSum", ["second", "one"], ["sum"], name="sum", keepdims=0),
        helper.make_node("Gemm", ["sum", "dense", "bias"], ["features"], name="dense", transB=1),
    ]
    return model(nodes, stored)


@pytest.fixture(scope="module")
def quantised(backbone: ModelProto) -> ModelProto:
    return quantise_weights(backbone)


def outputs(runner: Runner) -> NDArray[Any]:
    ids = np.random.default_rng(1).integers(0, WORDS, (6, 9))
    (features,) = runner.run(["features"], {"input_ids": ids})
    return features


def stored(graph: ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}


def test_every_matrix_is_stored_in_8_bits(backbone: ModelProto, quantised: ModelProto) -> None:
    held = stored(quantised)
    before = stored(backbone)
    assert {name for name, value in held.items() if value.dtype == np.int8} == {
        f"{name}_int8" for name in ("table", "wide", "narrow", "dense")
    }
    assert not {"table", "wide", "narrow", "dense"} & held.keys()
    assert held["wide_int8"].shape == (2, 64, 12)
    assert held["narrow_int8"].shape == (1, 12, 10)
    assert held["dense_int8"].shape == (FEATURES, 1, 10)
    for name in ("table", "wide", "narrow", "dense"):
        steps, scale = held[f"{name}_int8"], held[f"{name}_scale"]
        restored = (steps.astype(np.float32) * scale).reshape(before[name].shape)
        half = np.broadcast_to(scale / 2, steps.shape).reshape(before[name].shape)
        assert (np.abs(restored - before[name]) <= half * 1.0001).all()
        assert np.abs(steps).max() == 127
    assert quantised.ir_version == INT8_IR_VERSION
    assert [entry.version for entry in quantised.opset_import] == [INT8_OPSET]


def test_every_runtime_computes_the_same_in_float32(backbone: ModelProto, quantised: ModelProto) -> None:
    plain = outputs(OnnxRuntime(quantised, optimised=False))
    for runner in (OnnxRuntime(quantised), OnnxReference(quantised)):
        np.testing.assert_allclose(outputs(runner), plain, rtol=1e-4, atol=1e-4 * np.abs(plain).max())
    exact = outputs(OnnxRuntime(backbone))
    assert 0 < np.abs(plain - exact).max() < 0.1 * exact.std()


def test_what_is_left_in_float32_is_counted(backbone: ModelProto, quantised: ModelProto) -> None:
    head = ModelProto()
    assert check_weights(quantised, head) == []
    assert check_weights(backbone, head) == ["the backbone stores 8,144 real numbers next to 0 of int8"]
    large = ModelProto()
    large.CopyFrom(quantised)
    hidden = numpy_helper.from_array(np.zeros(70_000, dtype=np.float32), "hidden")
    large.graph.initializer.append(hidden)
    (problem,) = check_weights(large, head)
    assert "real numbers next to 8,136 of int8" in problem
    head.graph.initializer.append(hidden)
    assert check_weights(large, head) == []
