"""The margin audit counts what it says, and its variants compute what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tools.mutate import constant, node, store
from tools.tiny_run import write_grid_bundle
from twophase.export.graphs.run import OnnxRuntime
from twophase.export.graphs.view import GraphView
from twophase.export.proof.hard import prove_hard
from twophase.export.verify.audit import (
    VARIANTS,
    Audit,
    audit_margins,
    products_between,
    with_float16,
    with_int8,
)
from twophase.link.graphs import MODE_REQUEST
from twophase.link.manifest import load_manifest
from twophase.link.samples import load_split


@pytest.fixture(scope="module")
def grid_bundle(make_shared):
    return make_shared("grid-bundle", write_grid_bundle)


@pytest.fixture(scope="module")
def grid_parts(grid_bundle):
    manifest = load_manifest(grid_bundle, "bundle")
    model = onnx.load(grid_bundle / "tx.onnx")
    proof, problems = prove_hard(model, manifest)
    assert problems == []
    assert proof is not None
    return model, proof, manifest, load_split(grid_bundle / "eval.npz", manifest).features


@pytest.fixture(scope="module")
def grid_audit(grid_parts) -> Audit:
    model, proof, manifest, features = grid_parts
    return audit_margins(model, proof.searches, manifest, features, int8=model)


@pytest.fixture(scope="module")
def float_parts(four_tx):
    proof, problems = prove_hard(four_tx.model, four_tx.manifest)
    assert problems == []
    assert proof is not None
    features = np.random.default_rng(0).standard_normal((300, 2, 3)).astype(np.float32)
    return four_tx.model, proof, four_tx.manifest, features


def small(nodes, **constants: NDArray[np.float32]) -> GraphView:
    """``input`` (batch, 2) to ``output``."""
    kind = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes,
        "small",
        [kind("input", TensorProto.FLOAT, ["batch", 2])],
        [kind("output", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return GraphView(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))


def run(model: ModelProto, **feed: NDArray[np.float32]) -> NDArray[np.float32]:
    (result,) = OnnxRuntime(model).run(["output"], feed)
    return np.asarray(result)


def test_margins_on_a_grid_are_differences_of_squared_distances(grid_parts, grid_audit: Audit) -> None:
    model, proof, manifest, features = grid_parts
    snr_db = np.linspace(-5.0, 20.0, len(features), dtype=np.float32)
    for index, (first, book) in enumerate(zip((0, 2), grid_audit.codebooks, strict=True)):
        feed = {"input": features, "snr_db": snr_db, MODE_REQUEST: np.array([first])}
        tokens, words = manifest.modes[first].tokens, manifest.grid_codebook(index)
        name = proof.searches[first].latents
        (values,) = OnnxRuntime(model, inner=[name]).run([name], feed)
        latents = values[:, :tokens].astype(np.int64)
        distances = np.sort(((latents[:, :, np.newaxis] - words) ** 2).sum(-1), axis=-1)
        margins = np.sort((distances[..., 1] - distances[..., 0]).ravel())
        assert book.whole
        assert (book.codebook, book.codewords, book.tokens) == (index, len(words), margins.size)
        assert book.ties == int((margins == 0).sum())
        assert sum(book.counts) == margins.size
        assert book.counts[0] == int((margins < 1).sum())
        assert book.quantiles["least"] == margins[0]
        # half of the tokens have at most this margin
        assert (margins <= book.quantiles["50 %"]).mean() >= 0.5
        assert (margins < book.quantiles["50 %"]).mean() < 0.5


def test_on_a_grid_int8_is_not_guessed(grid_parts) -> None:
    model, proof, manifest, features = grid_parts
    audit = audit_margins(model, proof.searches, manifest, features[:5])
    assert [book.different["int8"] for book in audit.codebooks] == [None, None]
    assert "not measured" in audit.lines()[-1]


def test_a_float_link_has_relative_margins_and_every_variant(float_parts) -> None:
    model, proof, manifest, features = float_parts
    audit = audit_margins(model, proof.searches, manifest, features)
    for book in audit.codebooks:
        assert not book.whole
        assert 0.0 <= book.quantiles["least"] <= book.quantiles["50 %"] <= 2.0
        changes = [book.different[name] for name in VARIANTS]
        assert all(change is not None for change in changes)
    # eight bits are coarser than eleven, and those than twenty-four
    one_ulp, half, half_too, int8 = (
        sum(book.different[name] or 0 for book in audit.codebooks) for name in VARIANTS
    )
    assert one_ulp <= half <= int8
    assert one_ulp <= half_too <= int8
    assert int8 > 0


def alter(model: ModelProto, **values: NDArray[np.float32]) -> ModelProto:
    """A copy with other stored tensors."""
    copy = ModelProto.FromString(model.SerializeToString())
    for name, value in values.items():
        store(copy, name, value)
    return copy


def test_ties_are_counted(grid_parts) -> None:
    """Latents of zero lie half-way between a codeword and its opposite."""
    model, proof, manifest, features = grid_parts
    silent = alter(model, w2=0 * constant(model, "w2"), b2=0 * constant(model, "b2"))
    words = manifest.codebook(0)
    least = int((words**2).sum(axis=1).argmin())
    words[(least + 1) % 8] = -words[least]
    tied = replace(manifest, codebooks=(tuple(map(tuple, words.tolist())), manifest.codebooks[1]))
    first, second = audit_margins(silent, proof.searches, tied, features).codebooks
    assert first.ties == first.tokens == first.counts[0]
    assert set(first.quantiles.values()) == {0.0}
    assert second.ties == 0
    assert [book.different["one ulp"] for book in (first, second)] == [0, 0]


def test_one_ulp_decides_half_way_between_two_codewords(float_parts) -> None:
    """All latents in the middle of the two codewords that lie closest together."""
    model, proof, manifest, features = float_parts
    words = manifest.codebook(0)
    pairs = [(one, two) for two in range(8) for one in range(two)]
    one, two = min(pairs, key=lambda pair: float(((words[pair[0]] - words[pair[1]]) ** 2).sum()))
    middle = np.tile((words[one] + words[two]) / 2, 3) / 3.0  # what the transmitter multiplies by 3
    still = alter(
        model,
        **{
            "second.weight": 0 * constant(model, "second.weight"),
            "second.bias": middle.astype(np.float32),
        },
    )
    book = audit_margins(still, proof.searches, manifest, features).codebooks[0]
    assert book.quantiles["90 %"] < 1e-6
    changed = book.different["one ulp"]
    assert changed is not None
    assert 0.1 * book.tokens < changed < 0.9 * book.tokens
    # the same signs again, and others with another seed
    assert audit_margins(still, proof.searches, manifest, features).codebooks[0] == book
    other = audit_margins(still, proof.searches, manifest, features, seed=1).codebooks[0]
    assert other.different["one ulp"] != changed


# --- the variants


WEIGHTS = np.array([[1.0, 0.5], [0.25, 3.0]], dtype=np.float32)


def test_float16_rounds_operands_and_results() -> None:
    view = small([node("MatMul", ["input", "weights"], "output")], weights=WEIGHTS * np.float32(1.0009))
    (product,) = products_between(view, ["output"], [])
    rng = np.random.default_rng(0)
    values = rng.standard_normal((50, 2)).astype(np.float32)
    got = run(with_float16(view, [product.output[0]]), input=values)
    half = values.astype(np.float16).astype(np.float32)
    stored = (WEIGHTS * np.float32(1.0009)).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(got, (half @ stored).astype(np.float16).astype(np.float32))
    assert (got != run(view.model, input=values)).any()


def test_int8_rounds_to_steps_that_cover_the_range() -> None:
    view = small([node("Gemm", ["input", "weights"], "output")], weights=WEIGHTS)
    values = np.random.default_rng(0).uniform(-1.0, 4.0, (200, 2)).astype(np.float32)
    got = run(with_int8(view, {"output": (-1.0, 4.0)}), input=values)
    step, unit = 5.0 / 255, 3.0 / 127
    wanted = (np.rint(values / step) * step) @ (np.rint(WEIGHTS / unit) * unit)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
    assert np.abs(got - run(view.model, input=values)).max() > 1e-3
