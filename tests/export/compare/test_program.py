"""Program against graph: the same model passes, an altered graph does not."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto

from tools.mutate import constant, insert_before, insert_behind, node, scalar, store
from tools.tiny_run import FOUR_MODES, eval_split
from twophase.export.compare import program
from twophase.export.compare.inputs import SPLIT_SNRS_DB
from twophase.export.compare.program import verify_receiver, verify_soft, verify_transmitter
from twophase.export.compare.tally import Tally
from twophase.export.proof.hard import prove_hard
from twophase.export.proof.mode import check_mode

FEATURES = eval_split(FOUR_MODES, 40)["input"]
TORCH = "torch and ONNX Runtime differ in"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent alone, in sevens and reordered is sent a few hundred times, not a few thousand."""
    monkeypatch.setattr(program, "_REGROUPED", 60)


def verify_tx(tx, model: ModelProto, random_inputs: int = 600) -> Tally:
    proof, problems = prove_hard(tx.model, tx.manifest)
    assert proof is not None, problems
    return verify_transmitter(tx.program, model, proof, tx.manifest, FEATURES, random_inputs, 0)


def test_program_and_graph_of_the_transmitter_agree(four_tx) -> None:
    tally = verify_tx(four_tx, four_tx.model)
    assert tally.failures == {}
    split, each = len(SPLIT_SNRS_DB) * len(FEATURES), 4 * len(FEATURES)
    assert tally.samples == {"test split": split, "each mode": each, "random": 600}
    assert sorted(tally.samples_of_mode) == [0, 1, 2, 3]
    assert sum(tally.samples_of_mode.values()) == sum(tally.samples.values())
    tokens = sum(count * FOUR_MODES.modes[mode].tokens for mode, count in tally.samples_of_mode.items())
    assert tally.counts["torch and ONNX Runtime"].compared == tokens
    assert tally.counts["float64 search and ONNX Runtime"].compared == tokens
    assert tally.different == tally.excused
    # routed samples and those of each mode, alone, in sevens, in another order; sixteen pairs of modes
    assert {what: count.compared for what, count in tally.mode_counts.items()} == {
        "torch and ONNX Runtime": split + each + 600,
        "batches of 1 and of 60": 5 * 60,
        "batches of 7 and of 60": 5 * 60,
        "a batch in another order and the batch": 5 * 60,
        "two modes side by side and samples alone": 16 * 2,
        "all pairs of modes in one batch and samples alone": 2 * 16 * 2,
    }
    # each SNR of the split is in one step of the table
    assert tally.usage == {
        -5.0: {0: 40},
        0.0: {0: 40},
        5.0: {1: 40},
        10.0: {2: 40},
        15.0: {3: 40},
        20.0: {3: 40},
    }


def test_program_and_graph_of_a_content_router_agree(content_tx, content_soft) -> None:
    tally = verify_tx(content_tx, content_tx.model)
    assert tally.failures == {}
    assert tally.different == tally.excused
    assert sorted(tally.samples_of_mode) == [0, 1, 2, 3]
    assert list(tally.usage) == list(SPLIT_SNRS_DB)
    assert all(sum(counts.values()) == len(FEATURES) for counts in tally.usage.values())
    # the content decides: one SNR, several modes
    assert max(len(counts) for counts in tally.usage.values()) > 1
    proof, _ = check_mode(content_soft.model, content_soft.manifest)
    manifest = content_soft.manifest
    tally = verify_soft(
        "soft.onnx", content_soft.program, content_soft.model, proof, manifest, FEATURES, 500, 0
    )
    assert tally.failures == {}


def test_an_altered_router_is_found(content_tx) -> None:
    model = content_tx.copy()
    store(model, "router.bias", constant(model, "router.bias") + np.float32([0.0, 0.1, 0.0, 0.0]))
    failures = verify_tx(content_tx, model).failures
    assert list(failures) == [f"{TORCH} 'mode'"]
    assert ", margin " in failures[f"{TORCH} 'mode'"]


def test_a_router_at_a_tie_may_go_either_way_and_is_counted(content_tx) -> None:
    """Scores within rounding of one another, over a table that lets the batch decide between them."""
    model = content_tx.copy()
    store(model, "router.weight", np.zeros((4, 7), dtype=np.float32))
    store(model, "router.bias", np.array([1.0, 1.0, -5.0, -5.0], dtype=np.float32))
    program_side = verify_tx(content_tx, model, 0)
    count = program_side.mode_counts["torch and ONNX Runtime"]
    # torch's own router chooses otherwise: where it is not mode 0, the tie excuses what differs
    assert 0 < count.different == count.excused
    assert program_side.failures == {}


def test_an_altered_encoder_is_found(four_tx) -> None:
    model = four_tx.copy()
    store(model, "second.bias", constant(model, "second.bias") + np.float32(0.05))
    assert [kind for kind in verify_tx(four_tx, model).failures if kind.startswith(TORCH)] == [
        f"{TORCH} 'indices'"
    ]


def test_a_result_that_depends_on_the_batch_is_found(four_tx) -> None:
    """Features centred over the batch, as batch statistics would: the deployed sample alone differs."""
    model = four_tx.copy()
    reader = next(entry for entry in model.graph.node if "input" in entry.input)
    centre = [node("ReduceMean", ["input", store(model, "first_axis", np.array([0]))], "mean", keepdims=1)]
    centre += [node("Sub", ["input", "mean"], "centred")]
    insert_before(model, reader, list(reader.input).index("input"), centre)
    failures = verify_tx(four_tx, model).failures
    assert "batches of 1 and of 60 differ in 'indices'" in failures
    assert "batches of 7 and of 60 differ in 'indices'" in failures


def test_a_neighbour_in_another_mode_that_matters_is_found(four_tx) -> None:
    """Wrong only if the batch begins in mode 0 and ends in mode 3, which no batch of one mode does."""
    model = four_tx.copy()
    ends = []
    for name, row, mode in (("first", 0, 0), ("last", -1, 3)):
        ends += [node("Gather", ["mode", store(model, f"{name}_row", np.array([row]))], name, axis=0)]
        ends += [node("Equal", [name, scalar(model, f"{name}_mode", mode, np.int64)], f"{name}_so")]
    ends += [
        node("And", ["first_so", "last_so"], "both"),
        node("Cast", ["both"], "one", to=TensorProto.INT64),
    ]
    insert_behind(model, "symbol_count", [*ends, node("Add", ["symbol_count_before", "one"], "symbol_count")])
    failures = verify_tx(four_tx, model, 0).failures
    assert "two modes side by side and samples alone differ in 'symbol_count'" in failures


def test_a_position_in_the_batch_that_matters_is_found(four_tx) -> None:
    """Features shifted by the row number: the same batch in another order differs."""
    model = four_tx.copy()
    reader = next(entry for entry in model.graph.node if "input" in entry.input)
    axes = store(model, "row_axes", np.array([1, 2]))
    ones = [node("Mul", ["snr_db", scalar(model, "nil", 0.0, np.float32)], "zeros")]
    ones += [node("Add", ["zeros", scalar(model, "unit", 1.0, np.float32)], "ones")]
    rows = [node("CumSum", ["ones", scalar(model, "along", 0, np.int64)], "row")]
    rows += [node("Unsqueeze", ["row", axes], "wide_row"), node("Add", ["input", "wide_row"], "shifted")]
    insert_before(model, reader, list(reader.input).index("input"), [*ones, *rows])
    assert "a batch in another order and the batch differ in 'indices'" in verify_tx(four_tx, model).failures


def test_a_graph_that_cannot_run_is_a_failure_and_not_a_crash(four_tx) -> None:
    model = four_tx.copy()
    # codeword numbers beyond the table
    store(model, "table_1", constant(model, "table_1")[:4])
    failures = verify_tx(four_tx, model).failures
    assert failures["comparison"].startswith("comparison broken off: ")


def test_without_searches_nothing_is_excused(one_tx) -> None:
    features = FEATURES
    tally = verify_transmitter(one_tx.program, one_tx.model, None, one_tx.manifest, features, 500, 0)
    assert tally.excused == 0
    assert "float64 search and ONNX Runtime" not in tally.counts


def test_program_and_graph_of_the_receiver_agree(four_rx) -> None:
    tally = verify_receiver("rx.onnx", four_rx.program, four_rx.model, four_rx.manifest, 2500, 0)
    assert tally.failures == {}
    # all zero and at either bound in each mode, then the random ones
    assert tally.samples == {"random": 3 * 4 + 2500}
    assert 0.0 < tally.largest_error < 1e-5
    assert tally.largest_batch_error < 1e-6
    assert (
        tally.counts["all pairs of modes in one batch and samples alone"].compared
        == 2 * 4 * (3 + 3 + 2 + 2) * 2
    )


def test_an_altered_receiver_is_found(four_rx) -> None:
    model = four_rx.copy()
    store(model, "head.bias", constant(model, "head.bias") + np.float32(1e-3))
    failures = verify_receiver("rx.onnx", four_rx.program, model, four_rx.manifest, 100, 0).failures
    assert list(failures) == [f"{TORCH} 'logits'"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_found(four_rx, value: float) -> None:
    model = four_rx.copy()
    store(model, "head.bias", np.full(5, value, dtype=np.float32))
    failures = verify_receiver("rx.onnx", four_rx.program, model, four_rx.manifest, 100, 0).failures
    assert failures == {"comparison": "comparison broken off: the graph gives NaN or infinity in 'logits'"}


def test_program_and_graph_of_the_soft_transmitter_agree(four_soft) -> None:
    model, manifest = four_soft.model, four_soft.manifest
    tally = verify_soft("soft.onnx", four_soft.program, model, None, manifest, FEATURES, 500, 0)
    assert tally.failures == {}
    split, each = len(SPLIT_SNRS_DB) * len(FEATURES), 4 * len(FEATURES)
    assert tally.samples == {"test split": split, "each mode": each, "random": 500}


def test_altered_soft_symbols_are_found(four_soft) -> None:
    model = four_soft.copy()
    gain = scalar(model, "gain", 1.01, np.float32)
    insert_behind(model, "symbols_iq", [node("Mul", ["symbols_iq_before", gain], "symbols_iq")])
    tally = verify_soft("soft.onnx", four_soft.program, model, None, four_soft.manifest, FEATURES, 100, 0)
    assert list(tally.failures) == [f"{TORCH} 'symbols_iq'"]
