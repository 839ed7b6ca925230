"""Names, types and shapes of a graph are those of the contract; operators that it must not have are named."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from tools.mutate import after, node, store
from twophase.export.graphs.signature import RANDOM_OPERATORS, check_interface, check_operators, signature_of


@pytest.mark.parametrize("operator", sorted(RANDOM_OPERATORS))
def test_every_random_operator_is_found(one_tx, operator: str) -> None:
    model = one_tx.copy()
    model.graph.node.append(node(operator, ["input"], "stray"))
    assert check_operators(model) == [f"{operator} ('node_stray') draws random numbers"]


def test_an_operator_outside_the_standard_is_found(one_tx) -> None:
    model = one_tx.copy()
    model.graph.node.append(node("Gelu", ["input"], "stray", domain="com.microsoft"))
    assert check_operators(model) == ["Gelu ('node_stray') of 'com.microsoft' is no standard operator"]


@pytest.mark.parametrize("domain", ["", "ai.onnx", "own"])
def test_functions_of_the_model_are_refused(domain: str) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    opset = helper.make_opsetid("", 18)
    body = [helper.make_node("Sin", ["x"], ["y"])]
    made = helper.make_graph([node("Round", ["x"], "y", domain=domain)], "small", value[:1], value[1:])
    function = helper.make_function(domain, "Round", ["x"], ["y"], body, [opset])
    model = helper.make_model(made, opset_imports=[opset], ir_version=10, functions=[function])
    reason = f"'{domain}.Round' is a function of the model's own, no standard operator"
    assert check_operators(model) == [reason]


def test_the_interface_is_checked_to_the_axis(one_tx, four_tx) -> None:
    signature = signature_of("tx.onnx", four_tx.manifest)
    assert check_interface(four_tx.model, signature) == []
    problems = check_interface(one_tx.model, signature)
    assert "output 'symbols' must have shape ['batch', 5], not ['batch', 3]" in problems
    signature = signature_of("tx.onnx", one_tx.manifest)
    model = one_tx.copy()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    assert check_interface(model, signature) == [
        "input 'input' must have shape ['batch', 2, 3], not [4, 2, 3]"
    ]
    model = one_tx.copy()
    after("bits", "bits = Identity(it)")(model)
    next(value for value in model.graph.output if value.name == "bits").type.tensor_type.elem_type = 1
    assert check_interface(model, signature) == ["output 'bits' must be uint8, not float32"]
    del model.graph.output[:1]
    assert check_interface(model, signature)[0].startswith("the outputs must be ['mode', 'indices', 'bits'")


def without_default(model: ModelProto) -> None:
    kept = [tensor for tensor in model.graph.initializer if tensor.name != "mode_request"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


@pytest.mark.parametrize(
    ("alter", "problem"),
    [
        (
            lambda model: store(model, "mode_request", np.array([0])),
            "input 'mode_request' must have the default [-1], not [0]",
        ),
        (without_default, "input 'mode_request' must have the default [-1], not none"),
        (
            lambda model: store(model, "snr_db", np.zeros(1, dtype=np.float32)),
            "input 'snr_db' must have no default, not [0.0]",
        ),
    ],
)
def test_the_request_alone_has_its_default(four_tx, alter, problem: str) -> None:
    model = four_tx.copy()
    alter(model)
    assert check_interface(model, signature_of("tx.onnx", four_tx.manifest)) == [problem]
