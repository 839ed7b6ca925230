"""The integer grid: rounding, exactness of its sums in float32, ties, and codebooks that do not lie on it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from twophase.link.errors import InputError
from twophase.link.grid import (
    CODEWORD_LIMIT,
    EXACT_LIMIT,
    LATENT_LIMIT,
    Grid,
    grid_codebook,
    grid_search,
    latent_limit,
    to_grid,
)

SETTINGS = settings(deadline=None, max_examples=60, derandomize=True)


def nearest(latent, codebook):
    """The search, slow and obvious: Python's whole numbers, the first of the smallest distances."""
    distances = [sum((int(a) - int(b)) ** 2 for a, b in zip(latent, word, strict=True)) for word in codebook]
    return distances.index(min(distances))


@SETTINGS
@given(
    latents=arrays(np.int64, (5, 3), elements=st.integers(-LATENT_LIMIT, LATENT_LIMIT)),
    codebook=arrays(np.int64, (8, 3), elements=st.integers(-CODEWORD_LIMIT, CODEWORD_LIMIT)),
)
def test_the_search_finds_the_nearest_codeword_and_of_several_the_first(latents, codebook):
    assert grid_search(latents, codebook).tolist() == [nearest(row, codebook) for row in latents]


def test_ties_go_to_the_lowest_index():
    codebook = [[3, 0], [-3, 0], [3, 0], [0, 3]]
    latents = [[0, 0], [5, 0], [-1, 0], [2, 2], [-1, 1]]
    assert grid_search(latents, codebook).tolist() == [0, 0, 1, 0, 1]
    assert grid_search(np.zeros((2, 3, 5, 2), dtype=np.int64), codebook).shape == (2, 3, 5)


@SETTINGS
@given(
    seed=st.integers(0, 2**32 - 1),
    dim=st.sampled_from([1, 2, 8, 64, 256, 346]),
    corner=st.booleans(),
)
def test_float32_takes_every_sum_of_the_search_exactly_in_any_order(seed, dim, corner):
    """The reason for all limits: shuffled partial sums in float32 equal int64's, at the corners too."""
    rng = np.random.default_rng(seed)
    limit = latent_limit(dim)
    z = rng.integers(-limit, limit + 1, dim)
    c = rng.integers(-CODEWORD_LIMIT, CODEWORD_LIMIT + 1, dim)
    if corner:
        z, c = limit * np.sign(z + 0.5).astype(np.int64), CODEWORD_LIMIT * np.sign(c + 0.5).astype(np.int64)
    products = np.append(2 * z * c, -(c * c).sum())
    rng.shuffle(products)
    total = np.float32(0.0)
    for product in products.astype(np.float32):
        total = np.float32(total + product)
    assert float(total) == int(products.sum())


@pytest.mark.parametrize("dim", [1, 2, 63, 64, 200, 346])
def test_the_limit_of_latents_is_the_largest_at_which_the_worst_sum_is_exact(dim):
    first, second = (
        2 * dim * limit * CODEWORD_LIMIT + dim * CODEWORD_LIMIT**2
        for limit in (latent_limit(dim), latent_limit(dim) + 1)
    )
    assert first < EXACT_LIMIT
    assert latent_limit(dim) == LATENT_LIMIT or second >= EXACT_LIMIT


def test_more_components_than_leave_room_for_the_latents_are_refused():
    assert latent_limit(346) >= CODEWORD_LIMIT
    with pytest.raises(InputError, match=r"'embedding_dim' must be at most 346 on an integer grid.*347"):
        latent_limit(347)


def test_rounding_is_to_even_and_clipped():
    values = [0.5, 1.5, 2.5, -0.5, -1.5, 0.49, 7.9, 1e30, -1e30]
    assert to_grid(values, 0, 7).tolist() == [0, 2, 2, 0, -2, 0, 7, 7, -7]
    assert to_grid([0.375, -0.3125], -2, 127).tolist() == [2, -1]
    assert to_grid([12.0, 20.0], 3, 127).tolist() == [2, 2]
    assert to_grid(np.zeros((2, 3)), -4, 1).shape == (2, 3)


@SETTINGS
@given(
    units=arrays(np.int64, (4, 2), elements=st.integers(-CODEWORD_LIMIT, CODEWORD_LIMIT)),
    exponent=st.integers(-40, 40),
)
def test_a_codebook_on_the_grid_comes_back_in_units(units, exponent):
    codebook = units * 2.0**exponent
    np.testing.assert_array_equal(grid_codebook(codebook, exponent), units)
    np.testing.assert_array_equal(to_grid(codebook, exponent, CODEWORD_LIMIT), units)


@pytest.mark.parametrize("component", [0.5, 128.0, -127.25])
def test_a_codebook_off_the_grid_is_refused(component):
    with pytest.raises(InputError, match=f"'codebooks' must hold whole numbers.*{component}"):
        grid_codebook([[1.0, component]], 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latent_limit", 0),
        ("latent_limit", LATENT_LIMIT + 1),
        ("exponents", (0, 128)),
        ("exponents", (-127,)),
    ],
)
def test_a_grid_that_float32_does_not_hold_is_refused(name, value):
    with pytest.raises(InputError, match=f"'{name}' must"):
        Grid(**({"exponents": (-6,), "latent_limit": 1023} | {name: value}))
