"""Whole numbers in the loop: values snapped to an integer grid going forward, straight through going back.

A value on the grid is a whole number of units, and a unit is a power of two, so that float32 holds it exactly
and a sum of products of such values is exact as long as it stays below 2^24 units.  What is trained with the
grid in the loop is therefore bit for bit what an integer implementation computes.  ``link.grid`` has the
definition of the search, ``exported`` the form in whole numbers that is exported.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twophase.link.grid import CODEWORD_LIMIT, EXACT_LIMIT

__all__ = ["ACTIVATION_LIMIT", "INPUT_LIMITS", "WEIGHT_LIMIT", "GridLinear", "Unit"]

WEIGHT_LIMIT = CODEWORD_LIMIT
"""Weights are -127..127 units."""
INPUT_LIMITS = (-128, 127)
"""Of the features, in units."""
ACTIVATION_LIMIT = 255
"""Activations are 0..255 units: what a rectifier leaves, saturated."""

_UNSET = -(1 << 20)
_SMALLEST = -100
_ROOM = 2
"""Factor that is left between the largest sum when the units are chosen and the largest exact one."""


class Unit(nn.Module):
    """The step of a grid, 2 to an exponent; there is no grid until ``cover`` or ``set`` was called."""

    stored: Tensor
    """The exponent, for checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.exponent: int | None = None
        self.register_buffer("stored", torch.tensor(_UNSET))

    @property
    def known(self) -> int:
        """The exponent of a unit that is set."""
        assert self.exponent is not None
        return self.exponent

    def cover(self, largest: float, limit: int) -> None:
        """Choose the smallest unit of which ``limit`` reach ``largest``; a unit once chosen only grows."""
        exponent = max(_SMALLEST, math.ceil(math.log2(largest / limit))) if largest > 0 else _SMALLEST
        self.set(exponent if self.exponent is None else max(exponent, self.exponent))

    def set(self, exponent: int) -> None:
        """Use units of 2^exponent."""
        self.exponent = exponent
        self.stored.fill_(exponent)

    def snap(self, values: Tensor, low: int, high: int) -> Tensor:
        """Nearest whole numbers of units within low..high, halves to even; the values if no unit is set.

        The gradient passes where the values lie within the range and is zero outside.
        """
        if self.exponent is None:
            return values
        return snap(values, self.exponent, low, high)

    def units_of(self, values: Tensor, low: int, high: int) -> Tensor:
        """The whole numbers that ``snap`` multiplies with the unit, as floating point."""
        return (values.detach() * 2.0**-self.known).round().clamp(low, high)

    def _load_from_state_dict(self, *arguments: object, **keywords: object) -> None:
        super()._load_from_state_dict(*arguments, **keywords)
        found = int(self.stored)
        self.exponent = None if found == _UNSET else found


class GridLinear(nn.Linear):
    """A layer whose weights and bias lie on a grid once its unit is set."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.unit = Unit()

    def on(self, inputs: Tensor, input_unit: Unit) -> Tensor:
        """The layer's output for inputs that lie on the grid of ``input_unit``, if there is one."""
        if self.unit.exponent is None or input_unit.exponent is None:
            return F.linear(inputs, self.weight, self.bias)
        weight = self.unit.snap(self.weight, -WEIGHT_LIMIT, WEIGHT_LIMIT)
        bias = snap(self.bias, self.unit.exponent + input_unit.exponent, -EXACT_LIMIT, EXACT_LIMIT)
        return F.linear(inputs, weight, bias)

    @torch.no_grad()
    def cover(self, input_unit: Unit, input_limit: int) -> None:
        """Choose the weights' unit: as fine as their range and the exactness of all sums allow."""
        self.unit.cover(float(self.weight.abs().max()), WEIGHT_LIMIT)
        while self.largest_sum(input_unit, input_limit) * _ROOM >= EXACT_LIMIT:
            self.unit.set(self.unit.known + 1)

    @torch.no_grad()
    def whole_numbers(self, input_unit: Unit) -> tuple[Tensor, Tensor]:
        """Weights and bias in units, the bias in those of the products."""
        weight = self.unit.units_of(self.weight, -WEIGHT_LIMIT, WEIGHT_LIMIT)
        scale = 2.0 ** -(self.unit.known + input_unit.known)
        return weight, (self.bias * scale).round().clamp(-EXACT_LIMIT, EXACT_LIMIT)

    def largest_sum(self, input_unit: Unit, input_limit: int) -> float:
        """Largest magnitude, in units of the products, that a partial sum can reach in any order."""
        weight, bias = self.whole_numbers(input_unit)
        return float((weight.double().abs().sum(1) * input_limit + bias.double().abs()).max())


def snap(values: Tensor, exponent: int, low: int, high: int) -> Tensor:
    """Whole numbers of units 2^exponent within low..high, straight through: see ``Unit.snap``."""
    unit = 2.0**exponent
    inside = values.clamp(low * unit, high * unit)
    return inside + ((inside / unit).round() * unit - inside).detach()
