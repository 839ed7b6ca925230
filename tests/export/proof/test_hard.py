"""The proof of hardness accepts the right transmitter and rejects each wrong one for its own reason."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from tools.mutate import (
    Alteration,
    after,
    ahead,
    cases,
    changed,
    constant,
    insert_before,
    node,
    only,
    producer,
    store,
)
from tools.tiny_run import ONE_MODE, TinyTransmitter, export_program, feature_inputs, run_manifest
from twophase.export.graphs.signature import signature_of
from twophase.export.graphs.torch_program import freeze
from twophase.export.proof.hard import expected_bits, prove_hard
from twophase.link.modes import Mode

FLOAT, UINT8, INT32, INT64 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64


def rejected(model: ModelProto, manifest, *reasons: str) -> None:
    proof, problems = prove_hard(model, manifest)
    assert proof is None
    for reason in reasons:
        assert any(reason in problem for problem in problems), problems


def altered(frozen, alter: Alteration) -> ModelProto:
    model = frozen.copy()
    alter(model)
    return model


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


def scores(model: ModelProto) -> tuple[NodeProto, int]:
    return only(model, "ArgMax"), 0


def latents(model: ModelProto) -> tuple[NodeProto, int]:
    return only(model, "MatMul"), 0


def chosen(model: ModelProto) -> tuple[NodeProto, int]:
    name = only(model, "ArgMax").output[0]
    reader = next(entry for entry in model.graph.node if name in entry.input)
    return reader, list(reader.input).index(name)


def noise_in_a_branch(model: ModelProto) -> None:
    decision = only(model, "ArgMax")
    value, name = helper.make_tensor_value_info, decision.input[0]
    quiet = helper.make_graph([node("Identity", [name], "same")], "quiet", [], [value("same", 1, None)])
    drawn = [node("RandomUniformLike", [name], "drawn"), node("Add", [name, "drawn"], "sum")]
    loud = helper.make_graph(drawn, "loud", [], [value("sum", 1, None)])
    limit = store(model, "limit", np.array(1e9, dtype=np.float32))
    usual = [node("ReduceMax", ["input"], "peak", keepdims=0), node("Less", ["peak", limit], "usual")]
    branch = node("If", ["usual"], "chosen", then_branch=quiet, else_branch=loud)
    insert_before(model, decision, 0, [*usual, branch])


def noise_in_a_function(model: ModelProto) -> None:
    body = [node("RandomNormalLike", ["x"], "drawn"), node("Add", ["x", "drawn"], "y")]
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("own", "Shaken", ["x"], ["y"], body, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    decision = only(model, "ArgMax")
    insert_before(model, decision, 0, [node("Shaken", [decision.input[0]], "shaken", domain="own")])


def mixture_of_codewords(model: ModelProto) -> None:
    """The index is the mean of all indices under a softmax, rounded."""
    mix = "soft = Softmax<axis=-1>({}); mean = MatMul(soft, ramp); rounded = Round(mean);"
    mix = mix.format(only(model, "ArgMax").input[0]) + f"cast = Cast<to={INT64}>(rounded)"
    ahead(chosen, mix, ramp=np.arange(8, dtype=np.float32))(model)


def reversed_decision(model: ModelProto) -> None:
    only(model, "ArgMax").op_type = "ArgMin"


def wrong_axis(model: ModelProto) -> None:
    ahead(scores, "across = Transpose<perm=[0, 2, 1]>(it)")(model)
    next(item for item in only(model, "ArgMax").attribute if item.name == "axis").i = 1


def raised(place: tuple[int, ...], by: float) -> Alteration:
    """Alter one entry of the matrix of codewords."""

    def alter(model: ModelProto) -> None:
        changed(only(model, "MatMul").input[1], lambda value: value + by * _one_at(value, place))(model)

    return alter


def _one_at(value: NDArray[np.float32], place: tuple[int, ...]) -> NDArray[np.float32]:
    one = np.zeros_like(value)
    one[place] = 1
    return one


SEARCH = cases(
    softmax=(
        ahead(scores, "soft = Softmax<axis=-1>(it)"),
        "Softmax ('node_soft') stands between the codebook product and the decision",
    ),
    gumbel_noise=(
        ahead(
            scores,
            "uniform = RandomUniformLike(it); log = Log(uniform); exponential = Neg(log);"
            "gumbel = Log(exponential); noisy = Sub(it, gumbel)",
        ),
        "RandomUniformLike ('node_uniform') draws",
        "Sub ('node_noisy') before the dec",
    ),
    noise_in_a_branch=(noise_in_a_branch, "RandomUniformLike ('node_drawn') draws", "If ('node_chosen')"),
    noise_in_a_function=(noise_in_a_function, "RandomNormalLike ('node_drawn') draws", "Shaken ('node_sh"),
    noise_upstream=(
        ahead(latents, "drawn = RandomNormal<shape=[1, 3, 4]>(); shaken = Add(it, drawn)"),
        "RandomNormal ('node_drawn') draws random numbers",
    ),
    temperature_from_the_input=(
        ahead(
            scores, "wide = Unsqueeze(snr_db, axes); warmth = Exp(wide); warm = Div(it, warmth)", axes=[1, 2]
        ),
        "Div ('node_warm') before the decision combines",
    ),
    mixture_of_codewords=(mixture_of_codewords, "the real-valued 'rounded', made by Round"),
    rounded_scores=(
        ahead(scores, f"rounded = Cast<to={INT32}>(it)"),
        "Cast ('node_rounded') before the decision rounds the scores",
    ),
    reversed_decision=(reversed_decision, "do not grow towards the codewords of the manifest"),
    wrong_axis=(wrong_axis, "must decide over the last axis of 'across', not axis 1"),
    altered_codeword=(raised((2, 5), 1e-3), "codeword 5 is not the manifest's: it differs by 0.000"),
    altered_offset=(
        changed("offset_0", lambda value: value + np.float32(1e-2) * (np.arange(8) == 6)),
        "its offsets are not those of a nearest-codeword search: off by 0.0",
    ),
    indices_from_the_input=(
        ahead(
            chosen,
            "loud = Greater(snr_db, limit); louder = Unsqueeze(loud, axis); s = Where(louder, it, nought)",
            limit=np.float32(0),
            axis=[1],
            nought=0,
        ),
        "computed from the real-valued 'snr_db', an input of the graph",
    ),
)


@pytest.mark.parametrize(("alter", "reasons"), SEARCH)
def test_a_search_that_is_not_a_plain_decision_is_rejected(one_tx, alter, reasons) -> None:
    rejected(altered(one_tx, alter), one_tx.manifest, *reasons)


def least_distance(model: ModelProto) -> None:
    ahead(scores, "half_distance = Neg(it)")(model)
    reversed_decision(model)


def shifted_codebook(model: ModelProto) -> None:
    """Latents and codewords moved by the same vector: the same decisions."""
    name = only(model, "MatMul").input[1]
    shift = np.array([[0.5], [-1.0], [2.0], [0.25]], dtype=np.float32)
    store(model, name, constant(model, name) + shift)
    store(model, "offset_0", -0.5 * np.square(constant(model, name)).sum(axis=0))
    ahead(latents, "moved = Add(it, shift)", shift=shift[:, 0])(model)


@pytest.mark.parametrize(
    "alter",
    [
        ahead(scores, "cooled = Div(it, cold)", cold=np.float32(0.7)),
        least_distance,
        ahead(latents, "attended = Softmax<axis=-1>(it)"),
        shifted_codebook,
    ],
    ids=["constant temperature", "least distance", "softmax upstream", "shifted codebook"],
)
def test_a_plain_decision_in_another_form_is_accepted(one_tx, alter: Alteration) -> None:
    proof, problems = prove_hard(altered(one_tx, alter), one_tx.manifest)
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


# --- the cut and the table


def wrong_stride(model: ModelProto) -> None:
    """Symbols are packed from every third bit instead of from four neighbours."""

    def groups(model: ModelProto) -> tuple[NodeProto, int]:
        casts = [entry for entry in model.graph.node if entry.op_type == "Cast"]
        return next(entry for entry in casts if producer(model, entry.input[0]).op_type == "Reshape"), 0

    flat = producer(model, groups(model)[0].input[0]).input[0]
    text = f"columns = Reshape({flat}, across); strided = Transpose<perm=[0, 2, 1]>(columns)"
    ahead(groups, text, across=[-1, 4, 3])(model)


def wrong_count(model: ModelProto) -> None:
    changed(producer(model, "bit_count").input[0], lambda value: value - 3)(model)


MAP = cases(
    bits_from_the_input=(
        after(
            "bits",
            "loud = Greater(snr_db, limit); louder = Unsqueeze(loud, axis); bits = Where(louder, none, it)",
            limit=np.float32(100),
            axis=[1],
            none=np.uint8(0),
        ),
        "take values from 'snr_db' past 'indices' and 'mode'",
    ),
    batch_size_from_the_input=(
        after(
            "bits",
            "size = Shape<start=0, end=1>(input); shape = Concat<axis=0>(size, width);"
            "bits = Reshape(it, shape)",
            width=[12],
        ),
        "take their batch size from 'input' past 'indices' and 'mode'",
    ),
    bits_through_floats=(
        after("bits", f"real_bits = Cast<to={FLOAT}>(it); bits = Cast<to={UINT8}>(real_bits)"),
        "'real_bits' at Cast ('node_real_bits') is FLOAT: integers only",
    ),
    swapped_label_bits=(changed("table_0", lambda value: value[:, [1, 0, 2]]), "'bits' of indices"),
    swapped_labels=(
        changed("table_0", lambda value: value[[1, 0, 2, 3, 4, 5, 6, 7]]),
        "but the manifest's labels give",
    ),
    shared_label=(
        changed("table_0", lambda value: value[[0, 1, 2, 5, 4, 5, 6, 7]]),
        "codewords 3 and 5 share the bits",
    ),
    bit_of_two=(changed("table_0", lambda value: 2 * value), "'bits' hold 2, neither 0 nor 1"),
    wrong_bit_weight=(changed("weights_0", lambda value: np.array([8, 4, 1, 2])), "'symbols' of indices"),
    too_large_symbol=(
        changed("weights_0", lambda value: np.array([16, 4, 2, 1])),
        "outside the 16 constellation points",
    ),
    wrong_stride=(wrong_stride, "'symbols' of indices"),
    # wrong for two different codewords other than 0 only
    wrong_bits_of_a_mixture=(
        after(
            "bits",
            "at_0 = Gather<axis=1>(indices, column_0); at_1 = Gather<axis=1>(indices, column_1);"
            "is_0 = Equal(at_0, seven); is_1 = Equal(at_1, six); both = And(is_0, is_1);"
            "bits = Where(both, none, it)",
            column_0=[0],
            column_1=[1],
            seven=7,
            six=6,
            none=np.uint8(0),
        ),
        "Where ('node_bits') branches on indices: only the mode may decide",
    ),
    wrong_count=(wrong_count, "'bit_count' is [9], not 12"),
)


@pytest.mark.parametrize(("alter", "reasons"), MAP)
def test_a_wrong_map_from_indices_is_rejected(one_tx, alter, reasons) -> None:
    rejected(altered(one_tx, alter), one_tx.manifest, *reasons)


@pytest.mark.parametrize("name", ["indices", "bits", "symbols", "mode", "bit_count", "symbol_count"])
def test_a_missing_output_is_told(one_tx, name: str) -> None:
    model = one_tx.copy()
    kept = [value for value in model.graph.output if value.name != name]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    rejected(model, one_tx.manifest, f"output '{name}' is missing")


def test_real_valued_bits_and_contradicting_types_are_rejected(one_tx) -> None:
    model = one_tx.copy()
    next(value for value in model.graph.output if value.name == "bits").type.tensor_type.elem_type = FLOAT
    rejected(model, one_tx.manifest, "the graph does not type-check")
    after("bits", f"bits = Cast<to={FLOAT}>(it)")(model)
    rejected(model, one_tx.manifest, "'bits' at Cast ('node_bits') is FLOAT")


def test_several_failures_are_told_together(four_tx) -> None:
    model = four_tx.copy()
    for name in ("table_1", "offset_0"):
        changed(name, lambda value: value[::-1])(model)
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
