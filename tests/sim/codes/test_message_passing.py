"""Message passing on any code: against enumeration, against a plain loop, and against commpy."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from commpy.channelcoding.ldpc import ldpc_bp_decode
from scipy.sparse import csc_matrix
from scipy.special import logsumexp

from twophase.link.bits import indices_to_bits
from twophase.link.errors import InputError
from twophase.sim.codes.message_passing import Checks, parity_checks, propagate

KERNELS = pytest.mark.parametrize("kernel", ["numpy", "numba"])
TREE = [[0, 1, 2], [2, 3, 4], [4, 5, 6, 7]]
"""Checks without a cycle: there, sum-product is exact."""
HAMMING = [[0, 1, 2, 4], [0, 1, 3, 5], [0, 2, 3, 6]]


def words_of(checks, width):
    every = indices_to_bits(np.arange(2**width), width)
    return every[parity_checks(checks, width).hold(every.astype(bool))]


def design() -> Checks:
    found = importlib.util.find_spec("commpy")
    assert found is not None
    assert found.submodule_search_locations is not None
    path = Path(found.submodule_search_locations[0]) / "channelcoding/designs/ldpc/wimax/1440.720.txt"
    lines = path.read_text(encoding="ascii").splitlines()[4 + 1440 : 4 + 1440 + 720]  # the checks' bits
    return parity_checks([[int(bit) - 1 for bit in line.split()] for line in lines], 1440)


@KERNELS
def test_sum_product_is_exact_on_a_tree(kernel) -> None:
    words = words_of(TREE, 8)
    assert len(words) == 2**5
    llr = np.random.default_rng(1).standard_normal((2000, 8)).astype(np.float32)
    metric = llr.astype(float) @ words.T
    exact = np.transpose(
        [logsumexp(metric[:, bit == 1], axis=1) - logsumexp(metric[:, bit == 0], axis=1) for bit in words.T]
    )
    checks = parity_checks(TREE, 8)
    found = propagate(checks, llr, 10, "sum-product", kernel)
    # A frame ends as soon as its decisions are a word; where they never are, all passes were made.
    unfinished = ~checks.hold(found > 0)
    assert unfinished.sum() > 20
    np.testing.assert_allclose(found[unfinished], exact[unfinished], rtol=1e-5, atol=1e-5)


@KERNELS
@pytest.mark.parametrize("rule", ["min-sum", "sum-product"])
def test_one_pass_equals_a_plain_loop(rule, kernel) -> None:
    rng = np.random.default_rng(2)
    llr = (3 * rng.standard_normal((50, 7))).astype(np.float32)
    posterior = llr.astype(float)
    for check in HAMMING:
        heard = posterior[:, check]
        for place, bit in enumerate(check):
            others = np.delete(heard, place, axis=1)
            sign = -np.prod(np.where(others > 0, -1.0, 1.0), axis=1)
            if rule == "min-sum":
                said = 0.75 * sign * np.abs(others).min(axis=1)
            else:
                said = 2 * np.arctanh(sign * np.prod(np.tanh(np.abs(others) / 2), axis=1))
            posterior[:, bit] = heard[:, place] + said
    found = propagate(parity_checks(HAMMING, 7), llr, 1, rule, kernel)
    np.testing.assert_allclose(found, posterior, rtol=1e-5, atol=1e-5)


@KERNELS
@pytest.mark.parametrize("rule", ["min-sum", "sum-product"])
def test_every_single_error_of_the_hamming_code_is_corrected(rule, kernel) -> None:
    words = words_of(HAMMING, 7)
    assert len(words) == 16
    llr = (2.0 * words - 1)[:, None, :] * np.where(np.eye(7) > 0, -1.0, 4.0)
    found = propagate(parity_checks(HAMMING, 7), llr.reshape(-1, 7).astype(np.float32), 20, rule, kernel)
    np.testing.assert_array_equal(found.reshape(16, 7, 7) > 0, np.repeat(words[:, None], 7, axis=1))


@KERNELS
@pytest.mark.parametrize("rule", ["min-sum", "sum-product"])
@pytest.mark.parametrize("size", [0.0, 1e-20, 1000.0])
def test_contradictions_stay_finite(rule, kernel, size) -> None:
    # Everybody says one as loudly as can be, which breaks the check of three.
    llr = np.full((3, 8), size, dtype=np.float32)
    assert np.isfinite(propagate(parity_checks(TREE, 8), llr, 50, rule, kernel)).all()


def test_the_design_of_commpy_is_decoded_as_by_commpy() -> None:
    checks = design()
    assert (checks.width, len(checks.starts) - 1) == (1440, 720)
    rows = np.repeat(np.arange(720), np.diff(checks.starts))
    matrix = csc_matrix((np.ones(len(rows), dtype=np.int8), (rows, checks.bits)), shape=(720, 1440))
    rng = np.random.default_rng(5)
    # Zeros were sent, Eb/N0 1.7 dB at rate 1/2: hard, but not hopeless.  commpy takes log P0/P1.
    ratio = 10**0.17 / 2
    llr = -4 * ratio * (1 + rng.standard_normal((8, 1440)) / np.sqrt(2 * ratio))
    params = {"n_vnodes": 1440, "n_cnodes": 720, "parity_check_matrix": matrix}
    theirs, _ = ldpc_bp_decode(-llr.ravel(), params, "SPA", 60)
    for kernel in ("numpy", "numba"):
        ours = propagate(checks, llr.astype(np.float32), 60, "sum-product", kernel) > 0
        np.testing.assert_array_equal(ours, theirs.T > 0)
    assert ((llr > 0).sum(axis=1) > 100).all()
    min_sum = propagate(checks, llr.astype(np.float32), 60, "min-sum", "numba") > 0
    assert min_sum.any(axis=1).sum() <= 2


def test_layers_share_no_bit_and_hold_is_a_syndrome() -> None:
    checks = design()
    assert sum(map(len, checks.layers)) == 720
    for layer in checks.layers:
        assert len(np.unique(layer)) == layer.size
    np.testing.assert_array_equal(np.concatenate([layer.ravel() for layer in checks.layers]), checks.bits)
    word = np.zeros((2, 1440), dtype=bool)
    word[1, 7] = True
    assert checks.hold(word).tolist() == [True, False]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: parity_checks([[0]], 3), "checks"),
        (lambda: parity_checks([[0, 0, 1]], 3), "checks"),
        (lambda: parity_checks([[0, 3]], 3), "checks"),
        (lambda: propagate(parity_checks(TREE, 8), np.zeros((1, 7), np.float32), 3), "llr"),
        (lambda: propagate(parity_checks(TREE, 8), np.zeros((1, 8), np.float32), 0), "iterations"),
        (lambda: propagate(parity_checks(TREE, 8), np.zeros((1, 8), np.float32), 3, "max"), "rule"),
    ],
)
def test_bad_arguments_are_named(call, name) -> None:
    with pytest.raises(InputError, match=f"'{name}' must"):
        call()
