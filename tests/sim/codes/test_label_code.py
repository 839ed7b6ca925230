"""Short label codes: never beyond a simplex, not far from it, decoded by maximum likelihood."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erfc

from twophase.sim.codes.label_code import label_code
from twophase.sim.theory.label_bound import simplex_success


def q(x):
    return erfc(x / math.sqrt(2)) / 2


def distances(words):
    return (np.abs(words[:, None] - words[None]) ** 2).sum(axis=2)


@pytest.mark.parametrize(
    ("classes", "symbols", "lost_db"),
    [
        *[(2, 1, 0.0), (2, 5, 0.0), (3, 1, 0.0), (4, 2, 0.1), (5, 3, None), (10, 1, None), (10, 2, 1.1)],
        *[(10, 6, 0.15), (10, 7, 0.15), (10, 12, 0.1), (10, 40, None), (26, 9, None)],
    ],
)
def test_words_have_unit_energy_and_are_near_the_simplex(classes, symbols, lost_db) -> None:
    code = label_code(classes, symbols)
    assert code.words.shape == (classes, symbols)
    assert np.mean(np.abs(code.words) ** 2) == pytest.approx(1)
    gaps = distances(code.words)
    assert (gaps + np.eye(classes) * 1e9).min() > 0.1
    # Whatever points of mean energy E: their mean squared distance is at most a simplex's, 2 E M / (M - 1).
    assert gaps.sum() / (classes * (classes - 1)) <= 2 * symbols * classes / (classes - 1) + 1e-9
    if lost_db is None:
        return
    # At equal Es/N0 a simplex has a smaller union bound; lost_db of more Es/N0 make up for it.
    esn0_db = np.arange(-6.0, 9.0, 3.0) - 10 * math.log10(symbols / classes)
    ratio = 10 ** (esn0_db / 10)
    simplex = (classes - 1) * q(np.sqrt(symbols * ratio * classes / (classes - 1)))
    assert (code.word_error_bound(esn0_db) >= np.minimum(simplex, 1.0) - 1e-12).all()
    useful = (simplex < 0.1) & (simplex > 1e-4)
    assert useful.any()
    assert (code.word_error_bound(esn0_db + lost_db)[useful] <= simplex[useful] + 1e-12).all()


@given(classes=st.sampled_from([2, 3, 5, 8]), symbols=st.sampled_from([1, 2, 5]), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_decoding_is_the_nearest_faded_word(classes, symbols, seed) -> None:
    code = label_code(classes, symbols)
    rng = np.random.default_rng(seed)
    shape = (20, symbols)
    received, gain = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape) for _ in range(2))
    noise_var = rng.uniform(0.1, 2.0, shape)
    metric = (np.abs(received[:, None] - gain[:, None] * code.words) ** 2 / noise_var[:, None]).sum(axis=2)
    found = code.decode(received, noise_var, gain)
    np.testing.assert_array_equal(found, np.argmin(metric, axis=1))
    # Alone as in the batch.
    alone = [code.decode(received[[i]], noise_var[[i]], gain[[i]])[0] for i in range(20)]
    np.testing.assert_array_equal(found, alone)
    # Without a gain the lowest label is taken.
    assert not code.decode(np.ones(shape), 1.0, 0.0).any()


def test_the_union_bound_is_the_sum_over_pairs() -> None:
    code = label_code(7, 2)
    gaps = distances(code.words)[~np.eye(7, dtype=bool)]
    expected = q(np.sqrt(gaps / (2 * 10**-0.9))).sum() / 7
    np.testing.assert_allclose(code.word_error_bound([[-60.0], [9.0]]), [[1.0], [expected]], rtol=1e-6)


@pytest.mark.parametrize(("classes", "symbols"), [(4, 1), (10, 2), (10, 6)])
@pytest.mark.parametrize("esn0_db", [-4.0, 2.0])
def test_success_lies_between_the_union_bound_and_the_label_bound(classes, symbols, esn0_db) -> None:
    code, rng, count = label_code(classes, symbols), np.random.default_rng(symbols), 40_000
    sent, noise_var = rng.integers(0, classes, count), 10 ** (-esn0_db / 10)
    noise = rng.standard_normal((count, symbols, 2)) @ [1, 1j]
    received = code.words[sent] + math.sqrt(noise_var / 2) * noise
    right = float(np.mean(code.decode(received, noise_var) == sent))
    # 5 sigma: a false alarm in 3e-7 of all seeds on either side.
    deviation = 5 * math.sqrt(right * (1 - right) / count)
    assert right <= float(simplex_success(classes, symbols, esn0_db)) + deviation
    assert right >= 1 - float(code.word_error_bound(esn0_db)) - deviation


def test_the_search_is_deterministic() -> None:
    first = label_code(10, 6)
    label_code.cache_clear()
    second = label_code(10, 6)
    assert first is not second
    np.testing.assert_array_equal(first.words, second.words)


def test_orthogonal_words_where_they_exist() -> None:
    # Eight words in four real dimensions: plus and minus an orthogonal frame (D^2 = 2 E and 4 E, E = 2).
    assert np.unique(distances(label_code(8, 2).words).round(6)).tolist() == [0.0, 4.0, 8.0]
    assert label_code(2, 3).alphabet == "QPSK"
