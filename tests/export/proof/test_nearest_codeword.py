"""The rule of a codebook search: what counts as nearest-codeword search, and its margin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from tools.mutate import model_of
from tools.tiny_run import FOUR_GRID, FOUR_MODES, ONE_MODE, grid_manifest, run_manifest
from twophase.export.graphs.view import GraphView
from twophase.export.proof import nearest_codeword
from twophase.export.proof.nearest_codeword import ModeSearch, grid_misfit, misfit
from twophase.export.proof.search import prove_search
from twophase.link.manifest import Manifest


def rule_of(
    codebook: np.ndarray, gain: float, scale: float, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """W and b of the nearest codeword to ``scale * (codebook - shift)``, as the module states them."""
    moved = codebook - shift
    return gain * moved.T, -0.5 * gain * scale * np.square(moved).sum(axis=1)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([2, 8, 64]),
    gain=st.floats(0.01, 100.0),
    scale=st.floats(0.1, 10.0),
    shift=st.floats(-3.0, 3.0),
)
def test_a_shifted_and_scaled_codebook_gives_its_nearest_codewords(
    seed: int, size: int, gain: float, scale: float, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    codebook = rng.standard_normal((size, 4))
    weights, offsets = rule_of(codebook, gain, scale, np.full(4, shift))
    assert misfit(weights, offsets + 7.0 * gain, codebook) is None
    latents = 3.0 * rng.standard_normal((5, 2, 4))
    found, _ = ModeSearch("z", 2, weights, offsets).nearest(latents)
    distance = np.linalg.norm(latents[..., np.newaxis, :] - scale * (codebook - shift), axis=-1)
    np.testing.assert_array_equal(found, distance.argmin(axis=-1))


def test_any_altered_codeword_or_offset_is_found() -> None:
    codebook = np.random.default_rng(1).standard_normal((8, 4))
    for word in range(8):
        weights, offsets = rule_of(codebook, 2.0, 1.0, np.zeros(4))
        weights[word % 4, word] += 1e-3
        assert f"codeword {word} is not the manifest's" in str(misfit(weights, offsets, codebook))
        weights, offsets = rule_of(codebook, 2.0, 1.0, np.zeros(4))
        offsets[word] += 1e-2
        assert "its offsets are not those of a nearest-codeword" in str(misfit(weights, offsets, codebook))


def test_another_number_of_codewords_and_a_barred_one_are_told() -> None:
    codebook = np.random.default_rng(1).standard_normal((8, 4))
    weights, offsets = rule_of(codebook, 1.0, 1.0, np.zeros(4))
    assert misfit(weights[:, :4], offsets[:4], codebook) == "it chooses among 4 codewords, not 8"
    assert misfit(weights, offsets, codebook[:4]) == "it chooses among 8 codewords, not 4"
    offsets[3] = -np.inf
    assert misfit(weights, offsets, codebook) == "it chooses among 7 codewords, not 8"


def test_the_margin_is_the_gap_of_the_two_best_scores_over_the_largest_possible_one() -> None:
    codebook = np.array([[1.0, 0.0], [-1.0, 0.0]])
    search = ModeSearch("z", 1, codebook.T, -0.5 * np.square(codebook).sum(axis=1))
    best, margin = search.nearest(np.array([[[1e-6, 2.0]], [[-3.0, 0.0]], [[0.0, 0.0]]]))
    assert best.tolist() == [[0], [1], [0]]
    # scores z - 1/2 and -z - 1/2 differ by 2 z; the reach is |z| * 1 + 1/2
    np.testing.assert_allclose(margin[:, 0], [2e-6 / 2.5, 6.0 / 3.5, 0.0], rtol=1e-6)


def test_a_large_batch_is_searched_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    codebook = np.random.default_rng(1).standard_normal((8, 4))
    search = ModeSearch("z", 2, *rule_of(codebook, 1.0, 1.0, np.zeros(4)))
    latents = np.random.default_rng(2).standard_normal((11, 3, 4))
    best, margin = search.nearest(latents)
    # 48 scores at once are 3 samples of 2 tokens and 8 codewords: the last block is not full
    monkeypatch.setattr(nearest_codeword, "_BLOCK", 48)
    in_blocks = search.nearest(latents)
    np.testing.assert_array_equal(in_blocks[0], best)
    np.testing.assert_allclose(in_blocks[1], margin, rtol=1e-9)
    assert best.shape == margin.shape == (11, 2)


# --- on a grid

UNITS = np.random.default_rng(5).integers(-127, 128, (16, 8))


@pytest.mark.parametrize("gain", [0.5, 1.0, 2.0, 64.0])
def test_a_grid_allows_a_power_of_two_and_a_constant(gain: float) -> None:
    weights, offsets = rule_of(UNITS.astype(float), gain, 1.0, np.zeros(8))
    assert grid_misfit(weights, offsets + 7 * gain / 2, UNITS) is None
    assert "no whole number or half" in str(grid_misfit(weights, offsets + gain / 8, UNITS))
    assert "not grow towards" in str(grid_misfit(-weights, offsets, UNITS))
    assert "among 16 codewords, not 15" in str(grid_misfit(weights, offsets, UNITS[:15]))


def test_a_grid_allows_nothing_else() -> None:
    units = UNITS.astype(float)
    for word in range(16):
        for wrong in (1, -1):
            weights, offsets = rule_of(units, 2.0, 1.0, np.zeros(8))
            offsets[word] += wrong
            assert misfit(weights, offsets, units) is None  # far below the tolerance of a float link
            assert f"off by 0.5 units at {word}" in str(grid_misfit(weights, offsets, UNITS))
            weights, offsets = rule_of(units, 2.0, 1.0, np.zeros(8))
            weights[word % 8, word] += wrong
            assert f"codeword {word} is not exactly" in str(grid_misfit(weights, offsets, UNITS))
    assert "codeword" in str(grid_misfit(*rule_of(units, 3.0, 1.0, np.zeros(8)), UNITS))
    assert "codeword" in str(grid_misfit(*rule_of(units, 2.0, 1.0, np.ones(8)), UNITS))
    assert "offsets" in str(grid_misfit(*rule_of(units, 2.0, 2.0, np.zeros(8)), UNITS))


# --- reading the rule from graphs of other shapes than the exporter's usual one

PRODUCT = "products = MatMul(latents, codebook); scores = Add(products, offsets)"
DECISION = "indices = ArgMax<axis=-1, keepdims=0>(scores)"
BY_TOKEN = f"latents = Reshape(input, shape); {PRODUCT}; {DECISION}"
BY_MODE = (
    "twice = Add(half, half); mode = Add(twice, one); codebook = Gather(stack, mode);"
    f"offsets = Gather(heights, mode); {BY_TOKEN}"
)
"""One search over the codebook that the mode selects; a mode of ``FOUR_MODES`` is 2 * loud + 1."""
FLAT = f"latents = Reshape(input, rows); {PRODUCT}; by_token = Reshape(scores, regroup); {DECISION}".replace(
    "(scores)", "(by_token)"
)
"""Latents as (batch * tokens, C), as ``nn.Linear`` on a flattened tensor gives them."""


def searched(text: str, manifest: Manifest, **stored: np.ndarray) -> tuple[tuple[ModeSearch, ...], list[str]]:
    """The proof of a search in three tokens of four numbers."""
    mode = "half" if "half" in text else "mode"
    model = model_of(
        "float[batch,12] input, float[batch] snr_db",
        f"loud = GreaterOrEqual(snr_db, limit); {mode} = Cast<to={TensorProto.INT64}>(loud); {text}",
        "int64[batch] mode, int64[batch,tokens] indices",
        {"limit": np.float32(10), "shape": np.array([-1, 3, 4]), "one": np.array(1), **stored},
    )
    return prove_search(GraphView(model), manifest)


def stacked(manifest: Manifest) -> dict[str, np.ndarray]:
    """W = c and b = -|c|^2 / 2 of each mode; twice that in whole units on a grid."""
    stack, heights = np.zeros((4, 4, 16), np.float32), np.full((4, 1, 16), -np.inf, np.float32)
    for number, mode in enumerate(manifest.modes):
        units = manifest.grid is not None
        words = manifest.grid_codebook(mode.codebook) if units else manifest.codebook(mode.codebook)
        stack[number, :, : len(words)] = (1 + units) * words.T
        heights[number, 0, : len(words)] = -0.5 * (1 + units) * np.square(words).sum(axis=1)
    return {"stack": stack, "heights": heights}


def test_a_codebook_that_the_mode_selects_is_read_mode_by_mode() -> None:
    manifest = run_manifest(FOUR_MODES, ())
    stored = stacked(manifest)
    searches, problems = searched(BY_MODE, manifest, **stored)
    assert problems == []
    assert [search.weights.shape[1] for search in searches] == [8, 8, 16, 16]
    np.testing.assert_allclose(searches[2].weights, FOUR_MODES.codebook(1).T, atol=1e-6)
    stored["stack"][3, 1, 9] += 0.01
    stored["heights"][1, 0, 8:] = 0.0
    first, second = searched(BY_MODE, manifest, **stored)[1]
    assert first == "the search 'node_indices' in mode 1: it chooses among 16 codewords, not 8"
    assert second.startswith("the search 'node_indices' in mode 3: codeword 9 is not the manifest's")


def test_on_a_grid_the_selected_codebooks_are_read_exactly() -> None:
    manifest = grid_manifest(FOUR_GRID)
    stored = stacked(manifest)
    searches, problems = searched(BY_MODE, manifest, **stored)
    assert problems == []
    np.testing.assert_array_equal(searches[3].weights, 2 * manifest.grid_codebook(1).T)
    stored["stack"][3, 1, 9] += 1
    stored["heights"][1, 0, 5] += 1
    stored["heights"][2, 0, :] += 3
    assert searched(BY_MODE, manifest, **stored)[1] == [
        "the search 'node_indices' in mode 1: its offsets are not exactly those of a nearest-codeword "
        "search: off by 0.5 units at 5",
        "the search 'node_indices' in mode 3: codeword 9 is not exactly the manifest's, times a power "
        "of two: it differs by 0.5 units",
    ]


def test_flattened_latents_are_read_too() -> None:
    manifest, codebook = run_manifest(ONE_MODE, ()), ONE_MODE.codebook(0)
    stored = {"codebook": codebook.T.copy(), "offsets": -0.5 * np.square(codebook).sum(axis=1)}
    stored |= {"rows": np.array([-1, 4]), "regroup": np.array([-1, 3, 8])}
    searches, problems = searched(FLAT, manifest, **stored)
    assert problems == []
    assert searches[0].latents == "latents"
    (problem,) = searched(FLAT, manifest, **stored | {"regroup": np.array([-1, 6, 4])})[1]
    assert "must have one row for each token, not shape (5, 6, 4)" in problem


def test_a_rule_that_differs_from_token_to_token_is_rejected() -> None:
    manifest, codebook = run_manifest(ONE_MODE, ()), ONE_MODE.codebook(0)
    offsets = np.tile(-0.5 * np.square(codebook).sum(axis=1), (3, 1))
    assert searched(BY_TOKEN, manifest, codebook=codebook.T.copy(), offsets=offsets)[1] == []
    offsets[2, 4] += 0.5
    assert searched(BY_TOKEN, manifest, codebook=codebook.T.copy(), offsets=offsets)[1] == [
        "the search 'node_indices': the tokens of a sample are not all searched by the same finite rule"
    ]
