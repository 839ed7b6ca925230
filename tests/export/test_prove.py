"""The proof of hardness accepts the right transmitter and rejects each wrong one for its own reason."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import ModelProto, TensorProto, helper

from tools.mutate import (
    Mutations,
    constant,
    insert_before,
    insert_behind,
    node,
    only,
    producer,
    scalar,
    store,
)
from tools.tiny_run import ONE_MODE, TinyTransmitter, export_program, feature_inputs, run_manifest
from twophase.export.graphs.signature import RANDOM_OPERATORS, check_interface, check_operators, signature_of
from twophase.export.graphs.torch_program import freeze
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


@SEARCH("Softmax ('node_soft') stands between the codebook product")
def softmax_before_decision(model: ModelProto) -> None:
    insert_before(model, decision(model), 0, [node("Softmax", [scores_name(model)], "soft", axis=-1)])


@SEARCH("RandomUniformLike ('node_uniform') draws", "Sub ('node_noisy') before the dec")
def gumbel_noise(model: ModelProto) -> None:
    scores = scores_name(model)
    draw = node("RandomUniformLike", [scores], "uniform", low=1e-6, high=1.0)
    noise = [node("Log", ["uniform"], "log"), node("Neg", ["log"], "exponential")]
    noise += [node("Log", ["exponential"], "gumbel"), node("Sub", [scores, "gumbel"], "noisy")]
    insert_before(model, decision(model), 0, [draw, *noise])


@SEARCH("RandomUniformLike ('node_drawn') draws", "If ('node_chosen') stands")
def noise_in_a_branch(model: ModelProto) -> None:
    scores = scores_name(model)
    value = helper.make_tensor_value_info
    quiet = helper.make_graph([node("Identity", [scores], "same")], "quiet", [], [value("same", 1, None)])
    loud = helper.make_graph(
        [node("RandomUniformLike", [scores], "drawn"), node("Add", [scores, "drawn"], "sum")],
        "loud",
        [],
        [value("sum", 1, None)],
    )
    limit = scalar(model, "limit", 1e9, np.float32)
    peak = [node("ReduceMax", ["input"], "peak", keepdims=0), node("Less", ["peak", limit], "usual")]
    branch = node("If", ["usual"], "chosen", then_branch=quiet, else_branch=loud)
    insert_before(model, decision(model), 0, [*peak, branch])


@SEARCH("RandomNormalLike ('node_drawn') draws", "Shaken ('node_shaken') stands")
def noise_in_a_function(model: ModelProto) -> None:
    scores = scores_name(model)
    body = [node("RandomNormalLike", ["x"], "drawn"), node("Add", ["x", "drawn"], "y")]
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("own", "Shaken", ["x"], ["y"], body, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    insert_before(model, decision(model), 0, [node("Shaken", [scores], "shaken", domain="own")])


@SEARCH("RandomNormal ('node_drawn') draws random numbers")
def noise_of_fixed_shape_upstream(model: ModelProto) -> None:
    product = only(model, "MatMul")
    latents = product.input[0]
    draw = node("RandomNormal", [], "drawn", shape=[1, 3, 4], scale=0.1)
    insert_before(model, product, 0, [draw, node("Add", [latents, "drawn"], "shaken")])


@SEARCH("Div ('node_warm') before the decision combines")
def temperature_from_the_input(model: ModelProto) -> None:
    scores = scores_name(model)
    axes = store(model, "axes_12", np.array([1, 2]))
    exponent = [node("Unsqueeze", ["snr_db", axes], "wide"), node("Exp", ["wide"], "warmth")]
    insert_before(model, decision(model), 0, [*exponent, node("Div", [scores, "warmth"], "warm")])


@SEARCH("computed from the real-valued 'rounded', made by Round")
def mixture_of_codewords(model: ModelProto) -> None:
    scores = scores_name(model)
    ramp = store(model, "ramp", np.arange(8, dtype=np.float32))
    mix = [node("Softmax", [scores], "soft", axis=-1), node("MatMul", ["soft", ramp], "mean_index")]
    mix += [node("Round", ["mean_index"], "rounded"), node("Cast", ["rounded"], "cast", to=TensorProto.INT64)]
    model_decision = decision(model)
    reader = next(entry for entry in model.graph.node if model_decision.output[0] in entry.input)
    position = list(reader.input).index(model_decision.output[0])
    insert_before(model, reader, position, mix)


@SEARCH("Cast ('node_rounded') before the decision rounds the scores")
def rounded_scores(model: ModelProto) -> None:
    cast = node("Cast", [scores_name(model)], "rounded", to=TensorProto.INT32)
    insert_before(model, decision(model), 0, [cast])


@SEARCH("its scores do not grow towards the codewords of the manifest")
def reversed_decision(model: ModelProto) -> None:
    decision(model).op_type = "ArgMin"


@SEARCH("must decide over the last axis of 'across', not axis 1")
def wrong_axis(model: ModelProto) -> None:
    across = node("Transpose", [scores_name(model)], "across", perm=[0, 2, 1])
    insert_before(model, decision(model), 0, [across])
    next(item for item in decision(model).attribute if item.name == "axis").i = 1


@SEARCH("codeword 5 is not the manifest's: it differs by 0.000")
def altered_codeword(model: ModelProto) -> None:
    name = only(model, "MatMul").input[1]
    value = constant(model, name)
    value[2, 5] += 1e-3
    store(model, name, value)


@SEARCH("its offsets are not those of a nearest-codeword search: off by 0.0")
def altered_offset(model: ModelProto) -> None:
    value = constant(model, "offset_0")
    value[6] += 1e-2
    store(model, "offset_0", value)


@SEARCH("computed from the real-valued 'snr_db', an input of the graph")
def indices_from_the_input(model: ModelProto) -> None:
    chosen = decision(model)
    reader = next(entry for entry in model.graph.node if chosen.output[0] in entry.input)
    limit = scalar(model, "limit", 0.0, np.float32)
    axis = store(model, "axis_1", np.array([1]))
    zero = scalar(model, "nought", 0, np.int64)
    leak = [node("Greater", ["snr_db", limit], "loud"), node("Unsqueeze", ["loud", axis], "louder")]
    leak += [node("Where", ["louder", chosen.output[0], zero], "switched")]
    insert_before(model, reader, list(reader.input).index(chosen.output[0]), leak)


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


def test_gumbel_softmax_of_torch_is_found() -> None:
    class Sampled(TinyTransmitter):
        def choose(self, scores: torch.Tensor) -> torch.Tensor:
            return torch.argmax(F.gumbel_softmax(scores, tau=0.7, hard=True), dim=-1)

    manifest = run_manifest(ONE_MODE, ())
    program = export_program(Sampled(ONE_MODE), feature_inputs(ONE_MODE))
    model = freeze("tx", program, signature_of("tx.onnx", manifest))
    rejected(model, manifest, "RandomUniformLike ('node_rand_like') draws", "before the decision combines")


@pytest.mark.parametrize("operator", sorted(RANDOM_OPERATORS))
def test_every_random_operator_is_found(one_tx, operator: str) -> None:
    model = one_tx.copy()
    model.graph.node.append(node(operator, ["input"], "stray"))
    assert check_operators(model) == [f"{operator} ('node_stray') draws random numbers"]


# --- the cut and the table


MAP = Mutations()


@MAP("take values from 'snr_db' past 'indices' and 'mode'")
def bits_from_the_input(model: ModelProto) -> None:
    limit = scalar(model, "limit", 100.0, np.float32)
    axis = store(model, "axis_1", np.array([1]))
    zero = scalar(model, "no_bit", 0, np.uint8)
    leak = [node("Greater", ["snr_db", limit], "loud"), node("Unsqueeze", ["loud", axis], "louder")]
    insert_behind(model, "bits", [*leak, node("Where", ["louder", zero, "bits_before"], "bits")])


@MAP("take their batch size from 'input' past 'indices' and 'mode'")
def batch_size_from_the_input(model: ModelProto) -> None:
    width = store(model, "width", np.array([12]))
    shape = [node("Shape", ["input"], "size", start=0, end=1)]
    shape += [node("Concat", ["size", width], "shape", axis=0)]
    insert_behind(model, "bits", [*shape, node("Reshape", ["bits_before", "shape"], "bits")])


@MAP("'real_bits' at Cast ('node_real_bits') is FLOAT: integers only")
def bits_through_floats(model: ModelProto) -> None:
    there = node("Cast", ["bits_before"], "real_bits", to=TensorProto.FLOAT)
    insert_behind(model, "bits", [there, node("Cast", ["real_bits"], "bits", to=TensorProto.UINT8)])


@MAP("'bits' of indices")
def swapped_label_bits(model: ModelProto) -> None:
    store(model, "table_0", constant(model, "table_0")[:, [1, 0, 2]])


@MAP("but the manifest's labels give")
def swapped_labels(model: ModelProto) -> None:
    store(model, "table_0", constant(model, "table_0")[[1, 0, 2, 3, 4, 5, 6, 7]])


@MAP("codewords 3 and 5 share the bits")
def shared_label(model: ModelProto) -> None:
    table = constant(model, "table_0")
    table[3] = table[5]
    store(model, "table_0", table)


@MAP("'bits' hold 2, neither 0 nor 1")
def bit_of_two(model: ModelProto) -> None:
    store(model, "table_0", 2 * constant(model, "table_0"))


@MAP("'symbols' of indices")
def wrong_bit_weight(model: ModelProto) -> None:
    store(model, "weights_0", np.array([8, 4, 1, 2]))


@MAP("outside the 16 constellation points")
def too_large_symbol(model: ModelProto) -> None:
    store(model, "weights_0", np.array([16, 4, 2, 1]))


@MAP("'symbols' of indices")
def wrong_stride(model: ModelProto) -> None:
    """Symbols are packed from every third bit instead of from four neighbours."""
    groups = next(
        entry
        for entry in model.graph.node
        if entry.op_type == "Cast" and producer(model, entry.input[0]).op_type == "Reshape"
    )
    shape = store(model, "across", np.array([-1, 4, 3]))
    flat = producer(model, groups.input[0]).input[0]
    stride = [
        node("Reshape", [flat, shape], "columns"),
        node("Transpose", ["columns"], "strided", perm=[0, 2, 1]),
    ]
    insert_before(model, groups, 0, stride)


@MAP("Where ('node_bits') branches on indices: only the mode may decide")
def wrong_bits_of_a_mixture(model: ModelProto) -> None:
    """The bits are wrong for two different codewords other than 0 only."""
    parts = []
    for token, word in ((0, 7), (1, 6)):
        column = store(model, f"column_{token}", np.array([token]))
        parts += [node("Gather", ["indices", column], f"at_{token}", axis=1)]
        parts += [
            node("Equal", [f"at_{token}", scalar(model, f"word_{token}", word, np.int64)], f"is_{token}")
        ]
    parts += [node("And", ["is_0", "is_1"], "both")]
    zero = scalar(model, "no_bit", 0, np.uint8)
    insert_behind(model, "bits", [*parts, node("Where", ["both", zero, "bits_before"], "bits")])


@MAP("'bit_count' is [9], not 12")
def wrong_count(model: ModelProto) -> None:
    name = producer(model, "bit_count").input[0]
    store(model, name, constant(model, name) - 3)


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


def test_a_graph_whose_types_contradict_one_another_is_rejected(one_tx) -> None:
    model = one_tx.copy()
    next(value for value in model.graph.output if value.name == "bits").type.tensor_type.elem_type = 1
    rejected(model, one_tx.manifest, "the graph does not type-check")


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
