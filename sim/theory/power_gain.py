"""How much energy fading lets through: the law of a weighted sum of power gains.

A frame whose symbols fade by themselves, share gains in blocks or lie on correlated subcarriers receives

    G = sum_i w_i |h_i|^2,   E|h_i|^2 = 1, independent, Rayleigh (K = 0) or Rician of factor K,

whose moment generating function is a product (M. K. Simon and M.-S. Alouini, "Digital Communication over
Fading Channels", 2nd edition, chapter 2):

    E exp(-s G) = prod_i (1 + K) / (1 + K + w_i s) exp(-K w_i s / (1 + K + w_i s)).

The density is its inverse Laplace transform.  All singularities lie on the real axis, the rightmost at
s = -(1 + K) / max w, so that the line of integration may be bent to the left around them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from twophase.link.errors import InputError
from twophase.sim.settings import LARGEST_ERROR_DB

__all__ = ["power_gain_nodes", "rician_factor"]

_Float = NDArray[np.float64]
_Number = TypeVar("_Number", np.float64, np.complex128)

_NODES = 500
_STEPS = 96  # of the integral that gives the density at one node
_LEFT_TAIL, _RIGHT_TAIL = math.log(1e-15), math.log(1e-18)  # mass that is left out on either side
_REACH = 75.0  # how far, in log z, saddle points are sought on either side of that of the mean
_BISECTIONS = 60
_NEGLIGIBLE = 1e-14  # so much of the largest weight no longer shows in float64
_BEND, _FAR = 0.1, 20.0


def rician_factor(rician_k_db: float) -> float:
    """K, the power of the direct path over that of the scattered ones, linear; it lies within 100 dB of 0."""
    if not abs(rician_k_db) <= LARGEST_ERROR_DB:
        raise InputError("rician_k_db", f"lie within {LARGEST_ERROR_DB:g} dB of 0", rician_k_db)
    return float(10 ** (rician_k_db / 10))


@lru_cache(maxsize=256)
def power_gain_nodes(weights: tuple[float, ...], factor: float = 0.0) -> tuple[_Float, _Float]:
    """Nodes and weights of a quadrature for a mean over the energy G that fading lets through.

    The trapezoidal rule over log G, where density and integrand are smooth and die out at both ends; over G
    itself a success that rises within the first thousandth would fall between two nodes.

    ``weights`` are the w_i: how many symbols share each gain, or the eigenvalues of the correlation of the
    gains; finite, none negative, one positive.  ``factor`` is K, linear and finite; 0 is Rayleigh fading.
    The nodes G ascend and their weights sum to one; both are of shape (500,) and read-only.

    Examples
    --------
    >>> power, weight = power_gain_nodes((2.0, 2.0, 1.0))
    >>> round(float(power @ weight), 9)
    5.0
    """
    scale = np.asarray(weights, dtype=np.float64)
    if scale.ndim != 1 or not np.isfinite(scale).all() or not scale.any() or scale.min() < 0:
        raise InputError("weights", "hold finite numbers, none negative, one positive", weights)
    if not 0 <= factor < math.inf:
        raise InputError("factor", "be finite and not negative", factor)
    law = _Law(scale / scale.max(), factor)
    log_power, step = np.linspace(*law.log_bounds(), _NODES, retstep=True)
    power = np.exp(log_power)
    weight = law.density(power) * power * step
    power, weight = power * scale.max(), weight / weight.sum()
    power.setflags(write=False)
    weight.setflags(write=False)
    return power, weight


class _Law:
    """The law of G, the largest weight being one, in terms of z = s + 1 + K.

    z is the distance of s from the rightmost singularity, and (1 + K) / w_i + s = z + (1 + K) (1 / w_i - 1),
    where nothing cancels.
    """

    def __init__(self, weights: _Float, factor: float) -> None:
        # Equal weights are one factor of the product to a power.
        values, self._counts = np.unique(weights[weights > _NEGLIGIBLE], return_counts=True)
        self._factor = factor
        self._edge = 1 + factor
        self._inverse = self._edge / values

    def _power(self, z: _Float) -> _Float:
        """G whose saddle point is z: minus the derivative of log E exp(-s G); falls with z."""
        power = np.zeros_like(z)
        for count, inverse in zip(self._counts, self._inverse, strict=True):
            distance = z + (inverse - self._edge)
            power += count * (1 + self._factor * inverse / distance) / distance
        return power

    def _variance(self, z: _Float) -> _Float:
        """Second derivative of log E exp(-s G)."""
        variance = np.zeros_like(z)
        for count, inverse in zip(self._counts, self._inverse, strict=True):
            distance = z + (inverse - self._edge)
            variance += count * (1 + 2 * self._factor * inverse / distance) / distance**2
        return variance

    def _exponent(self, z: NDArray[_Number], power: _Float) -> NDArray[_Number]:
        """S G + log E exp(-s G)."""
        slope, logarithm = power + np.zeros_like(z), np.zeros_like(z)
        for count, inverse in zip(self._counts, self._inverse, strict=True):
            distance = z + (inverse - self._edge)
            slope = slope - count * self._factor / distance
            logarithm = logarithm + count * np.log(inverse / distance)
        # Of the direct paths only the difference from s G is left, which a large K needs.
        return np.asarray((z - self._edge) * slope + logarithm)

    def log_bounds(self) -> tuple[float, float]:
        """Log of the powers beyond which Chernoff's bound, exp of the exponent, leaves nothing to count."""
        centre = np.array([math.log(self._edge)])

        def bound(log_z: _Float) -> _Float:
            z = np.exp(log_z)
            return self._exponent(z, self._power(z))

        left = _bisect(lambda log_z: bound(log_z) > _LEFT_TAIL, centre, centre + _REACH)
        right = _bisect(lambda log_z: bound(log_z) < _RIGHT_TAIL, centre - _REACH, centre)
        low, high = (float(self._power(np.exp(log_z))[0]) for log_z in (left, right))
        return math.log(low), math.log(high)

    def density(self, power: _Float) -> _Float:
        """Density at G, shape (n,).

        Along z = z0 (1 + 2iu - u^2 / 10) through the saddle point z0 no factor of the product exceeds its
        value at u = 0 before u = 20, where the largest weight alone has brought the integrand below exp(-40).
        With u = deviation * sinh(t) the trapezoidal rule serves narrow peaks and long tails alike.
        """
        centre = np.full_like(power, math.log(self._edge))
        saddle = np.exp(_bisect(lambda x: self._power(np.exp(x)) > power, centre - _REACH, centre + _REACH))
        deviation = 0.5 / (saddle * np.sqrt(self._variance(saddle)))
        last = np.arcsinh(_FAR / deviation)
        density = np.zeros_like(power)
        for number in range(_STEPS + 1):
            t = last * (number / _STEPS)
            u = deviation * np.sinh(t)
            turned = 1 + 2j * u - _BEND * u * u
            step = (2j - 2 * _BEND * u) * deviation * np.cosh(t)
            value = (np.exp(self._exponent(saddle * turned, power)) * step).imag
            density += value if number else value / 2
        # Both halves of the path give the same; no rounding of the far tails below zero.
        return np.maximum(density * saddle * last / (_STEPS * math.pi), 0.0)


def _bisect(go_right: Callable[[_Float], NDArray[np.bool_]], low: _Float, high: _Float) -> _Float:
    """Where the test turns false between the ends, elementwise."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        further = go_right(middle)
        low, high = np.where(further, middle, low), np.where(further, high, middle)
    return (low + high) / 2
