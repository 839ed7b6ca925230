"""Exact laws of hard decisions: sent symbol to decided symbol, sent codeword to decided codeword.

A hard decision takes the point whose faded image is nearest.  On each axis of a square QAM that compares the
received amplitude with the midpoints between the levels, so that the law of the decided level is made of
Gaussian tails.  A receiver that knows the gain h scales its thresholds by |h|, and a gain only changes N0 to
N0 / |h|^2, for both axes alike: averaged over the gain, the axes of a symbol are NOT independent.

The mean over a gain is a sum over nodes.  In t = log |h| the density of a Rayleigh or Rician gain decays
doubly exponentially to the right and like exp(2 t) to the left, and every tail is an entire function of
exp(t), so the trapezoidal rule converges geometrically (L. N. Trefethen and J. A. C. Weideman, "The
exponentially convergent trapezoidal rule", SIAM Review 56, 2014, theorem 5.1; half-width pi/4 of the strip).

From the law of the symbols follows how often a codeword is decided right: by its label, bit by bit, which is
what the receiver's posterior comes to when every LLR is the clip with the sign of the nearest point's bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import i0e, ndtr

from twophase.link.bits import bits_to_indices, indices_to_bits
from twophase.link.constellation import qam
from twophase.link.errors import InputError
from twophase.link.modes import Mode
from twophase.sim.settings import ChannelName, CoherenceName

__all__ = ["WordLaw", "axis_transitions", "codeword_success", "gain_nodes", "symbol_transitions", "word_law"]

_Float = NDArray[np.float64]

_STEP = 0.125
"""Step in log |h|; the error of the rule is about 2 exp(-2 pi (pi / 4) / step), 1e-17."""
_LOWEST = -18.0
"""Least log |h|: a Rayleigh gain lies below it with probability exp(-36), 2e-16."""
_DEVIATIONS = 12.0
"""A Rician gain is followed so many of its standard deviations to either side."""


@dataclass(frozen=True, eq=False)
class WordLaw:
    """Law of the decided word given the sent one.

    The symbols of a block share one gain: node g of :attr:`weights`, and given it they are independent.
    Blocks are independent.  Where no two symbols share a gain there is one node and the mean is in
    :attr:`matrices`.
    """

    order: int
    """M."""
    blocks: tuple[slice, ...]
    """Symbols of each block; together all symbols of a word, in order."""
    weights: _Float
    """Probability of each node, shape (nodes,)."""
    matrices: _Float
    """P(decided | sent) given each node, shape (nodes, M, M): [node, sent, decided]."""

    @property
    def is_memoryless(self) -> bool:
        """Whether the symbols of a word are decided independently of each other."""
        return len(self.weights) == 1

    def probability(self, sent: ArrayLike, decided: ArrayLike) -> _Float:
        """P(decided word | sent word), point numbers (..., symbols) to (...,)."""
        first, second = np.broadcast_arrays(np.asarray(sent), np.asarray(decided))
        product = np.ones(first.shape[:-1])
        for block in self.blocks:
            given = self.matrices[:, first[..., block], second[..., block]].prod(axis=-1)
            product = product * np.tensordot(self.weights, given, axes=1)
        return np.asarray(product)


def axis_transitions(order: int, noise_var: ArrayLike) -> _Float:
    """P(decided level | sent level) on one axis of a square QAM, levels ascending.

    ``noise_var``, positive and of any shape (...,), is N0 (total complex variance) over the power |h|^2 of
    the gain and over the scaling of the points.  The result has the shape (..., L, L), L = sqrt(M), [sent,
    decided]; rows sum to 1 to rounding.  Small entries are differences of tails on their own side, so they
    keep their relative accuracy.
    """
    levels = qam(order).axis_levels
    variance = np.asarray(noise_var, dtype=np.float64)
    if not (variance > 0).all():
        raise InputError("noise_var", "be positive", noise_var)
    edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    deviation = np.sqrt(variance / 2)[..., np.newaxis, np.newaxis]
    distance = (edges - levels[:, np.newaxis]) / deviation
    below, above = ndtr(distance), ndtr(-distance)
    right = distance[..., :-1] > 0
    law = np.where(right, above[..., :-1] - above[..., 1:], below[..., 1:] - below[..., :-1])
    return np.asarray(law)


def symbol_transitions(
    order: int,
    noise_var: ArrayLike,
    channel: ChannelName = "awgn",
    rician_k_db: float = 6.0,
) -> _Float:
    """P(decided point | sent point) of a square QAM, shape (..., M, M), [sent, decided] by point number.

    ``noise_var``, positive and of shape (...,), is N0 for points of unit average energy; points divided by
    sqrt(E) see N0 E.  For ``"rayleigh"`` and ``"rician"`` the law is the mean over a gain of E|h|^2 = 1 that
    the receiver knows, ``rician_k_db`` being the power of the direct path over the scattered one.  Other
    channels than these and ``"awgn"`` have no such law.
    """
    variance = np.asarray(noise_var, dtype=np.float64)
    first, second = _levels_of(order)
    sent_i, decided_i = first[:, np.newaxis], first
    sent_q, decided_q = second[:, np.newaxis], second
    if channel == "awgn":
        axis = axis_transitions(order, variance)
        return np.asarray(axis[..., sent_i, decided_i] * axis[..., sent_q, decided_q])
    amplitude, weight = gain_nodes(channel, rician_k_db)
    nodes = axis_transitions(order, variance[..., np.newaxis] / amplitude**2)
    flat = nodes.reshape(*variance.shape, len(weight), -1)
    # [node, (sent I, decided I)] x [node, (sent Q, decided Q)]: the axes share the node's gain.
    both = np.swapaxes(flat * weight[:, np.newaxis], -1, -2) @ flat
    side = math.isqrt(order)
    both = both.reshape(*variance.shape, side, side, side, side)
    return np.asarray(both[..., sent_i, decided_i, sent_q, decided_q])


@cache
def gain_nodes(channel: ChannelName, rician_k_db: float = 6.0) -> tuple[_Float, _Float]:
    """Amplitudes |h| and their probabilities, so that a sum over them is the mean over the gain.

    The channel is ``"rayleigh"`` or ``"rician"``, E|h|^2 = 1; InputError if not (a frequency-selective one
    gives each subcarrier its own, dependent gain).  Both arrays have the shape (nodes,) and are read-only;
    the probabilities sum to 1.

    Examples
    --------
    >>> amplitude, weight = gain_nodes("rayleigh")
    >>> round(float(weight @ amplitude**2), 12), round(float(weight @ amplitude**4), 12)
    (1.0, 2.0)
    """
    if channel not in ("rayleigh", "rician"):
        raise InputError("channel", "be 'awgn', 'rayleigh' or 'rician' for an exact law", channel)
    k = 0.0 if channel == "rayleigh" else 10.0 ** (rician_k_db / 10.0)
    # |h| has mean near 1 and, for large K, the standard deviation sqrt(1 / (2 (1 + K))).
    width = math.sqrt(0.5 / (1.0 + k))
    reach = _DEVIATIONS * width
    low = math.log(1.0 - reach) if reach < 0.99 else _LOWEST
    high = math.log(1.0 + reach)
    step = min(_STEP, width / 4)
    t = np.arange(low, high + step, step)
    amplitude = np.exp(t)
    # f(r) = 2 r (1 + K) exp(-K - (1 + K) r^2) I0(2 r sqrt(K (1 + K))), times dr/dt = r.
    exponent = -((math.sqrt(1.0 + k) * amplitude - math.sqrt(k)) ** 2)
    weight = 2 * (1 + k) * amplitude**2 * np.exp(exponent) * i0e(2 * amplitude * math.sqrt(k * (1 + k)))
    kept = weight > 1e-17 * weight.max()
    amplitude, weight = amplitude[kept], weight[kept] / weight[kept].sum()
    for array in (amplitude, weight):
        array.setflags(write=False)
    return amplitude, weight


def word_law(
    mode: Mode,
    noise_var: float,
    channel: ChannelName = "awgn",
    coherence: CoherenceName | int = "symbol",
    rician_k_db: float = 6.0,
) -> WordLaw:
    """Law of all symbols of a mode's word, decided one by one as in :func:`symbol_transitions`.

    ``coherence`` is how many symbols in a row share a gain, from the first of the word: ``"symbol"`` for one,
    a number, or ``"sample"`` for all of them.
    """
    if coherence not in ("symbol", "sample") and (isinstance(coherence, str) or coherence < 1):
        raise InputError("coherence", "be 'symbol', 'sample' or a number of symbols", coherence)
    span = {"symbol": 1, "sample": mode.symbols}.get(str(coherence)) or int(coherence)
    shared = channel != "awgn" and min(span, mode.symbols) > 1
    length = span if shared else 1
    starts = range(0, mode.symbols, length)
    blocks = tuple(slice(start, min(start + length, mode.symbols)) for start in starts)
    if not shared:
        matrix = symbol_transitions(mode.order, noise_var, channel, rician_k_db)
        return WordLaw(mode.order, blocks, np.ones(1), matrix[np.newaxis])
    amplitude, weight = gain_nodes(channel, rician_k_db)
    return WordLaw(mode.order, blocks, weight, symbol_transitions(mode.order, noise_var / amplitude**2))


@cache
def _levels_of(order: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of each point's level on the real and on the imaginary axis, shape (M,) each."""
    constellation = qam(order)
    level_of = np.argsort(bits_to_indices(constellation.axis_labels))
    bits = indices_to_bits(np.arange(order), constellation.bits_per_symbol)
    first, second = (level_of[bits_to_indices(bits[:, axis::2])] for axis in (0, 1))
    return first, second


def codeword_success(law: WordLaw, mode: Mode, words: ArrayLike) -> _Float:
    """P(codeword decided right) of every token, given the whole word that is sent.

    ``law`` is that of the mode's words, given as point numbers, (words, symbols); the result is of shape
    (words, tokens).
    """
    sent = np.asarray(words)
    points = np.arange(mode.order)
    differ = points[:, np.newaxis] ^ points
    success = np.ones((len(sent), mode.tokens))
    for token in range(mode.tokens):
        for block in law.blocks:
            given = np.ones((len(law.weights), len(sent)))
            for symbol in range(block.start, block.stop):
                place = symbol * mode.bits_per_symbol + np.arange(mode.bits_per_symbol)
                own = (place // mode.bits_per_index == token) @ (1 << np.arange(len(place) - 1, -1, -1))
                if own:
                    right = (law.matrices * ((differ & own) == 0)).sum(axis=-1)
                    given = given * right[:, sent[:, symbol]]
            success[:, token] *= law.weights @ given
    return success
