"""Names, types and shapes of a graph are those of the contract; operators that it must not have are named."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from tools.mutate import after, node, store
from twophase.export.graphs.signature import RANDOM_OPERATORS, check_interface, check_operators, signature_of


def test_random_operators_and_those_outside_the_standard_are_found(one_tx) -> None:
    model = one_tx.copy()
    for operator in sorted(RANDOM_OPERATORS):
        model.graph.node.append(node(operator, ["input"], "stray"))
    model.graph.node.append(node("Gelu", ["input"], "stray", domain="com.microsoft"))
    assert check_operators(model) == [
        *(f"{operator} ('node_stray') draws random numbers" for operator in sorted(RANDOM_OPERATORS)),
        "Gelu ('node_stray') of 'com.microsoft' is no standard operator",
    ]


@pytest.mark.parametrize("domain", ["", "ai.onnx", "own"])
def test_functions_of_the_model_are_refused(domain: str) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    opset = helper.make_opsetid("", 18)
    made = helper.make_graph([node("Round", ["x"], "y", domain=domain)], "small", value[:1], value[1:])
    function = helper.make_function(domain, "Round", ["x"], ["y"], [node("Sin", ["x"], "y")], [opset])
    model = helper.make_model(made, opset_imports=[opset], ir_version=10, functions=[function])
    reason = f"'{domain}.Round' is a function of the model's own, no standard operator"
    assert check_operators(model) == [reason]


def other_batch(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def other_type(model: ModelProto) -> None:
    after("bits", "bits = Identity(it)")(model)
    next(value for value in model.graph.output if value.name == "bits").type.tensor_type.elem_type = 1


def without_output(model: ModelProto) -> None:
    del model.graph.output[:1]


def other_default(model: ModelProto) -> None:
    store(model, "mode_request", np.array([0]))


def without_default(model: ModelProto) -> None:
    kept = [tensor for tensor in model.graph.initializer if tensor.name != "mode_request"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def default_of_the_snr(model: ModelProto) -> None:
    store(model, "snr_db", np.zeros(1, dtype=np.float32))


@pytest.mark.parametrize(
    ("alter", "problem"),
    [
        (other_batch, "input 'input' must have shape ['batch', 2, 3], not [4, 2, 3]"),
        (other_type, "output 'bits' must be uint8, not float32"),
        (without_output, "the outputs must be ['mode', 'indices', 'bits', "),
        (other_default, "input 'mode_request' must have the default [-1], not [0]"),
        (without_default, "input 'mode_request' must have the default [-1], not none"),
        (default_of_the_snr, "input 'snr_db' must have no default, not [0.0]"),
    ],
)
def test_the_interface_is_checked_to_the_axis_and_the_default(four_tx, alter, problem: str) -> None:
    signature = signature_of("tx.onnx", four_tx.manifest)
    assert check_interface(four_tx.model, signature) == []
    model = four_tx.copy()
    alter(model)
    (found,) = check_interface(model, signature)
    assert found.startswith(problem)
