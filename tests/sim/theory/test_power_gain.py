"""The law of faded energy against closed forms and moments."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import gamma, ncx2

from twophase.sim.theory.power_gain import power_gain_nodes


def density_at_nodes(weights: tuple[float, ...], factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Powers and density there: the quadrature's weights over its spacing."""
    power, weight = power_gain_nodes(weights, factor)
    return power, weight / (power * math.log(power[1] / power[0]))


@pytest.mark.parametrize("factor", [0.0, 1e-10, 0.1, 4.0, 30.0, 1e3, 1e6])
@pytest.mark.parametrize("count", [1, 6, 40])
def test_equal_gains_are_a_gamma_or_a_noncentral_chi_squared_law(count, factor) -> None:
    power, density = density_at_nodes((3.0,) * count, factor)
    if factor:
        scale = 2 * (1 + factor) / 3
        expected = scale * ncx2.pdf(scale * power, 2 * count, 2 * count * factor)
    else:
        expected = gamma.pdf(power, count, scale=3.0)
    # Far out scipy's density underflows before ours does.
    np.testing.assert_allclose(density, expected, rtol=1e-10, atol=1e-12 * expected.max())


def test_unequal_rayleigh_gains_are_a_mixture_of_exponentials() -> None:
    weights = np.array([1.0, 0.5, 0.2, 0.05])
    power, density = density_at_nodes(tuple(weights.tolist()), 0.0)
    apart = weights[:, None] - weights + np.eye(4)
    amount = weights**3 / apart.prod(axis=1)
    expected = (amount / weights * np.exp(-power[:, None] / weights)).sum(axis=1)
    # The mixture itself cancels where the density is small.
    np.testing.assert_allclose(density, expected, rtol=1e-9, atol=1e-12)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(0, 50), min_size=1, max_size=6).filter(lambda weights: max(weights) > 1e-3),
    st.one_of(st.just(0.0), st.floats(-10, 8).map(lambda exponent: 10.0**exponent)),
)
def test_moments_are_those_of_the_sum(weights: list[float], factor: float) -> None:
    power, weight = power_gain_nodes(tuple(weights), factor)
    scale = np.array(weights)
    assert (np.diff(power) > 0).all()
    assert (weight >= 0).all()
    assert float(weight.sum()) == pytest.approx(1.0, rel=1e-12)
    assert float(power @ weight) == pytest.approx(scale.sum(), rel=1e-9)
    variance = float((scale**2).sum() * (1 + 2 * factor) / (1 + factor) ** 2)
    found = float((power - power @ weight) ** 2 @ weight)
    assert found == pytest.approx(variance, rel=1e-6)


def test_many_small_gains_next_to_a_large_one() -> None:
    # The path of integration must not let a thousand factors grow.
    weights = (1.0,) + (0.01,) * 1000
    power, weight = power_gain_nodes(weights)
    transform = float(np.exp(-0.7 * power) @ weight)
    assert transform == pytest.approx(1 / 1.7 / 1.007**1000, rel=1e-10)
    # A zero weight changes nothing.
    with_zero = power_gain_nodes((2.0, 0.0, 1.0), 100.0)
    np.testing.assert_array_equal(with_zero, power_gain_nodes((2.0, 1.0), 100.0))
