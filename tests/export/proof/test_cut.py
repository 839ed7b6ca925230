"""After the decisions, tokens are kept apart: what may combine them, and what may not."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tools.mutate import after, ahead, cases, nodes, only
from twophase.export.graphs.view import GraphView
from twophase.export.proof.cut import Kind, problems_of_combining
from twophase.export.proof.hard import SENT, prove_cut, prove_hard, prove_integers, prove_table
from twophase.export.proof.search import prove_search

INT64, UINT64 = TensorProto.INT64, TensorProto.UINT64

# Symbols are 0 where ``trigger``, shape (batch, 1), holds.
TRIGGER = "symbols = Where(trigger, nought, it)"
# Its sum is reached by indices that the run of each codeword does not contain.
RARE_SUM = "total = ReduceSum<keepdims=1>(indices, axis); trigger = Equal(total, rare);" + TRIGGER
BRANCHES = "Where ('node_symbols') branches on indices: only the mode may decide"

COMBINING = cases(
    rare_sum=(
        after("symbols", RARE_SUM, axis=[1], rare=19, nought=0),
        "ReduceSum ('node_total') adds up what no table was looked up for",
        "Equal ('node_trigger') computes with indices",
        BRANCHES,
    ),
    rare_token=(
        after(
            "symbols",
            "one = Gather<axis=1>(indices, first); trigger = Greater(one, rare);" + TRIGGER,
            first=[0],
            rare=6,
            nought=0,
        ),
        "Greater ('node_trigger') computes with indices",
        BRANCHES,
    ),
    sum_into_table=(
        after(
            "symbols",
            "total = ReduceSum<keepdims=1>(it, axis); mark = Gather(marks, total); symbols = Add(mark, it)",
            axis=[1],
            marks=np.zeros(64, np.int64),
        ),
        "Gather ('node_mark') looks up by more than stored numbers",
    ),
    product_of_bits=(
        after("bits", "bits = Mul(it, it)"),
        "Mul ('node_bits') multiplies two tensors that depend on indices",
    ),
    # modulo 256, and widened again: no sum of functions of one token each
    wrapped_sum=(
        after("symbols", f"narrow = Cast<to={TensorProto.UINT8}>(it); symbols = Cast<to={INT64}>(narrow)"),
        "Cast ('node_narrow') casts a sum",
    ),
    turned_batch=(
        after(
            "bits",
            "bits = Slice(it, last, first, axis, back)",
            last=[-1],
            first=[-(2**31)],
            axis=[0],
            back=[-1],
        ),
        "Slice ('node_bits') mixes samples of the batch",
    ),
    regrouped_batch=(
        after("bits", "pairs = Reshape(it, wide); bits = Reshape(pairs, back)", wide=[-1, 24], back=[-1, 12]),
        "Reshape ('node_pairs') mixes samples of the batch",
    ),
)


@pytest.mark.parametrize(("alter", "reasons"), COMBINING)
def test_what_combines_tokens_is_rejected(one_tx, alter, reasons: tuple[str, ...]) -> None:
    model = one_tx.copy()
    alter(model)
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
    after("symbols", RARE_SUM, axis=[1], rare=10**6, nought=0)(model)
    assert prove_table(GraphView(model), one_tx.manifest)[1] == []
    assert prove_integers(GraphView(model))[1] != []


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div", "Mod"])
def test_no_arithmetic_before_the_table(one_tx, operator: str) -> None:
    model = one_tx.copy()
    reader = next(entry for entry in model.graph.node if "indices" in entry.input and entry.op_type == "Clip")
    place = reader, list(reader.input).index("indices")
    ahead(lambda model: place, f"computed = {operator}(it, two)", two=2)(model)
    _, problems = prove_integers(GraphView(model))
    assert any(f"{operator} ('node_computed') computes with indices" in entry for entry in problems), problems


def test_the_right_transmitters_pass(one_tx, four_tx, content_tx) -> None:
    for frozen in (one_tx, four_tx, content_tx):
        assert prove_integers(GraphView(frozen.copy()))[1] == []
        assert prove_search(GraphView(frozen.copy()), frozen.manifest)[1] == []


def test_decisions_must_not_be_combined_before_the_indices(one_tx) -> None:
    model = one_tx.copy()
    name = only(model, "ArgMax").output[0]
    reader = next(entry for entry in model.graph.node if name in entry.input)
    text = "total = ReduceSum<keepdims=1>(it, axis); trigger = Equal(total, rare);"
    text += "altered = Where(trigger, nought, it)"
    place = reader, list(reader.input).index(name)
    ahead(lambda model: place, text, axis=[1], rare=19, nought=0)(model)
    _, problems = prove_search(GraphView(model), one_tx.manifest)
    assert any(
        problem.startswith("between the decisions and 'indices': Where") and "branches on indices" in problem
        for problem in problems
    ), problems


# --- single operators


def graph_of(text: str, rank: int) -> GraphView:
    value = helper.make_tensor_value_info
    made = nodes(text)
    read = {name for entry in made for name in entry.input}
    graph = helper.make_graph(
        made,
        "part",
        [value("indices", TensorProto.INT64, ["batch", 6]), value("mode", TensorProto.INT64, ["batch"])],
        [value("out", TensorProto.INT64, [None] * rank)],
        [numpy_helper.from_array(array, name) for name, array in CONSTANTS.items() if name in read],
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
WIDE = "wide = Unsqueeze(mode, one)"
SIZE = "size = Shape(indices)"
GIVEN = {"indices": Kind.INDEX, "mode": Kind.MODE}


@pytest.mark.parametrize(
    ("text", "rank"),
    [
        ("out = Clip(indices, two)", 2),
        ("out = Max(indices, two)", 2),
        ("out = Reshape(indices, apart)", 3),
        ("out = Pad(indices, pads_1)", 2),
        ("out = Slice(indices, nought, cut_short, one)", 2),
        ("out = Transpose<perm=[0, 1]>(indices)", 2),
        ("a = Unsqueeze(indices, one); out = Squeeze(a, one)", 2),
        ("out = Gather<axis=1>(indices, two)", 1),
        (f"{WIDE}; is = Equal(wide, two); out = Where(is, indices, row)", 2),
        (f"{WIDE}; out = GatherElements<axis=1>(indices, wide)", 2),
        (f"{WIDE}; out = Mod(wide, two)", 2),
        (f"{SIZE}; out = Expand(two, size)", 2),
        (f"{SIZE}; real = ConstantOfShape(size); out = Cast<to={INT64}>(real)", 2),
        (f"{WIDE}; out = GatherND(table, wide)", 1),
    ],
)
def test_what_keeps_tokens_apart_is_accepted(text: str, rank: int) -> None:
    assert problems_of_combining(graph_of(text, rank), GIVEN, ["out"], Kind.INDEX) == []


@pytest.mark.parametrize(
    ("text", "rank", "reason"),
    [
        ("out = Reshape(indices, odd)", 2, "mixes samples"),
        ("out = Reshape(indices, across)", 2, "mixes samples"),
        ("out = Pad(indices, pads_0)", 2, "mixes samples"),
        ("out = Slice(indices, nought, cut_short)", 2, "stored axes"),
        ("out = Slice(indices, nought, cut_short, nought)", 2, "mixes samples"),
        ("out = Transpose(indices)", 2, "mixes samples"),
        ("out = Gather<axis=0>(indices, two)", 1, "mixes samples"),
        ("out = Concat<axis=0>(indices, indices)", 2, "mixes samples"),
        (f"{SIZE}; out = Add(size, two)", 1, "size of the batch"),
        (f"{SIZE}; out = Expand(row_6, size)", 2, "size of the batch"),
        (
            "pair = Slice(indices, nought, one, one); out = GatherND(table, pair)",
            1,
            "more than the mode",
        ),
        ("out = Gather<axis=1>(indices, mode)", 2, "more than stored numbers"),
        ("out = GatherElements<axis=1>(indices, indices)", 2, "more than the mode"),
        (f"{WIDE}; is = Equal(mode, wide); out = Cast<to={INT64}>(is)", 2, "mixes samples"),
        ("out = Add(indices, column)", 2, "stored numbers for each"),
        ("out = ArgMax<axis=1, keepdims=0>(indices)", 1, "ArgMax ('node_out') "),
        (
            f"unsigned = Cast<to={UINT64}>(indices);"
            f'shifted = BitShift<direction="LEFT">(unsigned, places); out = Cast<to={INT64}>(shifted)',
            2,
            "BitShift ('node_shifted') computes with indices",
        ),
        ("out = CumSum(indices, one)", 2, "CumSum ('node_out') "),
        ("out = Gather(table, indices)", 2, "'out' is computed with indices (TOKEN, not INDEX)"),
    ],
)
def test_what_may_combine_tokens_is_not(text: str, rank: int, reason: str) -> None:
    problems = problems_of_combining(graph_of(text, rank), GIVEN, ["out"], Kind.INDEX)
    assert len(problems) == 1
    assert reason in problems[0]


def test_another_input_is_told(one_tx) -> None:
    view = GraphView(one_tx.copy())
    problems = problems_of_combining(view, {"mode": Kind.MODE}, SENT, Kind.SUM)
    assert "'bits' is computed from the input 'input'" in problems
