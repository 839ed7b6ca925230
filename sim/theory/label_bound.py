"""What an ideal sender of the label would reach: the yardstick that every report draws.

The sender classifies at the near end and sends only the label, as one of M codewords of a simplex, with the
energy of as many symbols as the link at hand takes.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from twophase.link.errors import InputError
from twophase.link.noise import esn0_db_to_noise_var
from twophase.sim.channel.tdl import CARRIERS, power_delay_profile
from twophase.sim.settings import ChannelName, CoherenceName
from twophase.sim.theory.power_gain import power_gain_nodes, rician_factor

__all__ = ["label_accuracy", "simplex_success"]


def simplex_success(
    classes: int,
    symbols: int,
    esn0_db: ArrayLike,
    channel: ChannelName = "awgn",
    coherence: CoherenceName | int = "symbol",
    rician_k_db: float = 6.0,
    delay_spread_ns: float = 300.0,
) -> NDArray[np.float64]:
    """Probability that an ideal system delivers one of ``classes`` equally likely labels.

    It sends the label as one of M codewords of a simplex, with the energy of ``symbols`` channel uses, to a
    maximum-likelihood receiver:  P = integral of phi(x) Phi(x + sqrt(2 E/N0 M/(M-1)))^(M-1) dx.  That no
    other signal set of equal energies does better is the weak simplex conjecture, not a theorem.

    On a fading channel E/N0 is averaged over the power that the frame's gains let through, whose law is exact
    (:mod:`~twophase.sim.theory.power_gain`), as if fading never bent the simplex: each gain with as many
    symbols as share it, the last block of a frame being what is left of it; on a tapped delay line the
    eigenvalues of the correlation of the frame's subcarriers, which are taken as consecutive from the lowest
    one, and which every further OFDM symbol uses again.  Where all symbols share one gain nothing is bent.

    M is at least 2.  ``symbols``, at least 1, counts the complex channel uses per sample, header and pilots
    included: the ideal sender spends all their energy on the label.  Es/N0 may have any shape, which is that
    of the result; the channel is described as in :class:`~twophase.sim.settings.Settings`.  InputError if a
    count is too small, the channel does not exist, an SNR is not finite, K lies beyond 100 dB of 0 or a delay
    spread is too long for the cyclic prefix.

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
    if channel in ("tdl-a", "tdl-c"):
        weights, factor = _subcarrier_weights(symbols, channel, delay_spread_ns), 0.0
    elif channel in ("rayleigh", "rician"):
        weights = _block_weights(symbols, coherence)
        factor = rician_factor(rician_k_db) if channel == "rician" else 0.0
    else:
        raise InputError("channel", f"be one of {', '.join(get_args(ChannelName))}", channel)
    power, weight = power_gain_nodes(weights, factor)
    return np.asarray(_simplex_integral(classes, power / noise_var[..., np.newaxis]) @ weight)


def _block_weights(symbols: int, coherence: CoherenceName | int) -> tuple[float, ...]:
    """How many symbols of a frame share each gain of a flat channel."""
    if coherence == "symbol":
        length = 1
    elif coherence == "sample":
        length = symbols
    elif isinstance(coherence, int) and coherence >= 2:
        length = coherence
    else:
        raise InputError("coherence", "be 'symbol', 'sample' or at least 2 symbols", coherence)
    full, rest = divmod(symbols, length)
    return (float(length),) * full + ((float(rest),) if rest else ())


@lru_cache(maxsize=256)
def _subcarrier_weights(symbols: int, channel: str, delay_spread_ns: float) -> tuple[float, ...]:
    """Independent Rayleigh gains that let through as much as the correlated ones of a frame's subcarriers.

    For h = A g with g white, sum u_k |h_k|^2 = g^H A^H U A g, whose matrix has the nonzero eigenvalues of
    U^(1/2) R U^(1/2), R = A A^H the correlation and u_k how many OFDM symbols use subcarrier k.
    """
    uses = np.bincount(np.arange(symbols) % CARRIERS).astype(np.float64)
    place = np.arange(uses.size)
    correlation = power_delay_profile(channel, delay_spread_ns).correlation(place[:, np.newaxis] - place)
    eigenvalues = np.linalg.eigvalsh(correlation * np.sqrt(uses[:, np.newaxis] * uses))
    return tuple(np.maximum(eigenvalues, 0.0).tolist())


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
