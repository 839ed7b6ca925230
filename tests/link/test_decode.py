import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from twophase.link.bits import label_bits
from twophase.link.decode import codeword_log_posterior, hard_indices, mmse_embedding
from twophase.link.errors import InputError

SETTINGS = settings(deadline=None, max_examples=60, derandomize=True)
FOUR = label_bits(np.arange(4))


@SETTINGS
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_posterior_is_the_product_of_bit_probabilities(seed, width, tokens, known):
    """With a prior that counts up to a factor and excludes one codeword, or without."""
    rng = np.random.default_rng(seed)
    llr, table = rng.normal(0, 4, (5, tokens * width)), label_bits(rng.permutation(2**width))
    prior = np.ones(2**width)
    if known:
        prior = 7 * rng.dirichlet(prior) + 1e-3
        prior[rng.integers(2**width)] = 0
    one = expit(llr).reshape(5, tokens, 1, width)
    joint = prior * np.where(table == 1, one, 1 - one).prod(axis=-1)
    with np.errstate(divide="ignore"):
        log_posterior = codeword_log_posterior(llr, table, np.log(prior) if known else None)
    assert log_posterior.shape == (5, tokens, 2**width)
    np.testing.assert_allclose(np.exp(log_posterior), joint / joint.sum(axis=-1, keepdims=True), rtol=1e-9)


@SETTINGS
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_certain_bits_name_their_codeword(seed, width):
    rng = np.random.default_rng(seed)
    table = label_bits(rng.permutation(2**width))
    sent = rng.integers(0, 2**width, (4, 3))
    llr = (2.0 * table[sent].reshape(4, -1) - 1) * 100.0
    log_posterior = codeword_log_posterior(llr, table)
    indices = hard_indices(log_posterior)
    assert indices.dtype == np.int64
    np.testing.assert_array_equal(indices, sent)
    codebook = rng.normal(size=(2**width, 5))
    np.testing.assert_allclose(mmse_embedding(log_posterior, codebook), codebook[sent], atol=1e-12)


def test_saturated_bits_stay_finite_and_ties_go_to_the_lowest_index():
    log_posterior = codeword_log_posterior(np.full(12, 1e6), label_bits(np.arange(4096)))
    assert np.isfinite(log_posterior).all()
    assert hard_indices(log_posterior).tolist() == [4095]
    assert hard_indices([[0.0, 1.0, 1.0], [-np.inf, -np.inf, -np.inf]]).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("label_bits", lambda: codeword_log_posterior(np.zeros(2), [0, 1])),
        ("label_bits", lambda: codeword_log_posterior(np.zeros(2), [[0, 2]])),
        ("llr", lambda: codeword_log_posterior(np.zeros(3), FOUR)),
        ("llr", lambda: codeword_log_posterior(0.0, FOUR)),
        ("llr", lambda: codeword_log_posterior([np.nan, 0], FOUR)),
        ("log_prior", lambda: codeword_log_posterior(np.zeros(2), FOUR, np.zeros(3))),
        ("log_prior", lambda: codeword_log_posterior(np.zeros(2), FOUR, [0, np.nan, 0, 0])),
        ("log_prior", lambda: codeword_log_posterior(np.zeros(2), FOUR, [0, np.inf, 0, 0])),
        ("log_prior", lambda: codeword_log_posterior(np.zeros(2), FOUR, [-np.inf] * 4)),
        ("log_posterior", lambda: hard_indices([np.nan, 0])),
        ("log_posterior", lambda: hard_indices(np.zeros((3, 0)))),
        ("log_posterior", lambda: hard_indices(0.0)),
        ("codebook", lambda: mmse_embedding(np.zeros((2, 4)), np.zeros((3, 2)))),
        ("codebook", lambda: mmse_embedding(np.zeros((2, 2)), [[1.0], [np.nan]])),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(InputError, match=f"'{name}' must"):
        call()
