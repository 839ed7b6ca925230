"""Behind the decisions, tokens are kept apart: what may combine them, and what may not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tools.mutate import insert_behind, node, only, scalar, store
from twophase.export.graphs.view import GraphView
from twophase.export.proof.cut import Kind, problems_of_combining
from twophase.export.proof.hard import SENT, prove_cut, prove_hard, prove_integers, prove_table
from twophase.export.proof.search import prove_search

Mutation = Callable[[ModelProto], None]


def symbols_if(model: ModelProto, *nodes: onnx.NodeProto) -> None:
    """Symbols are 0 where ``trigger``, shape (batch, 1), holds."""
    zero = scalar(model, "no_symbol", 0, np.int64)
    insert_behind(model, "symbols", [*nodes, node("Where", ["trigger", zero, "symbols_before"], "symbols")])


def rare_sum(model: ModelProto) -> None:
    """The sum is reached by indices that the run of each codeword does not contain."""
    axis, rare = store(model, "axis_1", np.array([1])), scalar(model, "rare", 19, np.int64)
    symbols_if(
        model,
        node("ReduceSum", ["indices", axis], "total", keepdims=1),
        node("Equal", ["total", rare], "trigger"),
    )


def rare_token(model: ModelProto) -> None:
    first, rare = store(model, "first", np.array([0])), scalar(model, "rare", 6, np.int64)
    symbols_if(
        model, node("Gather", ["indices", first], "one", axis=1), node("Greater", ["one", rare], "trigger")
    )


def sum_into_table(model: ModelProto) -> None:
    axis, table = store(model, "axis_1", np.array([1])), store(model, "marks", np.zeros(64, np.int64))
    total = node("ReduceSum", ["symbols_before", axis], "total", keepdims=1)
    behind = [
        total,
        node("Gather", [table, "total"], "mark"),
        node("Add", ["mark", "symbols_before"], "symbols"),
    ]
    insert_behind(model, "symbols", behind)


def product_of_bits(model: ModelProto) -> None:
    insert_behind(model, "bits", [node("Mul", ["bits_before", "bits_before"], "bits")])


def wrapped_sum(model: ModelProto) -> None:
    """A sum modulo 256 that is widened again is no sum of functions of one token each."""
    there = node("Cast", ["symbols_before"], "narrow", to=TensorProto.UINT8)
    insert_behind(model, "symbols", [there, node("Cast", ["narrow"], "symbols", to=TensorProto.INT64)])


def turned_batch(model: ModelProto) -> None:
    ends = [
        store(model, name, np.array([value]))
        for name, value in (("last", -1), ("before", -(2**31)), ("axis_0", 0), ("back", -1))
    ]
    insert_behind(model, "bits", [node("Slice", ["bits_before", *ends], "bits")])


def regrouped_batch(model: ModelProto) -> None:
    wide, back = store(model, "wide", np.array([-1, 24])), store(model, "back", np.array([-1, 12]))
    there = node("Reshape", ["bits_before", wide], "pairs")
    insert_behind(model, "bits", [there, node("Reshape", ["pairs", back], "bits")])


@pytest.mark.parametrize(
    ("mutate", "reasons"),
    [
        (
            rare_sum,
            [
                "ReduceSum ('node_total') adds up what no table was looked up for",
                "Equal ('node_trigger') computes with indices",
                "Where ('node_symbols') branches on indices: only the mode may decide",
            ],
        ),
        (rare_token, ["Greater ('node_trigger') computes with indices", "Where ('node_symbols') branches"]),
        (sum_into_table, ["Gather ('node_mark') looks up by more than stored numbers"]),
        (product_of_bits, ["Mul ('node_bits') multiplies two tensors that depend on indices"]),
        (wrapped_sum, ["Cast ('node_narrow') casts a sum"]),
        (turned_batch, ["Slice ('node_bits') mixes samples of the batch"]),
        (regrouped_batch, ["Reshape ('node_pairs') mixes samples of the batch"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_combines_tokens_is_rejected(one_tx, mutate: Mutation, reasons: list[str]) -> None:
    model = one_tx.copy()
    mutate(model)
    view = GraphView(model)
    assert prove_cut(view) == []
    _, problems = prove_integers(view)
    assert len(problems) >= len(reasons)
    for reason in reasons:
        assert any(problem.startswith(reason) for problem in problems), problems
    assert prove_hard(model, one_tx.manifest)[0] is None


def test_the_run_alone_would_pass_a_rare_sum(one_tx) -> None:
    """The reason for the proof: no run of a part of all combinations finds what the others trigger."""
    model = one_tx.copy()
    rare_sum(model)
    store(model, "rare", np.array(10**6))
    assert prove_table(GraphView(model), one_tx.manifest)[1] == []
    assert prove_integers(GraphView(model))[1] != []


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div", "Mod"])
def test_no_arithmetic_before_the_table(one_tx, operator: str) -> None:
    model = one_tx.copy()
    reader = next(entry for entry in model.graph.node if "indices" in entry.input and entry.op_type == "Clip")
    two = scalar(model, "two", 2, np.int64)
    model.graph.node.insert(
        list(model.graph.node).index(reader), node(operator, ["indices", two], "computed")
    )
    reader.input[list(reader.input).index("indices")] = "computed"
    _, problems = prove_integers(GraphView(model))
    assert any(f"{operator} ('node_computed') computes with indices" in entry for entry in problems), problems


def test_the_right_transmitters_pass(one_tx, four_tx, content_tx) -> None:
    for frozen in (one_tx, four_tx, content_tx):
        assert prove_integers(GraphView(frozen.copy()))[1] == []
        assert prove_search(GraphView(frozen.copy()), frozen.manifest)[1] == []


def test_decisions_must_not_be_combined_before_the_indices(one_tx) -> None:
    model = one_tx.copy()
    decision = only(model, "ArgMax")
    name = decision.output[0]
    decision.output[0] = "decided"
    axis, rare = store(model, "axis_1", np.array([1])), scalar(model, "rare", 19, np.int64)
    behind = [
        node("ReduceSum", ["decided", axis], "total", keepdims=1),
        node("Equal", ["total", rare], "trigger"),
        node("Where", ["trigger", scalar(model, "nought", 0, np.int64), "decided"], name),
    ]
    place = list(model.graph.node).index(decision)
    for number, entry in enumerate(behind):
        model.graph.node.insert(place + 1 + number, entry)
    _, problems = prove_search(GraphView(model), one_tx.manifest)
    assert any(
        problem.startswith("between the decisions and 'indices': Where") and "branches on indices" in problem
        for problem in problems
    ), problems


# --- single operators


def graph_of(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], rank: int = 2) -> GraphView:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "part",
        [
            value("indices", TensorProto.INT64, ["batch", 6]),
            value("mode", TensorProto.INT64, ["batch"]),
        ],
        [value("out", TensorProto.INT64, [None] * rank)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return GraphView(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))


CONSTANTS = {
    "two": np.array(2),
    "row": np.array([[2]]),
    "nought": np.array([0]),
    "one": np.array([1]),
    "places": np.array(2, np.uint64),
    "row_6": np.arange(6)[np.newaxis],
    "table": np.arange(6),
    "across": np.array([6, -1]),
    "apart": np.array([-1, 2, 3]),
    "odd": np.array([-1, 4]),
    "pads_0": np.array([1, 0, 0, 0]),
    "pads_1": np.array([0, 1, 0, 2]),
    "cut_short": np.array([3]),
    "column": np.array([[0], [1]]),
}
TO_INTEGERS = node("Cast", ["real"], "out", to=TensorProto.INT64)
WIDE_MODE = node("Unsqueeze", ["mode", "one"], "wide")


@pytest.mark.parametrize(
    ("nodes", "rank"),
    [
        ([node("Clip", ["indices", "two"], "out")], 2),
        ([node("Max", ["indices", "two"], "out")], 2),
        ([node("Reshape", ["indices", "apart"], "out")], 3),
        ([node("Pad", ["indices", "pads_1"], "out")], 2),
        ([node("Slice", ["indices", "nought", "cut_short", "one"], "out")], 2),
        ([node("Transpose", ["indices"], "out", perm=[0, 1])], 2),
        ([node("Unsqueeze", ["indices", "one"], "a"), node("Squeeze", ["a", "one"], "out")], 2),
        ([node("Gather", ["indices", "two"], "out", axis=1)], 1),
        (
            [WIDE_MODE, node("Equal", ["wide", "two"], "is"), node("Where", ["is", "indices", "row"], "out")],
            2,
        ),
        ([WIDE_MODE, node("GatherElements", ["indices", "wide"], "out", axis=1)], 2),
        ([WIDE_MODE, node("Mod", ["wide", "two"], "out")], 2),
        ([node("Shape", ["indices"], "size"), node("Expand", ["two", "size"], "out")], 2),
        ([node("Shape", ["indices"], "size"), node("ConstantOfShape", ["size"], "real"), TO_INTEGERS], 2),
        ([WIDE_MODE, node("GatherND", ["table", "wide"], "out")], 1),
    ],
)
def test_what_keeps_tokens_apart_is_accepted(nodes: list[onnx.NodeProto], rank: int) -> None:
    view = graph_of(nodes, CONSTANTS, rank)
    given = {"indices": Kind.INDEX, "mode": Kind.MODE}
    assert problems_of_combining(view, given, ["out"], Kind.INDEX) == []


@pytest.mark.parametrize(
    ("nodes", "rank", "reason"),
    [
        ([node("Reshape", ["indices", "odd"], "out")], 2, "mixes samples"),
        ([node("Reshape", ["indices", "across"], "out")], 2, "mixes samples"),
        ([node("Pad", ["indices", "pads_0"], "out")], 2, "mixes samples"),
        ([node("Slice", ["indices", "nought", "cut_short"], "out")], 2, "stored axes"),
        ([node("Slice", ["indices", "nought", "cut_short", "nought"], "out")], 2, "mixes samples"),
        ([node("Transpose", ["indices"], "out")], 2, "mixes samples"),
        ([node("Gather", ["indices", "two"], "out", axis=0)], 1, "mixes samples"),
        ([node("Concat", ["indices", "indices"], "out", axis=0)], 2, "mixes samples"),
        ([node("Shape", ["indices"], "size"), node("Add", ["size", "two"], "out")], 1, "size of the batch"),
        (
            [node("Shape", ["indices"], "size"), node("Expand", ["row_6", "size"], "out")],
            2,
            "size of the batch",
        ),
        ([node("GatherND", ["table", "pair"], "out")], 1, "more than the mode"),
        ([node("Gather", ["indices", "mode"], "out", axis=1)], 2, "more than stored numbers"),
        ([node("GatherElements", ["indices", "indices"], "out", axis=1)], 2, "more than the mode"),
        ([node("Equal", ["mode", "wide"], "is"), node("Cast", ["is"], "out", to=7)], 2, "mixes samples"),
        ([node("Add", ["indices", "column"], "out")], 2, "stored numbers for each"),
        ([node("ArgMax", ["indices"], "out", axis=1, keepdims=0)], 1, "ArgMax ('node_out') "),
        (
            [
                node("Cast", ["indices"], "unsigned", to=TensorProto.UINT64),
                node("BitShift", ["unsigned", "places"], "shifted", direction="LEFT"),
                node("Cast", ["shifted"], "out", to=TensorProto.INT64),
            ],
            2,
            "BitShift ('node_shifted') computes with indices",
        ),
        ([node("CumSum", ["indices", "one"], "out")], 2, "CumSum ('node_out') "),
        (
            [node("Gather", ["table", "indices"], "out")],
            2,
            "'out' is computed with indices (TOKEN, not INDEX)",
        ),
    ],
)
def test_what_may_combine_tokens_is_not(nodes: list[onnx.NodeProto], rank: int, reason: str) -> None:
    if any("wide" in entry.input for entry in nodes):
        nodes = [WIDE_MODE, *nodes]
    if any("pair" in entry.input for entry in nodes):
        nodes = [node("Slice", ["indices", "nought", "one", "one"], "pair"), *nodes]
    view = graph_of(nodes, CONSTANTS, rank)
    given = {"indices": Kind.INDEX, "mode": Kind.MODE}
    problems = problems_of_combining(view, given, ["out"], Kind.INDEX)
    assert len(problems) == 1
    assert reason in problems[0]


def test_another_input_is_told(one_tx) -> None:
    view = GraphView(one_tx.copy())
    problems = problems_of_combining(view, {"mode": Kind.MODE}, SENT, Kind.SUM)
    assert "'bits' is computed from the input 'input'" in problems
