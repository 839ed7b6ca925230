"""Operators that a graph must not have are named, each with its reason."""

from __future__ import annotations

import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from tools.mutate import node
from twophase.export.graphs.signature import check_operators

OPSET = helper.make_opsetid("", 18)


def model(*nodes: NodeProto) -> ModelProto:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    made = helper.make_graph(list(nodes), "small", value[:1], value[1:])
    return helper.make_model(made, opset_imports=[OPSET], ir_version=10)


@pytest.mark.parametrize("domain", ["", "ai.onnx", "own"])
def test_functions_of_the_model_are_refused(domain: str) -> None:
    made = model(node("Round", ["x"], "y", domain=domain))
    body = [helper.make_node("Sin", ["x"], ["y"])]
    made.functions.append(helper.make_function(domain, "Round", ["x"], ["y"], body, [OPSET]))
    reason = f"'{domain}.Round' is a function of the model's own, no standard operator"
    assert check_operators(made) == [reason]
