"""The proof of exactness accepts what float32 computes without an error, and says why it refuses the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tools.mutate import insert_before, node, store
from tools.tiny_grid import CONTENT_GRID, FOUR_GRID, GridTransmitter, grid_manifest, write_grid_bundle
from tools.tiny_run import export_program, feature_inputs
from twophase.export.graphs.run import Session
from twophase.export.graphs.signature import signature_of
from twophase.export.graphs.torch_program import freeze
from twophase.export.graphs.view import GraphView
from twophase.export.proof.exact import ExactProof, prove_exact

MANIFEST = grid_manifest(FOUR_GRID)


@pytest.fixture(scope="module")
def grid_tx(make_shared) -> ModelProto:
    return onnx.load(make_shared("grid-bundle", write_grid_bundle) / "tx.onnx")


def graph(*nodes: NodeProto, opset: int = 18, **constants: NDArray[Any]) -> ModelProto:
    """``input`` (batch, 4) becomes ``grid``, whole numbers of -128..127; ``nodes`` make ``scores`` of it."""
    head = [
        node("Mul", ["input", "four"], "finer"),
        node("Round", ["finer"], "rounded"),
        node("Clip", ["rounded", "least", "most"], "grid"),
    ]
    stored = {"four": np.float32(4), "least": np.float32(-128), "most": np.float32(127)} | constants
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])]
    outputs = [helper.make_tensor_value_info("indices", TensorProto.INT64, ["batch"])]
    tail = [node("Flatten", ["scores"], "rows"), node("ArgMax", ["rows"], "indices", axis=-1, keepdims=0)]
    made = helper.make_graph(
        [*head, *nodes, *tail],
        "small",
        inputs,
        outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


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
    got = run_inner(grid_tx, names, feed)
    wide = run_inner(
        in_double(grid_tx), names, {name: value.astype(np.float64) for name, value in feed.items()}
    )
    proof, _ = prove_exact(GraphView(grid_tx), MANIFEST)
    assert proof is not None
    for value, exact, bound in zip(got, wide, proof.sums, strict=True):
        np.testing.assert_array_equal(value, exact)
        assert np.abs(value).max() <= bound.largest * 2.0**bound.unit
    assert np.abs(got[0]).max() > 0.5 * proof.sums[0].largest


def run_inner(model: ModelProto, names: list[str], feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    probe = ModelProto.FromString(model.SerializeToString())
    probe.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    return Session(probe.SerializeToString()).run(names, feed)


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
    model = graph(node("Identity", ["grid"], "scores"))
    assert prove_exact(GraphView(model), MANIFEST, ["mode"]) == (None, ["output 'mode' is missing"])


# --- the bound on sums, to the unit


@pytest.mark.parametrize("operator", ["MatMul", "Gemm", "transposed Gemm"])
def test_sums_are_exact_below_the_limit(operator: str) -> None:
    # |grid| <= 128: 128 * 131071 = 2^24 - 128, and one more reaches 2^24
    for last, fits in ((1, True), (2, False)):
        weights = columns(65536, -40000, 25535 - 1, last)
        if operator == "MatMul":
            made = node("MatMul", ["grid", "weights"], "scores")
        elif operator == "Gemm":
            made = node("Gemm", ["grid", "weights"], "scores")
        else:
            made, weights = node("Gemm", ["grid", "weights"], "scores", transB=1), weights.T.copy()
        proof, problems = prove(graph(made, weights=weights))
        assert (proof is not None) == fits, problems
        if proof is not None:
            assert proof.sums[-1].largest == 2**24 - 128


def test_offsets_count_as_part_of_the_sum() -> None:
    weights = columns(65536, -40000, 25534, 1)
    for offset, fits in ((-127, True), (128, False)):
        bias = np.array([1000, offset], dtype=np.float32)
        merged = graph(node("Gemm", ["grid", "weights", "bias"], "scores"), weights=weights, bias=bias)
        assert (prove(merged)[0] is not None) == fits
        steps = [node("MatMul", ["grid", "weights"], "sum"), node("Add", ["sum", "bias"], "scores")]
        separate = graph(*steps, weights=weights, bias=np.minimum(bias, offset))
        assert (prove(separate)[0] is not None) == fits


def test_units_are_powers_of_two_of_any_size() -> None:
    small = columns(0.25, -0.5, 0.125, 3.0)
    proof, problems = prove(graph(node("MatMul", ["grid", "weights"], "scores"), weights=small))
    assert problems == []
    assert proof is not None
    # units of 1/8: 128 * (2 + 4 + 1 + 24)
    assert proof.sums[-1].largest == 128 * max(31, 4 * 8)
    fine = columns(2.0**-30, 1.0, 1.0, 1.0)
    refused(graph(node("MatMul", ["grid", "weights"], "scores"), weights=fine), "units of 2^-30")


ONES = np.ones((4, 2), dtype=np.float32)
HUGE = np.full((4, 2), 2.0**17 + 1, dtype=np.float32)
IDENTITY = node("Identity", ["grid"], "same")


def straight(operator: str, *others: str, **attributes: Any) -> list[NodeProto]:
    return [node(operator, ["grid", *others], "scores", **attributes)]


@pytest.mark.parametrize(
    ("nodes", "constants", "reason"),
    [
        (straight("Erf"), {}, "Erf ('node_scores') is not exact: its results are rounded"),
        (straight("Softmax", axis=-1), {}, "Softmax ('node_scores') is not exact: its results are rounded"),
        (straight("Exp"), {}, "Exp ('node_scores') is not exact"),
        (straight("Tanh"), {}, "Tanh ('node_scores') is not exact"),
        (straight("Sqrt"), {}, "Sqrt ('node_scores') is not exact"),
        (
            straight("Hardmax"),
            {},
            "Hardmax ('node_scores') is not exact: it is not an operator that the proof",
        ),
        (straight("TopK", "two"), {"two": np.array([2])}, "TopK"),
        (straight("Div", "third"), {"third": np.float32(3)}, "divides by something else than powers of two"),
        (straight("Div", "grid"), {}, "its input 1 is no stored constant"),
        (straight("Mul", "tenth"), {"tenth": np.float32(0.1)}, "its sums may reach"),
        (straight("Add", "tenth"), {"tenth": np.float32(0.1)}, "its sums may reach"),
        (straight("Add", "input"), {}, "computes with real numbers that were never rounded"),
        (straight("MatMul", "weights"), {"weights": 0.1 * ONES}, "units of 2^-27"),
        (straight("MatMul", "weights"), {"weights": HUGE}, "may reach 6.711e+07 units of 2^0"),
        (straight("MatMul", "weights"), {"weights": ONES * np.nan}, "holds NaN or infinity"),
        (
            [node("RandomNormalLike", ["grid"], "drawn"), *straight("Add", "drawn")],
            {},
            "RandomNormalLike ('node_drawn') is not exact: it draws random numbers",
        ),
        (
            [node("Round", ["finer"], "whole"), node("MatMul", ["whole", "weights"], "scores")],
            {"weights": ONES},
            "MatMul ('node_scores') is not exact: it computes with numbers that no Clip bounds",
        ),
        (straight("Clip", "three", "two"), {"two": np.float32(2), "three": np.float32(3)}, "lies above"),
        (straight("Clip", "top"), {}, "bounds that are not stored"),
        (
            [node("Cast", ["grid"], "half", to=TensorProto.FLOAT16), node("Identity", ["half"], "scores")],
            {},
            "Cast ('node_half') is not exact: FLOAT16 is computed in different ways",
        ),
        (
            [node("Cast", ["grid"], "half", to=TensorProto.BFLOAT16), node("Identity", ["half"], "scores")],
            {},
            "BFLOAT16 is computed in different ways",
        ),
        (
            [node("Cast", ["rounded"], "whole", to=TensorProto.INT32), node("Identity", ["whole"], "scores")],
            {},
            "that cannot hold them",
        ),
        (straight("ReduceSum", "axis"), {"axis": np.array([0])}, "a number of entries that is not known"),
        (straight("Gemm", "weights", alpha=0.3), {"weights": ONES}, "its 'alpha' is 0.3"),
        ([node("ArgMax", ["grid"], "scores", axis=-1, select_last_index=1)], {}, "takes the last one"),
    ],
    ids=lambda value: value[-1].op_type if isinstance(value, list) else "",
)
def test_what_a_runtime_may_round_is_refused(nodes, constants, reason: str) -> None:
    if reason == "bounds that are not stored":
        nodes = [node("ReduceMax", ["grid"], "top", keepdims=0), *nodes]
    if nodes[-1].op_type == "TopK":
        nodes[-1].output.append("places")
    refused(graph(*nodes, **constants), reason)


def test_branches_are_refused() -> None:
    value = helper.make_tensor_value_info("same", TensorProto.FLOAT, ["batch", 4])
    body = helper.make_graph([node("Identity", ["grid"], "same")], "body", [], [value])
    model = graph(node("If", ["yes"], "scores", then_branch=body, else_branch=body), yes=np.array(True))
    refused(model, "If ('node_scores') is not exact: what it computes depends on branches")


def test_an_operator_of_its_own_is_refused(grid_tx) -> None:
    model = ModelProto.FromString(grid_tx.SerializeToString())
    body = [node("Identity", ["x"], "y")]
    model.functions.append(
        helper.make_function("own", "Same", ["x"], ["y"], body, [helper.make_opsetid("", 18)])
    )
    model.opset_import.append(helper.make_opsetid("own", 1))
    first = next(entry for entry in model.graph.node if entry.op_type == "Round")
    insert_before(model, first, 0, [node("Same", [first.input[0]], "wrapped", domain="own")])
    refused(model, "'own.Same' is a function of the model's own; the proof follows operators of")


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("Div", ["grid", "eighth"], "scores")], {"eighth": np.float32(-0.125)}),
        ([node("Mul", ["scales", "grid"], "scores")], {"scales": np.array([1, 2, -0.5, 64], np.float32)}),
        ([node("Mul", ["grid", "grid"], "scores")], {}),
        ([node("Relu", ["grid"], "scores")], {}),
        ([node("Neg", ["grid"], "minus"), node("Abs", ["minus"], "scores")], {}),
        ([node("Max", ["grid", "one"], "high"), node("Min", ["high", "two"], "scores")], {}),
        ([node("Sub", ["two", "grid"], "scores")], {}),
        ([node("Greater", ["input", "one"], "above"), node("Where", ["above", "grid", "two"], "scores")], {}),
        ([node("Concat", ["grid", "grid"], "scores", axis=1)], {}),
        ([node("Pad", ["grid", "pads", "one"], "scores")], {"pads": np.array([0, 1, 0, 2])}),
        ([node("Transpose", ["grid"], "turned"), node("Transpose", ["turned"], "scores")], {}),
        ([node("ReduceSum", ["grid", "axis"], "scores")], {"axis": np.array([1])}),
        ([node("ReduceMax", ["grid", "axis"], "scores")], {"axis": np.array([1])}),
        (
            [node("Cast", ["grid"], "wide", to=TensorProto.DOUBLE), node("MatMul", ["wide", "w"], "scores")],
            {"w": np.full((4, 2), 2.0**40)},
        ),
        (
            [node("Cast", ["grid"], "whole", to=TensorProto.INT8), node("Cast", ["whole"], "scores", to=1)],
            {},
        ),
        (
            [
                node("Identity", ["w"], "w1"),
                node("Transpose", ["w1"], "w2"),
                node("MatMul", ["grid", "w2"], "scores"),
            ],
            {"w": ONES.T.copy()},
        ),
        (
            [node("Gather", ["books", "which"], "book"), node("MatMul", ["grid", "book"], "scores")],
            {"books": np.stack([ONES, -ONES]), "which": np.array(1)},
        ),
        (
            [
                node("ArgMax", ["grid"], "which", axis=1, keepdims=0),
                node("Gather", ["books", "which"], "book"),
                node("Unsqueeze", ["grid", "axis"], "row"),
                node("MatMul", ["row", "book"], "scores"),
            ],
            {"books": np.stack([ONES] * 4), "axis": np.array([1])},
        ),
        (
            [
                node("MatMul", ["weights", "column"], "scores"),
            ],
            {"weights": ONES.T.copy(), "column": ONES},
        ),
    ],
    ids=lambda value: value[-1].op_type if isinstance(value, list) else "",
)
def test_what_no_runtime_rounds_is_accepted(nodes, constants) -> None:
    numbers = {"one": np.float32(1), "two": np.float32(2)}
    used = {name for entry in nodes for name in entry.input}
    numbers = {name: value for name, value in numbers.items() if name in used}
    model = graph(*nodes, **numbers, **constants)
    proof, problems = prove(model)
    assert problems == []
    assert proof is not None


def test_clipping_before_rounding_is_as_good() -> None:
    nodes = [node("Clip", ["finer", "least", "most"], "clipped"), node("Round", ["clipped"], "whole")]
    model = graph(*nodes, node("MatMul", ["whole", "weights"], "scores"), weights=columns(1, 2, 3, 4))
    proof, _ = prove(model)
    assert proof is not None
    assert proof.sums[-1].largest == 128 * 10


# --- integers in 8 bits


def quantised(kind: Any, largest: int, *, width: int = 2, zero: int = 0) -> ModelProto:
    """Activations of uint8 times weights of ``kind`` up to ``largest``, in QDQ form."""
    weights = np.full((4, width), zero, dtype=kind)
    weights[0, 0] = largest
    nodes = [
        node("QuantizeLinear", ["input", "fine", "middle"], "byte"),
        node("DequantizeLinear", ["byte", "fine", "middle"], "real"),
        node("DequantizeLinear", ["weights", "coarse", "zero"], "real_weights"),
        node("DequantizeLinear", ["bias", "both"], "real_bias"),
        node("Gemm", ["real", "real_weights", "real_bias"], "sum"),
        node("QuantizeLinear", ["sum", "coarse", "middle"], "again"),
        node("DequantizeLinear", ["again", "coarse", "middle"], "scores"),
    ]
    return graph(
        *nodes,
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
    nodes = [
        node("QuantizeLinear", ["input", "one", "zero"], "byte"),
        node("DequantizeLinear", ["byte", "one", "zero"], "real"),
        node("Tile", ["real", "times"], "many"),
        node("DequantizeLinear", ["weights", "one", "zero"], "real_weights"),
        node("MatMul", ["many", "real_weights"], "scores"),
    ]
    numbers = {"one": np.float32(1), "zero": np.uint8(0), "times": np.array([1, repeats])}
    for rows, reason in ((4 * repeats, "and overflow 32 bits"), (4 * repeats - 8, "exact are those below")):
        numbers |= {"times": np.array([1, rows // 4]), "weights": np.full((rows, 2), 255, np.uint8)}
        refused(graph(*nodes, opset=21, **numbers), reason)


def test_scales_must_be_powers_of_two() -> None:
    for name in ("fine", "coarse", "both"):
        model = quantised(np.uint8, 255, zero=128)
        store(model, name, np.array(0.3, dtype=np.float32))
        refused(model, "Linear ('node_")
        refused(model, "its scale is no power of two")


def test_scaling_by_what_is_in_the_batch_is_refused() -> None:
    made = helper.make_node("DynamicQuantizeLinear", ["grid"], ["byte", "scale", "zero"], name="dynamic")
    model = graph(made, node("DequantizeLinear", ["byte", "scale", "zero"], "scores"))
    refused(model, "DynamicQuantizeLinear ('dynamic') is not exact: it scales by what else is in the batch")


def test_integer_products_that_are_not_followed_are_refused() -> None:
    nodes = [
        node("QuantizeLinear", ["input", "one", "zero"], "byte"),
        node("MatMulInteger", ["byte", "weights"], "sum"),
        node("Cast", ["sum"], "scores", to=TensorProto.FLOAT),
    ]
    model = graph(*nodes, one=np.float32(1), zero=np.uint8(0), weights=np.full((4, 2), 127, np.int8))
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
