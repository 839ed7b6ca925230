"""Which samples an INT8 graph rounds alike everywhere."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tools.mutate import node
from twophase.export.int8.calibrate import CLEARANCE, steady_rows

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
