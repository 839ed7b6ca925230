"""The mode is a requested one or the manifest's: every other choice is rejected for its own reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto

from tools.mutate import Alteration, Place, after, ahead, altered, cases, changed, producer, reader_of
from tools.tiny_run import CONTENT, FOUR_MODES, eval_split
from twophase.export.compare.program import verify_soft, verify_transmitter
from twophase.export.graphs.signature import check_interface, signature_of
from twophase.export.graphs.torch_program import IR_VERSION, OPSET
from twophase.export.graphs.view import GraphView, serialize
from twophase.export.options import exported_routing
from twophase.export.proof.hard import HardProof, prove_hard
from twophase.export.proof.mode import ModeProof, check_mode, find_switch, install_table
from twophase.link.routing import Routing, SnrTable

INT64 = TensorProto.INT64


def of_switch(position: int) -> Place:
    """The Where that makes ``mode``: its condition (0), the request (1) or the routed mode (2)."""
    return lambda model: (producer(model, "mode"), position)


routed_mode = of_switch(2)


def router(model: ModelProto) -> NodeProto:
    """What makes the routed mode."""
    return producer(model, producer(model, "mode").input[2])


def proved(model: ModelProto, manifest) -> ModeProof:
    proof, problems = check_mode(model, manifest)
    assert problems == []
    assert proof is not None
    return proof


def rejected(model: ModelProto, manifest, reason: str) -> None:
    proof, problems = check_mode(model, manifest)
    assert proof is None
    assert any(problem.startswith(reason) for problem in problems), problems


def test_the_right_choices_are_proved(one_tx, four_tx, four_soft, content_tx) -> None:
    for frozen in (four_tx, four_soft):
        proof = proved(frozen.model, frozen.manifest)
        # three thresholds with their neighbours and what lies between, and the ends
        assert proof.snr_points >= 3 * 3 + 4
        assert (proof.scores, proof.request_pairs) == ((), 5 * 4)
    proof = proved(content_tx.model, content_tx.manifest)
    assert (len(proof.scores), proof.snr_points, proof.request_pairs) == (1, 0, 5 * 4)
    assert proved(one_tx.model, one_tx.manifest).request_pairs == 0


# --- a mode that both ends derive from the SNR


SECRET = (
    "'mode' is computed from 'input', which the receiver does not know: it must follow from 'snr_db' and "
    "'mode_request' alone, for no header signals the mode"
)
NOT_COMPARED = "'mode' must come about by comparing 'snr_db' with stored numbers, and takes values from "
NARROW = np.float32(17.3)


def two_modes_swapped(model: ModelProto) -> None:
    changed(router(model).input[0], lambda value: np.array([0, 2, 1, 3]))(model)


def a_threshold_belongs_to_the_step_below(model: ModelProto) -> None:
    reader_of("thresholds")(model)[0].op_type = "Greater"


def scaled_snr(model: ModelProto) -> None:
    compare, _ = reader_of("thresholds")(model)
    ahead(lambda model: (compare, 0), "doubled = Add(it, it)")(model)
    changed("thresholds", lambda value: 2 * value)(model)


BY_SNR = cases(
    read_from_the_features=(
        ahead(
            routed_mode,
            "peak = ReduceMax<keepdims=0>(input, axes); rare = Greater(peak, limit);"
            f"one = Cast<to={INT64}>(rare); altered = Sub(it, one)",
            axes=[1, 2],
            limit=np.float32(1e6),
        ),
        SECRET,
    ),
    # no value of the features is read, only the shape of the list of those that are not zero
    read_from_a_count_of_features=(
        ahead(
            routed_mode,
            "places = NonZero(input); count = Shape<start=1, end=2>(places); rare = Greater(count, many);"
            f"one = Cast<to={INT64}>(rare); altered = Sub(it, one)",
            many=10**9,
        ),
        SECRET,
    ),
    a_threshold_moved=(
        changed("thresholds", lambda value: np.nextafter(value, value + np.float32([0, 1, 0]))),
        "'mode' is 1 at 10.0 dB, where 2 is what the manifest's routing table gives",
    ),
    two_modes_swapped=(two_modes_swapped, "'mode' is 2 at 5.0 dB, where 1 is what the manifest's routing"),
    a_threshold_belongs_to_the_step_below=(
        a_threshold_belongs_to_the_step_below,
        "'mode' is 0 at 5.0 dB, where 1 is what",
    ),
    # between two neighbouring float32 values at 17.3 dB, where no other test would look
    another_mode_in_a_narrow_gap=(
        ahead(
            routed_mode,
            "above = GreaterOrEqual(snr_db, low); below = Less(snr_db, high); inside = And(above, below);"
            f"one = Cast<to={INT64}>(inside); altered = Sub(it, one)",
            low=NARROW,
            high=np.nextafter(NARROW, np.float32(np.inf)),
        ),
        "'mode' is 2 at 17.3 dB, where 3 is what the manifest's routing table",
    ),
    rounded_snr=(
        ahead(
            routed_mode,
            f"fifths = Div(snr_db, five_db); floor = Floor(fifths); altered = Cast<to={INT64}>(floor)",
            five_db=np.float32(5),
        ),
        f"{NOT_COMPARED}Floor ('node_floor')",
    ),
    scaled_snr=(scaled_snr, f"{NOT_COMPARED}GreaterOrEqual"),
    the_neighbours_snr=(
        ahead(
            routed_mode,
            "first = Gather(it, row); size = Shape(snr_db); altered = Expand(first, size)",
            row=[0],
        ),
        "'mode' is 0 at 5.0 dB, where 1 is what",
    ),
)


@pytest.mark.parametrize(("alter", "reasons"), BY_SNR)
def test_another_function_of_the_snr_is_rejected(four_tx, alter: Alteration, reasons) -> None:
    model = altered(four_tx.model, alter)
    rejected(model, four_tx.manifest, reasons[0])
    assert any(reasons[0] in problem for problem in prove_hard(model, four_tx.manifest)[1])


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (SnrTable((5.0, 9.5, 15.0), (0, 1, 2, 3)), "'mode' is 1 at 9.5 dB, where 2 is what the manifest's"),
        (SnrTable((), (3,)), "'mode' is 0 at "),
    ],
)
def test_another_table_in_the_manifest_is_rejected(four_tx, table: SnrTable, reason: str) -> None:
    rejected(four_tx.model, replace(four_tx.manifest, routing=Routing("snr", table, 0.0, ())), reason)


def test_the_shapes_of_the_inputs_may_make_the_mode(four_tx) -> None:
    alter = after("mode", "size = Shape<start=0, end=1>(input); mode = Expand(it, size)")
    proved(altered(four_tx.model, alter), four_tx.manifest)


# --- a mode that the content decides


def test_a_content_router_without_a_header_is_rejected(content_tx) -> None:
    rejected(content_tx.model, replace(content_tx.manifest, routing=FOUR_MODES.routing()), SECRET)


def least_score(model: ModelProto) -> None:
    router(model).op_type = "ArgMin"


def over_other_rows(model: ModelProto) -> None:
    """One decision for each of the four scores, whatever the batch."""
    ahead(lambda model: (router(model), 0), "across = Transpose<perm=[1, 0]>(it)")(model)


def over_the_batch(model: ModelProto) -> None:
    over_other_rows(model)
    next(item for item in router(model).attribute if item.name == "axis").i = 0


BY_CONTENT = cases(
    rounded_scores=(
        ahead(
            routed_mode,
            f"mean = ReduceMean<keepdims=0>(input, axes); size = Abs(mean); altered = Cast<to={INT64}>(size)",
            axes=[1, 2],
        ),
        "'mode' must be an ArgMax over scores, and takes values from Abs ('node_size')",
    ),
    least_score=(
        least_score,
        "'mode' must be an ArgMax over scores, and takes values from ArgMin ('node_arg",
    ),
    over_the_batch=(over_the_batch, "ArgMax ('node_argmax') before 'mode' must decide over the last axis"),
    over_other_rows=(over_other_rows, "ArgMax ('node_argmax') before 'mode' must decide over the last axis"),
)


@pytest.mark.parametrize(("alter", "reasons"), BY_CONTENT)
def test_a_choice_by_content_that_is_no_argmax_is_rejected(content_tx, alter: Alteration, reasons) -> None:
    rejected(altered(content_tx.model, alter), content_tx.manifest, reasons[0])


def test_rates_and_modulations_may_be_chosen_apart(content_tx) -> None:
    """Two decisions that make one mode: both count for the margin."""
    scores = router(content_tx.model).input[0]
    text = (
        f"rate_scores = Slice({scores}, zero, two, last);"
        f"modulation_scores = Slice({scores}, two, four, last);"
        "rate = ArgMax<axis=1, keepdims=0>(rate_scores);"
        "modulation = ArgMax<axis=1, keepdims=0>(modulation_scores);"
        "first = Mul(rate, pairs); altered = Add(first, modulation)"
    )
    alter = ahead(routed_mode, text, zero=[0], two=[2], four=[4], last=[1], pairs=2)
    proof = proved(altered(content_tx.model, alter), content_tx.manifest)
    assert sorted(proof.scores) == ["modulation_scores", "rate_scores"]


# --- the request


def request_ignored(model: ModelProto) -> None:
    where = producer(model, "mode")
    where.op_type = "Identity"
    where.input[:] = [where.input[2]]


def request_for_mode_0_ignored(model: ModelProto) -> None:
    producer(model, producer(model, "mode").input[0]).op_type = "Greater"


NO_SWITCH = "'mode' must be made by a Where that takes 'mode_request' where that is not negative"
NOT_HONOURED = "a request is not honoured: 'mode' is "
REQUEST = cases(
    request_ignored=(request_ignored, NO_SWITCH),
    request_off_by_one=(
        ahead(of_switch(1), "more = Add(it, one_more); other = Min(more, three)", one_more=1, three=3),
        f"{NOT_HONOURED}1 where 0 is requested and 0 routed, not 0",
    ),
    request_for_mode_0_ignored=(
        request_for_mode_0_ignored,
        f"{NOT_HONOURED}1 where 0 is requested and 1 routed, not 0",
    ),
    # all samples of a batch get the request of the first
    request_for_one_sample_only=(
        ahead(reader_of("mode_request"), "one_for_all = Gather<axis=0>(it, first_row)", first_row=[0]),
        f"{NOT_HONOURED}1 where 0 is requested and 1 routed, not 0",
    ),
    request_switched_by_the_snr=(
        ahead(of_switch(0), "usual = Less(snr_db, limit); both = And(usual, it)", limit=np.float32(50)),
        "'mode' takes values from 'snr_db' past 'mode_request' and the router's",
    ),
    router_that_sees_the_request=(ahead(routed_mode, "altered = Max(it, mode_request)"), NO_SWITCH),
)


@pytest.mark.parametrize(("alter", "reasons"), REQUEST)
def test_a_request_that_is_not_honoured_is_rejected(four_tx, content_tx, alter: Alteration, reasons) -> None:
    for frozen in (four_tx, content_tx):
        rejected(altered(frozen.model, alter), frozen.manifest, reasons[0])


def test_a_graph_whose_mode_cannot_be_proved_is_told(four_soft) -> None:
    model = altered(four_soft.model)
    del model.graph.output[0]
    rejected(model, four_soft.manifest, "output 'mode' is missing")
    model.graph.output[0].type.tensor_type.elem_type = INT64
    rejected(model, four_soft.manifest, "the graph does not type-check: ")


# --- a table takes the router's place: the graph forgets the router and changes in nothing else

FEATURES = eval_split(CONTENT, 40)["input"]
TABLE = SnrTable((2.5, 11.0), (3, 0, 2))


def routed_by_table(frozen):
    manifest = replace(frozen.manifest, routing=replace(frozen.manifest.routing, table=TABLE))
    return replace(manifest, routing=exported_routing(manifest, "table"))


def proved_hard(model: ModelProto, manifest) -> HardProof:
    proof, problems = prove_hard(model, manifest)
    assert problems == []
    assert proof is not None
    return proof


def test_the_router_is_gone(content_tx, content_soft) -> None:
    for frozen in (content_tx, content_soft):
        before = serialize(frozen.model)
        assert b"router.weight" in before
        model = install_table(frozen.model, TABLE)
        assert serialize(frozen.model) == before
        onnx.checker.check_model(model, full_check=True)
        assert (model.ir_version, model.opset_import[0].version) == (IR_VERSION, OPSET)
        view = GraphView(model)
        assert view.sources(["mode"], shapes="none") == {"snr_db", "mode_request"}
        assert view.inputs == {"input", "snr_db", "mode_request"}
        stored = {tensor.name for tensor in model.graph.initializer}
        assert not any(name.startswith("router.") for name in stored)
        read = {name for entry in model.graph.node for name in entry.input} | view.outputs
        assert stored <= read | {"mode_request"}
        assert all(read & set(entry.output) for entry in model.graph.node)


def test_the_table_is_proved_and_equals_torch_mode_by_mode(content_tx, content_soft) -> None:
    manifest = routed_by_table(content_tx)
    model = install_table(content_tx.model, TABLE)
    assert check_interface(model, signature_of("tx.onnx", manifest)) == []
    proof = proved_hard(model, manifest)
    assert proof.mode.snr_points > 8
    tally = verify_transmitter(content_tx.program, model, proof, manifest, FEATURES, 600, 0, TABLE)
    assert (tally.failures, tally.different) == ({}, 0)
    assert set(tally.samples_of_mode) == {0, 1, 2, 3}
    # mode 1 is in no step of the table: it can only be asked for
    assert {mode for counts in tally.usage.values() for mode in counts} == {0, 2, 3}
    soft = install_table(content_soft.model, TABLE)
    mode = proved(soft, manifest)
    tally = verify_soft("soft.onnx", content_soft.program, soft, mode, manifest, FEATURES, 500, 0, TABLE)
    assert tally.failures == {}
    # the same comparison with the router that the table replaced sees the difference
    tally = verify_transmitter(content_tx.program, model, proof, manifest, FEATURES, 0, 0)
    assert list(tally.failures) == ["torch and ONNX Runtime differ in 'mode'"]


@pytest.mark.parametrize("table", [SnrTable((), (1,)), SnrTable((0.0,), (1, 0))])
def test_a_table_may_replace_a_table_and_have_a_single_step(four_tx, table: SnrTable) -> None:
    model = install_table(install_table(four_tx.model, TABLE), table)
    assert serialize(model) == serialize(install_table(install_table(four_tx.model, table), table))
    manifest = replace(four_tx.manifest, routing=replace(four_tx.manifest.routing, table=table))
    proof = proved_hard(model, manifest)
    tally = verify_transmitter(four_tx.program, model, proof, manifest, FEATURES, 100, 0, table)
    assert tally.failures == {}


def test_a_router_that_decides_more_than_the_mode_is_told(content_tx) -> None:
    """Indices that are selected by the routed mode, and not by the mode that is sent, do not come along."""
    switch = find_switch(GraphView(content_tx.model))
    assert switch is not None
    routed = switch[0].input[switch[1]]
    model = altered(content_tx.model, ahead(reader_of("mode"), f"same_mode = Identity({routed})"))
    _, problems = prove_hard(install_table(model, TABLE), routed_by_table(content_tx))
    assert any("'indices'" in problem for problem in problems), problems


def test_a_graph_without_a_place_for_it_comes_back_as_it_is(one_tx, four_tx) -> None:
    assert serialize(install_table(one_tx.model, TABLE)) == serialize(one_tx.model)
    model = altered(four_tx.model)
    where = producer(model, "mode")
    del where.input[0]
    for operator in ("Mul", "Nothing"):
        where.op_type = operator
        assert serialize(install_table(model, TABLE)) == serialize(model)
