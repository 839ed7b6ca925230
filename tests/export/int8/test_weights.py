"""Weights in 8 bits: small steps, the same numbers on every runtime, and nothing large left in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from tools.mutate import altered, model_of
from twophase.export.graphs.run import OnnxReference, OnnxRuntime, Runner
from twophase.export.int8.nodes import INT8_IR_VERSION, INT8_OPSET
from twophase.export.int8.weights import check_weights, quantise_weights

MATRICES = ("table", "wide", "narrow", "dense")


@pytest.fixture(scope="module")
def backbone() -> ModelProto:
    """A table, a product in blocks of rows, one of a single block, and a product in the form of Gemm."""
    rng = np.random.default_rng(0)
    stored = {
        "table": rng.standard_normal((50, 128)),
        "wide": rng.standard_normal((128, 12)) * rng.uniform(0.1, 9.0, (128, 1)),
        "narrow": rng.standard_normal((12, 10)),
        "dense": rng.standard_normal((8, 10)),
        "bias": rng.standard_normal(8),
    }
    text = (
        "rows = Gather<axis=0>(table, input_ids); middle = MatMul(rows, wide); last = MatMul(middle, narrow);"
        "sum = ReduceSum<keepdims=0>(last, one); features = Gemm<transB=1>(sum, dense, bias)"
    )
    inputs, outputs = "int64[batch,length] input_ids", "float[batch,8] features"
    singles = {name: value.astype(np.float32) for name, value in stored.items()}
    return model_of(inputs, text, outputs, singles | {"one": np.array([1])})


@pytest.fixture(scope="module")
def quantised(backbone: ModelProto) -> ModelProto:
    return quantise_weights(backbone)


def features(runner: Runner) -> NDArray[Any]:
    ids = np.random.default_rng(1).integers(0, 50, (6, 9))
    return runner.run(["features"], {"input_ids": ids})[0]


def stored(model: ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_every_matrix_is_stored_in_8_bits(backbone: ModelProto, quantised: ModelProto) -> None:
    held, before = stored(quantised), stored(backbone)
    assert {name for name, value in held.items() if value.dtype == np.int8} == {
        f"{name}_int8" for name in MATRICES
    }
    assert not held.keys() & {*MATRICES}
    shapes = [held[f"{name}_int8"].shape for name in MATRICES]
    assert shapes == [(50, 128), (2, 64, 12), (1, 12, 10), (8, 1, 10)]
    for name in MATRICES:
        steps, scale = held[f"{name}_int8"], held[f"{name}_scale"]
        wanted = before[name].reshape(steps.shape)
        assert (np.abs(steps.astype(np.float32) * scale - wanted) <= scale / 2 * 1.0001).all()
        assert np.abs(steps).max() == 127
    assert (quantised.ir_version, quantised.opset_import[0].version) == (INT8_IR_VERSION, INT8_OPSET)


def test_every_runtime_computes_the_same_in_float32(backbone: ModelProto, quantised: ModelProto) -> None:
    plain = features(OnnxRuntime(quantised, optimised=False))
    for runner in (OnnxRuntime(quantised), OnnxReference(quantised)):
        np.testing.assert_allclose(features(runner), plain, rtol=1e-4, atol=1e-4 * np.abs(plain).max())
    exact = features(OnnxRuntime(backbone))
    assert 0 < np.abs(plain - exact).max() < 0.1 * exact.std()


def test_what_is_left_in_float32_is_counted(backbone: ModelProto, quantised: ModelProto) -> None:
    head, hidden = ModelProto(), numpy_helper.from_array(np.zeros(70_000, dtype=np.float32), "hidden")
    assert check_weights(quantised, head) == []
    assert check_weights(backbone, head) == ["the backbone stores 8,144 real numbers next to 0 of int8"]
    large = altered(quantised, lambda model: model.graph.initializer.append(hidden))
    (problem,) = check_weights(large, head)
    assert "real numbers next to 8,136 of int8" in problem
    head.graph.initializer.append(hidden)
    assert check_weights(large, head) == []
