"""The mode is a requested one or the manifest's: every other choice is rejected for its own reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from tools.mutate import Mutations, constant, insert_before, insert_behind, node, producer, scalar, store
from tools.tiny_run import FOUR_MODES
from twophase.export.graphs.signature import check_interface, signature_of
from twophase.export.proof.hard import prove_hard
from twophase.export.proof.mode import check_mode
from twophase.link.routing import Routing, SnrTable

Mutation = Callable[[ModelProto], None]

SECRET = (
    "'mode' is computed from 'input', which the receiver does not know: it must follow from 'snr_db' and "
    "'mode_request' alone, for no header signals the mode"
)


def routed(model: ModelProto) -> str:
    """The router's choice, before a request replaces it."""
    return str(producer(model, "mode").input[2])


def behind_router(model: ModelProto, new: Callable[[str], list]) -> None:
    """Let the Where before ``mode`` take what ``new`` makes of the routed mode."""
    insert_before(model, producer(model, "mode"), 2, new(routed(model)))


def problems_of(frozen, mutate: Mutation, manifest=None) -> list[str]:
    model = frozen.copy()
    mutate(model)
    proof, problems = check_mode(model, manifest or frozen.manifest)
    assert (proof is None) == bool(problems)
    return problems


def test_the_right_choices_are_proved(one_tx, four_tx, four_soft, content_tx, content_soft) -> None:
    for frozen in (four_tx, four_soft):
        proof, problems = check_mode(frozen.model, frozen.manifest)
        assert problems == []
        assert proof is not None
        # three thresholds with their neighbours and what lies between, and the ends
        assert proof.snr_points >= 3 * 3 + 4
        assert (proof.scores, proof.request_pairs) == ((), 5 * 4)
    for frozen in (content_tx, content_soft):
        proof, problems = check_mode(frozen.model, frozen.manifest)
        assert problems == []
        assert proof is not None
        assert (len(proof.scores), proof.snr_points, proof.request_pairs) == (1, 0, 5 * 4)
    proof, problems = check_mode(one_tx.model, one_tx.manifest)
    assert problems == []
    assert proof is not None
    assert proof.request_pairs == 0


# --- a mode that both ends derive from the SNR


def mode_from_the_features(model: ModelProto) -> None:
    limit = scalar(model, "limit", 1e6, np.float32)
    peak = [node("ReduceMax", ["input", store(model, "axes_12", np.array([1, 2]))], "peak", keepdims=0)]
    peak += [node("Greater", ["peak", limit], "rare"), node("Cast", ["rare"], "one", to=TensorProto.INT64)]
    behind_router(model, lambda name: [*peak, node("Sub", [name, "one"], "altered")])


def mode_from_a_count_of_features(model: ModelProto) -> None:
    """No value of the features is read, only the shape of the list of those that are not zero."""
    count = [node("NonZero", ["input"], "places"), node("Shape", ["places"], "count", start=1, end=2)]
    many = scalar(model, "many", 10**9, np.int64)
    count += [node("Greater", ["count", many], "rare"), node("Cast", ["rare"], "one", to=TensorProto.INT64)]
    behind_router(model, lambda name: [*count, node("Sub", [name, "one"], "altered")])


@pytest.mark.parametrize("mutate", [mode_from_the_features, mode_from_a_count_of_features])
def test_a_mode_that_the_receiver_cannot_know_is_rejected(four_tx, four_soft, mutate: Mutation) -> None:
    for frozen in (four_tx, four_soft):
        assert problems_of(frozen, mutate) == [SECRET]
    model = four_tx.copy()
    mutate(model)
    assert prove_hard(model, four_tx.manifest) == (None, [SECRET])


def test_a_content_router_without_a_header_is_rejected(content_tx, content_soft) -> None:
    for frozen in (content_tx, content_soft):
        without = replace(frozen.manifest, routing=FOUR_MODES.routing())
        assert problems_of(frozen, lambda model: None, without) == [SECRET]


BY_SNR = Mutations()


@BY_SNR("'mode' is 1 at 10.0 dB, where 2 is what the manifest's routing table gives")
def a_threshold_moved(model: ModelProto) -> None:
    value = constant(model, "thresholds")
    value[1] = np.nextafter(value[1], np.float32(np.inf))
    store(model, "thresholds", value)


@BY_SNR("'mode' is 2 at 5.0 dB, where 1 is what the manifest's routing table gives")
def two_modes_swapped(model: ModelProto) -> None:
    name = next(tensor.name for tensor in model.graph.initializer if is_steps(tensor))
    store(model, name, np.array([0, 2, 1, 3]))


def is_steps(tensor: TensorProto) -> bool:
    return bool(np.array_equal(numpy_helper.to_array(tensor).ravel(), np.arange(4)))


@BY_SNR("'mode' is 0 at 5.0 dB, where 1 is what")
def a_threshold_belongs_to_the_step_below(model: ModelProto) -> None:
    next(entry for entry in model.graph.node if "thresholds" in entry.input).op_type = "Greater"


@BY_SNR("'mode' is 2 at 17.3 dB, where 3 is what the manifest's routing table")
def another_mode_in_a_narrow_gap(model: ModelProto) -> None:
    """Between two neighbouring float32 values at 17.3 dB, where no other test would look."""
    low = store(model, "low", np.array(17.3, dtype=np.float32))
    high = store(model, "high", np.nextafter(np.array(17.3, dtype=np.float32), np.float32(np.inf)))
    gap = [node("GreaterOrEqual", ["snr_db", low], "above"), node("Less", ["snr_db", high], "below")]
    gap += [node("And", ["above", "below"], "inside"), node("Cast", ["inside"], "one", to=TensorProto.INT64)]
    behind_router(model, lambda name: [*gap, node("Sub", [name, "one"], "altered")])


@BY_SNR("comparing 'snr_db' with stored numbers, and takes values from Floor ('node_floor')")
def rounded_snr(model: ModelProto) -> None:
    step = scalar(model, "five_db", 5.0, np.float32)
    rounded = [node("Div", ["snr_db", step], "fifths"), node("Floor", ["fifths"], "floor")]
    rounded += [node("Cast", ["floor"], "whole", to=TensorProto.INT64)]
    low, high = scalar(model, "low", 0, np.int64), scalar(model, "high", 3, np.int64)
    behind_router(model, lambda name: [*rounded, node("Clip", ["whole", low, high], "altered")])


@BY_SNR("comparing 'snr_db' with stored numbers, and takes values from GreaterOrEqual")
def scaled_snr(model: ModelProto) -> None:
    compare = next(entry for entry in model.graph.node if "thresholds" in entry.input)
    double = node("Add", [compare.input[0], compare.input[0]], "doubled")
    insert_before(model, compare, 0, [double])
    store(model, "thresholds", 2 * constant(model, "thresholds"))


@BY_SNR("'mode' is 0 at 5.0 dB, where 1 is what")
def neighbours_snr(model: ModelProto) -> None:
    """The mode of a sample is that of the first one of its batch."""
    first = store(model, "first_row", np.array([0]))
    ones = [node("Shape", ["snr_db"], "size")]
    behind_router(
        model,
        lambda name: [
            node("Gather", [name, first], "first"),
            *ones,
            node("Expand", ["first", "size"], "altered"),
        ],
    )


@pytest.mark.parametrize(("mutate", "reasons"), BY_SNR)
def test_another_function_of_the_snr_is_rejected(four_tx, four_soft, mutate: Mutation, reasons) -> None:
    for frozen in (four_tx, four_soft):
        (problem,) = problems_of(frozen, mutate)
        assert reasons[0] in problem


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (SnrTable((5.0, 9.5, 15.0), (0, 1, 2, 3)), "'mode' is 1 at 9.5 dB, where 2 is what the manifest's"),
        (SnrTable((5.0, 10.0, 15.0), (0, 1, 3, 2)), "'mode' is 2 at 10.0 dB, where 3 is what the manifest's"),
        (SnrTable((5.0, 15.0), (0, 1, 3)), "'mode' is 2 at 10.0 dB, where 1 is what the manifest's"),
        (SnrTable((), (3,)), "'mode' is 0 at "),
    ],
)
def test_another_table_in_the_manifest_is_rejected(four_tx, table: SnrTable, reason: str) -> None:
    manifest = replace(four_tx.manifest, routing=Routing("snr", table, 0.0, ()))
    (problem,) = problems_of(four_tx, lambda model: None, manifest)
    assert problem.startswith(reason)


def test_the_shapes_of_the_inputs_may_make_the_mode(four_tx) -> None:
    model = four_tx.copy()
    size = [node("Shape", ["input"], "size", start=0, end=1)]
    insert_behind(model, "mode", [*size, node("Expand", ["mode_before", "size"], "mode")])
    assert check_mode(model, four_tx.manifest)[1] == []


# --- a mode that the content decides


BY_CONTENT = Mutations()


@BY_CONTENT("'mode' must be an ArgMax over scores, and takes values from Abs ('node_size')")
def rounded_scores(model: ModelProto) -> None:
    mean = [node("ReduceMean", ["input", store(model, "axes_12", np.array([1, 2]))], "mean", keepdims=0)]
    whole = [node("Abs", ["mean"], "size"), node("Cast", ["size"], "whole", to=TensorProto.INT64)]
    three = scalar(model, "three", 3, np.int64)
    behind_router(model, lambda name: [*mean, *whole, node("Min", ["whole", three], "altered")])


@BY_CONTENT("'mode' must be an ArgMax over scores, and takes values from ArgMin ('node_argmax')")
def least_score(model: ModelProto) -> None:
    next(entry for entry in model.graph.node if entry.output[0] == routed(model)).op_type = "ArgMin"


@BY_CONTENT("before 'mode' must decide over the last axis of scores of shape (batch, choices)")
def over_the_batch(model: ModelProto) -> None:
    decision = next(entry for entry in model.graph.node if entry.output[0] == routed(model))
    next(item for item in decision.attribute if item.name == "axis").i = 0
    insert_before(model, decision, 0, [node("Transpose", [decision.input[0]], "across", perm=[1, 0])])


@BY_CONTENT("before 'mode' must decide over the last axis of scores of shape (batch, choices)")
def over_other_rows(model: ModelProto) -> None:
    """One decision for each of the four scores, whatever the batch."""
    decision = next(entry for entry in model.graph.node if entry.output[0] == routed(model))
    insert_before(model, decision, 0, [node("Transpose", [decision.input[0]], "across", perm=[1, 0])])


@pytest.mark.parametrize(("mutate", "reasons"), BY_CONTENT)
def test_a_choice_by_content_that_is_no_argmax_is_rejected(content_tx, mutate: Mutation, reasons) -> None:
    problems = problems_of(content_tx, mutate)
    assert any(reasons[0] in problem for problem in problems), problems


def test_rates_and_modulations_may_be_chosen_apart(content_tx) -> None:
    """Two decisions that make one mode: both count for the margin."""
    model = content_tx.copy()
    decision = next(entry for entry in model.graph.node if entry.output[0] == routed(model))
    scores, axis = decision.input[0], store(model, "last", np.array([1]))
    parts = []
    for name, start in (("rate", 0), ("modulation", 2)):
        ends = [store(model, f"{name}_{at}", np.array([start + at])) for at in (0, 2)]
        parts += [
            node("Slice", [scores, *ends, axis], f"{name}_scores"),
            node("ArgMax", [f"{name}_scores"], name, axis=1, keepdims=0),
        ]
    two = scalar(model, "two", 2, np.int64)
    parts += [node("Mul", ["rate", two], "first"), node("Add", ["first", "modulation"], "altered")]
    insert_before(model, producer(model, "mode"), 2, parts)
    proof, problems = check_mode(model, content_tx.manifest)
    assert problems == []
    assert proof is not None
    assert sorted(proof.scores) == ["modulation_scores", "rate_scores"]


# --- the request


def where(model: ModelProto):
    return producer(model, "mode")


REQUEST = Mutations()


@REQUEST("'mode' must be made by a Where that takes 'mode_request' where that is not negative")
def request_ignored(model: ModelProto) -> None:
    name = routed(model)
    entry = where(model)
    entry.op_type = "Identity"
    del entry.input[:]
    entry.input.append(name)


@REQUEST("a request is not honoured: 'mode' is 1 where 0 is requested and 0 routed, not 0")
def request_off_by_one(model: ModelProto) -> None:
    three, one = scalar(model, "three", 3, np.int64), scalar(model, "one_more", 1, np.int64)
    asked = where(model).input[1]
    more = [node("Add", [asked, one], "sum"), node("Min", ["sum", three], "next")]
    insert_before(model, where(model), 1, more)


@REQUEST("'mode' is 1 where 0 is requested and 1 routed, not 0")
def request_for_mode_0_ignored(model: ModelProto) -> None:
    producer(model, where(model).input[0]).op_type = "Greater"


@REQUEST("'mode' is 1 where 0 is requested and 1 routed, not 0")
def request_for_one_sample_only(model: ModelProto) -> None:
    """All samples of a batch get the request of the first."""
    first = store(model, "first_row", np.array([0]))
    for entry in model.graph.node:
        if "mode_request" in entry.input:
            insert_before(model, entry, 0, [node("Gather", ["mode_request", first], "one_for_all", axis=0)])
            break


@REQUEST("'mode' takes values from 'snr_db' past 'mode_request' and the router's")
def request_switched_by_the_snr(model: ModelProto) -> None:
    limit = scalar(model, "limit", 50.0, np.float32)
    loud = [node("Less", ["snr_db", limit], "usual"), node("And", ["usual", where(model).input[0]], "both")]
    insert_before(model, where(model), 0, loud)


@REQUEST("'mode' must be made by a Where that takes 'mode_request'")
def router_that_sees_the_request(model: ModelProto) -> None:
    behind_router(model, lambda name: [node("Max", [name, "mode_request"], "altered")])


@pytest.mark.parametrize(("mutate", "reasons"), REQUEST)
def test_a_request_that_is_not_honoured_is_rejected(
    four_tx, content_tx, content_soft, mutate: Mutation, reasons
) -> None:
    for frozen in (four_tx, content_tx, content_soft):
        problems = problems_of(frozen, mutate)
        assert any(reasons[0] in problem for problem in problems), problems


def test_the_request_must_be_there_with_its_default(four_tx) -> None:
    signature = signature_of("tx.onnx", four_tx.manifest)
    model = four_tx.copy()
    store(model, "mode_request", np.array([0]))
    assert check_interface(model, signature) == ["input 'mode_request' must have the default [-1], not [0]"]
    model = four_tx.copy()
    store(model, "snr_db", np.zeros(1, dtype=np.float32))
    assert check_interface(model, signature) == ["input 'snr_db' must have no default, not [0.0]"]
    model = four_tx.copy()
    kept = [tensor for tensor in model.graph.initializer if tensor.name != "mode_request"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    assert check_interface(model, signature) == ["input 'mode_request' must have the default [-1], not none"]


def test_a_graph_whose_mode_cannot_be_proved_is_told(four_soft) -> None:
    model = four_soft.copy()
    del model.graph.output[0]
    assert check_mode(model, four_soft.manifest) == (None, ["output 'mode' is missing"])
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    proof, (problem,) = check_mode(model, four_soft.manifest)
    assert proof is None
    assert problem.startswith("the graph does not type-check: ")
