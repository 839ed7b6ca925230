"""Closed forms that a simulation must agree with, and what an ideal sender of the label would reach.

All curves are over Es/N0 in dB with unit average symbol energy; ``channel`` is ``"awgn"`` or ``"rayleigh"``
(flat, one independent gain per symbol with E|h|^2 = 1, known to the receiver).
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfc, ndtr
from scipy.stats import gamma

from twophase.link.bits import bits_to_indices, indices_to_bits
from twophase.link.config import QAM_ORDERS
from twophase.link.constellation import qam
from twophase.link.errors import InputError
from twophase.link.noise import esn0_db_to_noise_var
from twophase.sim.settings import ChannelName

__all__ = ["ber_for_usage", "label_accuracy", "qam_ber", "simplex_success"]


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


def simplex_success(
    classes: int, symbols: int, esn0_db: ArrayLike, channel: ChannelName = "awgn"
) -> NDArray[np.float64]:
    """Probability that an ideal system delivers one of ``classes`` equally likely labels.

    It sends the label as one of M codewords of a simplex, with the energy of ``symbols`` channel uses, to a
    maximum-likelihood receiver:  P = integral of phi(x) Phi(x + sqrt(2 E/N0 M/(M-1)))^(M-1) dx.  That no
    other signal set of equal energies does better is the weak simplex conjecture, not a theorem.  On the
    Rayleigh channel E/N0 is averaged over the sum of ``symbols`` independent power gains, a gamma
    distribution, as if fading never bent the simplex.

    Parameters
    ----------
    classes
        M, at least 2.
    symbols
        Complex channel uses per sample, at least 1.
    esn0_db
        Es/N0 in dB, any shape.
    channel
        ``"awgn"`` or ``"rayleigh"``.

    Returns
    -------
    Probability, the shape of ``esn0_db``.

    Raises
    ------
    InputError
        If a count is too small, the channel does not exist or an SNR is not finite.

    Notes
    -----
    J. G. Proakis, "Digital Communications", 4th edition, section 5.2 (orthogonal and simplex signals).

    Examples
    --------
    >>> simplex_success(10, 6, [-5.0, 0.0, 5.0]).round(3).tolist()
    [0.69, 0.967, 1.0]
    """
    if classes < 2:
        raise InputError("classes", "be at least 2", classes)
    if symbols < 1:
        raise InputError("symbols", "be at least 1", symbols)
    noise_var = np.asarray(esn0_db_to_noise_var(esn0_db), dtype=np.float64)
    if channel == "awgn":
        return _simplex_integral(classes, symbols / noise_var)
    if channel == "rayleigh":
        power, weight = _gamma_nodes(symbols)
        return np.asarray(_simplex_integral(classes, power / noise_var[..., np.newaxis]) @ weight)
    raise InputError("channel", "be 'awgn' or 'rayleigh'", channel)


def label_accuracy(clean: float, delivered: float, classes: int) -> float:
    """Accuracy of an ideal sender of the label: c P + (1 - c) (1 - P) / (M - 1).

    It classifies at the near end with accuracy c, as the classifier at hand does without noise, and sends the
    label with a simplex code, which delivers it with probability P (:func:`simplex_success`).  A right label
    counts if it is delivered; a wrong one counts if the channel happens to turn it into the right one, and
    the symmetry of a simplex makes each of the M - 1 others equally likely.  Without that term a system would
    exceed the figure in mere noise, where everyone is right once in M.

    This is the send-the-label bound of a report.  It is what one ideal system reaches with this classifier
    and a good yardstick for others, but no proven ceiling: a system may send its samples with unequal
    energies, or let errors of the channel undo errors of the classifier.

    Parameters
    ----------
    clean
        c, accuracy without noise, in [0, 1].
    delivered
        P, probability that the label arrives, in [0, 1].
    classes
        M, at least 2.

    Raises
    ------
    InputError
        If a probability lies outside [0, 1] or there are too few classes.

    Examples
    --------
    >>> round(label_accuracy(0.9, 0.1, 10), 6)
    0.1
    """
    for name, value in (("clean", clean), ("delivered", delivered)):
        if not 0.0 <= value <= 1.0:
            raise InputError(name, "lie in [0, 1]", value)
    if classes < 2:
        raise InputError("classes", "be at least 2", classes)
    return clean * delivered + (1 - clean) * (1 - delivered) / (classes - 1)


def _simplex_integral(classes: int, energy_to_noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Trapezoidal rule, which converges exponentially on a smooth integrand that dies out at both ends."""
    x, step = np.linspace(-9.0, 9.0, 361, retstep=True)
    shift = np.sqrt(2 * energy_to_noise * classes / (classes - 1))
    density = np.exp(-x * x / 2) * step / math.sqrt(2 * math.pi)
    return np.asarray(np.minimum(1.0, ndtr(x + shift[..., np.newaxis]) ** (classes - 1) @ density))


@cache
def _gamma_nodes(shape: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss-Legendre nodes and weights for a mean over a gamma distribution of unit scale."""
    low, high = gamma.ppf(1e-13, shape), gamma.isf(1e-13, shape)
    node, weight = np.polynomial.legendre.leggauss(200)
    power = low + (high - low) * (node + 1) / 2
    return power, weight * (high - low) / 2 * gamma.pdf(power, shape)


def _check_order(order: int) -> None:
    if order not in QAM_ORDERS:
        raise InputError("order", "be 4, 16, 64 or 256", order)
