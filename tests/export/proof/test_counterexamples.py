"""Graphs on which runtimes differ, or may, though only integers and exact numbers are in them: no proof."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tools.mutate import nodes
from tools.tiny_run import FOUR_GRID, grid_manifest
from twophase.export.graphs.view import GraphView
from twophase.export.proof.exact import prove_exact

MANIFEST = grid_manifest(FOUR_GRID)
FOLLOWED = "it is not an operator that the proof follows"
TABLE = np.arange(256, dtype=np.float32)
CONSTANTS: dict[str, NDArray[Any]] = {
    "four": np.float32(4),
    "least": np.float32(-128),
    "most": np.float32(127),
    "axis": np.array([1]),
    "zero": np.array(0, np.int32),
    "one": np.array(1, np.int32),
    "three": np.array(3, np.int32),
    "eleven": np.array(11, np.int32),
    "k": np.array([4]),
    "two": np.array([2]),
    "long_one": np.array(1),
    "shift": np.array([8, 9, 40, 31], np.uint8),
    "three8": np.array(3, np.uint8),
    "zeros": np.zeros((6, 4), np.int32),
    "places": np.zeros((6, 4), np.int64),
    "row": np.zeros(4, np.int32),
    "at": np.zeros((2, 1), np.int64),
    "updates": np.array([1, 2], np.int32),
    "twice": np.array([1, 1]),
    "both_ends": np.array([1, -1]),
    "none": np.zeros((1, 0), np.float32),
    "large": np.array(1 << 25, np.int32),
    "largest": np.array(2**31 - 1, np.int32),
    "much": np.array(1 << 23, np.int32),
    "table": TABLE,
    "table_128": TABLE[:128],
    "table_127": TABLE[:127],
    "table_100": TABLE[:100],
    "table_of_modes": TABLE[: len(MANIFEST.modes)],
    "scale": np.float32(16),
}
INT8, UINT8, INT32, INT64, FLOAT, BOOL, INT4 = 3, 2, 6, 7, 1, 9, 22
UNSIGNED = f"size = Abs(grid); typed = Cast<to={UINT8}>(size)"
LONG, SHORT = (f"typed = Cast<to={kind}>(grid)" for kind in (INT64, INT8))


def graph(text: str, opset: int = 18, functions: tuple[Any, ...] = ()) -> ModelProto:
    """``text`` makes ``scores`` of ``grid``, whole numbers of -128..127, or of ``whole``, these as int32."""
    head = "finer = Mul(input, four); rounded = Round(finer); grid = Clip(rounded, least, most)"
    tail = "rows = Flatten(scores); indices = ArgMax<axis=-1, keepdims=0>(rows)"
    made = nodes(f"{head}; whole = Cast<to={INT32}>(grid); {text}; {tail}")
    return model_of(made, TensorProto.FLOAT, opset, functions)


def model_of(
    made: list[NodeProto], kind: int, opset: int, functions: tuple[Any, ...] = (), ir_version: int = 10
) -> ModelProto:
    read = {name for entry in made for name in entry.input}
    stored = {name: np.asarray(value) for name, value in CONSTANTS.items() if name in read}
    inputs = [helper.make_tensor_value_info("input", kind, ["batch", 4])]
    inputs.append(helper.make_tensor_value_info("mode_request", INT64, ["requests"]))
    result = helper.make_graph(
        made,
        "small",
        inputs,
        [helper.make_tensor_value_info("indices", INT64, ["batch"])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(result, opset_imports=opsets, ir_version=ir_version, functions=list(functions))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # operators that the proof does not know
        (f"{LONG}; values, scores = TopK<sorted=0>(typed, k)", FOLLOWED),
        (f"{LONG}; scores = Unique<sorted=0, axis=1>(typed)", FOLLOWED),
        ("scores = Pow(whole, whole)", FOLLOWED),
        ("scores = Pow(whole, eleven)", FOLLOWED),
        (
            "wide = Unsqueeze(grid, axis); pooled, where = MaxPool<kernel_shape=[4]>(wide);"
            f"scores = Cast<to={FLOAT}>(where)",
            FOLLOWED,
        ),
        *((f"scores = {name}(whole, axis)", FOLLOWED) for name in ("ReduceLogSumExp", "ReduceLogSum")),
        *((f"scores = {name}(whole, axis)", FOLLOWED) for name in ("ReduceL2", "ReduceMean")),
        ("scores = CumSum(whole, one)", FOLLOWED),
        (
            f'{UNSIGNED}; far = BitShift<direction="LEFT">(typed, shift); scores = Cast<to={INT32}>(far)',
            FOLLOWED,
        ),
        ("scores = ScatterElements<axis=1>(zeros, places, whole)", FOLLOWED),
        ("put = ScatterND(row, at, updates); scores = Add(whole, put)", FOLLOWED),
        # division
        ("scores = Mod(whole, zero)", "its divisor is not positive"),
        ("scores = Div(whole, zero)", "its divisor is not positive"),
        ("scores = Mod(whole, whole)", "its divisor is no stored constant"),
        ("scores = Div(whole, three)", "it divides numbers that may be negative"),
        # axes and bounds
        ("scores = ReduceSum(whole, twice)", "its axes [1, 1] name one twice"),
        ("scores = ReduceSum(grid, both_ends)", "its axes [1, -1] name one twice"),
        ("top = ReduceMax(none, axis); scores = Add(grid, top)", "it reduces no entries"),
        ("scores = Clip(whole, three, one)", "lies above its upper bound"),
        # overflow
        (f"{SHORT}; short = Abs(typed); scores = Cast<to={INT32}>(short)", "overflow int8"),
        (f"{SHORT}; scores = Neg(typed)", "overflow int8"),
        ("scores = Mul(whole, large)", "overflow int32"),
        ("scores = Add(whole, largest)", "overflow int32"),
        ("scores = Sub(whole, largest)", "overflow int32"),
        (f"{UNSIGNED}; scores = Sub(typed, typed)", "overflow uint8"),
        (
            "wrapped = Mul(whole, large); place = Clip(wrapped, zero, three); scores = Gather(table, place)",
            "overflow int32",
        ),
        ("high = Mul(whole, much); scores = ReduceSum(high, axis)", "overflow int32"),
        (f"scores = Cast<to={UINT8}>(whole)", "integers of -128 to 127 that cannot hold them"),
        # indices out of range
        ("scores = Gather(table_127, whole)", "its index may be -128 to 127, and its axis has 127 entries"),
        ("scores = GatherElements<axis=1>(grid, whole)", "and its axis has 4 entries"),
        ("scores = GatherElements(grid, whole)", "an axis whose size is not known"),
        (
            f"wide = Unsqueeze(whole, two); far = Cast<to={INT64}>(wide); scores = GatherND(table_100, far)",
            "and its axis has 100 entries",
        ),
        (
            "next = Add(mode_request, long_one); offset = Gather(table_of_modes, next);"
            "top = ReduceMax<keepdims=0>(offset); scores = Add(grid, top)",
            "its index may be 0 to 4, and its axis has 4 entries",
        ),
        # types
        (
            f"nibble = QuantizeLinear<output_dtype={INT4}>(grid, scale);"
            "scores = DequantizeLinear(nibble, scale)",
            "INT4 is no integer type that the proof follows",
        ),
        (
            f"there = Cast<to={BOOL}>(input); scores = Cast<to={FLOAT}>(there)",
            "it asks whether real numbers are zero",
        ),
    ],
)
def test_what_runtimes_may_give_differently_is_refused(text: str, reason: str) -> None:
    model = graph(text, opset=21 if "QuantizeLinear" in text else 18)
    proof, problems = prove_exact(GraphView(model), MANIFEST)
    assert proof is None
    assert any(reason in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("scores = Pad<pads=[0, 0, 0, 1], value=1000000.0>(grid)", "its 'value' is an attribute"),
        ("scores = Clip<min=1000000.0>(grid)", "its 'min' is an attribute"),
    ],
)
def test_numbers_in_attributes_are_not_overlooked(text: str, reason: str) -> None:
    made = nodes(f"grid = Cast<to={FLOAT}>(input); {text}; indices = ArgMax<axis=1, keepdims=0>(scores)")
    proof, problems = prove_exact(GraphView(model_of(made, INT8, 10, ir_version=5)), MANIFEST)
    assert proof is None
    assert any(reason in problem for problem in problems), problems


@pytest.mark.parametrize("domain", ["", "own"])
def test_a_function_of_the_model_is_refused(domain: str) -> None:
    """One with the name of a standard operator is what runs in its place, and nothing in the node says so."""
    body = [helper.make_node("Sin", ["x"], ["y"])]
    function = helper.make_function(domain, "Round", ["x"], ["y"], body, [helper.make_opsetid("", 18)])
    model = graph("scores = Identity(grid)", functions=(function,))
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    assert prove_exact(GraphView(model), MANIFEST) == (
        None,
        [
            f"'{domain}.Round' is a function of the model's own; the proof follows operators of the ONNX "
            "standard"
        ],
    )


@pytest.mark.parametrize(
    "text",
    [
        "first, second = Split<num_outputs=2, axis=1>(whole); scores = Sub(first, second)",
        "scores = Mod(whole, three)",
        f"{UNSIGNED}; scores = Div(typed, three8)",
        "scores = Clip(whole, one, three)",
        "scores = ReduceSum(whole, axis)",
        "scores = Gather(table_128, whole)",
        "place = ArgMax<axis=1>(grid); scores = GatherElements<axis=1>(grid, place)",
        "offset = Gather(table_of_modes, mode_request); top = ReduceMax<keepdims=0>(offset);"
        "scores = Add(grid, top)",
    ],
)
def test_integers_that_stay_within_bounds_are_accepted(text: str) -> None:
    proof, problems = prove_exact(GraphView(graph(text)), MANIFEST)
    assert problems == []
    assert proof is not None
