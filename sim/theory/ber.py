"""Closed forms of the bit error rate that a simulation must agree with.

All curves are over Es/N0 in dB with unit average symbol energy and a gain, E|h|^2 = 1, that the receiver
knows.  A mean over symbols does not ask how many of them share a gain, so the curves of fading hold for block
fading too; only the spread around them is wider there.  For the same reason a tapped delay line has the
Rayleigh curve: the gain of a subcarrier is a sum of independent Rayleigh taps of total power one, with phase
turns that keep it complex Gaussian, and a cyclic prefix at least as long as the channel leaves no
interference.  How the gains of neighbouring subcarriers go together does not matter to a mean.
"""

from __future__ import annotations

import math
from functools import cache
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfc

from twophase.link.bits import bits_to_indices, indices_to_bits
from twophase.link.constellation import qam
from twophase.link.errors import InputError
from twophase.link.modes import QAM_ORDERS
from twophase.link.noise import esn0_db_to_noise_var
from twophase.sim.settings import ChannelName
from twophase.sim.theory.power_gain import rician_factor

__all__ = ["ber_for_usage", "qam_ber"]


# Of the integral in _rician_tail: error exp(-pi^2 / (h^2 r)), below 1e-15 where a tail exceeds exp(-290).
_STEP = 1 / 32
_COSH_SQUARED = np.cosh(np.arange(0.0, 36.0, _STEP)) ** 2


def qam_ber(
    order: int, esn0_db: ArrayLike, channel: ChannelName = "awgn", rician_k_db: float = 6.0
) -> NDArray[np.float64]:
    """Exact bit error rate of Gray-mapped square QAM, every point sent equally often.

    Equations 14 to 16 of Cho and Yoon hold for the reflected Gray code on each axis, of which the mapping
    of TS 38.211 is a relabelling (some bits inverted).  On a fading channel every term is averaged over the
    distribution of the power gain: a closed form for Rayleigh, a single smooth integral for Rician fading.

    Parameters
    ----------
    order
        M: 4, 16, 64 or 256.
    esn0_db
        Es/N0 in dB, any shape; on a fading channel its mean.
    channel
        ``"awgn"``, ``"rayleigh"``, ``"rician"``, or ``"tdl-a"`` or ``"tdl-c"``, which have the Rayleigh rate.
    rician_k_db
        Power of the direct path over that of the scattered ones, in dB (Rician channel).

    Returns
    -------
    Bit error rate, the shape of ``esn0_db``.

    Raises
    ------
    InputError
        If the order or the channel does not exist, an SNR is not finite or K lies beyond 100 dB of 0.

    Notes
    -----
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
) -> NDArray[np.float64]:
    """Exact bit error rate of nearest-point decisions, given how often each point is sent.

    A learned transmitter does not use the points equally often, and inner points err more than outer ones.

    Parameters
    ----------
    histogram
        How often each point number of the TS 38.211 constellation is sent, shape (M,); any positive scale.
    order
        M: 4, 16, 64 or 256.
    esn0_db
        Es/N0 in dB of the unit-average constellation, any shape.  A stream of average energy E that is
        scaled to one sees its constellation at ``esn0_db - 10 log10 E``.
    channel, rician_k_db
        As in :func:`qam_ber`.

    Returns
    -------
    Bit error rate, the shape of ``esn0_db``.

    Raises
    ------
    InputError
        If the histogram is no such thing, or as :func:`qam_ber`.
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
    sent: NDArray[np.float64],
    label_at: NDArray[np.int64],
    levels: NDArray[np.float64],
    noise_var: NDArray[np.float64],
    channel: ChannelName,
    factor: float,
) -> NDArray[np.float64]:
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


def _tail(
    distance: float, noise_var: NDArray[np.float64], channel: ChannelName, factor: float
) -> NDArray[np.float64]:
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


def _rician_tail(ratio: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Mean of erfc(sqrt(r |h|^2)) / 2 over a Rician gain.

    Craig's form, 1/pi times the integral over t in 0..pi/2 of E exp(-s |h|^2) with s = r / sin^2 t, under
    cot t = sinh u:  1/pi times the integral over u > 0 of  E exp(-s |h|^2) / cosh u  with s = r cosh^2 u.
    There all singularities lie at Im u = pi/2, whatever r and K are, so that the trapezoidal rule converges
    exponentially, and since every term is positive the result keeps its relative precision.
    """
    # Beyond 2000 dB on either side the products would leave float64.
    s = np.clip(ratio, 1e-200, 1e200)[..., np.newaxis] * _COSH_SQUARED
    weight = np.full(_COSH_SQUARED.shape, _STEP / math.pi) / np.sqrt(_COSH_SQUARED)
    weight[0] /= 2
    transform = (1 + factor) / (1 + factor + s) * np.exp(-factor * s / (1 + factor + s))
    return np.asarray(transform @ weight)


def _check_order(order: int) -> None:
    if order not in QAM_ORDERS:
        raise InputError("order", "be 4, 16, 64 or 256", order)
