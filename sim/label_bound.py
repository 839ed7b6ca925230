"""What an ideal sender of the label would reach: the yardstick that every report draws.

The sender classifies at the near end and sends only the label, as one of M codewords of a simplex, with the
energy of as many symbols as the link at hand takes.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, ndtr
from scipy.stats import gamma

from twophase.link.errors import InputError
from twophase.link.noise import esn0_db_to_noise_var
from twophase.sim.settings import ChannelName, CoherenceName

__all__ = ["label_accuracy", "simplex_success"]


def simplex_success(
    classes: int,
    symbols: int,
    esn0_db: ArrayLike,
    channel: ChannelName = "awgn",
    coherence: CoherenceName = "symbol",
) -> NDArray[np.float64]:
    """Probability that an ideal system delivers one of ``classes`` equally likely labels.

    It sends the label as one of M codewords of a simplex, with the energy of ``symbols`` channel uses, to a
    maximum-likelihood receiver:  P = integral of phi(x) Phi(x + sqrt(2 E/N0 M/(M-1)))^(M-1) dx.  That no
    other signal set of equal energies does better is the weak simplex conjecture, not a theorem.  On the
    Rayleigh channel E/N0 is averaged over the sum of ``symbols`` independent power gains, a gamma
    distribution, as if fading never bent the simplex; under block fading, where all symbols share one gain,
    over ``symbols`` times one exponentially distributed power gain, which bends nothing.

    Parameters
    ----------
    classes
        M, at least 2.
    symbols
        Complex channel uses per sample, header included, at least 1.
    esn0_db
        Es/N0 in dB, any shape.
    channel
        ``"awgn"`` or ``"rayleigh"``.
    coherence
        Whether a gain holds for one ``"symbol"`` or for a whole ``"sample"``; AWGN has none to hold.

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
    if channel != "rayleigh":
        raise InputError("channel", "be 'awgn' or 'rayleigh'", channel)
    if coherence not in ("symbol", "sample"):
        raise InputError("coherence", "be 'symbol' or 'sample'", coherence)
    shared = symbols if coherence == "sample" else 1
    power, weight = _gamma_nodes(symbols // shared)
    return np.asarray(_simplex_integral(classes, shared * power / noise_var[..., np.newaxis]) @ weight)


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
    """Nodes and weights for a mean over a gamma distribution of unit scale.

    The trapezoidal rule over log power, where density and integrand are smooth and die out at both ends; over
    the power itself a success that rises within the first thousandth would fall between two nodes.
    """
    low, high = np.log(gamma.ppf(1e-15, shape)), np.log(gamma.isf(1e-18, shape))
    log_power, step = np.linspace(low, high, 500, retstep=True)
    weight = np.exp(shape * log_power - np.exp(log_power) - gammaln(shape)) * step
    return np.exp(log_power), weight / weight.sum()
