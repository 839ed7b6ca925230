from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.link.errors import InputError
from twophase.link.labelling import (
    LABELLINGS,
    binary_switching,
    identity_labels,
    kdtree_gray_labels,
    kdtree_natural_labels,
    labelling_distortion,
    labelling_gain_db,
    make_labels,
    pca_gray_labels,
)
from twophase.link.labelling_search import default_sweeps

SETTINGS = settings(deadline=None, max_examples=30, derandomize=True)


def gaussian(size, dim, seed=0):
    return np.random.default_rng(seed).normal(size=(size, dim))


def distortion_by_pairs(codebook, labels, usage, flips):
    """All K^2 transitions, bit by bit."""
    width = len(codebook).bit_length() - 1
    flips = np.broadcast_to(flips, (width,))
    total = 0.0
    for sent, received in np.ndindex(len(codebook), len(codebook)):
        probability = usage[sent]
        for bit, differs in enumerate(f"{int(labels[sent]) ^ int(labels[received]):0{width}b}"):
            probability *= flips[bit] if differs == "1" else 1 - flips[bit]
        total += probability * ((codebook[sent] - codebook[received]) ** 2).sum()
    return total


@st.composite
def scenarios(draw, max_width=4):
    """A codebook, labels, usage and flip probabilities (one, or one per bit)."""
    width = draw(st.integers(1, max_width))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = 2**width
    usage = rng.dirichlet(np.ones(size))
    usage[rng.integers(size)] = 0.0
    flips = rng.uniform(0.001, 0.5, width) if draw(st.booleans()) else float(rng.uniform(0.001, 0.5))
    codebook = rng.normal(size=(size, draw(st.integers(1, 5)))) + 10
    return codebook, rng.permutation(size), usage / usage.sum(), flips


@SETTINGS
@given(scenarios())
def test_distortion_equals_the_sum_over_all_transitions(scenario):
    codebook, labels, usage, flips = scenario
    expected = distortion_by_pairs(codebook, labels, usage, flips)
    assert labelling_distortion(codebook, labels, usage, flips) == pytest.approx(expected, rel=1e-11)


@SETTINGS
@given(scenarios(max_width=2), st.floats(0.01, 100), st.floats(-10, 10), st.floats(0.1, 10))
def test_gain_is_against_the_mean_over_all_labellings_and_free_of_scale(scenario, factor, shift, weight):
    codebook, labels, usage, flips = scenario
    every = [labelling_distortion(codebook, p, usage, flips) for p in permutations(range(len(codebook)))]
    expected = 10 * np.log10(np.mean(every) / labelling_distortion(codebook, labels, usage, flips))
    gain = labelling_gain_db(codebook, labels, usage, flips)
    assert gain == pytest.approx(expected, abs=1e-9)
    scaled = labelling_gain_db(codebook * factor + shift, labels, usage * weight, flips)
    assert scaled == pytest.approx(gain, abs=1e-7)
    best = binary_switching(codebook, labels, usage, flips, rng=np.random.default_rng(2), sweeps=20)
    assert labelling_distortion(codebook, best, usage, flips) == pytest.approx(min(every), rel=1e-9)


def test_by_default_codewords_are_equally_frequent_and_one_bit_in_twenty_flips():
    assert labelling_distortion([[0.0], [3.0]], [0, 1]) == pytest.approx(0.45, rel=1e-14)
    assert labelling_gain_db(np.ones((8, 3)), np.arange(8)) == 0.0


@pytest.mark.parametrize("method", LABELLINGS)
def test_labels_are_a_permutation_that_follows_from_the_arguments(method):
    coinciding = [np.zeros((16, 3)), np.repeat(np.eye(4), 4, axis=0), np.full((16, 1), 1e-300)]
    for codebook in (gaussian(2, 1), gaussian(4, 3), gaussian(32, 3), *coinciding):
        labels = make_labels(method, codebook, seed=3)
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(np.sort(labels), np.arange(len(codebook)))
        np.testing.assert_array_equal(make_labels(method, codebook.copy(), seed=3), labels)
        assert method != "identity" or labels.tolist() == list(range(len(codebook)))


def test_on_a_line_trees_and_the_longest_axis_give_reflected_gray_and_the_plain_tree_counts():
    places = np.random.default_rng(0).permutation(64)
    codebook = 2.5 * places[:, np.newaxis] - 9.0
    np.testing.assert_array_equal(kdtree_gray_labels(codebook), places ^ (places >> 1))
    np.testing.assert_array_equal(kdtree_natural_labels(codebook), places)
    turned = np.column_stack([np.cos(places), 100.0 * places])
    np.testing.assert_array_equal(pca_gray_labels(turned), places ^ (places >> 1))


@pytest.mark.parametrize("shape", [(8, 8), (2, 8, 4)])
def test_on_a_rotated_grid_neighbours_differ_in_one_bit(shape):
    axes = np.meshgrid(*(np.arange(side) for side in shape), indexing="ij")
    places = np.stack([axis.ravel() for axis in axes], axis=-1)
    # Unequal spacings make the axes unambiguous; the rotation hides them from a coordinate-wise split.
    spaced = places * np.array([1.0, 1.21, 1.43])[: len(shape)]
    rotation = np.linalg.qr(np.random.default_rng(len(shape)).normal(size=(len(shape), len(shape))))[0]
    labels = kdtree_gray_labels(spaced @ rotation)
    adjacent = [
        int(labels[one] ^ labels[other]).bit_count()
        for one, other in combinations(range(len(places)), 2)
        if np.abs(places[one] - places[other]).sum() == 1
    ]
    assert adjacent == [1] * sum((side - 1) * len(places) // side for side in shape)


def test_on_gaussian_codebooks_better_methods_gain_more():
    """Means over eight codebooks: random < PCA-Gray < kd-tree Gray < plain kd-tree < binary switching."""
    gains = []
    for seed in range(8):
        codebook = gaussian(64, 4, seed)
        start = kdtree_natural_labels(codebook)
        candidates = (
            np.random.default_rng(100 + seed).permutation(64),
            pca_gray_labels(codebook),
            kdtree_gray_labels(codebook),
            start,
            *(binary_switching(codebook, start, rng=np.random.default_rng(seed), sweeps=n) for n in (1, 12)),
        )
        gains.append([labelling_gain_db(codebook, labels) for labels in candidates])
    means = np.mean(gains, axis=0)
    assert abs(means[0]) < 0.15
    assert (np.diff(means) > 0.08).all(), means


@SETTINGS
@given(scenarios(max_width=3))
def test_after_switching_no_single_exchange_helps(scenario):
    codebook, labels, usage, flips = scenario
    best = binary_switching(codebook, labels, usage, flips, rng=np.random.default_rng(1), sweeps=40)
    np.testing.assert_array_equal(np.sort(best), np.arange(len(codebook)))
    distortion = distortion_by_pairs(codebook, best, usage, flips)
    assert distortion <= labelling_distortion(codebook, labels, usage, flips) * (1 + 1e-12)
    for first, second in combinations(range(len(codebook)), 2):
        exchanged = best.copy()
        exchanged[[first, second]] = best[[second, first]]
        assert distortion_by_pairs(codebook, exchanged, usage, flips) >= distortion * (1 - 1e-9)


def test_bsa_serves_the_codewords_and_bits_in_use():
    """Under skewed usage and unequal bits, labels made for these beat labels made for even ones."""
    rng = np.random.default_rng(5)
    codebook, usage = gaussian(32, 3), rng.dirichlet(np.full(32, 0.2))
    flips = np.array([0.01, 0.02, 0.05, 0.1, 0.2])
    fitted = labelling_gain_db(codebook, make_labels("bsa", codebook, usage, flips), usage, flips)
    even = labelling_gain_db(codebook, make_labels("bsa", codebook), usage, flips)
    assert fitted > even + 1


def test_sweeps_fall_with_the_square_of_the_size():
    assert [default_sweeps(size) for size in (2, 256, 1024, 4096, 65536)] == [128, 128, 64, 4, 2]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("labelling", lambda: make_labels("gray", gaussian(4, 2))),
        ("codebook", lambda: make_labels("identity", gaussian(3, 2))),
        ("codebook", lambda: make_labels("pca", gaussian(1, 2))),
        ("codebook", lambda: kdtree_gray_labels(np.zeros((4, 0)))),
        ("codebook", lambda: kdtree_gray_labels([[0.0], [np.nan]])),
        ("labels", lambda: labelling_distortion(gaussian(4, 2), [0, 1, 2, 2])),
        ("labels", lambda: binary_switching(gaussian(4, 2), [0, 1], rng=np.random.default_rng())),
        ("usage", lambda: labelling_gain_db(gaussian(4, 2), range(4), usage=[1, 1])),
        ("usage", lambda: labelling_gain_db(gaussian(2, 2), [0, 1], usage=[2, -1])),
        ("usage", lambda: labelling_gain_db(gaussian(2, 2), [0, 1], usage=[0, 0])),
        ("bit_error_prob", lambda: labelling_distortion(gaussian(4, 2), range(4), bit_error_prob=0.0)),
        ("bit_error_prob", lambda: labelling_distortion(gaussian(4, 2), range(4), bit_error_prob=0.51)),
        ("bit_error_prob", lambda: labelling_distortion(gaussian(4, 2), range(4), bit_error_prob=[0.1])),
        ("sweeps", lambda: binary_switching(np.eye(4), range(4), rng=np.random.default_rng(), sweeps=0)),
        ("size", lambda: identity_labels(3)),
        ("size", lambda: identity_labels(1)),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(InputError, match=f"'{name}' must"):
        call()
