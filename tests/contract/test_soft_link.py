"""The torch twin and NumPy's link give the same numbers; soft meets hard where it must."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.link.bits import label_bits
from twophase.link.constellation import qam
from twophase.link.decode import codeword_log_posterior as numpy_log_posterior
from twophase.link.decode import mmse_embedding
from twophase.link.demap import llr_exact
from twophase.training.model.soft_symbols import (
    QamTables,
    codeword_log_posterior,
    exact_llr,
    hard_symbols,
    point_probabilities,
    product_symbols,
    reported_symbols,
    straight_through,
)

ORDERS = (4, 16, 64, 256)


@pytest.mark.parametrize("order", ORDERS)
def test_points_and_bits_are_those_of_the_link(order: int) -> None:
    tables, constellation = QamTables(order), qam(order)
    symbols = hard_symbols(torch.arange(order), tables).double().numpy()
    np.testing.assert_allclose(symbols[:, 0] + 1j * symbols[:, 1], constellation.points, atol=1e-7)
    numbers = tables.point_bits.numpy() @ (1 << np.arange(tables.bits_per_symbol)[::-1])
    np.testing.assert_array_equal(numbers, np.arange(order))
    probs = torch.rand(4, 2 * tables.bits_per_symbol, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(point_probabilities(probs, tables).sum(-1), torch.ones(4, 2))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("esn0_db", [-5.0, 5.0, 20.0])
def test_llrs_equal_numpys(order: int, esn0_db: float) -> None:
    generator = np.random.default_rng(order)
    noise_var = 10 ** (-esn0_db / 10)
    draws = generator.standard_normal((2, 50, 7)) * 0.5
    received = qam(order).points[generator.integers(order, size=(50, 7))] + draws[0] + 1j * draws[1]
    expected = llr_exact(received, qam(order), noise_var)
    pairs = torch.from_numpy(np.stack([received.real, received.imag], -1))
    tables = QamTables(order).double()
    found = exact_llr(pairs, torch.full((50, 1), noise_var, dtype=torch.float64), tables)
    # The twin's levels are kept in float32, hence the tolerance.
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_llr_gradient_is_finite_far_out_and_without_noise(order: int) -> None:
    received = torch.tensor([[[0.0, 40.0], [0.1, -0.1]]], requires_grad=True)
    llr = exact_llr(received, torch.tensor([[1e-6]]), QamTables(order))
    llr.sum().backward()
    assert torch.isfinite(llr).all()
    assert received.grad is not None
    assert torch.isfinite(received.grad).all()


@given(
    size=st.sampled_from([2, 4, 16]),
    tokens=st.integers(1, 4),
    scale=st.floats(0, 30),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=30, derandomize=True)
def test_posterior_and_mmse_equal_numpys(size: int, tokens: int, scale: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    width = size.bit_length() - 1
    llr = generator.standard_normal((3, tokens * width)) * scale
    prior = generator.dirichlet(np.ones(size))
    bits = label_bits(generator.permutation(size))
    codebook = generator.standard_normal((size, 3))
    expected = numpy_log_posterior(llr, bits, np.log(prior))
    found = codeword_log_posterior(
        torch.from_numpy(llr).reshape(3, tokens, width),
        torch.from_numpy(bits).double(),
        torch.from_numpy(np.log(prior)),
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9)
    embedding = found.exp() @ torch.from_numpy(codebook)
    np.testing.assert_allclose(embedding.numpy(), mmse_embedding(expected, codebook), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order", ORDERS)
def test_product_symbols_are_the_expectation_over_all_points(order: int) -> None:
    """Fast separable form against the obvious sum over points, and against the hard points for sure bits."""
    tables = QamTables(order).double()
    probs = torch.rand(5, 3 * tables.bits_per_symbol, generator=torch.Generator().manual_seed(order)).double()
    obvious = point_probabilities(probs, tables) @ tables.points
    torch.testing.assert_close(product_symbols(probs, tables), obvious)
    numbers = torch.arange(order)
    sure = tables.point_bits[numbers]
    torch.testing.assert_close(product_symbols(sure, tables)[:, 0], hard_symbols(numbers, tables))


def test_reported_surrogate_misses_the_hard_point_at_the_floor_and_meets_it_when_cold() -> None:
    tables = QamTables(16)
    sure = tables.point_bits
    hard = hard_symbols(torch.arange(16), tables)
    warm = reported_symbols(sure, tables, 0.7)[:, 0]
    cold = reported_symbols(sure, tables, 0.01)[:, 0]
    assert (warm - hard).norm(dim=-1).mean() > 0.3
    torch.testing.assert_close(cold, hard)


def test_straight_through_has_the_value_of_hard_and_the_gradient_of_soft() -> None:
    soft = torch.tensor([0.2, -0.3], requires_grad=True)
    hard = torch.tensor([1.0, -1.0])
    result = straight_through(hard, soft * 3)
    torch.testing.assert_close(result, hard)
    result.sum().backward()
    torch.testing.assert_close(soft.grad, torch.tensor([3.0, 3.0]))
