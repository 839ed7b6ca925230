"""How many bits a symbol can carry: capacity, and what a QAM leaves of it.

All rates are in bits per symbol (complex channel use) over Es/N0 in dB, for a gain, E|h|^2 = 1, that the
receiver knows and the transmitter does not.  On a fading channel they are means over the gain: what codes
reach that see many gains.  A mean does not ask how the gains of different symbols go together, so block
fading has the same rates, and a tapped delay line those of Rayleigh fading on each subcarrier.

    capacity   C = log2(1 + Es/N0), for Gaussian input: Shannon's limit.
    CM         I(X; Y) of the constellation, its points equally likely: coded modulation.
    BICM       sum_b I(B_b; Y): every bit is decoded from its own LLR.

CM and BICM: G. Caire, G. Taricco and E. Biglieri, "Bit-interleaved coded modulation", IEEE Transactions on
Information Theory 44(3), 1998, equations 8 and 14.  A square QAM separates into two amplitude modulations, so
every mean over the noise is an integral over one real dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import BSpline, make_interp_spline

from twophase.link.constellation import Constellation, qam
from twophase.link.errors import InputError
from twophase.link.noise import esn0_db_to_noise_var
from twophase.sim.settings import ChannelName
from twophase.sim.theory.power_gain import power_gain_nodes, rician_factor

__all__ = ["bicm_mutual_information", "capacity", "cm_mutual_information"]

_Float = NDArray[np.float64]

# The trapezoidal rule, on a Gaussian weight as exact as Gauss-Hermite's and, unlike it, also where high SNR
# puts kinks between the levels.
_NOISE, _STEP = np.linspace(-8.5, 8.5, 273, retstep=True)
_DENSITY = np.exp(-_NOISE * _NOISE / 2) * _STEP / np.sqrt(2 * np.pi)
_GRID_DB = np.arange(-40.0, 42.01, 0.5)


def capacity(esn0_db: ArrayLike, channel: ChannelName = "awgn", rician_k_db: float = 6.0) -> _Float:
    """Shannon's limit: the mean of log2(1 + |h|^2 Es/N0).

    Parameters
    ----------
    esn0_db
        Es/N0 in dB, any shape; on a fading channel its mean.
    channel
        ``"awgn"``, ``"rayleigh"``, ``"rician"``, or ``"tdl-a"`` or ``"tdl-c"``, with Rayleigh's rates.
    rician_k_db
        Power of the direct path over that of the scattered ones, in dB (Rician channel).

    Returns
    -------
    Bits per symbol, the shape of ``esn0_db``.

    Raises
    ------
    InputError
        If the channel does not exist, an SNR is not finite or K lies beyond 100 dB of 0.

    Examples
    --------
    >>> round(float(capacity(10.0)), 3)
    3.459
    """
    return _mean_over_gain(lambda ratio: np.log1p(ratio) / np.log(2), esn0_db, channel, rician_k_db)


def cm_mutual_information(
    order: int, esn0_db: ArrayLike, channel: ChannelName = "awgn", rician_k_db: float = 6.0
) -> _Float:
    """Mutual information of a square QAM, its points equally likely: coded modulation.

    Parameters
    ----------
    order
        M: 4, 16, 64 or 256.
    esn0_db, channel, rician_k_db
        As in :func:`capacity`.

    Returns
    -------
    Bits per symbol, the shape of ``esn0_db``; accurate to 1e-6.

    Raises
    ------
    InputError
        As :func:`capacity`, or if the order does not exist.

    Examples
    --------
    >>> cm_mutual_information(64, [0.0, 10.0]).round(3).tolist()
    [0.992, 3.269]
    """
    return _constellation_rate(_axis_cm, order, esn0_db, channel, rician_k_db)


def bicm_mutual_information(
    order: int, esn0_db: ArrayLike, channel: ChannelName = "awgn", rician_k_db: float = 6.0
) -> _Float:
    """Sum of the mutual informations of a square QAM's bits, labelled as in TS 38.211.

    What is left of :func:`cm_mutual_information` if every bit is decoded from its own LLR; arguments, result
    and errors as there.

    Examples
    --------
    >>> bicm_mutual_information(64, 10.0).round(3).tolist()
    3.169
    """
    return _constellation_rate(_axis_bicm, order, esn0_db, channel, rician_k_db)


def _mean_over_gain(
    rate: Callable[[_Float], _Float], esn0_db: ArrayLike, channel: ChannelName, rician_k_db: float
) -> _Float:
    """Mean of a rate, a function of linear SNR, over the power gain."""
    ratio = 1 / np.asarray(esn0_db_to_noise_var(esn0_db), dtype=np.float64)
    factor = rician_factor(rician_k_db)
    if channel == "awgn":
        return np.asarray(rate(ratio))
    if channel not in get_args(ChannelName):
        raise InputError("channel", f"be one of {', '.join(get_args(ChannelName))}", channel)
    power, weight = power_gain_nodes((1.0,), factor if channel == "rician" else 0.0)
    return np.asarray((rate(ratio[..., np.newaxis] * power) * weight).sum(axis=-1))


def _constellation_rate(
    axis_rate: Callable[[Constellation, float], float],
    order: int,
    esn0_db: ArrayLike,
    channel: ChannelName,
    rician_k_db: float,
) -> _Float:
    spline = _tabulated(axis_rate, order)
    bits = qam(order).bits_per_symbol

    def rate(ratio: _Float) -> _Float:
        # Below the table, where the rate is proportional to the SNR, and above it, where all bits arrive.
        level_db = 10 * np.log10(np.maximum(ratio, np.finfo(np.float64).tiny))
        held = np.clip(level_db, _GRID_DB[0], _GRID_DB[-1])
        weak = 10 ** (np.minimum(level_db - held, 0.0) / 10)
        return np.asarray(np.clip(spline(held) * weak, 0.0, bits))

    return _mean_over_gain(rate, esn0_db, channel, rician_k_db)


@cache
def _tabulated(axis_rate: Callable[[Constellation, float], float], order: int) -> BSpline:
    """Rate on AWGN over Es/N0 in dB; a mean over a gain asks for thousands of values."""
    constellation = qam(order)
    rates = [2 * axis_rate(constellation, 10 ** (-level_db / 10)) for level_db in _GRID_DB]
    return make_interp_spline(_GRID_DB, rates, k=5)


def _axis_cm(constellation: Constellation, noise_var: float) -> float:
    """Mutual information of one axis."""
    total = _axis_likelihood(constellation, noise_var).sum(axis=-1)
    # Relative to the level that was sent, whose log likelihood is minus half the squared noise.
    lost = (np.log2(total) + _NOISE**2 / (2 * np.log(2))) @ _DENSITY
    return float(constellation.bits_per_symbol / 2 - lost.mean())


def _axis_bicm(constellation: Constellation, noise_var: float) -> float:
    """Sum of the mutual informations of one axis' bits."""
    likelihood = _axis_likelihood(constellation, noise_var)
    total = np.log2(likelihood.sum(axis=-1))
    kept = 0.0
    for label in constellation.axis_labels.T:
        ones = (likelihood * label).sum(axis=-1)
        zeros = (likelihood * (1 - label)).sum(axis=-1)
        sent = label[: len(likelihood), np.newaxis]
        kept += 1 - float(((total - np.log2(np.where(sent, ones, zeros))) @ _DENSITY).mean())
    return kept


def _axis_likelihood(constellation: Constellation, noise_var: float) -> _Float:
    """Likelihood of every level up to a constant, (levels sent, noise, candidate levels).

    Of the levels sent only the lower half: their mirror images have the same rates, whatever their labels,
    because a Gray code of either axis reads backwards with one bit inverted.  The level that was sent has at
    least exp(-37), so that no logarithm of a sum with it meets a zero.
    """
    levels = constellation.axis_levels / np.sqrt(noise_var / 2)
    distance = levels[: levels.size // 2, np.newaxis] - levels
    return np.asarray(np.exp(-0.5 * (_NOISE[:, np.newaxis] + distance[:, np.newaxis, :]) ** 2))
