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
@given(st.data(), st.sampled_from([(LATENT_LIMIT, CODEWORD_LIMIT), (2, 2)]))
def test_the_search_finds_the_nearest_codeword_and_of_several_the_first(data, limits):
    """Small numbers make ties."""
    latents, codebook = (
        data.draw(arrays(np.int64, shape, elements=st.integers(-limit, limit)))
        for shape, limit in zip([(2, 3, 2), (8, 2)], limits, strict=True)
    )
    found = grid_search(latents, codebook)
    assert found.tolist() == [[nearest(row, codebook) for row in rows] for rows in latents]


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


@pytest.mark.parametrize("dim", [1, 63, 64, 200, 346])
def test_the_limit_of_latents_is_the_largest_at_which_the_worst_sum_is_exact(dim):
    first, second = (
        2 * dim * limit * CODEWORD_LIMIT + dim * CODEWORD_LIMIT**2
        for limit in (latent_limit(dim), latent_limit(dim) + 1)
    )
    assert first < EXACT_LIMIT
    assert latent_limit(dim) == LATENT_LIMIT or second >= EXACT_LIMIT
    assert latent_limit(dim) >= CODEWORD_LIMIT


@SETTINGS
@given(
    units=arrays(np.int64, (4, 2), elements=st.integers(-CODEWORD_LIMIT, CODEWORD_LIMIT)),
    exponent=st.integers(-40, 40),
)
def test_a_codebook_on_the_grid_comes_back_in_units(units, exponent):
    codebook = units * 2.0**exponent
    np.testing.assert_array_equal(grid_codebook(codebook, exponent), units)
    np.testing.assert_array_equal(to_grid(codebook, exponent, CODEWORD_LIMIT), units)


def test_rounding_is_to_even_and_clipped():
    values = [0.5, 1.5, 2.5, -0.5, -1.5, 0.49, 7.9, 1e30, -1e30]
    assert to_grid(values, 0, 7).tolist() == [0, 2, 2, 0, -2, 0, 7, 7, -7]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: latent_limit(347), r"'embedding_dim' must be at most 346 on an integer grid.*347"),
        (lambda: grid_codebook([[1.0, 0.5]], 0), r"'codebooks' must hold whole numbers.*not 0\.5"),
        (lambda: grid_codebook([[1.0, 128.0]], 0), r"'codebooks' must hold whole numbers.*128"),
        (lambda: Grid((-6,), 0), "'latent_limit' must"),
        (lambda: Grid((-6,), LATENT_LIMIT + 1), "'latent_limit' must"),
        (lambda: Grid((0, 128), 1023), "'exponents' must"),
        (lambda: Grid((-127,), 1023), "'exponents' must"),
    ],
)
def test_what_float32_does_not_hold_exactly_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
