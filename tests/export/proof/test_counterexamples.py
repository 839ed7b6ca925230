"""Graphs on which runtimes differ, or may, though only integers and exact numbers are in them: no proof."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tools.mutate import node
from tools.tiny_grid import FOUR_GRID, grid_manifest
from twophase.export.graphs.view import GraphView
from twophase.export.proof.exact import prove_exact

MANIFEST = grid_manifest(FOUR_GRID)
FOLLOWED = "it is not an operator that the proof follows"
AXIS = np.array([1])
ZERO, ONE, THREE = (np.array(number, np.int32) for number in (0, 1, 3))
TABLE = np.arange(256, dtype=np.float32)


def graph(
    *nodes: NodeProto, opset: int = 18, functions: tuple[Any, ...] = (), **constants: NDArray[Any]
) -> ModelProto:
    """``nodes`` make ``scores`` of ``grid``, whole numbers of -128..127, or of ``whole``, these as int32."""
    head = [
        node("Mul", ["input", "four"], "finer"),
        node("Round", ["finer"], "rounded"),
        node("Clip", ["rounded", "least", "most"], "grid"),
        node("Cast", ["grid"], "whole", to=TensorProto.INT32),
    ]
    tail = [node("Flatten", ["scores"], "rows"), node("ArgMax", ["rows"], "indices", axis=-1, keepdims=0)]
    stored = {"four": np.float32(4), "least": np.float32(-128), "most": np.float32(127)} | constants
    made = helper.make_graph(
        [*head, *nodes, *tail],
        "small",
        [
            helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4]),
            helper.make_tensor_value_info("mode_request", TensorProto.INT64, ["requests"]),
        ],
        [helper.make_tensor_value_info("indices", TensorProto.INT64, ["batch"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10, functions=list(functions))


def several(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs, outputs, name=f"node_{outputs[-1]}", **attributes)


def of_whole(operator: str, *others: str, **attributes: Any) -> list[NodeProto]:
    return [node(operator, ["whole", *others], "scores", **attributes)]


def cast(kind: int, *nodes: NodeProto) -> list[NodeProto]:
    """``grid`` as ``typed``, its magnitude if the type has no sign, before the nodes."""
    unsigned = TensorProto.DataType.Name(kind).startswith("UINT")
    start = [node("Abs", ["grid"], "size")] if unsigned else [node("Identity", ["grid"], "size")]
    return [*start, node("Cast", ["size"], "typed", to=kind), *nodes]


DIFFERENT = [
    # operators that the proof does not know
    (
        cast(TensorProto.INT64, several("TopK", ["typed", "k"], ["values", "scores"], sorted=0)),
        {"k": np.array([4])},
        FOLLOWED,
    ),
    (cast(TensorProto.INT64, several("Unique", ["typed"], ["scores"], sorted=0, axis=1)), {}, FOLLOWED),
    (of_whole("Pow", "whole"), {}, FOLLOWED),
    (of_whole("Pow", "eleven"), {"eleven": np.array(11, np.int32)}, FOLLOWED),
    (
        [
            node("Unsqueeze", ["grid", "axis"], "wide"),
            several("MaxPool", ["wide"], ["pooled", "places"], kernel_shape=[4]),
            node("Cast", ["places"], "scores", to=TensorProto.FLOAT),
        ],
        {"axis": AXIS},
        FOLLOWED,
    ),
    (of_whole("ReduceLogSumExp", "axis"), {"axis": AXIS}, FOLLOWED),
    (of_whole("ReduceLogSum", "axis"), {"axis": AXIS}, FOLLOWED),
    (of_whole("ReduceL2", "axis"), {"axis": AXIS}, FOLLOWED),
    (of_whole("ReduceMean", "axis"), {"axis": AXIS}, FOLLOWED),
    (of_whole("CumSum", "one"), {"one": ONE}, FOLLOWED),
    (
        cast(
            TensorProto.UINT8,
            node("BitShift", ["typed", "shift"], "far", direction="LEFT"),
            node("Cast", ["far"], "scores", to=TensorProto.INT32),
        ),
        {"shift": np.array([8, 9, 40, 31], np.uint8)},
        FOLLOWED,
    ),
    (
        [node("ScatterElements", ["zeros", "places", "whole"], "scores", axis=1)],
        {"zeros": np.zeros((6, 4), np.int32), "places": np.zeros((6, 4), np.int64)},
        FOLLOWED,
    ),
    (
        [node("ScatterND", ["zeros", "places", "updates"], "put"), node("Add", ["whole", "put"], "scores")],
        {
            "zeros": np.zeros(4, np.int32),
            "places": np.zeros((2, 1), np.int64),
            "updates": np.array([1, 2], np.int32),
        },
        FOLLOWED,
    ),
    # division
    (of_whole("Mod", "zero"), {"zero": ZERO}, "its divisor is not positive"),
    (of_whole("Div", "zero"), {"zero": ZERO}, "its divisor is not positive"),
    (of_whole("Mod", "whole"), {}, "its divisor is no stored constant"),
    (of_whole("Div", "three"), {"three": THREE}, "it divides numbers that may be negative"),
    # axes and bounds
    (of_whole("ReduceSum", "axes"), {"axes": np.array([1, 1])}, "its axes [1, 1] name one twice"),
    (
        [node("ReduceSum", ["grid", "axes"], "scores")],
        {"axes": np.array([1, -1])},
        "its axes [1, -1] name one twice",
    ),
    (
        [node("ReduceMax", ["none", "axis"], "top"), node("Add", ["grid", "top"], "scores")],
        {"none": np.zeros((1, 0), np.float32), "axis": AXIS},
        "it reduces no entries",
    ),
    (of_whole("Clip", "three", "one"), {"three": THREE, "one": ONE}, "lies above its upper bound"),
    # overflow
    (
        cast(
            TensorProto.INT8,
            node("Abs", ["typed"], "size8"),
            node("Cast", ["size8"], "scores", to=TensorProto.INT32),
        ),
        {},
        "overflow int8",
    ),
    (cast(TensorProto.INT8, node("Neg", ["typed"], "scores")), {}, "overflow int8"),
    (of_whole("Mul", "large"), {"large": np.array(1 << 25, np.int32)}, "overflow int32"),
    (of_whole("Add", "large"), {"large": np.array(2**31 - 1, np.int32)}, "overflow int32"),
    (of_whole("Sub", "large"), {"large": np.array(2**31 - 1, np.int32)}, "overflow int32"),
    (
        cast(TensorProto.UINT8, node("Sub", ["typed", "typed"], "scores")),
        {},
        "overflow uint8",
    ),
    (
        [
            node("Mul", ["whole", "large"], "wrapped"),
            node("Clip", ["wrapped", "zero", "three"], "place"),
            node("Gather", ["table", "place"], "scores"),
        ],
        {"large": np.array(1 << 25, np.int32), "zero": ZERO, "three": THREE, "table": TABLE},
        "overflow int32",
    ),
    (
        [
            node("Mul", ["whole", "large"], "much"),
            node("ReduceSum", ["much", "axis"], "scores"),
        ],
        {"large": np.array(1 << 23, np.int32), "axis": AXIS},
        "overflow int32",
    ),
    (
        [node("Cast", ["whole"], "scores", to=TensorProto.UINT8)],
        {},
        "integers of -128 to 127 that cannot hold them",
    ),
    # indices out of range
    (
        [node("Gather", ["table", "whole"], "scores")],
        {"table": TABLE[:127]},
        "its index may be -128 to 127, and its axis has 127 entries",
    ),
    ([node("GatherElements", ["grid", "whole"], "scores", axis=1)], {}, "and its axis has 4 entries"),
    ([node("GatherElements", ["grid", "whole"], "scores")], {}, "an axis whose size is not known"),
    (
        [node("Unsqueeze", ["whole", "two"], "places"), node("GatherND", ["table", "long"], "scores")],
        {"table": TABLE[:100], "two": np.array([2])},
        "and its axis has 100 entries",
    ),
    (
        [
            node("Add", ["mode_request", "one"], "next"),
            node("Gather", ["table", "next"], "offset"),
            node("ReduceMax", ["offset"], "top", keepdims=0),
            node("Add", ["grid", "top"], "scores"),
        ],
        {"one": np.array(1), "table": TABLE[: len(MANIFEST.modes)]},
        "its index may be 0 to 4, and its axis has 4 entries",
    ),
    # types
    (
        [
            node("QuantizeLinear", ["grid", "scale"], "nibble", output_dtype=TensorProto.INT4),
            node("DequantizeLinear", ["nibble", "scale"], "scores"),
        ],
        {"scale": np.float32(16)},
        "INT4 is no integer type that the proof follows",
    ),
    (
        [
            node("Cast", ["input"], "there", to=TensorProto.BOOL),
            node("Cast", ["there"], "scores", to=TensorProto.FLOAT),
        ],
        {},
        "it asks whether real numbers are zero",
    ),
]


@pytest.mark.parametrize(
    ("nodes", "constants", "reason"),
    DIFFERENT,
    ids=[f"{nodes[-1].op_type}-{number}" for number, (nodes, _, _) in enumerate(DIFFERENT)],
)
def test_what_runtimes_may_give_differently_is_refused(nodes, constants, reason: str) -> None:
    if any(entry.op_type == "GatherND" for entry in nodes):
        nodes = [nodes[0], node("Cast", ["places"], "long", to=TensorProto.INT64), nodes[1]]
    opset = 21 if any(entry.op_type == "QuantizeLinear" for entry in nodes) else 18
    proof, problems = prove_exact(GraphView(graph(*nodes, opset=opset, **constants)), MANIFEST)
    assert proof is None
    assert any(reason in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([node("Pad", ["grid"], "scores", pads=[0, 0, 0, 1], value=1e6)], "its 'value' is an attribute"),
        ([node("Clip", ["grid"], "scores", min=1e6)], "its 'min' is an attribute"),
    ],
)
def test_numbers_in_attributes_are_not_overlooked(nodes, reason: str) -> None:
    head = [node("Cast", ["input"], "grid", to=TensorProto.FLOAT)]
    made = helper.make_graph(
        [*head, *nodes, node("ArgMax", ["scores"], "indices", axis=1, keepdims=0)],
        "old",
        [helper.make_tensor_value_info("input", TensorProto.INT8, ["batch", 4])],
        [helper.make_tensor_value_info("indices", TensorProto.INT64, ["batch"])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 10)], ir_version=5)
    proof, problems = prove_exact(GraphView(model), MANIFEST)
    assert proof is None
    assert any(reason in problem for problem in problems), problems


@pytest.mark.parametrize("domain", ["", "own"])
def test_a_function_of_the_model_is_refused(domain: str) -> None:
    """One with the name of a standard operator is what runs in its place, and nothing in the node says so."""
    opset = helper.make_opsetid("", 18)
    body = [helper.make_node("Sin", ["x"], ["y"])]
    function = helper.make_function(domain, "Round", ["x"], ["y"], body, [opset])
    model = graph(node("Identity", ["grid"], "scores"), functions=(function,))
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    proof, problems = prove_exact(GraphView(model), MANIFEST)
    assert proof is None
    assert problems == [
        f"'{domain}.Round' is a function of the model's own; the proof follows operators of the ONNX standard"
    ]


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        (
            [
                several("Split", ["whole"], ["first", "second"], num_outputs=2, axis=1),
                node("Sub", ["first", "second"], "scores"),
            ],
            {},
        ),
        (of_whole("Mod", "three"), {"three": THREE}),
        (
            cast(TensorProto.UINT8, node("Div", ["typed", "three"], "scores")),
            {"three": np.array(3, np.uint8)},
        ),
        (of_whole("Clip", "one", "three"), {"one": ONE, "three": THREE}),
        (of_whole("ReduceSum", "axis"), {"axis": AXIS}),
        ([node("Gather", ["table", "whole"], "scores")], {"table": TABLE[:128]}),
        (
            [
                node("ArgMax", ["grid"], "place", axis=1),
                node("GatherElements", ["grid", "place"], "scores", axis=1),
            ],
            {},
        ),
        (
            [
                node("Gather", ["table", "mode_request"], "offset"),
                node("ReduceMax", ["offset"], "top", keepdims=0),
                node("Add", ["grid", "top"], "scores"),
            ],
            {"table": TABLE[: len(MANIFEST.modes)]},
        ),
    ],
    ids=lambda value: value[-1].op_type if isinstance(value, list) else "",
)
def test_integers_that_stay_within_bounds_are_accepted(nodes, constants) -> None:
    proof, problems = prove_exact(GraphView(graph(*nodes, **constants)), MANIFEST)
    assert problems == []
    assert proof is not None
