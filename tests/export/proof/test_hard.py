"""The proof of hardness accepts the right transmitter and rejects each wrong one for its own reason."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import ModelProto, NodeProto, TensorProto

from tools.mutate import (
    Alteration,
    after,
    ahead,
    altered,
    cases,
    changed,
    only,
    operand,
    producer,
    reader_of,
)
from tools.tiny_run import ONE_MODE, TinyTransmitter, export_program, feature_inputs, run_manifest
from twophase.export.graphs.signature import signature_of
from twophase.export.graphs.torch_program import freeze
from twophase.export.proof.hard import HardProof, prove_hard

FLOAT, UINT8, INT32, INT64 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64


def accepted(model: ModelProto, manifest) -> HardProof:
    proof, problems = prove_hard(model, manifest)
    assert problems == []
    assert proof is not None
    return proof


def rejected(model: ModelProto, manifest, *reasons: str) -> None:
    proof, problems = prove_hard(model, manifest)
    assert proof is None
    for reason in reasons:
        assert any(reason in problem for problem in problems), problems


def test_the_right_transmitter_is_hard(one_tx, four_tx) -> None:
    proof = accepted(one_tx.model, one_tx.manifest)
    assert proof.codewords == 8
    # every codeword at each of 3 tokens, all tokens alike, and 1024 mixtures
    assert proof.combinations == 8 * 3 + 8 + 1024
    assert 0 < proof.integer_nodes < proof.nodes
    proof = accepted(four_tx.model, four_tx.manifest)
    assert proof.codewords == 8 + 8 + 16 + 16
    assert proof.combinations == 2 * (8 * 4 + 1024) + 2 * (16 * 3 + 1024)
    assert [search.weights.shape for search in proof.searches] == [(4, 8), (4, 8), (4, 16), (4, 16)]
    assert [search.tokens for search in proof.searches] == [3, 3, 2, 2]


# --- the codebook search


scores, latents = operand("ArgMax"), operand("MatMul")
PLACES = np.arange(4 * 8).reshape(4, 8)


def chosen(model: ModelProto) -> tuple[NodeProto, int]:
    return reader_of(only(model, "ArgMax").output[0])(model)


def noise_in_a_function(model: ModelProto) -> None:
    body = "drawn = RandomNormalLike(x) y = Add(x, drawn)"
    function = f'<opset_import: ["" : 18], domain: "own"> Shaken (x) => (y) {{ {body} }}'
    model.functions.append(onnx.parser.parse_function(function))
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    ahead(scores, "shaken = own.Shaken(it)")(model)


def mixture_of_codewords(model: ModelProto) -> None:
    """The index is the mean of all indices under a softmax, rounded."""
    text = f"soft = Softmax<axis=-1>({only(model, 'ArgMax').input[0]}); mean = MatMul(soft, ramp);"
    text += f"rounded = Round(mean); cast = Cast<to={INT64}>(rounded)"
    ahead(chosen, text, ramp=np.arange(8, dtype=np.float32))(model)


def reversed_decision(model: ModelProto) -> None:
    only(model, "ArgMax").op_type = "ArgMin"


def wrong_axis(model: ModelProto) -> None:
    ahead(scores, "across = Transpose<perm=[0, 2, 1]>(it)")(model)
    next(item for item in only(model, "ArgMax").attribute if item.name == "axis").i = 1


SEARCH = cases(
    softmax=(
        ahead(scores, "soft = Softmax<axis=-1>(it)"),
        "Softmax ('node_soft') stands between the codebook product and the decision",
    ),
    noise_in_a_branch=(
        ahead(
            scores,
            "peak = ReduceMax<keepdims=0>(input); usual = Less(peak, limit); drawn = If<"
            "then_branch = quiet () => (float[1] none) { none = Constant<value_floats=[0.0]>() },"
            "else_branch = loud () => (float[1] some) { some = RandomUniform<shape=[1]>() }>(usual);"
            "noisy = Add(it, drawn)",
            limit=np.float32(1e9),
        ),
        "RandomUniform ('') draws",
        "Add ('node_noisy') before the decision combines",
    ),
    noise_in_a_function=(noise_in_a_function, "RandomNormalLike ('') draws", "Shaken ('node_shaken')"),
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
    altered_codeword=(
        ahead(operand("MatMul", 1), "moved = Add(it, by)", by=np.float32(1e-3) * (PLACES == 2 * 8 + 5)),
        "codeword 5 is not the manifest's: it differs by 0.000",
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


def least_distance(model: ModelProto) -> None:
    ahead(scores, "half_distance = Neg(it)")(model)
    reversed_decision(model)


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(ahead(scores, "cooled = Div(it, cold)", cold=np.float32(0.7)), id="temperature"),
        pytest.param(ahead(latents, "attended = Softmax<axis=-1>(it)"), id="softmax upstream"),
        least_distance,
    ],
)
def test_a_plain_decision_in_another_form_is_accepted(one_tx, alter: Alteration) -> None:
    accepted(altered(one_tx.model, alter), one_tx.manifest)


def test_gumbel_softmax_of_torch_is_found() -> None:
    class Sampled(TinyTransmitter):
        def choose(self, scores: torch.Tensor) -> torch.Tensor:
            return torch.argmax(F.gumbel_softmax(scores, tau=0.7, hard=True), dim=-1)

    manifest = run_manifest(ONE_MODE, ())
    program = export_program(Sampled(ONE_MODE), feature_inputs(ONE_MODE))
    model = freeze("tx", program, signature_of("tx.onnx", manifest))
    rejected(model, manifest, "RandomUniformLike ('node_rand_like') draws", "before the decision combines")


# --- the cut and the table


def wrong_count(model: ModelProto) -> None:
    changed(producer(model, "bit_count").input[0], lambda value: value - 3)(model)


def contradicting_type(model: ModelProto) -> None:
    next(value for value in model.graph.output if value.name == "bits").type.tensor_type.elem_type = FLOAT


def real_valued_bits(model: ModelProto) -> None:
    contradicting_type(model)
    after("bits", f"bits = Cast<to={FLOAT}>(it)")(model)


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
    contradicting_type=(contradicting_type, "the graph does not type-check"),
    real_valued_bits=(real_valued_bits, "'bits' at Cast ('node_bits') is FLOAT"),
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
    wrong_count=(wrong_count, "'bit_count' is [9], not 12"),
)


@pytest.mark.parametrize(("alter", "reasons"), [*SEARCH, *MAP])
def test_a_wrong_transmitter_is_rejected_for_its_reason(one_tx, alter, reasons) -> None:
    rejected(altered(one_tx.model, alter), one_tx.manifest, *reasons)


def test_a_missing_output_is_told(one_tx) -> None:
    for output in one_tx.model.graph.output:
        model = altered(one_tx.model, lambda model, output=output: model.graph.output.remove(output))
        rejected(model, one_tx.manifest, f"output '{output.name}' is missing")


def test_several_failures_are_told_together(four_tx) -> None:
    alterations = [changed(name, lambda value: value[::-1]) for name in ("table_1", "offset_0")]
    alterations.append(changed("weights_1", lambda value: np.array([8, 4, 1, 2])))
    model = altered(four_tx.model, *alterations)
    rejected(
        model,
        four_tx.manifest,
        "no search uses codebook 0 of the manifest",
        "mode 1 (8x16qam): 'symbols' of indices",
        "mode 2 (16x4qam): 'bits' of indices",
        "mode 3 (16x16qam): 'bits' of indices",
    )
    assert not any("mode 0" in problem for problem in prove_hard(model, four_tx.manifest)[1])
