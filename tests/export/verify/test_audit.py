"""The margin audit counts what it says, and its variants compute what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

from tools.mutate import altered, changed, model_of
from twophase.export.graphs.run import OnnxRuntime
from twophase.export.graphs.view import GraphView
from twophase.export.proof.hard import prove_hard
from twophase.export.proof.nearest_codeword import ModeSearch
from twophase.export.verify.audit import VARIANTS, audit_margins, with_float16, with_int8
from twophase.link.graphs import MODE_REQUEST
from twophase.link.manifest import Manifest, load_manifest
from twophase.link.samples import load_split


def searches_of(model: ModelProto, manifest: Manifest) -> tuple[ModeSearch, ...]:
    proof, problems = prove_hard(model, manifest)
    assert problems == []
    assert proof is not None
    return proof.searches


@pytest.fixture(scope="module")
def on_grid(bundle: Path):
    manifest = load_manifest(bundle, "bundle")
    model = onnx.load(bundle / "tx.onnx")
    features = load_split(bundle / "eval.npz", manifest).features
    return model, searches_of(model, manifest), manifest, features


@pytest.fixture(scope="module")
def in_float(four_tx):
    features = np.random.default_rng(0).standard_normal((300, 2, 3)).astype(np.float32)
    return four_tx.model, searches_of(four_tx.model, four_tx.manifest), four_tx.manifest, features


def test_margins_on_a_grid_are_differences_of_squared_distances(on_grid) -> None:
    model, searches, manifest, features = on_grid
    found = audit_margins(*on_grid)
    assert [book.different["int8"] for book in found.codebooks] == [None, None]
    assert "not measured" in found.lines()[-1]
    snr_db = np.linspace(-5.0, 20.0, len(features), dtype=np.float32)
    for index, (first, book) in enumerate(zip((0, 2), found.codebooks, strict=True)):
        feed = {"input": features, "snr_db": snr_db, MODE_REQUEST: np.array([first])}
        tokens, words = manifest.modes[first].tokens, manifest.grid_codebook(index)
        name = searches[first].latents
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
        assert (margins <= book.quantiles["50 %"]).mean() >= 0.5 > (margins < book.quantiles["50 %"]).mean()


def test_a_float_link_has_relative_margins_and_every_variant(in_float) -> None:
    books = audit_margins(*in_float).codebooks
    for book in books:
        assert not book.whole
        assert 0.0 <= book.quantiles["least"] <= book.quantiles["50 %"] <= 2.0
    # eight bits are coarser than eleven, and those than twenty-four
    one_ulp, half, half_too, int8 = (sum(book.different[name] for book in books) for name in VARIANTS)
    assert one_ulp <= half <= int8
    assert one_ulp <= half_too <= int8
    assert int8 > 0


def test_ties_are_counted(on_grid) -> None:
    """Latents of zero lie half-way between a codeword and its opposite."""
    model, searches, manifest, features = on_grid
    silent = altered(model, *(changed(name, np.zeros_like) for name in ("w2", "b2")))
    words = manifest.codebook(0)
    least = int((words**2).sum(axis=1).argmin())
    words[(least + 1) % 8] = -words[least]
    tied = replace(manifest, codebooks=(tuple(map(tuple, words.tolist())), manifest.codebooks[1]))
    first, second = audit_margins(silent, searches, tied, features).codebooks
    assert first.ties == first.tokens == first.counts[0]
    assert set(first.quantiles.values()) == {0.0}
    assert second.ties == 0
    assert [book.different["one ulp"] for book in (first, second)] == [0, 0]


def test_one_ulp_decides_half_way_between_two_codewords(in_float) -> None:
    """All latents in the middle of the two codewords that lie closest together."""
    model, *link = in_float
    words = link[1].codebook(0)
    distances = ((words[:, np.newaxis] - words) ** 2).sum(axis=-1) + 1e9 * np.eye(8)
    one, two = np.unravel_index(distances.argmin(), distances.shape)
    middle = np.tile((words[one] + words[two]) / 2, 3) / 3.0  # what the transmitter multiplies by 3
    still = altered(
        model,
        changed("second.weight", np.zeros_like),
        changed("second.bias", lambda value: middle.astype(np.float32)),
    )
    book, again, other = (audit_margins(still, *link, seed=seed).codebooks[0] for seed in (0, 0, 1))
    assert book.quantiles["90 %"] < 1e-6
    assert 0.1 * book.tokens < book.different["one ulp"] < 0.9 * book.tokens
    assert again == book
    assert other.different["one ulp"] != book.different["one ulp"]


# --- the variants


WEIGHTS = np.array([[1.0, 0.5], [0.25, 3.0]], dtype=np.float32) * np.float32(1.0009)
RANDOM = np.random.default_rng(0).uniform(-1.0, 4.0, (200, 2)).astype(np.float32)


def run(model: ModelProto) -> NDArray[np.float32]:
    return OnnxRuntime(model).run(["output"], {"input": RANDOM})[0]


@pytest.mark.parametrize("operator", ["MatMul", "Gemm"])
def test_variants_of_a_product_round_what_they_say(operator: str) -> None:
    text, kind = f"output = {operator}(input, weights)", "float[batch,2]"
    view = GraphView(model_of(f"{kind} input", text, f"{kind} output", {"weights": WEIGHTS}))
    exact = run(view.model)
    # operands and results in float16
    got = run(with_float16(view, ["output"]))
    half, stored = (value.astype(np.float16).astype(np.float32) for value in (RANDOM, WEIGHTS))
    np.testing.assert_array_equal(got, (half @ stored).astype(np.float16).astype(np.float32))
    assert (got != exact).any()
    # steps that cover the range
    got = run(with_int8(view, {"output": (-1.0, 4.0)}))
    step, unit = 5.0 / 255, WEIGHTS.max() / 127
    wanted = (np.rint(RANDOM / step) * step) @ (np.rint(WEIGHTS / unit) * unit)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
    assert np.abs(got - exact).max() > 1e-3
