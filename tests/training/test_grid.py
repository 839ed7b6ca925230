"""Whole numbers in the loop: what is trained on the grid is what whole numbers give."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from twophase.link.grid import EXACT_LIMIT, to_grid
from twophase.training.model.integer_grid import ACTIVATION_LIMIT, WEIGHT_LIMIT, GridLinear, Unit, snap


def unit_of(exponent: int) -> Unit:
    unit = Unit()
    unit.set(exponent)
    return unit


@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20),
    exponent=st.integers(-12, 6),
    limit=st.integers(1, 1023),
)
def test_snapping_agrees_with_numpy(values: list[float], exponent: int, limit: int) -> None:
    ours = snap(torch.tensor(values, dtype=torch.float64), exponent, -limit, limit)
    np.testing.assert_array_equal(ours.numpy(), to_grid(values, exponent, limit) * 2.0**exponent)


def test_the_gradient_passes_inside_the_range_and_not_outside() -> None:
    values = torch.tensor([-9.0, -7.9, 0.3, 7.9, 9.0], requires_grad=True)
    snap(values, -1, -16, 16).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("largest", [1.0, 0.99, 127.0, 127.1, 3e-5, 1e6])
def test_a_unit_is_the_smallest_that_covers(largest: float) -> None:
    unit = Unit()
    unit.cover(largest, 127)
    assert 127 * 2.0**unit.known >= largest > 127 * 2.0 ** (unit.known - 1)


def test_a_unit_only_grows() -> None:
    unit = unit_of(-3)
    unit.cover(1e-9, 127)
    assert unit.known == -3
    unit.cover(127.0, 127)
    assert unit.known == 0
    Unit().cover(0.0, 127)  # nothing to cover is no reason to fail


def test_a_unit_travels_with_the_weights() -> None:
    layer, other = GridLinear(3, 2), GridLinear(3, 2)
    layer.unit.set(-7)
    other.load_state_dict(layer.state_dict())
    assert other.unit.known == -7
    other.load_state_dict(GridLinear(3, 2).state_dict())
    assert other.unit.exponent is None


def layer_on_grid(seed: int, inputs: int = 40, outputs: int = 6, scale: float = 1.0) -> GridLinear:
    torch.manual_seed(seed)
    layer = GridLinear(inputs, outputs)
    with torch.no_grad():
        layer.weight *= scale
    layer.cover(unit_of(-6), ACTIVATION_LIMIT)
    return layer


@pytest.mark.parametrize("seed", range(5))
def test_a_layer_on_the_grid_is_its_whole_numbers_exactly(seed: int) -> None:
    """float32 on the grid = int64, bit for bit, and in any order of summation."""
    layer, unit = layer_on_grid(seed), unit_of(-6)
    rng = np.random.default_rng(seed)
    units = rng.integers(0, ACTIVATION_LIMIT + 1, (32, 40))
    weight, bias = (part.numpy().astype(np.int64) for part in layer.whole_numbers(unit))
    assert np.abs(weight).max() <= WEIGHT_LIMIT
    exact = units @ weight.T + bias
    ours = layer.on(torch.from_numpy(units * 2.0**-6).float(), unit).detach().numpy()
    np.testing.assert_array_equal(ours * 2.0 ** (6 - layer.unit.known), exact)
    order = rng.permutation(40)
    shuffled = torch.from_numpy(units[:, order]).float() @ torch.from_numpy(weight[:, order]).float().T
    np.testing.assert_array_equal(shuffled.numpy() + bias.astype(np.float32), exact)


def test_the_largest_sum_is_reached_by_the_worst_input() -> None:
    layer, unit = layer_on_grid(3), unit_of(-6)
    weight, bias = layer.whole_numbers(unit)
    row = int((weight.abs().sum(1) * ACTIVATION_LIMIT + bias.abs()).argmax())
    worst = torch.sign(weight[row] * torch.sign(bias[row])) * ACTIVATION_LIMIT
    reached = (weight[row] @ worst + bias[row]).abs().item()
    assert reached == layer.largest_sum(unit, ACTIVATION_LIMIT)


def test_weights_become_coarser_where_the_sums_would_not_be_exact() -> None:
    """2,048 inputs of 255 units with weights of 127 units would reach 6.6e7."""
    torch.manual_seed(0)
    layer = GridLinear(2048, 2)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    layer.cover(unit_of(0), ACTIVATION_LIMIT)
    assert layer.largest_sum(unit_of(0), ACTIVATION_LIMIT) * 2 < EXACT_LIMIT
    assert layer.unit.known > math.ceil(math.log2(1 / WEIGHT_LIMIT))


def test_weights_follow_the_gradient_through_the_grid() -> None:
    layer, unit = layer_on_grid(1), unit_of(-6)
    inputs = (
        torch.rand(4, 40, generator=torch.Generator().manual_seed(0)).mul(3).div(2.0**-6).round() * 2.0**-6
    )
    layer.on(inputs, unit).sum().backward()
    plain: Tensor = inputs.sum(0).expand(6, -1)
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, plain)
