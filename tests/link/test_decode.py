import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from twophase.link.bits import label_bits
from twophase.link.decode import codeword_log_posterior, hard_indices, mmse_embedding
from twophase.link.errors import InputError

SETTINGS = settings(deadline=None, max_examples=60, derandomize=True)


def scenario(seed, width=3, tokens=2, spread=4.0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(2**width)
    return rng.normal(0, spread, (5, tokens * width)), label_bits(labels), rng


def posterior_by_products(llr, table, prior):
    """P(k | llr) as the product of bit probabilities, one token and codeword at a time."""
    size, width = table.shape
    result = np.empty((llr.shape[0], llr.shape[1] // width, size))
    for row in range(llr.shape[0]):
        for token in range(result.shape[1]):
            one = expit(llr[row, token * width : (token + 1) * width])
            for k in range(size):
                result[row, token, k] = prior[k] * np.prod(np.where(table[k] == 1, one, 1 - one))
    return result / result.sum(axis=-1, keepdims=True)


@SETTINGS
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_posterior_equals_its_slow_twin(seed, width, tokens, with_prior):
    llr, table, rng = scenario(seed, width, tokens)
    prior = rng.dirichlet(np.ones(2**width)) + 1e-3 if with_prior else np.ones(2**width)
    log_posterior = codeword_log_posterior(llr, table, np.log(prior) if with_prior else None)
    assert log_posterior.shape == (5, tokens, 2**width)
    np.testing.assert_allclose(np.exp(log_posterior), posterior_by_products(llr, table, prior), rtol=1e-9)
    np.testing.assert_allclose(np.exp(log_posterior).sum(axis=-1), 1, rtol=1e-13)


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


def test_a_prior_counts_up_to_a_factor_and_may_exclude():
    llr, table, _ = scenario(1)
    prior = np.log(np.linspace(1, 2, 8))
    np.testing.assert_allclose(
        codeword_log_posterior(llr, table, prior + 5), codeword_log_posterior(llr, table, prior), atol=1e-12
    )
    prior[3] = -np.inf
    posterior = np.exp(codeword_log_posterior(llr, table, prior))
    assert not posterior[..., 3].any()
    np.testing.assert_allclose(posterior.sum(axis=-1), 1)


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
        ("llr", lambda: codeword_log_posterior(np.zeros(3), label_bits(np.arange(4)))),
        ("llr", lambda: codeword_log_posterior(0.0, label_bits(np.arange(2)))),
        ("llr", lambda: codeword_log_posterior([np.nan, 0], label_bits(np.arange(4)))),
        ("log_prior", lambda: codeword_log_posterior(np.zeros(2), label_bits(np.arange(4)), np.zeros(3))),
        ("log_prior", lambda: codeword_log_posterior(np.zeros(1), label_bits([0, 1]), [0, np.nan])),
        ("log_prior", lambda: codeword_log_posterior(np.zeros(1), label_bits([0, 1]), [0, np.inf])),
        ("log_prior", lambda: codeword_log_posterior(np.zeros(1), label_bits([0, 1]), [-np.inf, -np.inf])),
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
