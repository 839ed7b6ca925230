"""The proof of exactness accepts what float32 computes without an error, and says why it refuses the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tools.mutate import node, nodes, store
from tools.tiny_run import (
    CONTENT_GRID,
    FOUR_GRID,
    GridTransmitter,
    export_program,
    feature_inputs,
    grid_manifest,
    write_grid_bundle,
)
from twophase.export.graphs.run import OnnxRuntime
from twophase.export.graphs.signature import signature_of
from twophase.export.graphs.torch_program import freeze
from twophase.export.graphs.view import GraphView
from twophase.export.proof.exact import ExactProof, prove_exact

MANIFEST = grid_manifest(FOUR_GRID)
ONES = np.ones((4, 2), dtype=np.float32)
CONSTANTS: dict[str, NDArray[Any]] = {
    "four": np.float32(4),
    "least": np.float32(-128),
    "most": np.float32(127),
    "one": np.float32(1),
    "two": np.float32(2),
    "three": np.float32(3),
    "third": np.float32(3),
    "tenth": np.float32(0.1),
    "eighth": np.float32(-0.125),
    "scales": np.array([1, 2, -0.5, 64], np.float32),
    "places_2": np.array([2]),
    "axis_0": np.array([0]),
    "axis_1": np.array([1]),
    "pads": np.array([0, 1, 0, 2]),
    "which": np.array(1),
    "ones": ONES,
    "across": ONES.T.copy(),
    "tenths": 0.1 * ONES,
    "huge": np.full((4, 2), 2.0**17 + 1, dtype=np.float32),
    "no_numbers": ONES * np.nan,
    "double": np.full((4, 2), 2.0**40),
    "two_books": np.stack([ONES, -ONES]),
    "four_books": np.stack([ONES] * 4),
}


@pytest.fixture(scope="module")
def grid_tx(make_shared) -> ModelProto:
    return onnx.load(make_shared("grid-bundle", write_grid_bundle) / "tx.onnx")


def graph(text: str, opset: int = 18, **constants: NDArray[Any]) -> ModelProto:
    """``input`` (batch, 4) becomes ``grid``, whole numbers of -128..127; ``text`` makes ``scores`` of it."""
    made = nodes(
        f"finer = Mul(input, four); rounded = Round(finer); grid = Clip(rounded, least, most); {text};"
        "rows = Flatten(scores); indices = ArgMax<axis=-1, keepdims=0>(rows)"
    )
    stored = CONSTANTS | constants
    read = {name for entry in made for name in entry.input}
    result = helper.make_graph(
        made,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("indices", TensorProto.INT64, ["batch"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items() if name in read],
    )
    return helper.make_model(result, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def prove(model: ModelProto) -> tuple[ExactProof | None, list[str]]:
    return prove_exact(GraphView(model), MANIFEST)


def refused(model: ModelProto, reason: str) -> None:
    proof, problems = prove(model)
    assert proof is None
    assert any(reason in problem for problem in problems), problems


def columns(*values: float) -> NDArray[np.float32]:
    """A weight of shape (4, 2): the values in its second column."""
    return np.stack([np.ones(4), np.array(values)], axis=1).astype(np.float32)


# --- what torch makes of a transmitter on a grid


def test_a_grid_transmitter_is_exact(grid_tx) -> None:
    proof, problems = prove_exact(GraphView(grid_tx), MANIFEST)
    assert problems == []
    assert proof is not None
    assert proof.mode is None
    assert [entry.node.split(" ")[0] for entry in proof.sums] == ["Gemm"] * 2 + ["MatMul", "Add"] * 2
    assert proof.tightest is not None
    assert 0 < proof.tightest.largest < proof.tightest.limit == 2**24


def test_its_bounds_hold_and_its_sums_are_exact(grid_tx) -> None:
    """What runs in float32 equals what runs in double, and stays within the bounds, on extreme inputs too."""
    sums = [entry for entry in grid_tx.graph.node if entry.op_type in ("Gemm", "MatMul", "Add")]
    names = [entry.output[0] for entry in sums if GraphView(grid_tx).element_type(entry.output[0]) == 1]
    names = [name for name in names if name in {entry.output[0] for entry in sums}]
    rng = np.random.default_rng(0)
    features = rng.standard_normal((400, 2, 3)).astype(np.float32)
    features[:100] = rng.choice([-1e30, -2.0, 1.984375, 1e30, 1e-40, 0.0], (100, 2, 3))
    feed = {"input": features, "snr_db": rng.uniform(-20, 40, 400).astype(np.float32)}
    got = OnnxRuntime(grid_tx, inner=names).run(names, feed)
    in_wide = {name: value.astype(np.float64) for name, value in feed.items()}
    wide = OnnxRuntime(in_double(grid_tx), inner=names).run(names, in_wide)
    proof, _ = prove_exact(GraphView(grid_tx), MANIFEST)
    assert proof is not None
    for value, exact, bound in zip(got, wide, proof.sums, strict=True):
        np.testing.assert_array_equal(value, exact)
        assert np.abs(value).max() <= bound.largest * 2.0**bound.unit
    assert np.abs(got[0]).max() > 0.5 * proof.sums[0].largest


def in_double(model: ModelProto) -> ModelProto:
    """The same graph with every float32 as float64."""
    wide = ModelProto.FromString(model.SerializeToString())
    del wide.graph.value_info[:]
    for value in (*wide.graph.input, *wide.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in list(wide.graph.initializer):
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return wide


def test_a_mode_chosen_by_content_is_taken_as_given() -> None:
    torch.manual_seed(0)
    manifest = grid_manifest(CONTENT_GRID)
    program = export_program(GridTransmitter(CONTENT_GRID), feature_inputs(CONTENT_GRID))
    model = freeze("tx", program, signature_of("tx.onnx", manifest))
    proof, problems = prove_exact(GraphView(model), manifest)
    assert problems == []
    assert proof is not None
    assert proof.mode is not None
    assert proof.mode.startswith("Div (")
    # a link whose mode follows from the SNR has no such excuse
    proof, problems = prove_exact(GraphView(model), MANIFEST)
    assert proof is None
    assert problems[0].startswith("Div ('node_div') is not exact: it divides by")


def test_a_float_transmitter_is_not(four_tx) -> None:
    proof, problems = prove_exact(GraphView(four_tx.model), four_tx.manifest)
    assert proof is None
    assert any("divides by something else than powers of two" in problem for problem in problems)


def test_rounding_is_what_makes_the_input_exact(grid_tx) -> None:
    model = ModelProto.FromString(grid_tx.SerializeToString())
    next(entry for entry in model.graph.node if entry.op_type == "Round").op_type = "Identity"
    refused(model, "Gemm ('node_linear') is not exact: it computes with real numbers that were never rounded")


def test_every_problem_is_told_once(grid_tx) -> None:
    model = ModelProto.FromString(grid_tx.SerializeToString())
    for name in ("energy_0", "energy_1"):
        store(model, name, np.full_like(numpy_helper.to_array(stored(model, name)), 0.1))
    _, problems = prove(model)
    assert len(problems) == 2
    assert problems[0].startswith("Add ('node_linear_2') is not exact: its sums may reach")
    assert problems[1].startswith("Add ('node_linear_3') is not exact: its sums may reach")


def stored(model: ModelProto, name: str) -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def test_a_missing_output_is_told() -> None:
    model = graph("scores = Identity(grid)")
    assert prove_exact(GraphView(model), MANIFEST, ["mode"]) == (None, ["output 'mode' is missing"])


# --- the bound on sums, to the unit


PRODUCT = "scores = MatMul(grid, weights)"


@pytest.mark.parametrize(
    "text", [PRODUCT, "scores = Gemm(grid, weights)", "scores = Gemm<transB=1>(grid, weights)"]
)
def test_sums_are_exact_below_the_limit(text: str) -> None:
    # |grid| <= 128: 128 * 131071 = 2^24 - 128, and one more reaches 2^24
    for last, fits in ((1, True), (2, False)):
        weights = columns(65536, -40000, 25535 - 1, last)
        proof, problems = prove(graph(text, weights=weights.T.copy() if "transB" in text else weights))
        assert (proof is not None) == fits, problems
        if proof is not None:
            assert proof.sums[-1].largest == 2**24 - 128


def test_offsets_count_as_part_of_the_sum() -> None:
    weights = columns(65536, -40000, 25534, 1)
    for offset, fits in ((-127, True), (128, False)):
        bias = np.array([1000, offset], dtype=np.float32)
        merged = graph("scores = Gemm(grid, weights, bias)", weights=weights, bias=bias)
        assert (prove(merged)[0] is not None) == fits
        apart = "sum = MatMul(grid, weights); scores = Add(sum, bias)"
        separate = graph(apart, weights=weights, bias=np.minimum(bias, offset))
        assert (prove(separate)[0] is not None) == fits


def test_units_are_powers_of_two_of_any_size() -> None:
    proof, problems = prove(graph(PRODUCT, weights=columns(0.25, -0.5, 0.125, 3.0)))
    assert problems == []
    assert proof is not None
    # units of 1/8: 128 * (2 + 4 + 1 + 24)
    assert proof.sums[-1].largest == 128 * max(31, 4 * 8)
    refused(graph(PRODUCT, weights=columns(2.0**-30, 1.0, 1.0, 1.0)), "units of 2^-30")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("scores = Erf(grid)", "Erf ('node_scores') is not exact: its results are rounded"),
        ("scores = Softmax<axis=-1>(grid)", "Softmax ('node_scores') is not exact: its results are rounded"),
        *(
            (f"scores = {name}(grid)", f"{name} ('node_scores') is not exact")
            for name in ("Exp", "Tanh", "Sqrt")
        ),
        (
            "scores = Hardmax(grid)",
            "Hardmax ('node_scores') is not exact: it is not an operator that the proof",
        ),
        ("scores, places = TopK(grid, places_2)", "TopK"),
        ("scores = Div(grid, third)", "divides by something else than powers of two"),
        ("scores = Div(grid, grid)", "its input 1 is no stored constant"),
        ("scores = Mul(grid, tenth)", "its sums may reach"),
        ("scores = Add(grid, tenth)", "its sums may reach"),
        ("scores = Add(grid, input)", "computes with real numbers that were never rounded"),
        ("scores = MatMul(grid, tenths)", "units of 2^-27"),
        ("scores = MatMul(grid, huge)", "may reach 6.711e+07 units of 2^0"),
        ("scores = MatMul(grid, no_numbers)", "holds NaN or infinity"),
        (
            "drawn = RandomNormalLike(grid); scores = Add(grid, drawn)",
            "RandomNormalLike ('node_drawn') is not exact: it draws random numbers",
        ),
        (
            "whole = Round(finer); scores = MatMul(whole, ones)",
            "MatMul ('node_scores') is not exact: it computes with numbers that no Clip bounds",
        ),
        ("scores = Clip(grid, three, two)", "lies above"),
        ("top = ReduceMax<keepdims=0>(grid); scores = Clip(grid, top)", "bounds that are not stored"),
        (
            f"half = Cast<to={TensorProto.FLOAT16}>(grid); scores = Identity(half)",
            "Cast ('node_half') is not exact: FLOAT16 is computed in different ways",
        ),
        (
            f"half = Cast<to={TensorProto.BFLOAT16}>(grid); scores = Identity(half)",
            "BFLOAT16 is computed in different ways",
        ),
        (
            f"whole = Cast<to={TensorProto.INT32}>(rounded); scores = Identity(whole)",
            "that cannot hold them",
        ),
        ("scores = ReduceSum(grid, axis_0)", "a number of entries that is not known"),
        ("scores = Gemm<alpha=0.3>(grid, ones)", "its 'alpha' is 0.3"),
        ("scores = ArgMax<axis=-1, select_last_index=1>(grid)", "takes the last one"),
    ],
)
def test_what_a_runtime_may_round_is_refused(text: str, reason: str) -> None:
    refused(graph(text), reason)


def test_branches_are_refused() -> None:
    value = helper.make_tensor_value_info("same", TensorProto.FLOAT, ["batch", 4])
    body = helper.make_graph([node("Identity", ["grid"], "same")], "body", [], [value])
    model = graph("scores = Identity(yes)", yes=np.array(True))
    place = next(place for place, entry in enumerate(model.graph.node) if "yes" in entry.input)
    model.graph.node[place].CopyFrom(node("If", ["yes"], "scores", then_branch=body, else_branch=body))
    refused(model, "If ('node_scores') is not exact: what it computes depends on branches")


@pytest.mark.parametrize(
    "text",
    [
        "scores = Div(grid, eighth)",
        "scores = Mul(scales, grid)",
        "scores = Mul(grid, grid)",
        "scores = Relu(grid)",
        "minus = Neg(grid); scores = Abs(minus)",
        "high = Max(grid, one); scores = Min(high, two)",
        "scores = Sub(two, grid)",
        "above = Greater(input, one); scores = Where(above, grid, two)",
        "scores = Concat<axis=1>(grid, grid)",
        "scores = Pad(grid, pads, one)",
        "turned = Transpose(grid); scores = Transpose(turned)",
        "scores = ReduceSum(grid, axis_1)",
        "scores = ReduceMax(grid, axis_1)",
        f"wide = Cast<to={TensorProto.DOUBLE}>(grid); scores = MatMul(wide, double)",
        f"whole = Cast<to={TensorProto.INT8}>(grid); scores = Cast<to={TensorProto.FLOAT}>(whole)",
        "same = Identity(across); turned = Transpose(same); scores = MatMul(grid, turned)",
        "book = Gather(two_books, which); scores = MatMul(grid, book)",
        "place = ArgMax<axis=1, keepdims=0>(grid); book = Gather(four_books, place);"
        "row = Unsqueeze(grid, axis_1); scores = MatMul(row, book)",
        "scores = MatMul(across, ones)",
    ],
)
def test_what_no_runtime_rounds_is_accepted(text: str) -> None:
    proof, problems = prove(graph(text))
    assert problems == []
    assert proof is not None


def test_clipping_before_rounding_is_as_good() -> None:
    text = "clipped = Clip(finer, least, most); whole = Round(clipped); scores = MatMul(whole, weights)"
    proof, _ = prove(graph(text, weights=columns(1, 2, 3, 4)))
    assert proof is not None
    assert proof.sums[-1].largest == 128 * 10


# --- integers in 8 bits


def quantised(kind: Any, largest: int, *, width: int = 2, zero: int = 0) -> ModelProto:
    """Activations of uint8 times weights of ``kind`` up to ``largest``, in QDQ form."""
    weights = np.full((4, width), zero, dtype=kind)
    weights[0, 0] = largest
    return graph(
        "byte = QuantizeLinear(input, fine, middle); real = DequantizeLinear(byte, fine, middle);"
        "real_weights = DequantizeLinear(weights, coarse, zero); real_bias = DequantizeLinear(bias, both);"
        "sum = Gemm(real, real_weights, real_bias); again = QuantizeLinear(sum, coarse, middle);"
        "scores = DequantizeLinear(again, coarse, middle)",
        opset=21,
        fine=np.float32(2.0**-6),
        coarse=np.float32(2.0**-3),
        both=np.float32(2.0**-9),
        middle=np.uint8(128),
        weights=weights,
        zero=np.array(zero, dtype=kind),
        bias=np.arange(width, dtype=np.int32),
    )


def test_quantised_products_are_exact_with_unsigned_weights() -> None:
    proof, problems = prove(quantised(np.uint8, 255, zero=128))
    assert problems == []
    assert proof is not None
    # 128 steps of the activations times 127 of the weight, the other weights are zero; the offset of column 0
    assert proof.sums[-1].largest == 128 * 127


def test_signed_weights_may_saturate_unless_they_are_small() -> None:
    refused(
        quantised(np.int8, 127),
        "Gemm ('node_sum') is not exact: it multiplies uint8 by int8 up to 127, and processors without",
    )
    proof, problems = prove(quantised(np.int8, 64))
    assert problems == []
    assert proof is not None


def test_a_quantised_sum_must_fit_its_accumulator() -> None:
    # 255 * 255 * 33026 > 2^31; that the real numbers would be refused as well is not what is told
    repeats = 2**31 // (4 * 255 * 255) + 1
    text = (
        "byte = QuantizeLinear(input, one, zero); real = DequantizeLinear(byte, one, zero);"
        "many = Tile(real, times); real_weights = DequantizeLinear(weights, one, zero);"
        "scores = MatMul(many, real_weights)"
    )
    numbers = {"one": np.float32(1), "zero": np.uint8(0), "times": np.array([1, repeats])}
    for rows, reason in ((4 * repeats, "and overflow 32 bits"), (4 * repeats - 8, "exact are those below")):
        numbers |= {"times": np.array([1, rows // 4]), "weights": np.full((rows, 2), 255, np.uint8)}
        refused(graph(text, opset=21, **numbers), reason)


def test_scales_must_be_powers_of_two() -> None:
    for name in ("fine", "coarse", "both"):
        model = quantised(np.uint8, 255, zero=128)
        store(model, name, np.array(0.3, dtype=np.float32))
        refused(model, "Linear ('node_")
        refused(model, "its scale is no power of two")


def test_scaling_by_what_is_in_the_batch_is_refused() -> None:
    model = graph(
        "byte, scale, zero = DynamicQuantizeLinear(grid); scores = DequantizeLinear(byte, scale, zero)"
    )
    refused(model, "DynamicQuantizeLinear ('node_zero') is not exact: it scales by what else is in the batch")


def test_integer_products_that_are_not_followed_are_refused() -> None:
    model = graph(
        "byte = QuantizeLinear(input, one, zero); sum = MatMulInteger(byte, weights);"
        f"scores = Cast<to={TensorProto.FLOAT}>(sum)",
        zero=np.uint8(0),
        weights=np.full((4, 2), 127, np.int8),
    )
    refused(model, "MatMulInteger ('node_sum') is not exact: its kernels may saturate")


def test_ties_go_to_the_lowest_index(grid_tx) -> None:
    model = ModelProto.FromString(grid_tx.SerializeToString())
    last = next(entry for entry in model.graph.node if entry.op_type == "ArgMax")
    next(item for item in last.attribute if item.name == "select_last_index").i = 1
    refused(model, "of equal entries it takes the last one; ties must go to the lowest index")


def test_a_number_between_the_codewords_is_no_unit(grid_tx) -> None:
    model = ModelProto.FromString(grid_tx.SerializeToString())
    multiply = next(entry for entry in model.graph.node if entry.op_type == "Mul")
    store(model, multiply.input[1], np.array(63.0, dtype=np.float32))
    refused(model, "computes with real numbers that were never rounded to a grid")
