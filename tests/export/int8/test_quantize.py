"""INT8 graphs: exact on a grid, close elsewhere, and nothing touched but encoder and classifier."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tools.mutate import (
    Alteration,
    changed,
    constant,
    insert_before,
    insert_behind,
    node,
    producer,
    scalar,
    store,
)
from tools.tiny_run import (
    FOUR_GRID,
    FOUR_MODES,
    INPUT_SHAPE,
    eval_split,
    grid_manifest,
    write_grid_bundle,
)
from twophase.export.compare.inputs import llr_batches
from twophase.export.graphs.run import OnnxRuntime, Values
from twophase.export.graphs.signature import check_interface, signature_of
from twophase.export.graphs.view import GraphView, serialize
from twophase.export.int8.calibrate import SNRS_DB, receptions
from twophase.export.int8.nodes import classifier_products, encoder_products, power_of_two_scale
from twophase.export.int8.quantize import (
    _activation_step,
    check_quantized,
    quantize_receiver,
    quantize_transmitter,
)
from twophase.export.proof.hard import prove_hard
from twophase.link.errors import ArtifactError
from twophase.link.graphs import MODE_REQUEST

GRID = grid_manifest(FOUR_GRID)


def samples(count: int) -> Values:
    features = eval_split(FOUR_MODES, count)["input"]
    return {"input": features, "snr_db": np.resize(np.array(SNRS_DB, dtype=np.float32), count)}


@pytest.fixture(scope="module")
def grid_tx(make_shared) -> ModelProto:
    return onnx.load(make_shared("grid-bundle", write_grid_bundle) / "tx.onnx")


@pytest.fixture(scope="module")
def grid_int8(grid_tx: ModelProto) -> ModelProto:
    return quantize_transmitter(grid_tx, GRID, {})


@pytest.fixture(scope="module")
def float_int8(four_tx) -> ModelProto:
    return quantize_transmitter(four_tx.model, four_tx.manifest, samples(400))


@pytest.fixture(scope="module")
def receiver_int8(four_tx, four_rx) -> ModelProto:
    calibration = receptions(four_tx.model, four_rx.manifest, samples(200), 0)
    return quantize_receiver(four_rx.model, four_rx.manifest, calibration)


def copied(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def unoptimised(model: ModelProto, outputs: list[str], feed: Values) -> list[NDArray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(serialize(model), options, providers=["CPUExecutionProvider"])
    return session.run(outputs, feed)


def grid_inputs(count: int) -> Iterator[NDArray[np.float32]]:
    """Ordinary ones, halves between two whole numbers of the input's unit 1/64, and extreme ones."""
    rng = np.random.default_rng(5)
    shape = (count, *INPUT_SHAPE)
    yield rng.uniform(-2.5, 2.5, shape).astype(np.float32)
    yield ((rng.integers(-200, 200, shape) + 0.5) / 64).astype(np.float32)
    extremes = [0.0, -0.0, 1.0, -1.0, 1e38, -1e38, 3.4e38, -3.4e38, 1e10, -1e10, 1e-40, -1e-45]
    yield rng.choice(np.array(extremes, dtype=np.float32), shape)


# --- a transmitter on an integer grid


def test_int8_on_a_grid_gives_the_same_indices_fused_unfused_and_by_reference(grid_tx, grid_int8) -> None:
    before, after = OnnxRuntime(grid_tx), OnnxRuntime(grid_int8)
    reference = ReferenceEvaluator(grid_int8)
    names = ["indices", "symbols"]
    seen: set[int] = set()
    for features in grid_inputs(3000):
        modes = np.arange(len(features)) % len(GRID.modes)
        feed = {"input": features, "snr_db": np.zeros(len(features), np.float32), MODE_REQUEST: modes}
        wanted = before.run(names, feed)
        seen.update(wanted[0].ravel().tolist())
        some = {name: value[:200] for name, value in feed.items()}
        with np.errstate(over="ignore"):
            by_reference = reference.run(names, some)
        for place, want in enumerate(wanted):
            np.testing.assert_array_equal(after.run(names, feed)[place], want)
            np.testing.assert_array_equal(unoptimised(grid_int8, names, feed)[place], want)
            np.testing.assert_array_equal(by_reference[place], want[:200])
    assert len(seen) > 8


def test_every_tensor_that_is_left_on_a_grid_keeps_its_values(grid_tx, grid_int8) -> None:
    sums = [product.output for product in encoder_products(GraphView(grid_tx))]
    names = [*sums, *(product.source for product in encoder_products(GraphView(grid_tx)))]
    features = np.concatenate(list(grid_inputs(500)))
    feed = {"input": features, "snr_db": np.zeros(len(features), np.float32)}
    got = []
    for model in (grid_tx, grid_int8):
        probe = copied(model)
        probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
        got.append(OnnxRuntime(probe).run(names, feed))
    assert len(names) == 4
    for before, after in zip(*got, strict=True):
        np.testing.assert_array_equal(before, after)
    assert np.unique(got[0][3]).size > 100


def test_int8_on_a_grid_is_proved_hard_and_accounted_for(grid_tx, grid_int8) -> None:
    assert check_quantized(grid_int8, grid_tx) == []
    assert check_interface(grid_int8, signature_of("tx.onnx", GRID)) == []
    proof, problems = prove_hard(grid_int8, GRID)
    assert problems == []
    assert proof is not None
    assert (grid_int8.opset_import[0].version, grid_int8.ir_version) == (21, 10)


def test_onnx_runtime_fuses_every_product_into_an_integer_kernel(grid_int8, tmp_path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(serialize(grid_int8), options, providers=["CPUExecutionProvider"])
    operators = [entry.op_type for entry in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert operators.count("QGemm") == 2
    assert "Gemm" not in operators
    assert operators.count("QuantizeLinear") == 1


def weights(number: int, change: Callable[[NDArray], NDArray]) -> Alteration:
    """Alter the matrix of a product of the encoder."""
    return lambda model: changed(encoder_products(GraphView(model))[number].node.input[1], change)(model)


def bound(position: int, value: float) -> Alteration:
    """Another bound of the Clip ahead of the second product."""

    def alter(model: ModelProto) -> None:
        clip = producer(model, encoder_products(GraphView(model))[1].source)
        clip.input[position] = scalar(model, "other_bound", value, np.float32)

    return alter


def step_of_a_hundredth(model: ModelProto) -> None:
    rounded = producer(model, encoder_products(GraphView(model))[1].source).input[0]
    scale = producer(model, producer(model, rounded).input[0])
    scale.input[1] = scalar(model, "a_hundredth", 0.01, np.float32)


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (weights(1, lambda value: value + np.float32(0.5)), "must have whole numbers"),
        (weights(0, lambda value: 2 * value), "steps, not 127"),
        (bound(2, 511.0), "on an integer grid must multiply what Mul"),
        (bound(1, 1.0), "on an integer grid must multiply what Mul"),
        (step_of_a_hundredth, "on an integer grid must multiply what Mul"),
    ],
)
def test_a_grid_that_eight_bits_do_not_hold_is_refused(grid_tx, alter: Alteration, reason: str) -> None:
    wrong = copied(grid_tx)
    alter(wrong)
    with pytest.raises(ArtifactError, match=reason):
        quantize_transmitter(wrong, GRID, {})


# --- calibrated graphs


def test_the_calibrated_transmitter_agrees_and_is_proved_hard(four_tx, float_int8) -> None:
    assert check_quantized(float_int8, four_tx.model) == []
    assert prove_hard(float_int8, four_tx.manifest)[1] == []
    feed = samples(1000)
    before = OnnxRuntime(four_tx.model).run(["indices"], feed)[0]
    after = OnnxRuntime(float_int8).run(["indices"], feed)[0]
    assert np.mean(before == after) > 0.95
    np.testing.assert_array_equal(after, unoptimised(float_int8, ["indices"], feed)[0])


def test_inputs_beyond_the_calibration_saturate(float_int8) -> None:
    for features in grid_inputs(100):
        feed = {"input": features, "snr_db": np.zeros(len(features), np.float32)}
        indices = OnnxRuntime(float_int8).run(["indices"], feed)[0]
        np.testing.assert_array_equal(indices, ReferenceEvaluator(float_int8).run(["indices"], feed)[0])


def test_the_receiver_decodes_as_before_and_classifies_closely(four_rx, receiver_int8) -> None:
    assert check_quantized(receiver_int8, four_rx.model) == []
    assert check_interface(receiver_int8, signature_of("rx.onnx", four_rx.manifest)) == []
    names = ["posterior", "indices", "logits"]
    for llr, mode in llr_batches(four_rx.manifest, 500, 3):
        feed = {"llr": llr, "mode": mode}
        before = OnnxRuntime(four_rx.model).run(names, feed)
        after = OnnxRuntime(receiver_int8).run(names, feed)
        for place in (0, 1):
            np.testing.assert_array_equal(before[place], after[place])
        assert np.abs(before[2] - after[2]).max() < 0.05 * np.abs(before[2]).max()
        assert np.abs(before[2] - after[2]).max() > 0
        np.testing.assert_array_equal(after[2], unoptimised(receiver_int8, ["logits"], feed)[0])


def test_a_router_that_reads_the_content_is_left_as_it_is(content_tx) -> None:
    quantized = quantize_transmitter(content_tx.model, content_tx.manifest, samples(200))
    assert check_quantized(quantized, content_tx.model) == []
    assert [product.node.op_type for product in encoder_products(GraphView(content_tx.model))] == ["Gemm"] * 2
    stored = {tensor.name for tensor in quantized.graph.initializer}
    assert {"router.weight", "router.bias"} <= stored
    feed = samples(300)
    modes = [OnnxRuntime(model).run(["mode"], feed)[0] for model in (content_tx.model, quantized)]
    np.testing.assert_array_equal(*modes)


@given(st.floats(-1e6, 0, width=32), st.floats(0, 1e6, width=32))
def test_steps_cover_what_was_seen_but_for_the_uppermost_one(low: float, high: float) -> None:
    scale, zero_point = _activation_step(low, high)
    assert np.frexp(scale)[0] == 0.5
    assert 0 <= zero_point <= 255
    assert -zero_point * scale <= low
    assert (256 - zero_point) * scale >= high
    if low < 0 or high > 0:
        assert (high - low) / scale > 120


@given(st.floats(1e-30, 1e30), st.integers(1, 255))
def test_the_scale_is_the_smallest_power_of_two(largest: float, steps: int) -> None:
    scale = power_of_two_scale(largest, steps)
    assert np.frexp(scale)[0] == 0.5
    assert scale / 2 < largest / steps <= scale


# --- the parts of a graph


def small(*nodes, opset: int = 18, **constants: NDArray) -> ModelProto:
    """A graph from ``input`` (batch, 4) to ``indices`` by way of ``latents``."""
    stored = {"codebook": np.eye(4, dtype=np.float32), "w": np.eye(4, dtype=np.float32)} | constants
    tail = [node("MatMul", ["latents", "codebook"], "scores"), node("ArgMax", ["scores"], "indices", axis=-1)]
    graph = helper.make_graph(
        [*nodes, *tail],
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("indices", TensorProto.INT64, ["batch", 1])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_a_product_without_a_bias_is_made_int8() -> None:
    weights = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    model = small(node("MatMul", ["input", "w"], "latents"), w=weights)
    feed = {"input": np.random.default_rng(1).standard_normal((500, 4)).astype(np.float32)}
    quantized = quantize_transmitter(model, replace(GRID, grid=None), feed)
    assert check_quantized(quantized, model) == []
    assert [entry.op_type for entry in quantized.graph.node].count("QuantizeLinear") == 1
    agreement = [OnnxRuntime(entry).run(["indices"], feed)[0] for entry in (model, quantized)]
    assert np.mean(agreement[0] == agreement[1]) > 0.95


@pytest.mark.parametrize(
    ("nodes", "constants", "reason"),
    [
        ([node("Relu", ["input"], "latents")], {}, "no product with stored weights"),
        (
            [node("Einsum", ["input", "w"], "latents", equation="ab,bc->ac")],
            {},
            "has Einsum .'node_latents'.: INT8 knows Gemm and MatMul only",
        ),
        (
            [
                node("Transpose", ["input"], "turned", perm=[1, 0]),
                node("MatMul", ["input", "turned"], "square"),
                node("MatMul", ["square", "input"], "latents"),
            ],
            {},
            "must multiply with a stored float32 matrix, not 'turned'",
        ),
        ([node("Gemm", ["input", "w"], "latents", alpha=2.0)], {}, "must neither transpose nor scale"),
        (
            [node("Gemm", ["input", "w", "b"], "latents")],
            {"b": np.ones((1, 4), dtype=np.float32)},
            "must add a stored float32 vector, not 'b'",
        ),
    ],
)
def test_what_int8_does_not_know_is_refused_and_never_left_out(nodes, constants, reason: str) -> None:
    model = small(*nodes, **constants)
    onnx.checker.check_model(model, full_check=True)
    with pytest.raises(ArtifactError, match=reason):
        encoder_products(GraphView(model))
    with pytest.raises(ArtifactError, match=reason):
        quantize_transmitter(model, replace(GRID, grid=None), {"input": np.ones((3, 4), np.float32)})


def test_an_operator_that_means_something_else_at_opset_21_is_refused() -> None:
    model = small(
        node("MatMul", ["input", "w"], "seen"),
        node("Unsqueeze", ["seen", "axis"], "wide"),
        node("AveragePool", ["wide"], "pooled", kernel_shape=[1]),
        node("Squeeze", ["pooled", "axis"], "latents"),
        axis=np.array([1]),
    )
    with pytest.raises(ArtifactError, match="the definition of AveragePool changed between opsets 18 and 21"):
        quantize_transmitter(model, replace(GRID, grid=None), {"input": np.ones((3, 4), np.float32)})


def test_a_classifier_that_multiplies_with_a_codebook_is_refused(four_rx) -> None:
    codebook = tuple(map(tuple, classifier_products(GraphView(four_rx.model))[0].weights.tolist()))
    manifest = four_rx.manifest

    class Altered:
        codebooks = manifest.codebooks

        def codebook(self, index: int) -> NDArray[np.float64]:
            return np.array(codebook)

    llr, mode = next(llr_batches(manifest, 10, 0))
    with pytest.raises(ArtifactError, match="is the product with codebook 0"):
        quantize_receiver(four_rx.model, Altered(), {"llr": llr, "mode": mode})


# --- the account of an INT8 graph: each alteration is found, with its reason


def float_product(model: ModelProto, original: ModelProto) -> None:
    for entry in encoder_products(GraphView(original))[1:]:
        wrong = producer(model, entry.output)
        for place in (1, 2):
            store(model, entry.node.input[place], constant(original, entry.node.input[place]))
            wrong.input[place] = entry.node.input[place]


def altered_weight(model: ModelProto, original: ModelProto) -> None:
    name = f"{encoder_products(GraphView(original))[0].node.input[1]}_uint8"
    values = constant(model, name)
    values[0, 0] += 1
    store(model, name, values)


def altered_bias(model: ModelProto, original: ModelProto) -> None:
    name = next(tensor.name for tensor in model.graph.initializer if tensor.name.endswith("_int32"))
    store(model, name, constant(model, name) + np.int32(1))


def signed_weights(model: ModelProto, original: ModelProto) -> None:
    name = encoder_products(GraphView(original))[0].node.input[1]
    store(model, f"{name}_uint8", (constant(model, f"{name}_uint8").astype(int) - 128).astype(np.int8))
    producer(model, f"{name}_dequantized").input[2] = scalar(model, "zero", 0, np.int8)


def odd_scale(model: ModelProto, original: ModelProto) -> None:
    source = producer(model, producer(model, encoder_products(GraphView(original))[1].output).input[0])
    source.input[1] = scalar(model, "odd", 0.3, np.float32)
    producer(model, source.input[0]).input[1] = "odd"


def one_sided_step(model: ModelProto, original: ModelProto) -> None:
    quantizer = next(entry for entry in model.graph.node if entry.op_type == "QuantizeLinear")
    old = constant(model, quantizer.input[1])
    quantizer.input[1] = scalar(model, "coarser", float(old) * 2, np.float32)


def other_zero(model: ModelProto, original: ModelProto) -> None:
    quantizer = next(entry for entry in model.graph.node if entry.op_type == "QuantizeLinear")
    quantizer.input[2] = scalar(model, "seven", 7, np.uint8)


def narrow_clip(model: ModelProto, original: ModelProto) -> None:
    quantizer = next(entry for entry in model.graph.node if entry.op_type == "QuantizeLinear")
    producer(model, quantizer.input[0]).input[1] = scalar(model, "narrow", 0.25, np.float32)


def noise_on_the_activation(model: ModelProto, original: ModelProto) -> None:
    quantizer = next(entry for entry in model.graph.node if entry.op_type == "QuantizeLinear")
    insert_before(model, quantizer, 0, [node("Tanh", [quantizer.input[0]], "squeezed")])


def quantised_search(model: ModelProto, original: ModelProto) -> None:
    search = next(entry for entry in model.graph.node if entry.op_type == "MatMul")
    step, zero = scalar(model, "search_step", 0.25, np.float32), scalar(model, "search_zero", 128, np.uint8)
    insert_before(
        model,
        search,
        0,
        [
            node("QuantizeLinear", [search.input[0], step, zero], "search_quantized"),
            node("DequantizeLinear", ["search_quantized", step, zero], "search_dequantized"),
        ],
    )


def altered_codebook(model: ModelProto, original: ModelProto) -> None:
    search = next(entry for entry in model.graph.node if entry.op_type == "MatMul")
    store(model, search.input[1], constant(model, search.input[1]) * np.float32(2))


def altered_table(model: ModelProto, original: ModelProto) -> None:
    store(model, "table_0", constant(model, "table_0")[::-1].copy())


def extra_node(model: ModelProto, original: ModelProto) -> None:
    insert_behind(model, "symbols", [node("Identity", ["symbols_before"], "symbols")])


def dynamic(model: ModelProto, original: ModelProto) -> None:
    quantizer = next(entry for entry in model.graph.node if entry.op_type == "QuantizeLinear")
    source = quantizer.input[0]
    own = helper.make_node("DynamicQuantizeLinear", [source], ["own", "own_step", "own_zero"], name="own")
    restored = producer(model, next(e for e in model.graph.node if quantizer.output[0] in e.input).output[0])
    insert_before(model, restored, 0, [own])
    restored.CopyFrom(node("DequantizeLinear", ["own", "own_step", "own_zero"], restored.output[0]))
    for entry in model.graph.node:
        if entry.output[0] == restored.output[0]:
            entry.CopyFrom(restored)


def foreign_operator(model: ModelProto, original: ModelProto) -> None:
    function = helper.make_function(
        "com.microsoft",
        "Same",
        ["x"],
        ["y"],
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_opsetid("", 21)],
    )
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    insert_behind(model, "symbols", [node("Same", ["symbols_before"], "symbols", domain="com.microsoft")])


def old_opset(model: ModelProto, original: ModelProto) -> None:
    model.opset_import[0].version = 20


def nothing_done(model: ModelProto, original: ModelProto) -> None:
    model.CopyFrom(original)


ALTERATIONS: list[tuple[Callable[[ModelProto, ModelProto], None], str]] = [
    (float_product, "is not INT8: '.*' is not made by DequantizeLinear"),
    (altered_weight, "_uint8' is off by"),
    (altered_bias, "_int32' is off by"),
    (signed_weights, "must hold UINT8"),
    (odd_scale, "must be a power of two, not 0.3"),
    (one_sided_step, "is clipped to another range|is dequantised to other values"),
    (other_zero, "is clipped to another range|is dequantised to other values"),
    (narrow_clip, "is clipped to another range than that of the steps"),
    (noise_on_the_activation, "it multiplies 'squeezed', not '.*'"),
    (quantised_search, "is not as in the original"),
    (altered_codebook, "which MatMul .* reads, is not as in the original"),
    (altered_table, "'table_0', which Gather .* reads, is not as in the original"),
    (extra_node, "Identity .* is neither of the original nor part of a product"),
    (dynamic, "DynamicQuantizeLinear .* quantises dynamically"),
    (foreign_operator, "of 'com.microsoft' is no standard operator"),
    (old_opset, "must be of opset 21 and IR version 10"),
    (nothing_done, "is not INT8: '.*' is not made by DequantizeLinear"),
]


@pytest.mark.parametrize(("alter", "reason"), ALTERATIONS, ids=[alter.__name__ for alter, _ in ALTERATIONS])
@pytest.mark.parametrize("kind", ["calibrated", "grid"])
def test_an_altered_graph_is_found(
    four_tx,
    float_int8,
    grid_tx,
    grid_int8,
    kind: str,
    alter: Callable[[ModelProto, ModelProto], None],
    reason: str,
) -> None:
    original, quantized = (grid_tx, grid_int8) if kind == "grid" else (four_tx.model, float_int8)
    wrong = copied(quantized)
    alter(wrong, original)
    problems = check_quantized(wrong, original)
    assert any(re.search(reason, problem) for problem in problems), problems


def test_a_product_of_the_classifier_left_out_is_found(four_rx, receiver_int8) -> None:
    wrong = copied(four_rx.model)
    wrong.opset_import[0].version, wrong.ir_version = 21, 10
    problems = check_quantized(wrong, four_rx.model)
    assert len(problems) == 1
    assert "the Gemm that makes 'logits' is not INT8" in problems[0]
    wrong = copied(receiver_int8)
    store(wrong, "codebook_1", -constant(wrong, "codebook_1"))
    assert any("'codebook_1'" in problem for problem in check_quantized(wrong, four_rx.model))
