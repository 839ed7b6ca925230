"""What a square QAM promises on each channel: bit error rates without a code, and what codes can reach.

All curves are over Es/N0 in dB with unit average symbol energy and a gain, E|h|^2 = 1, that the receiver
knows and the transmitter does not.  A mean over symbols does not ask how many of them share a gain, so the
curves of fading hold for block fading too; only the spread around them is wider there.  For the same reason a
tapped delay line has the Rayleigh curve: the gain of a subcarrier is a sum of independent Rayleigh taps of
total power one, with phase turns that keep it complex Gaussian, and a cyclic prefix at least as long as the
channel leaves no interference.

Rates of information are in bits per symbol (complex channel use); on a fading channel they are means over the
gain, what codes reach that see many gains:

    capacity   C = log2(1 + Es/N0), for Gaussian input: Shannon's limit.
    CM         I(X; Y) of the constellation, its points equally likely: coded modulation.
    BICM       sum_b I(B_b; Y): every bit is decoded from its own LLR.

CM and BICM: G. Caire, G. Taricco and E. Biglieri, "Bit-interleaved coded modulation", IEEE Transactions on
Information Theory 44(3), 1998, equations 8 and 14.  A square QAM separates into two amplitude modulations, so
every mean over the noise is an integral over one real dimension.

Arguments of all functions, and what they raise :class:`~twophase.link.errors.InputError` for:

    order         M: 4, 16, 64 or 256.
    esn0_db       Es/N0 in dB, finite, any shape, which is that of the result; on a fading channel its mean.
    channel       "awgn", "rayleigh", "rician", or "tdl-a" or "tdl-c", which have the Rayleigh curve.
    rician_k_db   Power of the direct path over that of the scattered ones, in dB, within 100 dB of 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import BSpline, make_interp_spline
from scipy.special import erfc

from twophase.link.bits import bits_to_indices, indices_to_bits
from twophase.link.constellation import Constellation, qam
from twophase.link.errors import InputError
from twophase.link.modes import QAM_ORDERS
from twophase.link.noise import esn0_db_to_noise_var
from twophase.sim.settings import ChannelName
from twophase.sim.theory.power_gain import power_gain_nodes, rician_factor

__all__ = ["ber_for_usage", "bicm_mutual_information", "capacity", "cm_mutual_information", "qam_ber"]

_Float = NDArray[np.float64]

# Of the integral in _rician_tail: error exp(-pi^2 / (h^2 r)), below 1e-15 where a tail exceeds exp(-290).
_TAIL_STEP = 1 / 32
_COSH_SQUARED = np.cosh(np.arange(0.0, 36.0, _TAIL_STEP)) ** 2


def qam_ber(
    order: int, esn0_db: ArrayLike, channel: ChannelName = "awgn", rician_k_db: float = 6.0
) -> _Float:
    """Exact bit error rate of Gray-mapped square QAM, every point sent equally often.

    Equations 14 to 16 of Cho and Yoon hold for the reflected Gray code on each axis, of which the mapping
    of TS 38.211 is a relabelling (some bits inverted).  On a fading channel every term is averaged over the
    distribution of the power gain: a closed form for Rayleigh, a single smooth integral for Rician fading.

    K. Cho and D. Yoon, "On the general BER expression of one- and two-dimensional amplitude modulations",
    IEEE Transactions on Communications 50, 2002; M. K. Simon and M.-S. Alouini, "Digital Communication over
    Fading Channels", 2nd edition, for Craig's form of the tail and its mean over a gain.

    Examples
    --------
    >>> ebn0_db = 10.0
    >>> f"{float(qam_ber(16, ebn0_db + 10 * math.log10(4))):.3e}"
    '1.754e-03'
    """
    _check_order(order)
    factor = rician_factor(rician_k_db)
    noise_var = np.asarray(esn0_db_to_noise_var(esn0_db), dtype=np.float64)
    rate = np.zeros_like(noise_var)
    for weight, odd in _cho_yoon_terms(order):
        # Half the distance between neighbours is sqrt(3 / (2 (M - 1))) at unit average energy.
        rate = rate + 2 * weight * _tail(odd * math.sqrt(1.5 / (order - 1)), noise_var, channel, factor)
    return rate


@cache
def _cho_yoon_terms(order: int) -> tuple[tuple[float, int], ...]:
    """Weights of the erfc terms, with the odd multiple of half the point distance in each."""
    side = math.isqrt(order)
    bits = side.bit_length() - 1
    weights: dict[int, float] = {}
    for k in range(1, bits + 1):
        for i in range(side - side // 2**k):
            step = i * 2 ** (k - 1) / side
            weight = (-1) ** math.floor(step) * (2 ** (k - 1) - math.floor(step + 0.5))
            weights[2 * i + 1] = weights.get(2 * i + 1, 0.0) + weight / (side * bits)
    return tuple((weight, odd) for odd, weight in sorted(weights.items()))


def ber_for_usage(
    histogram: ArrayLike,
    order: int,
    esn0_db: ArrayLike,
    channel: ChannelName = "awgn",
    rician_k_db: float = 6.0,
) -> _Float:
    """Exact bit error rate of nearest-point decisions, given how often each point is sent.

    A learned transmitter does not use the points equally often, and inner points err more than outer ones.
    ``histogram`` says how often each point number of the TS 38.211 constellation is sent, shape (M,), in any
    positive scale.  A stream of average energy E that is scaled to one sees its constellation at
    ``esn0_db - 10 log10 E``.
    """
    _check_order(order)
    factor = rician_factor(rician_k_db)
    counts = np.asarray(histogram, dtype=np.float64)
    if counts.shape != (order,) or not np.isfinite(counts).all() or counts.min() < 0 or counts.sum() <= 0:
        raise InputError("histogram", f"hold {order} counts, none negative, not all zero", histogram)
    noise_var = np.asarray(esn0_db_to_noise_var(esn0_db), dtype=np.float64)
    constellation = qam(order)
    sent_bits = indices_to_bits(np.arange(order), constellation.bits_per_symbol)
    label_at = bits_to_indices(constellation.axis_labels)
    expected = np.zeros_like(noise_var)
    for axis in (0, 1):
        usage = np.bincount(bits_to_indices(sent_bits[:, axis::2]), weights=counts)
        sent = np.asarray(usage, dtype=np.float64)[label_at]
        expected = expected + _axis_errors(
            sent, label_at, constellation.axis_levels, noise_var, channel, factor
        )
    return np.asarray(expected / (counts.sum() * constellation.bits_per_symbol))


def _axis_errors(
    sent: _Float,
    label_at: NDArray[np.int64],
    levels: _Float,
    noise_var: _Float,
    channel: ChannelName,
    factor: float,
) -> _Float:
    """Bit errors on one axis, summed over its levels as often as each is sent.

    Each step across a decision threshold changes the number of wrong bits by a known amount, so the sum runs
    over thresholds with the probability of landing beyond each: only positive distances, no cancellation.
    """
    total = np.zeros_like(noise_var)
    for start in range(levels.size):
        for step in (1, -1):
            wrong = 0
            for stop in range(start + step, levels.size if step > 0 else -1, step):
                now = int(label_at[start] ^ label_at[stop]).bit_count()
                threshold = (levels[stop] + levels[stop - step]) / 2
                beyond = _tail(abs(threshold - levels[start]), noise_var, channel, factor)
                total = total + sent[start] * (now - wrong) * beyond
                wrong = now
    return total


def _tail(distance: float, noise_var: _Float, channel: ChannelName, factor: float) -> _Float:
    """Probability that the noise of one dimension exceeds the faded distance."""
    ratio = distance * distance / noise_var
    if channel == "awgn":
        return np.asarray(0.5 * erfc(np.sqrt(ratio)))
    if channel in ("rayleigh", "tdl-a", "tdl-c"):
        # (1 - sqrt(r / (1 + r))) / 2, rearranged so that nothing cancels at high SNR.
        return np.asarray(0.5 / ((1 + ratio) * (1 + np.sqrt(ratio / (1 + ratio)))))
    if channel == "rician":
        return _rician_tail(ratio, factor)
    raise InputError("channel", f"be one of {', '.join(get_args(ChannelName))}", channel)


def _rician_tail(ratio: _Float, factor: float) -> _Float:
    """Mean of erfc(sqrt(r |h|^2)) / 2 over a Rician gain.

    Craig's form, 1/pi times the integral over t in 0..pi/2 of E exp(-s |h|^2) with s = r / sin^2 t, under
    cot t = sinh u:  1/pi times the integral over u > 0 of  E exp(-s |h|^2) / cosh u  with s = r cosh^2 u.
    There all singularities lie at Im u = pi/2, whatever r and K are, so that the trapezoidal rule converges
    exponentially, and since every term is positive the result keeps its relative precision.
    """
    # Beyond 2000 dB on either side the products would leave float64.
    s = np.clip(ratio, 1e-200, 1e200)[..., np.newaxis] * _COSH_SQUARED
    weight = np.full(_COSH_SQUARED.shape, _TAIL_STEP / math.pi) / np.sqrt(_COSH_SQUARED)
    weight[0] /= 2
    transform = (1 + factor) / (1 + factor + s) * np.exp(-factor * s / (1 + factor + s))
    return np.asarray(transform @ weight)


def _check_order(order: int) -> None:
    if order not in QAM_ORDERS:
        raise InputError("order", "be 4, 16, 64 or 256", order)


# The trapezoidal rule, on a Gaussian weight as exact as Gauss-Hermite's and, unlike it, also where high SNR
# puts kinks between the levels.
_NOISE, _STEP = np.linspace(-8.5, 8.5, 273, retstep=True)
_DENSITY = np.exp(-_NOISE * _NOISE / 2) * _STEP / np.sqrt(2 * np.pi)
_GRID_DB = np.arange(-40.0, 42.01, 0.5)


def capacity(esn0_db: ArrayLike, channel: ChannelName = "awgn", rician_k_db: float = 6.0) -> _Float:
    """Shannon's limit in bits per symbol: the mean of log2(1 + |h|^2 Es/N0).

    Examples
    --------
    >>> round(float(capacity(10.0)), 3)
    3.459
    """
    return _mean_over_gain(lambda ratio: np.log1p(ratio) / np.log(2), esn0_db, channel, rician_k_db)


def cm_mutual_information(
    order: int, esn0_db: ArrayLike, channel: ChannelName = "awgn", rician_k_db: float = 6.0
) -> _Float:
    """Mutual information in bits per symbol, accurate to 1e-6, its points equally likely: coded modulation.

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

    What is left of :func:`cm_mutual_information` if every bit is decoded from its own LLR.

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
