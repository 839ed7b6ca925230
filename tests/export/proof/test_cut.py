"""After the decisions, tokens are kept apart: what may combine them, and what may not."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from tools.mutate import after, ahead, altered, model_of, only, reader_of
from twophase.export.graphs.view import GraphView
from twophase.export.proof.cut import Kind, problems_of_combining
from twophase.export.proof.hard import prove_cut, prove_hard, prove_integers, prove_table
from twophase.export.proof.search import prove_search

BOOL, FLOAT, INT64, UINT8 = TensorProto.BOOL, TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8
STORED = {
    "two": np.array(2),
    "row": np.array([[2]]),
    "nought": np.array([0]),
    "one": np.array([1]),
    "whole": np.array([-1]),
    "row_6": np.arange(6)[np.newaxis],
    "rows_6": np.arange(12).reshape(2, 6),
    "table": np.arange(6),
    "two_rows": np.array([2, 6]),
    "any_rows": np.array([1, 6]),
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
LOOKED_UP = "looked = Gather(table, indices)"
SUM = f"{LOOKED_UP}; sum = ReduceSum<keepdims=1>(looked, one)"
# stored, but how many there are is not known
SOME = "places = NonZero(table); some = Squeeze(places, nought)"


def problems_of(text: str, given: dict[str, Kind], most: Kind) -> list[str]:
    """Why ``out`` is refused, which ``text`` makes of ``indices`` (batch, 6) and ``mode`` (batch,)."""
    inputs = "int64[batch,6] indices, int64[batch] mode"
    model = model_of(inputs, f"{text}; kept = Shape(out)", "int64[axes] kept", STORED)
    return problems_of_combining(GraphView(model), given, ["out"], most)


GIVEN = {"indices": Kind.INDEX, "mode": Kind.MODE}


@pytest.mark.parametrize(
    "text",
    [
        "out = Clip(indices, two)",
        "out = Max(indices, two)",
        "out = Reshape(indices, apart)",
        "out = Expand(indices, any_rows)",
        "out = Pad(indices, pads_1)",
        "out = Slice(indices, nought, cut_short, one)",
        "out = Transpose<perm=[0, 1]>(indices)",
        "a = Unsqueeze(indices, one); out = Squeeze(a, one)",
        "out = Gather<axis=1>(indices, two)",
        f"{WIDE}; is = Equal(wide, two); out = Where(is, indices, row)",
        f"{WIDE}; out = GatherElements<axis=1>(indices, wide)",
        f"{WIDE}; out = Mod(wide, two)",
        f"{WIDE}; out = GatherND(table, wide)",
        f"{SIZE}; out = Expand(two, size)",
        f"{SIZE}; real = ConstantOfShape(size); out = Cast<to={INT64}>(real)",
        f"{SUM}; out = Mul(sum, two)",
    ],
)
def test_what_keeps_tokens_apart_is_accepted(text: str) -> None:
    assert problems_of(text, GIVEN, Kind.SUM if SUM in text else Kind.INDEX) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # samples
        ("out = Reshape(indices, odd)", "mixes samples"),
        ("out = Reshape(indices, across)", "mixes samples"),
        (f"{SOME}; part = Gather<axis=1>(indices, some); out = Reshape(part, whole)", "mixes samples"),
        ("out = Expand(indices, two_rows)", "mixes samples"),
        ("out = Pad(indices, pads_0)", "mixes samples"),
        ("out = Slice(indices, nought, cut_short)", "stored axes"),
        ("out = Slice(indices, nought, cut_short, nought)", "mixes samples"),
        ("out = Transpose(indices)", "mixes samples"),
        ("out = Gather<axis=0>(indices, two)", "mixes samples"),
        ("out = Concat<axis=0>(indices, indices)", "mixes samples"),
        (f"{WIDE}; is = Equal(mode, wide); out = Cast<to={INT64}>(is)", "mixes samples"),
        ("out = Add(indices, column)", "stored numbers for each"),
        (f"{LOOKED_UP}; out = ReduceSum<keepdims=1>(looked, nought)", "adds up samples of the batch"),
        # the size of the batch
        (f"{SIZE}; out = Add(size, two)", "size of the batch"),
        (f"{SIZE}; out = Expand(row_6, size)", "size of the batch"),
        (f"{SIZE}; places = NonZero(table); out = Expand(places, size)", "size of the batch"),
        # look-ups
        ("pair = Slice(indices, nought, one, one); out = GatherND(table, pair)", "more than the mode"),
        ("out = Gather<axis=1>(indices, mode)", "more than stored numbers"),
        ("out = GatherElements<axis=1>(indices, indices)", "more than the mode"),
        (f"{WIDE}; out = GatherElements<axis=1>(rows_6, wide)", "more than the mode"),
        (f"{SUM}; out = Gather(table, sum)", "Gather ('node_out') looks up by more than stored numbers"),
        # what combines or computes
        *((f"out = {name}(indices, two)", "computes with indices") for name in ("Add", "Sub", "Mul", "Div")),
        ("out = Mod(indices, two)", "Mod ('node_out') computes with indices"),
        ("out = ArgMax<axis=1, keepdims=0>(indices)", "ArgMax ('node_out') "),
        ("out = CumSum(indices, one)", "CumSum ('node_out') "),
        ("out = Greater(indices, two)", "Greater ('node_out') computes with indices"),
        ("out = ReduceSum<keepdims=1>(indices, one)", "adds up what no table was looked up for"),
        (f"{LOOKED_UP}; is = Cast<to={BOOL}>(looked); out = Where(is, indices, row)", "branches on indices"),
        (f"{LOOKED_UP}; out = Mul(looked, looked)", "multiplies two tensors that depend on indices"),
        # modulo 256, and widened again, it is no sum of functions of one token each
        (f"{SUM}; out = Cast<to={UINT8}>(sum)", "casts a sum, which may have wrapped around"),
        (f"{SUM}; out = Clip(sum, two)", "clips a sum"),
        (f"{SUM}; out = Cast<to={FLOAT}>(sum)", "leaves the integers"),
        (LOOKED_UP.replace("looked", "out"), "'out' is computed with indices (TOKEN, not INDEX)"),
    ],
)
def test_what_may_combine_tokens_is_not(text: str, reason: str) -> None:
    (problem,) = problems_of(text, GIVEN, Kind.INDEX)
    assert reason in problem


def test_another_input_is_told() -> None:
    assert problems_of("out = Identity(indices)", {"mode": Kind.MODE}, Kind.SUM) == [
        "'out' is computed from the input 'indices'"
    ]


RARE_SUM = (
    "total = ReduceSum<keepdims=1>(indices, axis); trigger = Equal(total, rare);"
    "symbols = Where(trigger, nought, it)"
)
"""Symbols are 0 at indices that the run of each codeword does not contain."""


def test_no_run_finds_a_rare_sum_and_the_proof_does(one_tx) -> None:
    model = altered(one_tx.model, after("symbols", RARE_SUM, axis=[1], rare=10**6, nought=0))
    assert prove_table(GraphView(model), one_tx.manifest)[1] == []
    assert prove_cut(GraphView(model)) == []
    assert prove_integers(GraphView(model))[1] == [
        "ReduceSum ('node_total') adds up what no table was looked up for",
        "Equal ('node_trigger') computes with indices: only moves, table look-ups and weighted sums after "
        "them are known to keep tokens apart",
        "Where ('node_symbols') branches on indices: only the mode may decide",
    ]
    assert prove_hard(model, one_tx.manifest)[0] is None


def test_decisions_must_not_be_combined_before_the_indices(one_tx) -> None:
    place = reader_of(only(one_tx.model, "ArgMax").output[0])
    text = RARE_SUM.replace("(indices", "(it").replace("symbols", "other")
    model = altered(one_tx.model, ahead(place, text, axis=[1], rare=19, nought=0))
    _, problems = prove_search(GraphView(model), one_tx.manifest)
    assert (
        "between the decisions and 'indices': Where ('node_other') branches on indices: only the mode may "
        "decide" in problems
    )
