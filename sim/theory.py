"""Closed forms of the bit error rate that a simulation must agree with.

All curves are over Es/N0 in dB with unit average symbol energy; ``channel`` is ``"awgn"`` or ``"rayleigh"``
(flat, E|h|^2 = 1, known to the receiver).  A mean over symbols does not ask how many of them share a gain, so
the Rayleigh curves hold for block fading too; only the spread around them is wider there.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfc

from twophase.link.bits import bits_to_indices, indices_to_bits
from twophase.link.config import QAM_ORDERS
from twophase.link.constellation import qam
from twophase.link.errors import InputError
from twophase.link.noise import esn0_db_to_noise_var
from twophase.sim.settings import ChannelName

__all__ = ["ber_for_usage", "qam_ber"]


def qam_ber(order: int, esn0_db: ArrayLike, channel: ChannelName = "awgn") -> NDArray[np.float64]:
    """Exact bit error rate of Gray-mapped square QAM, every point sent equally often.

    Equations 14 to 16 of Cho and Yoon hold for the reflected Gray code on each axis, of which the mapping
    of TS 38.211 is a relabelling (some bits inverted).  On the Rayleigh channel every term is averaged over
    the exponential distribution of the power gain, which keeps the form closed.

    Parameters
    ----------
    order
        M: 4, 16, 64 or 256.
    esn0_db
        Es/N0 in dB, any shape; on the Rayleigh channel its mean.
    channel
        ``"awgn"`` or ``"rayleigh"``.

    Returns
    -------
    Bit error rate, the shape of ``esn0_db``.

    Raises
    ------
    InputError
        If the order or the channel does not exist or an SNR is not finite.

    Notes
    -----
    K. Cho and D. Yoon, "On the general BER expression of one- and two-dimensional amplitude modulations",
    IEEE Transactions on Communications 50, 2002.

    Examples
    --------
    >>> ebn0_db = 10.0
    >>> f"{float(qam_ber(16, ebn0_db + 10 * math.log10(4))):.3e}"
    '1.754e-03'
    """
    _check_order(order)
    noise_var = np.asarray(esn0_db_to_noise_var(esn0_db), dtype=np.float64)
    rate = np.zeros_like(noise_var)
    for weight, odd in _cho_yoon_terms(order):
        # Half the distance between neighbours is sqrt(3 / (2 (M - 1))) at unit average energy.
        rate = rate + 2 * weight * _tail(odd * math.sqrt(1.5 / (order - 1)), noise_var, channel)
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
    histogram: ArrayLike, order: int, esn0_db: ArrayLike, channel: ChannelName = "awgn"
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
    channel
        ``"awgn"`` or ``"rayleigh"``.

    Returns
    -------
    Bit error rate, the shape of ``esn0_db``.

    Raises
    ------
    InputError
        If the histogram is no such thing, the order or channel does not exist or an SNR is not finite.
    """
    _check_order(order)
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
        expected = expected + _axis_errors(sent, label_at, constellation.axis_levels, noise_var, channel)
    return np.asarray(expected / (counts.sum() * constellation.bits_per_symbol))


def _axis_errors(
    sent: NDArray[np.float64],
    label_at: NDArray[np.int64],
    levels: NDArray[np.float64],
    noise_var: NDArray[np.float64],
    channel: ChannelName,
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
                beyond = _tail(abs(threshold - levels[start]), noise_var, channel)
                total = total + sent[start] * (now - wrong) * beyond
                wrong = now
    return total


def _tail(distance: float, noise_var: NDArray[np.float64], channel: ChannelName) -> NDArray[np.float64]:
    """Probability that the noise of one dimension exceeds the faded distance."""
    ratio = distance * distance / noise_var
    if channel == "awgn":
        return np.asarray(0.5 * erfc(np.sqrt(ratio)))
    if channel == "rayleigh":
        # (1 - sqrt(r / (1 + r))) / 2, rearranged so that nothing cancels at high SNR.
        return np.asarray(0.5 / ((1 + ratio) * (1 + np.sqrt(ratio / (1 + ratio)))))
    raise InputError("channel", "be 'awgn' or 'rayleigh'", channel)


def _check_order(order: int) -> None:
    if order not in QAM_ORDERS:
        raise InputError("order", "be 4, 16, 64 or 256", order)
