"""INT8 graphs: exact on a grid, close elsewhere, and nothing touched but encoder and classifier."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tools.mutate import (
    Alteration,
    after,
    ahead,
    altered,
    changed,
    constant,
    first,
    model_of,
    operand,
    producer,
    scalar,
    store,
)
from tools.tiny_run import FOUR_GRID, FOUR_MODES, INPUT_SHAPE, eval_split, grid_manifest, write_grid_bundle
from twophase.export.compare.inputs import llr_batches
from twophase.export.graphs.run import OnnxRuntime, Values
from twophase.export.graphs.signature import check_interface, signature_of
from twophase.export.graphs.view import GraphView
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


def unoptimised(model: ModelProto, outputs: list[str], feed: Values) -> list[NDArray]:
    return OnnxRuntime(model, optimised=False).run(outputs, feed)


def by_reference(model: ModelProto, outputs: list[str], feed: Values) -> list[NDArray]:
    with np.errstate(over="ignore"):
        return ReferenceEvaluator(model).run(outputs, feed)


def grid_inputs(count: int) -> Iterator[Values]:
    """Ordinary ones, halves between two whole numbers of the input's unit 1/64, and extreme ones."""
    rng = np.random.default_rng(5)
    shape = (count, *INPUT_SHAPE)
    extremes = [0.0, -0.0, 1.0, -1.0, 1e38, -1e38, 3.4e38, -3.4e38, 1e10, -1e10, 1e-40, -1e-45]
    for features in (
        rng.uniform(-2.5, 2.5, shape),
        (rng.integers(-200, 200, shape) + 0.5) / 64,
        rng.choice(np.array(extremes, dtype=np.float32), shape),
    ):
        yield {"input": features.astype(np.float32), "snr_db": np.zeros(count, np.float32)}


# --- a transmitter on an integer grid


def test_int8_on_a_grid_gives_the_same_values_fused_unfused_and_by_reference(grid_tx, grid_int8) -> None:
    products = encoder_products(GraphView(grid_tx))
    inner = [name for product in products for name in (product.source, product.output)]
    assert len(inner) == 4
    assert check_quantized(grid_int8, grid_tx) == []
    names = ["indices", "symbols", *inner]
    before, after = OnnxRuntime(grid_tx, inner=inner), OnnxRuntime(grid_int8, inner=inner)
    seen: set[int] = set()
    for feed in grid_inputs(3000):
        feed[MODE_REQUEST] = np.arange(3000) % len(GRID.modes)
        wanted = before.run(names, feed)
        seen.update(wanted[0].ravel().tolist())
        some = {name: value[:200] for name, value in feed.items()}
        for place, got in enumerate(after.run(names, feed)):
            np.testing.assert_array_equal(got, wanted[place])
        for place, got in enumerate(unoptimised(grid_int8, names[:2], feed)):
            np.testing.assert_array_equal(got, wanted[place])
        for place, got in enumerate(by_reference(grid_int8, names[:2], some)):
            np.testing.assert_array_equal(got, wanted[place][:200])
    assert len(seen) > 8


def test_onnx_runtime_fuses_every_product_into_an_integer_kernel(grid_int8, tmp_path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(grid_int8.SerializeToString(), options, providers=["CPUExecutionProvider"])
    operators = [entry.op_type for entry in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert [operators.count(name) for name in ("QGemm", "Gemm", "QuantizeLinear")] == [2, 0, 1]


def weights(number: int, change: Callable[[NDArray], NDArray]) -> Alteration:
    """Alter the matrix of a product of the encoder."""
    return lambda model: changed(encoder_products(GraphView(model))[number].node.input[1], change)(model)


def rounding(*path: int, value: float) -> Alteration:
    """Another number in the Clip, Round and Mul ahead of the second product: inputs, from the Clip back."""

    def alter(model: ModelProto) -> None:
        node = producer(model, encoder_products(GraphView(model))[1].source)
        for position in path[:-1]:
            node = producer(model, node.input[position])
        node.input[path[-1]] = scalar(model, "other_number", value, np.float32)

    return alter


NO_ROUNDING = "on an integer grid must multiply what Round and Clip"


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (weights(1, lambda value: value + np.float32(0.5)), "must have whole numbers"),
        (weights(0, lambda value: 2 * value), "steps, not 127"),
        (rounding(2, value=511.0), NO_ROUNDING),
        (rounding(1, value=1.0), NO_ROUNDING),
    ],
)
def test_a_grid_that_eight_bits_do_not_hold_is_refused(grid_tx, alter: Alteration, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        quantize_transmitter(altered(grid_tx, alter), GRID, {})


def test_a_scale_for_each_feature_stays_ahead_of_the_rounding(grid_tx) -> None:
    def alter(model: ModelProto) -> None:
        node = producer(model, encoder_products(GraphView(model))[0].source)
        scaled = producer(model, producer(model, node.input[0]).input[0])
        factors = 2.0 ** np.arange(4, 4 - int(np.prod(INPUT_SHAPE)), -1, dtype=np.float32)
        model.graph.initializer.append(numpy_helper.from_array(factors, "factors"))
        scaled.input[1] = "factors"

    each = altered(grid_tx, alter)
    feed = samples(500)
    (before,), (after,) = (
        OnnxRuntime(model).run(["indices"], feed) for model in (each, quantize_transmitter(each, GRID, {}))
    )
    np.testing.assert_array_equal(before, after)
    assert (before != OnnxRuntime(grid_tx).run(["indices"], feed)[0]).any()


# --- calibrated graphs


def test_the_calibrated_transmitter_agrees_and_is_proved_hard(four_tx, float_int8) -> None:
    assert check_quantized(float_int8, four_tx.model) == []
    assert prove_hard(float_int8, four_tx.manifest)[1] == []
    feed = samples(1000)
    before, after = (OnnxRuntime(model).run(["indices"], feed)[0] for model in (four_tx.model, float_int8))
    assert np.mean(before == after) > 0.95
    np.testing.assert_array_equal(after, unoptimised(float_int8, ["indices"], feed)[0])
    # inputs beyond the calibration saturate, everywhere alike
    for feed in grid_inputs(100):
        indices = OnnxRuntime(float_int8).run(["indices"], feed)[0]
        np.testing.assert_array_equal(indices, by_reference(float_int8, ["indices"], feed)[0])


def test_the_receiver_decodes_as_before_and_classifies_closely(four_rx, receiver_int8) -> None:
    assert check_quantized(receiver_int8, four_rx.model) == []
    assert check_interface(receiver_int8, signature_of("rx.onnx", four_rx.manifest)) == []
    names = ["posterior", "indices", "logits"]
    for llr, mode in llr_batches(four_rx.manifest, 500, 3):
        feed = {"llr": llr, "mode": mode}
        before, after = (OnnxRuntime(model).run(names, feed) for model in (four_rx.model, receiver_int8))
        np.testing.assert_array_equal(before[0], after[0])
        np.testing.assert_array_equal(before[1], after[1])
        assert 0 < np.abs(before[2] - after[2]).max() < 0.05 * np.abs(before[2]).max()
        np.testing.assert_array_equal(after[2], unoptimised(receiver_int8, ["logits"], feed)[0])


def test_a_router_that_reads_the_content_is_left_as_it_is(content_tx) -> None:
    quantized = quantize_transmitter(content_tx.model, content_tx.manifest, samples(200))
    assert check_quantized(quantized, content_tx.model) == []
    stored = {tensor.name for tensor in quantized.graph.initializer}
    assert {"router.weight", "router.bias"} <= stored
    modes = [OnnxRuntime(model).run(["mode"], samples(300))[0] for model in (content_tx.model, quantized)]
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


def small(text: str) -> ModelProto:
    """``text`` makes ``latents`` (batch, 4) of ``input``, for a search with a codebook."""
    rng = np.random.default_rng(0)
    stored = {"codebook": np.eye(4, dtype=np.float32), "w": rng.standard_normal((4, 4)).astype(np.float32)}
    stored |= {"b": np.ones((1, 4), dtype=np.float32), "axis": np.array([1])}
    tail = "scores = MatMul(latents, codebook); indices = ArgMax<axis=-1>(scores)"
    return model_of("float[batch,4] input", f"{text}; {tail}", "int64[batch,1] indices", stored)


FLOAT_LINK = replace(GRID, grid=None)


def test_a_product_without_a_bias_is_made_int8() -> None:
    model = small("latents = MatMul(input, w)")
    feed = {"input": np.random.default_rng(1).standard_normal((500, 4)).astype(np.float32)}
    quantized = quantize_transmitter(model, FLOAT_LINK, feed)
    assert check_quantized(quantized, model) == []
    assert [entry.op_type for entry in quantized.graph.node].count("QuantizeLinear") == 1
    before, after = (OnnxRuntime(entry).run(["indices"], feed)[0] for entry in (model, quantized))
    assert np.mean(before == after) > 0.95


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("latents = Relu(input)", "no product with stored weights"),
        (
            'latents = Einsum<equation="ab,bc->ac">(input, w)',
            "has Einsum .'node_latents'.: INT8 knows Gemm and MatMul only",
        ),
        (
            "turned = Transpose(input); square = MatMul(input, turned); latents = MatMul(square, input)",
            "must multiply with a stored float32 matrix, not 'turned'",
        ),
        ("latents = Gemm<alpha=2.0>(input, w)", "must neither transpose nor scale"),
        ("latents = Gemm(input, w, b)", "must add a stored float32 vector, not 'b'"),
        (
            "seen = MatMul(input, w); wide = Unsqueeze(seen, axis);"
            "pooled = AveragePool<kernel_shape=[1]>(wide); latents = Squeeze(pooled, axis)",
            "the definition of AveragePool changed between opsets 18 and 21",
        ),
    ],
)
def test_what_int8_does_not_know_is_refused_and_never_left_out(text: str, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        quantize_transmitter(small(text), FLOAT_LINK, {"input": np.ones((3, 4), np.float32)})


def test_a_classifier_that_multiplies_with_a_codebook_is_refused(four_rx) -> None:
    words = classifier_products(GraphView(four_rx.model))[0].weights
    manifest = SimpleNamespace(codebooks=[words], codebook=lambda index: words)
    with pytest.raises(ArtifactError, match="is the product with codebook 0"):
        quantize_receiver(four_rx.model, manifest, {})


# --- the account of an INT8 graph: each alteration is found, with its reason


def float_product(model: ModelProto, original: ModelProto) -> None:
    product = encoder_products(GraphView(original))[1]
    for place in (1, 2):
        store(model, product.node.input[place], constant(original, product.node.input[place]))
        producer(model, product.output).input[place] = product.node.input[place]


def signed_weights(model: ModelProto, original: ModelProto) -> None:
    name = encoder_products(GraphView(original))[0].node.input[1]
    changed(f"{name}_uint8", lambda value: (value.astype(int) - 128).astype(np.int8))(model)
    producer(model, f"{name}_dequantized").input[2] = scalar(model, "zero", 0, np.int8)


def stored_as(end: str, change: Callable[[NDArray], NDArray]) -> Alteration:
    """Alter the first stored tensor whose name has an end."""
    return lambda model: changed(
        next(tensor.name for tensor in model.graph.initializer if tensor.name.endswith(end)), change
    )(model)


def numbers(operator: str, position: int, value: float, kind: type = np.float32) -> Alteration:
    """Another stored number at an input of the first node of an operator."""

    def alter(model: ModelProto) -> None:
        first(model, operator).input[position] = scalar(model, "other", value, kind)

    return alter


def odd_scale(model: ModelProto) -> None:
    for operator in ("QuantizeLinear", "DequantizeLinear"):
        numbers(operator, 1, 0.3)(model)


def unlike_original(name: str) -> Alteration:
    return changed(name, lambda value: value[::-1].copy())


def altered_codebook(model: ModelProto) -> None:
    unlike_original(first(model, "MatMul").input[1])(model)


def old_opset(model: ModelProto) -> None:
    model.opset_import[0].version = 20


def stray(*arguments: object, **options: str) -> Alteration:
    return lambda model: model.graph.node.append(helper.make_node(*arguments, name="stray", **options))


ANOTHER_RANGE = "is clipped to another range|is dequantised to other values"
ACCOUNT: dict[str, tuple[Alteration, str]] = {
    "weight": (stored_as("_uint8", lambda value: value ^ np.uint8(1)), "_uint8' is off by"),
    "bias": (stored_as("_int32", lambda value: value + np.int32(1)), "_int32' is off by"),
    "odd_scale": (odd_scale, "must be a power of two, not 0.3"),
    "one_sided_step": (numbers("QuantizeLinear", 1, 2.0**-3), ANOTHER_RANGE),
    "other_zero": (numbers("QuantizeLinear", 2, 7, np.uint8), ANOTHER_RANGE),
    "narrow_clip": (numbers("Max", 1, 0.25), "is clipped to another range than that of the steps"),
    "squeezed_activation": (
        ahead(operand("QuantizeLinear"), "squeezed = Tanh(it)"),
        "it multiplies 'squeezed', not '.*'",
    ),
    "quantised_search": (
        ahead(
            operand("MatMul"),
            "byte = QuantizeLinear(it, step, zero); real = DequantizeLinear(byte, step, zero)",
            step=np.float32(0.25),
            zero=np.uint8(128),
        ),
        "is not as in the original",
    ),
    "codebook": (altered_codebook, "which MatMul .* reads, is not as in the original"),
    "table": (unlike_original("table_0"), "'table_0', which Gather .* reads, is not as in the original"),
    "extra_node": (
        after("symbols", "symbols = Identity(it)"),
        "Identity .* is neither of the original nor part of a product",
    ),
    "dynamic": (
        stray("DynamicQuantizeLinear", ["input"], ["byte", "step", "zero"]),
        "DynamicQuantizeLinear .* quantises dynamically",
    ),
    "foreign_operator": (
        stray("Gelu", ["input"], ["wavy"], domain="com.microsoft"),
        "of 'com.microsoft' is no standard operator",
    ),
    "old_opset": (old_opset, "must be of opset 21 and IR version 10"),
}


@pytest.mark.parametrize("kind", ["calibrated", "grid"])
def test_an_altered_graph_is_found(four_tx, float_int8, grid_tx, grid_int8, kind: str) -> None:
    original, quantized = (grid_tx, grid_int8) if kind == "grid" else (four_tx.model, float_int8)
    by_original = {
        "float_product": (float_product, "is not INT8: '.*' is not made by DequantizeLinear"),
        "signed_weights": (signed_weights, "must hold UINT8"),
    }
    table = ACCOUNT | {
        name: (lambda model, alter=alter: alter(model, original), reason)
        for name, (alter, reason) in by_original.items()
    }
    for name, (alter, reason) in table.items():
        problems = check_quantized(altered(quantized, alter), original)
        assert any(re.search(reason, problem) for problem in problems), (name, problems)


def test_a_product_of_the_classifier_left_out_is_found(four_rx, receiver_int8) -> None:
    wrong = altered(four_rx.model)
    wrong.opset_import[0].version, wrong.ir_version = 21, 10
    (problem,) = check_quantized(wrong, four_rx.model)
    assert "the Gemm that makes 'logits' is not INT8" in problem
    problems = check_quantized(altered(receiver_int8, unlike_original("codebook_1")), four_rx.model)
    assert any("'codebook_1'" in problem for problem in problems)
