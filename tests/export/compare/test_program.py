"""Program against graph: the same model passes, an altered graph does not."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, NodeProto

from tools.mutate import Alteration, after, ahead, cases, changed, constant, store
from tools.tiny_run import FOUR_MODES, eval_split
from twophase.export.compare import program
from twophase.export.compare.inputs import SPLIT_SNRS_DB
from twophase.export.compare.program import verify_receiver, verify_soft, verify_transmitter
from twophase.export.compare.tally import Tally
from twophase.export.proof.hard import prove_hard
from twophase.export.proof.mode import check_mode

FEATURES = eval_split(FOUR_MODES, 40)["input"]
TORCH = "torch and ONNX Runtime differ in"
SPLIT, EACH = len(SPLIT_SNRS_DB) * len(FEATURES), 4 * len(FEATURES)
REGROUPED = 60


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent alone, in sevens and reordered is sent a few hundred times, not a few thousand."""
    monkeypatch.setattr(program, "_REGROUPED", REGROUPED)


def verify_tx(tx, model: ModelProto, random_inputs: int = 600) -> Tally:
    proof, problems = prove_hard(tx.model, tx.manifest)
    assert proof is not None, problems
    return verify_transmitter(tx.program, model, proof, tx.manifest, FEATURES, random_inputs, 0)


def verify_rx(rx, model: ModelProto, count: int = 100) -> Tally:
    return verify_receiver("rx.onnx", rx.program, model, rx.manifest, count, 0)


def verify_iq(soft, model: ModelProto, proof=None) -> Tally:
    return verify_soft("soft.onnx", soft.program, model, proof, soft.manifest, FEATURES, 500, 0)


def test_program_and_graph_of_the_transmitter_agree(four_tx) -> None:
    tally = verify_tx(four_tx, four_tx.model)
    assert tally.failures == {}
    assert tally.samples == {"test split": SPLIT, "each mode": EACH, "random": 600}
    assert sorted(tally.samples_of_mode) == [0, 1, 2, 3]
    assert sum(tally.samples_of_mode.values()) == sum(tally.samples.values())
    tokens = sum(count * FOUR_MODES.modes[mode].tokens for mode, count in tally.samples_of_mode.items())
    assert tally.counts["torch and ONNX Runtime"].compared == tokens
    assert tally.counts["float64 search and ONNX Runtime"].compared == tokens
    assert tally.different == tally.excused
    # routed samples and those of each mode, alone, in sevens, in another order; sixteen pairs of modes
    assert {what: count.compared for what, count in tally.mode_counts.items()} == {
        "torch and ONNX Runtime": SPLIT + EACH + 600,
        "batches of 1 and of 60": 5 * REGROUPED,
        "batches of 7 and of 60": 5 * REGROUPED,
        "a batch in another order and the batch": 5 * REGROUPED,
        "two modes side by side and samples alone": 16 * 2,
        "all pairs of modes in one batch and samples alone": 2 * 16 * 2,
    }
    # each SNR of the split is in one step of the table
    assert tally.usage == {
        snr_db: {mode: 40} for snr_db, mode in zip(SPLIT_SNRS_DB, (0, 0, 1, 2, 3, 3), strict=True)
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
    assert verify_iq(content_soft, content_soft.model, proof).failures == {}


def test_an_altered_router_is_found(content_tx) -> None:
    model = content_tx.copy()
    changed("router.bias", lambda value: value + np.float32([0.0, 0.1, 0.0, 0.0]))(model)
    failures = verify_tx(content_tx, model).failures
    assert list(failures) == [f"{TORCH} 'mode'"]
    assert ", margin " in failures[f"{TORCH} 'mode'"]


def test_a_router_at_a_tie_may_go_either_way_and_is_counted(content_tx) -> None:
    """Scores within rounding of one another, over a table that lets the batch decide between them."""
    model = content_tx.copy()
    store(model, "router.weight", np.zeros((4, 7), dtype=np.float32))
    store(model, "router.bias", np.array([1.0, 1.0, -5.0, -5.0], dtype=np.float32))
    tally = verify_tx(content_tx, model, 0)
    count = tally.mode_counts["torch and ONNX Runtime"]
    # torch's own router chooses otherwise: where it is not mode 0, the tie excuses what differs
    assert 0 < count.different == count.excused
    assert tally.failures == {}


def reader(model: ModelProto) -> tuple[NodeProto, int]:
    node = next(entry for entry in model.graph.node if "input" in entry.input and entry.op_type != "Shape")
    return node, list(node.input).index("input")


ALTERED = cases(
    encoder=(changed("second.bias", lambda value: value + np.float32(0.05)), f"{TORCH} 'indices'"),
    # features centred over the batch, as batch statistics would: the deployed sample alone differs
    batch=(
        ahead(reader, "mean = ReduceMean<keepdims=1>(it, first); y = Sub(it, mean)", first=[0]),
        "batches of 1 and of 60 differ in 'indices'",
        "batches of 7 and of 60 differ in 'indices'",
    ),
    # wrong only if the batch begins in mode 0 and ends in mode 3, which no batch of one mode does
    neighbour=(
        after(
            "symbol_count",
            "one = Gather(mode, begin); two = Gather(mode, end); first = Equal(one, none);"
            "last = Equal(two, three); both = And(first, last); more = Cast<to=7>(both);"
            "symbol_count = Add(it, more)",
            begin=[0],
            end=[-1],
            none=0,
            three=3,
        ),
        "two modes side by side and samples alone differ in 'symbol_count'",
    ),
    # features shifted by the row number: the same batch in another order differs
    position=(
        ahead(
            reader,
            "zeros = Sub(snr_db, snr_db); ones = Exp(zeros); row = CumSum(ones, along);"
            "wide = Unsqueeze(row, axes); y = Add(it, wide)",
            along=0,
            axes=[1, 2],
        ),
        "a batch in another order and the batch differ in 'indices'",
    ),
    codewords_beyond_the_table=(changed("table_1", lambda value: value[:4]), "comparison broken off: "),
)


@pytest.mark.parametrize(("alter", "reasons"), ALTERED)
def test_an_altered_transmitter_is_found(four_tx, alter: Alteration, reasons: tuple[str, ...]) -> None:
    model = four_tx.copy()
    alter(model)
    failures = verify_tx(four_tx, model).failures
    for reason in reasons:
        assert any(text.startswith(reason) for text in failures.values()), failures


def test_without_searches_nothing_is_excused(one_tx) -> None:
    tally = verify_transmitter(one_tx.program, one_tx.model, None, one_tx.manifest, FEATURES, 500, 0)
    assert tally.excused == 0
    assert "float64 search and ONNX Runtime" not in tally.counts


def test_program_and_graph_of_the_receiver_agree(four_rx) -> None:
    tally = verify_rx(four_rx, four_rx.model, 2500)
    assert tally.failures == {}
    # all zero and at either bound in each mode, then the random ones
    assert tally.samples == {"random": 3 * 4 + 2500}
    assert 0.0 < tally.largest_error < 1e-5
    assert tally.largest_batch_error < 1e-6
    pairs = tally.counts["all pairs of modes in one batch and samples alone"]
    assert pairs.compared == 2 * 4 * (3 + 3 + 2 + 2) * 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (1e-3, {f"{TORCH} 'logits'": f"{TORCH} 'logits' by up to "}),
        (np.nan, {"comparison": "comparison broken off: the graph gives NaN or infinity in 'logits'"}),
        (np.inf, {"comparison": "comparison broken off: the graph gives NaN or infinity in 'logits'"}),
    ],
)
def test_an_altered_receiver_is_found(four_rx, change: float, told: dict[str, str]) -> None:
    model = four_rx.copy()
    store(model, "head.bias", constant(model, "head.bias") + np.float32(change))
    failures = verify_rx(four_rx, model).failures
    assert list(failures) == list(told)
    for kind, text in told.items():
        assert failures[kind].startswith(text)


def test_program_and_graph_of_the_soft_transmitter_agree(four_soft) -> None:
    tally = verify_iq(four_soft, four_soft.model)
    assert tally.failures == {}
    assert tally.samples == {"test split": SPLIT, "each mode": EACH, "random": 500}


def test_altered_soft_symbols_are_found(four_soft) -> None:
    model = four_soft.copy()
    after("symbols_iq", "symbols_iq = Mul(it, gain)", gain=np.float32(1.01))(model)
    assert list(verify_iq(four_soft, model).failures) == [f"{TORCH} 'symbols_iq'"]
