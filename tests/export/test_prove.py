"""The proof of hardness accepts the right transmitter and rejects each wrong one for its own reason."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto

from tools.mutate import (
    Mutations,
    constant,
    insert_before,
    insert_behind,
    node,
    only,
    scalar,
    store,
)
from twophase.export.graphs.signature import RANDOM_OPERATORS, check_interface, check_operators, signature_of
from twophase.export.proof.hard import expected_bits, prove_hard
from twophase.link.modes import Mode

Mutation = Callable[[ModelProto], None]


def rejected(model: ModelProto, manifest, *reasons: str) -> None:
    proof, problems = prove_hard(model, manifest)
    assert proof is None
    for reason in reasons:
        assert any(reason in problem for problem in problems), problems


def decision(model: ModelProto) -> onnx.NodeProto:
    return only(model, "ArgMax")


def scores_name(model: ModelProto) -> str:
    return decision(model).input[0]


def test_the_right_transmitter_is_hard(one_tx, four_tx) -> None:
    proof, problems = prove_hard(one_tx.model, one_tx.manifest)
    assert problems == []
    assert proof is not None
    assert proof.codewords == 8
    # every codeword at each of 3 tokens, all tokens alike, and 1024 mixtures
    assert proof.combinations == 8 * 3 + 8 + 1024
    assert 0 < proof.integer_nodes < proof.nodes
    proof, problems = prove_hard(four_tx.model, four_tx.manifest)
    assert problems == []
    assert proof is not None
    assert proof.codewords == 8 + 8 + 16 + 16
    assert proof.combinations == 2 * (8 * 4 + 1024) + 2 * (16 * 3 + 1024)
    assert [search.weights.shape for search in proof.searches] == [(4, 8), (4, 8), (4, 16), (4, 16)]
    assert [search.tokens for search in proof.searches] == [3, 3, 2, 2]


def test_expected_bits_of_a_worked_example() -> None:
    # labels 2, 0, 3, 1 -> bits 10, 00, 11, 01; five information bits would pad, here 2 tokens fill one symbol
    mode = Mode(codebook=0, codebook_size=4, tokens=2, order=16)
    bits, symbols = expected_bits(np.array([[0, 2], [3, 1]]), mode, np.array([2, 0, 3, 1]))
    assert bits.tolist() == [[1, 0, 1, 1], [0, 1, 0, 0]]
    assert symbols.tolist() == [[11], [4]]


# --- the codebook search


SEARCH = Mutations()


@pytest.mark.parametrize(("mutate", "reasons"), SEARCH)
def test_a_search_that_is_not_a_plain_decision_is_rejected(
    one_tx, mutate: Mutation, reasons: tuple[str, ...]
) -> None:
    model = one_tx.copy()
    mutate(model)
    rejected(model, one_tx.manifest, *reasons)


def constant_temperature(model: ModelProto) -> None:
    cold = scalar(model, "cold", 0.7, np.float32)
    insert_before(model, decision(model), 0, [node("Div", [scores_name(model), cold], "cooled")])


def least_distance(model: ModelProto) -> None:
    insert_before(model, decision(model), 0, [node("Neg", [scores_name(model)], "half_distance")])
    decision(model).op_type = "ArgMin"


def softmax_upstream(model: ModelProto) -> None:
    product = only(model, "MatMul")
    insert_before(model, product, 0, [node("Softmax", [product.input[0]], "attended", axis=-1)])


def shifted_codebook(model: ModelProto) -> None:
    """Latents and codewords moved by the same vector: the same decisions."""
    product = only(model, "MatMul")
    weights = constant(model, product.input[1])
    shift = np.array([[0.5], [-1.0], [2.0], [0.25]], dtype=np.float32)
    store(model, product.input[1], weights + shift)
    store(model, "offset_0", -0.5 * np.square(weights + shift).sum(axis=0))
    moved = store(model, "moved", shift[:, 0])
    insert_before(model, product, 0, [node("Add", [product.input[0], moved], "moved_latents")])


@pytest.mark.parametrize(
    "mutate",
    [constant_temperature, least_distance, softmax_upstream, shifted_codebook],
    ids=lambda m: m.__name__,
)
def test_a_plain_decision_in_another_form_is_accepted(one_tx, mutate: Mutation) -> None:
    model = one_tx.copy()
    mutate(model)
    proof, problems = prove_hard(model, one_tx.manifest)
    assert problems == []
    assert proof is not None


@pytest.mark.parametrize("operator", sorted(RANDOM_OPERATORS))
def test_every_random_operator_is_found(one_tx, operator: str) -> None:
    model = one_tx.copy()
    model.graph.node.append(node(operator, ["input"], "stray"))
    assert check_operators(model) == [f"{operator} ('node_stray') draws random numbers"]


# --- the cut and the table


MAP = Mutations()


@pytest.mark.parametrize(("mutate", "reasons"), MAP)
def test_a_wrong_map_from_indices_is_rejected(one_tx, mutate: Mutation, reasons: tuple[str, ...]) -> None:
    model = one_tx.copy()
    mutate(model)
    rejected(model, one_tx.manifest, *reasons)


@pytest.mark.parametrize("name", ["indices", "bits", "symbols", "mode", "bit_count", "symbol_count"])
def test_a_missing_output_is_told(one_tx, name: str) -> None:
    model = one_tx.copy()
    kept = [value for value in model.graph.output if value.name != name]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    rejected(model, one_tx.manifest, f"output '{name}' is missing")
    (problem,) = check_interface(model, signature_of("tx.onnx", one_tx.manifest))
    assert problem.startswith("the outputs must be ['mode', 'indices', 'bits'")


def test_real_valued_bits_are_rejected(one_tx) -> None:
    model = one_tx.copy()
    insert_behind(model, "bits", [node("Cast", ["bits_before"], "bits", to=TensorProto.FLOAT)])
    next(value for value in model.graph.output if value.name == "bits").type.tensor_type.elem_type = 1
    rejected(model, one_tx.manifest, "'bits' at Cast ('node_bits') is FLOAT")
    assert check_interface(model, signature_of("tx.onnx", one_tx.manifest)) == [
        "output 'bits' must be uint8, not float32"
    ]


def test_the_interface_is_checked_to_the_axis(one_tx, four_tx) -> None:
    signature = signature_of("tx.onnx", four_tx.manifest)
    assert check_interface(four_tx.model, signature) == []
    problems = check_interface(one_tx.model, signature)
    assert "output 'symbols' must have shape ['batch', 5], not ['batch', 3]" in problems
    model = one_tx.copy()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    assert check_interface(model, signature_of("tx.onnx", one_tx.manifest)) == [
        "input 'input' must have shape ['batch', 2, 3], not [4, 2, 3]"
    ]


def test_several_failures_are_told_together(four_tx) -> None:
    model = four_tx.copy()
    store(model, "table_1", constant(model, "table_1")[::-1])
    store(model, "offset_0", constant(model, "offset_0")[::-1])
    store(model, "weights_1", np.array([8, 4, 1, 2]))
    rejected(
        model,
        four_tx.manifest,
        "no search uses codebook 0 of the manifest",
        "mode 1 (8x16qam): 'symbols' of indices",
        "mode 2 (16x4qam): 'bits' of indices",
        "mode 3 (16x16qam): 'bits' of indices",
    )
    _, problems = prove_hard(model, four_tx.manifest)
    assert not any("mode 0" in problem for problem in problems)
