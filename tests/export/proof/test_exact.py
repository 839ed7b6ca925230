"""The proof of exactness accepts what no runtime can compute otherwise, and says why it refuses the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from tools.mutate import altered, model_of, store
from tools.tiny_run import CONTENT_GRID, FOUR_GRID, grid_manifest, write_grid_bundle
from twophase.export.graphs.run import OnnxRuntime
from twophase.export.graphs.view import GraphView
from twophase.export.proof.exact import ExactProof, prove_exact

MANIFEST = grid_manifest(FOUR_GRID)
FLOAT, UINT8, INT8, INT32, INT64, BOOL, FLOAT16, DOUBLE, BFLOAT16, INT4 = 1, 2, 3, 6, 7, 9, 10, 11, 16, 22
ONES = np.ones((4, 2), dtype=np.float32)
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "sixteen": 16, "tenth": 0.1, "eighth": -0.125}
STORED: dict[str, Any] = {
    **{name: np.float32(value) for name, value in NUMBERS.items()},
    **{f"whole_{value}": np.array(value, np.int32) for value in (0, 1, 3, 1 << 23, 1 << 25, 2**31 - 1)},
    **{f"axis_{axis}": np.array([axis]) for axis in range(3)},
    **{f"table_{size}": np.arange(size, dtype=np.float32) for size in (4, 100, 127, 128)},
    "least": np.float32(-128),
    "most": np.float32(127),
    "yes": np.array(True),
    "long_1": np.array(1),
    "byte_3": np.array(3, np.uint8),
    "tenth_row": np.float32([0.1, 0.2, -0.3, 1e30]),
    "scales": np.array([1, 2, -0.5, 64], np.float32),
    "twice": np.array([1, 1]),
    "both_ends": np.array([1, -1]),
    "pads": np.array([0, 1, 0, 2]),
    "shift": np.array([8, 9, 40, 31], np.uint8),
    "zeros": np.zeros((6, 4), np.int32),
    "places": np.zeros((6, 4), np.int64),
    "none": np.zeros((1, 0), np.float32),
    "ones": ONES,
    "across": ONES.T.copy(),
    "tenths": 0.1 * ONES,
    "huge": np.full((4, 2), 2.0**17 + 1, dtype=np.float32),
    "no_numbers": ONES * np.nan,
    "double": np.full((4, 2), 2.0**40),
    "bytes": np.full((4, 2), 127, np.int8),
    "two_books": np.stack([ONES, -ONES]),
    "four_books": np.stack([ONES] * 4),
}


@pytest.fixture(scope="module")
def grid_tx(make_shared) -> ModelProto:
    return onnx.load(make_shared("grid-bundle", write_grid_bundle) / "tx.onnx")


def graph(text: str, **stored: Any) -> ModelProto:
    """``text`` makes ``scores`` of ``grid``, whole numbers of -128..127, or of ``whole``, these as int32."""
    head = "finer = Mul(input, four); rounded = Round(finer); grid = Clip(rounded, least, most)"
    tail = "rows = Flatten(scores); indices = ArgMax<axis=-1, keepdims=0>(rows)"
    return model_of(
        "float[batch,4] input, int64[requests] mode_request",
        f"{head}; whole = Cast<to={INT32}>(grid); {text}; {tail}",
        "int64[batch] indices",
        STORED | stored,
        opset=21 if " QuantizeLinear" in text else 18,
        ir_version=10,
    )


def prove(model: ModelProto) -> tuple[ExactProof | None, list[str]]:
    return prove_exact(GraphView(model), MANIFEST)


def accepted(model: ModelProto) -> ExactProof:
    proof, problems = prove(model)
    assert problems == []
    assert proof is not None
    return proof


def refused(model: ModelProto, reason: str) -> None:
    proof, problems = prove(model)
    assert proof is None
    assert any(reason in problem for problem in problems), problems


def columns(*values: float) -> NDArray[np.float32]:
    """A weight of shape (4, 2): the values in its second column."""
    return np.stack([np.ones(4), np.array(values)], axis=1).astype(np.float32)


# --- what torch makes of a transmitter


def test_the_bounds_of_a_grid_transmitter_hold_and_its_sums_are_exact(grid_tx) -> None:
    """What runs in float32 equals what runs in double, and stays within the bounds, on extreme inputs too."""
    proof = accepted(grid_tx)
    assert proof.mode is None
    assert [entry.node.split(" ")[0] for entry in proof.sums] == ["Gemm"] * 2 + ["MatMul", "Add"] * 2
    assert proof.tightest is not None
    assert 0 < proof.tightest.largest < proof.tightest.limit == 2**24
    view = GraphView(grid_tx)
    sums = [entry.output[0] for entry in grid_tx.graph.node if entry.op_type in ("Gemm", "MatMul", "Add")]
    names = [name for name in sums if view.element_type(name) == FLOAT]
    rng = np.random.default_rng(0)
    features = rng.standard_normal((400, 2, 3)).astype(np.float32)
    features[:100] = rng.choice([-1e30, -2.0, 1.984375, 1e30, 1e-40, 0.0], (100, 2, 3))
    feed = {"input": features, "snr_db": rng.uniform(-20, 40, 400).astype(np.float32)}
    got = OnnxRuntime(grid_tx, inner=names).run(names, feed)
    in_wide = {name: value.astype(np.float64) for name, value in feed.items()}
    wide = OnnxRuntime(in_double(grid_tx), inner=names).run(names, in_wide)
    for value, exact, bound in zip(got, wide, proof.sums, strict=True):
        np.testing.assert_array_equal(value, exact)
        assert np.abs(value).max() <= bound.largest * 2.0**bound.unit
    assert np.abs(got[0]).max() > 0.5 * proof.sums[0].largest


def in_double(model: ModelProto) -> ModelProto:
    """The same graph with every float32 as float64."""
    wide = altered(model)
    del wide.graph.value_info[:]
    for value in (*wide.graph.input, *wide.graph.output):
        if value.type.tensor_type.elem_type == FLOAT:
            value.type.tensor_type.elem_type = DOUBLE
    for tensor in wide.graph.initializer:
        if tensor.data_type == FLOAT:
            array = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return wide


def test_a_mode_chosen_by_content_is_taken_as_given() -> None:
    model = graph(
        "warm = Div(input, three); mode = ArgMax<axis=1, keepdims=0>(warm); row = Unsqueeze(grid, axis_1);"
        "book = Gather(four_books, mode); scores = MatMul(row, book)"
    )
    model.graph.output.append(helper.make_tensor_value_info("mode", INT64, ["batch"]))
    proof, problems = prove_exact(GraphView(model), grid_manifest(CONTENT_GRID))
    assert problems == []
    assert proof is not None
    assert proof.mode == "Div ('node_warm') is not exact: it divides by something else than powers of two"
    # a link whose mode follows from the SNR has no such excuse
    refused(model, proof.mode)


# --- the bound on sums, to the unit


PRODUCT = "scores = MatMul(grid, weights)"


@pytest.mark.parametrize(
    "text", [PRODUCT, "scores = Gemm(grid, weights)", "scores = Gemm<transB=1>(grid, weights)"]
)
def test_sums_are_exact_below_the_limit(text: str) -> None:
    # |grid| <= 128: 128 * 131071 = 2^24 - 128, and one more reaches 2^24
    fitting, too_large = (columns(65536, -40000, 25534, last) for last in (1, 2))
    if "transB" in text:
        fitting, too_large = fitting.T.copy(), too_large.T.copy()
    assert accepted(graph(text, weights=fitting)).sums[-1].largest == 2**24 - 128
    refused(graph(text, weights=too_large), "its sums may reach 1.678e+07 units of 2^0")


def test_offsets_count_as_part_of_the_sum() -> None:
    weights = columns(65536, -40000, 25534, 1)
    for text in (
        "scores = Gemm(grid, weights, bias)",
        "sum = MatMul(grid, weights); scores = Add(sum, bias)",
    ):
        accepted(graph(text, weights=weights, bias=np.array([-127, -127], np.float32)))
        refused(graph(text, weights=weights, bias=np.array([-127, 128], np.float32)), "its sums may reach")
    # the first column has room for a larger offset; the sum of a separate Add is bounded by its largest
    accepted(graph("scores = Gemm(grid, weights, bias)", weights=weights, bias=np.float32([1000, -127])))


def test_units_are_powers_of_two_of_any_size() -> None:
    proof = accepted(graph(PRODUCT, weights=columns(0.25, -0.5, 0.125, 3.0)))
    # units of 1/8: 128 * (1 + 1 + 1 + 1) ones, and 128 * (2 + 4 + 1 + 24)
    assert proof.sums[-1].largest == 128 * max(31, 4 * 8)
    refused(graph(PRODUCT, weights=columns(2.0**-30, 1.0, 1.0, 1.0)), "units of 2^-30")


def test_clipping_before_rounding_is_as_good() -> None:
    text = "near = Clip(finer, least, most); near_ones = Round(near); scores = MatMul(near_ones, weights)"
    assert accepted(graph(text, weights=columns(1, 2, 3, 4))).sums[-1].largest == 128 * 10


# --- single operators

LONG, SHORT, DOUBLED = (f"typed = Cast<to={kind}>(grid)" for kind in (INT64, INT8, DOUBLE))
UNSIGNED = f"size = Abs(grid); typed = Cast<to={UINT8}>(size)"
BRANCH = "then_branch = one () => (float[1] a) { a = Constant<value_floats=[1.0]>() }"
REFUSED = {
    "its results are rounded": (
        *(f"scores = {name}(grid)" for name in ("Erf", "Exp", "Tanh", "Sqrt", "Softmax<axis=-1>")),
    ),
    "it is not an operator that the proof follows": (
        "scores = Hardmax(grid)",
        "scores, where = TopK(grid, axis_2)",
        f"{LONG}; values, scores = TopK<sorted=0>(typed, axis_2)",
        f"{LONG}; scores = Unique<sorted=0, axis=1>(typed)",
        "scores = Pow(whole, whole_3)",
        "scores = ReduceLogSum(whole, axis_1)",
        "scores = ReduceMean(whole, axis_1)",
        "scores = CumSum(whole, whole_1)",
        f'{UNSIGNED}; far = BitShift<direction="LEFT">(typed, shift); scores = Cast<to={INT32}>(far)',
        "scores = ScatterElements<axis=1>(zeros, places, whole)",
    ),
    "it draws random numbers": ("drawn = RandomNormalLike(grid); scores = Add(grid, drawn)",),
    "what it computes depends on branches": (
        f"some = If<{BRANCH}, {BRANCH.replace('then', 'else')}>(yes); scores = Add(grid, some)",
    ),
    "it scales by what else is in the batch": (
        "byte, scale, zero = DynamicQuantizeLinear(grid); scores = DequantizeLinear(byte, scale, zero)",
    ),
    "its kernels may saturate": (
        f"{UNSIGNED}; sum = MatMulInteger(typed, bytes); scores = Cast<to={FLOAT}>(sum)",
    ),
    # real numbers
    "it computes with real numbers that were never rounded to a grid": (
        "scores = Add(grid, input)",
        "scores = MatMul(input, ones)",
        "scaled = Mul(input, three); scores = Round(scaled)",
        "less = Sub(input, tenth); scores = Sub(less, three)",
        "scores = Sub(tenth, input)",
        "scores = Sub(input, grid)",
        "less = Sub(input, tenth); scores = MatMul(less, ones)",
    ),
    "it computes with numbers that no Clip bounds": ("scores = MatMul(rounded, ones)",),
    "its sums may reach": ("scores = Mul(grid, tenth)", "scores = Add(grid, tenth)"),
    "units of 2^-27": ("scores = MatMul(grid, tenths)",),
    "may reach 6.711e+07 units of 2^0": ("scores = MatMul(grid, huge)",),
    "holds NaN or infinity": ("scores = MatMul(grid, no_numbers)",),
    "its 'alpha' is 0.3": ("scores = Gemm<alpha=0.3>(grid, ones)",),
    "it asks whether real numbers are zero": (
        f"there = Cast<to={BOOL}>(input); scores = Cast<to={FLOAT}>(there)",
    ),
    "FLOAT16 is computed in different ways": (
        f"half = Cast<to={FLOAT16}>(grid); scores = Identity(half)",
        f"half = Cast<to={BFLOAT16}>(grid); scores = Identity(half)",
    ),
    # division
    "divides by something else than powers of two": ("scores = Div(grid, three)",),
    "its input 1 is no stored constant": ("scores = Div(grid, grid)",),
    "its divisor is not positive": ("scores = Mod(whole, whole_0)", "scores = Div(whole, whole_0)"),
    "its divisor is no stored constant": ("scores = Mod(whole, whole)",),
    "it divides numbers that may be negative": (
        "scores = Div(whole, whole_3)",
        "up = Clip(whole, whole_1, whole_3); minus = Neg(up); scores = Div(minus, whole_3)",
    ),
    # axes and bounds
    "a number of entries that is not known": ("scores = ReduceSum(grid, axis_0)",),
    "its axes [1, 1] name one twice": ("scores = ReduceSum(whole, twice)",),
    "its axes [1, -1] name one twice": ("scores = ReduceSum(grid, both_ends)",),
    "it reduces no entries": ("top = ReduceMax(none, axis_1); scores = Add(grid, top)",),
    "its lower bound lies above its upper bound": (
        "scores = Clip(grid, three, two)",
        "scores = Clip(whole, whole_3, whole_1)",
    ),
    "bounds that are not stored": ("top = ReduceMax<keepdims=0>(grid); scores = Clip(grid, top)",),
    "of equal entries it takes the last one; ties must go to the lowest index": (
        "scores = ArgMax<axis=-1, select_last_index=1>(grid)",
    ),
    # overflow
    "overflow int8": (
        f"{SHORT}; short = Abs(typed); scores = Cast<to={INT32}>(short)",
        f"{SHORT}; scores = Neg(typed)",
    ),
    "overflow int32": (
        "scores = Mul(whole, whole_33554432)",
        "scores = Add(whole, whole_2147483647)",
        "scores = Sub(whole, whole_2147483647)",
        "far = Add(whole, whole_2147483647); at = Clip(far, whole_0, whole_3); scores = Gather(table_4, at)",
        "high = Mul(whole, whole_8388608); scores = ReduceSum(high, axis_1)",
    ),
    "overflow uint8": (f"{UNSIGNED}; scores = Sub(typed, typed)",),
    "that cannot hold them": (
        f"scores = Cast<to={UINT8}>(whole)",
        f"far = Cast<to={INT32}>(rounded); scores = Identity(far)",
    ),
    # indices out of range
    "its index may be -128 to 127, and its axis has 127 entries": ("scores = Gather(table_127, whole)",),
    "and its axis has 4 entries": ("scores = GatherElements<axis=1>(grid, whole)",),
    "an axis whose size is not known": ("scores = GatherElements(grid, whole)",),
    "and its axis has 100 entries": (
        f"wide = Unsqueeze(whole, axis_2); far = Cast<to={INT64}>(wide); scores = GatherND(table_100, far)",
    ),
    "its index may be 0 to 4, and its axis has 4 entries": (
        "next = Add(mode_request, long_1); offset = Gather(table_4, next);"
        "top = ReduceMax<keepdims=0>(offset); scores = Add(grid, top)",
    ),
    "INT4 is no integer type that the proof follows": (
        f"four_bits = QuantizeLinear<output_dtype={INT4}>(grid, sixteen);"
        "scores = DequantizeLinear(four_bits, sixteen)",
    ),
}


@pytest.mark.parametrize(
    ("text", "reason"), [(text, reason) for reason, texts in REFUSED.items() for text in texts]
)
def test_what_runtimes_may_give_differently_is_refused(text: str, reason: str) -> None:
    refused(graph(text), reason)


@pytest.mark.parametrize(
    "text",
    [
        "scores = Div(grid, eighth)",
        "scores = Mul(scales, grid)",
        "scores = Mul(grid, grid)",
        # one offset taken off an input, and powers of two around it
        "less = Sub(input, tenth_row); more = Mul(less, scales); near = Round(more);"
        "scores = Clip(near, least, most)",
        "more = Mul(input, scales); less = Sub(more, tenth); near = Round(less);"
        "scores = Clip(near, least, most)",
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
        f"{DOUBLED}; scores = MatMul(typed, double)",
        f"{SHORT}; scores = Cast<to={FLOAT}>(typed)",
        "same = Identity(across); turned = Transpose(same); scores = MatMul(grid, turned)",
        "book = Gather(two_books, long_1); scores = MatMul(grid, book)",
        "place = ArgMax<axis=1, keepdims=0>(grid); book = Gather(four_books, place);"
        "row = Unsqueeze(grid, axis_1); scores = MatMul(row, book)",
        "scores = MatMul(across, ones)",
        # integers that stay within bounds
        "low, high = Split<num_outputs=2, axis=1>(whole); scores = Sub(low, high)",
        "scores = Mod(whole, whole_3)",
        f"{UNSIGNED}; scores = Div(typed, byte_3)",
        "up = Clip(whole, whole_1, whole_3); third = Div(up, whole_3); scores = Mul(third, whole_2147483647)",
        "scores = Clip(whole, whole_1, whole_3)",
        "scores = ReduceSum(whole, axis_1)",
        "scores = Gather(table_128, whole)",
        "place = ArgMax<axis=1>(grid); scores = GatherElements<axis=1>(grid, place)",
        "offset = Gather(table_4, mode_request); top = ReduceMax<keepdims=0>(offset);scores = Add(grid, top)",
    ],
)
def test_what_no_runtime_rounds_is_accepted(text: str) -> None:
    accepted(graph(text))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("scores = Pad<pads=[0, 0, 0, 1], value=1000000.0>(grid)", "its 'value' is an attribute"),
        ("scores = Clip<min=1000000.0>(grid)", "its 'min' is an attribute"),
    ],
)
def test_numbers_in_attributes_are_not_overlooked(text: str, reason: str) -> None:
    whole = f"grid = Cast<to={FLOAT}>(input); {text}; indices = ArgMax<axis=1, keepdims=0>(scores)"
    refused(model_of("int8[batch,4] input", whole, "int64[batch] indices", {}, 10, 5), reason)


@pytest.mark.parametrize("domain", ["", "own"])
def test_a_function_of_the_model_is_refused(domain: str) -> None:
    """One with the name of a standard operator is what runs in its place, and nothing in the node says so."""
    body = [helper.make_node("Sin", ["x"], ["y"])]
    model = graph("scores = Identity(grid)")
    model.functions.append(
        helper.make_function(domain, "Round", ["x"], ["y"], body, [helper.make_opsetid("", 18)])
    )
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    refused(model, f"'{domain}.Round' is a function of the model's own")


def test_each_problem_is_told_once_and_a_missing_output_is_told() -> None:
    model = graph("one_sum = Add(grid, tenth); other = Add(grid, tenth); scores = Sub(one_sum, other)")
    _, problems = prove(model)
    assert [problem.split(" is not exact")[0] for problem in problems] == [
        "Add ('node_one_sum')",
        "Add ('node_other')",
    ]
    assert prove_exact(GraphView(model), MANIFEST, ["mode"]) == (None, ["output 'mode' is missing"])


# --- integers in 8 bits


def quantised(kind: Any, largest: int, zero: int = 0) -> ModelProto:
    """Activations of uint8 times weights of ``kind`` up to ``largest``, in QDQ form."""
    weights = np.full((4, 2), zero, dtype=kind)
    weights[0, 0] = largest
    return graph(
        "byte = QuantizeLinear(input, fine, middle); real = DequantizeLinear(byte, fine, middle);"
        "real_weights = DequantizeLinear(weights, coarse, zero); real_bias = DequantizeLinear(bias, both);"
        "sum = Gemm(real, real_weights, real_bias); again = QuantizeLinear(sum, coarse, middle);"
        "scores = DequantizeLinear(again, coarse, middle)",
        fine=np.float32(2.0**-6),
        coarse=np.float32(2.0**-3),
        both=np.float32(2.0**-9),
        middle=np.uint8(128),
        weights=weights,
        zero=np.array(zero, dtype=kind),
        bias=np.arange(2, dtype=np.int32),
    )


def test_quantised_products_are_exact_with_unsigned_weights_or_small_ones() -> None:
    # 128 steps of the activations times 127 of the weight, the other weights are zero; the offset of column 0
    assert accepted(quantised(np.uint8, 255, zero=128)).sums[-1].largest == 128 * 127
    accepted(quantised(np.int8, 64))
    refused(
        quantised(np.int8, 127),
        "Gemm ('node_sum') is not exact: it multiplies uint8 by int8 up to 127, and processors without",
    )


@pytest.mark.parametrize("name", ["fine", "coarse", "both"])
def test_scales_must_be_powers_of_two(name: str) -> None:
    model = quantised(np.uint8, 255, zero=128)
    store(model, name, np.array(0.3, dtype=np.float32))
    refused(model, "its scale is no power of two")


def test_a_quantised_sum_must_fit_its_accumulator() -> None:
    # 255 * 255 * 33026 > 2^31; that the real numbers would be refused as well is not what is told
    repeats = 2**31 // (4 * 255 * 255) + 1
    text = (
        "byte = QuantizeLinear(input, one, zero); real = DequantizeLinear(byte, one, zero);"
        "many = Tile(real, times); real_weights = DequantizeLinear(weights, one, zero);"
        "scores = MatMul(many, real_weights)"
    )
    for count, reason in ((repeats, "and overflow 32 bits"), (repeats - 2, "exact are those below")):
        weights = np.full((4 * count, 2), 255, np.uint8)
        refused(graph(text, zero=np.uint8(0), times=np.array([1, count]), weights=weights), reason)
