"""The convolutional code of :mod:`twophase.sim.codes.trellis` as a block code, with its soft decoders.

A block begins in state zero and is closed by six zeros, whose code bits are part of the block: k information
bits give 2 (k + 6) mother bits, of which as many as are to be sent are left in or repeated.

Decoders.  :meth:`ConvCode.viterbi` finds the most likely word.  :meth:`ConvCode.decode` gives the exact
a-posteriori LLR of each bit by the algorithm of Bahl, Cocke, Jelinek and Raviv (IEEE Trans. Inf. Theory
20(2), 1974), on probabilities instead of their logarithms: no exponential is left inside the recursions, and
NumPy and compiled code give the same bits.  For that, LLRs of mother bits are held within +-28.  Every state
can be reached from every other in six steps of two bits, so their probabilities differ by less than
exp(12 x 28), and no product of two of them leaves the range of float64.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import InputError
from twophase.sim.codes.code import checked_bits, checked_kernel, checked_llr
from twophase.sim.codes.lanes import from_lanes, to_lanes
from twophase.sim.codes.rate_matching import collect
from twophase.sim.codes.trellis import GENERATORS, MEMORY, OUTPUTS, STATES, puncturing

__all__ = ["ConvCode"]

NORMALISED_EVERY = 16
"""Steps after which Viterbi's decoder takes the largest metric off all."""
UNREACHED = np.float32(-1e9)
"""Metric of a state in which no path can be."""
BCJR_CLIP = 28.0
"""Bound on |LLR| in :meth:`ConvCode.decode`: the bit is then in doubt by 10^-12."""

_EVEN = (2 * np.arange(STATES)) % STATES
_Floats = NDArray[np.float32]


class ConvCode:
    """K = 7, rate 1/2, zero tail, punctured or repeated to ``n`` bits.

    Parameters
    ----------
    k
        Information bits, at least 1.
    n
        Code bits that are sent, at least ``k``.
    kernel
        ``"numpy"`` or ``"numba"``; both decide alike, bit for bit.

    Examples
    --------
    >>> code = ConvCode(4, 20)
    >>> code.encode([1, 0, 0, 0]).tolist()
    [1, 1, 0, 1, 1, 1, 1, 1, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0]

    Raises
    ------
    InputError
        If a number is out of range or the kernel is unknown.
    """

    def __init__(self, k: int, n: int, kernel: str = "numpy") -> None:
        if k < 1:
            raise InputError("k", "be at least 1", k)
        if n < k:
            raise InputError("n", f"be at least the {k} information bits", n)
        self.k, self.n, self.kernel = k, n, checked_kernel(kernel)
        self.steps = k + MEMORY
        self.pattern = puncturing(self.steps, n)

    def encode(self, bits: ArrayLike) -> NDArray[np.uint8]:
        """Information bits, (..., k), to the bits sent, (..., n).

        Raises
        ------
        InputError
            If the shape is wrong or something is neither 0 nor 1.
        """
        information = checked_bits(bits, self.k)
        padding = [(0, 0)] * (information.ndim - 1) + [(MEMORY, MEMORY)]
        stream = np.pad(information, padding)
        mother = np.zeros((*information.shape[:-1], 2 * self.steps), dtype=np.uint8)
        for output, generator in enumerate(GENERATORS):
            for delay in range(MEMORY + 1):
                if generator >> (MEMORY - delay) & 1:
                    mother[..., output::2] ^= stream[..., MEMORY - delay : MEMORY - delay + self.steps]
        return mother[..., self.pattern]

    def decode(self, llr: ArrayLike) -> _Floats:
        """Exact a-posteriori LLRs of the information bits.

        Parameters
        ----------
        llr
            log P1/P0 of each bit sent, shape (..., n).

        Returns
        -------
        NDArray
            Shape (..., k), float32.

        Raises
        ------
        InputError
            If the shape is wrong or an LLR is not finite.
        """
        mother, shape = self._mother(llr)
        weights = _weights(mother)
        if self.kernel == "numba":
            from twophase.sim.codes.conv_kernels import bcjr_lanes

            lanes = to_lanes(weights)
            sums = np.empty((len(lanes), 2 * self.k, lanes.shape[2]))
            bcjr_lanes(lanes, OUTPUTS, sums)
            both = from_lanes(sums, len(mother))
        else:
            both = _bcjr(weights, self.k)
        soft = np.log(both[:, 1::2]) - np.log(both[:, 0::2])
        return soft.astype(np.float32).reshape(*shape, self.k)

    def viterbi(self, llr: ArrayLike) -> NDArray[np.uint8]:
        """Information bits of the most likely word, (..., n) to (..., k); arguments of :meth:`decode`.

        Of two equally good paths into a state the one from the lower state is kept.
        """
        mother, shape = self._mother(llr)
        if self.kernel == "numba":
            from twophase.sim.codes.conv_kernels import viterbi_lanes

            bits = np.empty((len(mother), self.k), dtype=np.uint8)
            viterbi_lanes(to_lanes(mother), OUTPUTS, bits)
            return bits.reshape(*shape, self.k)
        return _viterbi(mother, self.k).reshape(*shape, self.k)

    def _mother(self, llr: ArrayLike) -> tuple[_Floats, tuple[int, ...]]:
        """LLRs of the mother code's bits, (frames, 2 steps), and the leading axes."""
        values = checked_llr(llr, self.n)
        frames = values.reshape(-1, self.n)
        if self._in_order:
            return frames, values.shape[:-1]
        return collect(frames, self.pattern, 2 * self.steps), values.shape[:-1]

    @cached_property
    def _in_order(self) -> bool:
        return np.array_equal(self.pattern, np.arange(2 * self.steps))


def _branches(pair: _Floats) -> _Floats:
    """Metrics of the outputs 00, 01, 10, 11 of one step; (frames, 2) to (frames, 4)."""
    first, second = pair[:, 0], pair[:, 1]
    return np.stack([np.zeros_like(first), second, first, first + second], axis=1)


def _start(frames: int) -> _Floats:
    metric = np.full((frames, STATES), UNREACHED, dtype=np.float32)
    metric[:, 0] = 0.0
    return metric


def _viterbi(llr: _Floats, k: int) -> NDArray[np.uint8]:
    """The slow twin: all frames side by side, (frames, 2 steps) to (frames, k)."""
    frames, steps = len(llr), llr.shape[1] // 2
    metric = _start(frames)
    from_odd = np.empty((steps, frames, STATES), dtype=bool)
    for step in range(steps):
        branch = _branches(llr[:, 2 * step : 2 * step + 2])
        even = metric[:, _EVEN] + branch[:, OUTPUTS[0::2]]
        odd = metric[:, _EVEN + 1] + branch[:, OUTPUTS[1::2]]
        from_odd[step] = odd > even
        metric = np.where(from_odd[step], odd, even)
        if step % NORMALISED_EVERY == NORMALISED_EVERY - 1:
            metric -= metric.max(axis=1, keepdims=True)
    bits = np.empty((frames, k), dtype=np.uint8)
    state = np.zeros(frames, dtype=np.int64)
    every = np.arange(frames)
    for step in range(steps - 1, -1, -1):
        if step < k:
            bits[:, step] = state >= STATES // 2
        state = (2 * state) % STATES + from_odd[step, every, state]
    return bits


def _weights(llr: _Floats) -> NDArray[np.float64]:
    """Weights of 0 and 1 of each bit, the larger of them one; (frames, bits) to (frames, 2 bits)."""
    bounded = np.clip(llr.astype(np.float64), -BCJR_CLIP, BCJR_CLIP)
    weights = np.empty((len(llr), 2 * llr.shape[1]))
    weights[:, 0::2] = np.exp(np.minimum(-bounded, 0.0))
    weights[:, 1::2] = np.exp(np.minimum(bounded, 0.0))
    return weights


def _bcjr(weights: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """The slow twin: sums of the probabilities of zero and one of each bit, (frames, 2 k), in some scale.

    Sums run state by state, as in the compiled kernel; arrays are (states, frames).
    """
    frames, steps = len(weights), weights.shape[1] // 4
    forward = np.empty((steps, STATES, frames))
    half = STATES // 2
    states = np.arange(STATES)

    def branches(step: int, scale: NDArray[np.float64]) -> NDArray[np.float64]:
        zero, one, zero_too, one_too = weights[:, 4 * step : 4 * step + 4].T
        return np.stack([zero * zero_too, zero * one_too, one * zero_too, one * one_too]) / scale

    def closed() -> NDArray[np.float64]:
        probability = np.zeros((STATES, frames))
        probability[0] = 1.0
        return probability

    probability = closed()
    for step in range(steps):
        branch = branches(step, probability.max(axis=0))
        even = probability[_EVEN] * branch[OUTPUTS[0::2]]
        probability = even + probability[_EVEN + 1] * branch[OUTPUTS[1::2]]
        forward[step] = probability
    sums = np.empty((frames, 2 * k))
    backward = closed()
    for step in range(steps - 1, -1, -1):
        if step < k:
            joint = forward[step] * backward
            for value in (0, 1):
                total = joint[value * half].copy()
                for state in range(1, half):
                    total += joint[value * half + state]
                sums[:, 2 * step + value] = total
        branch = branches(step, backward.max(axis=0))
        # A zero leads from state p to p // 2 with the register p, a one to p // 2 + half.
        zero = backward[states // 2] * branch[OUTPUTS[:STATES]]
        backward = zero + backward[states // 2 + half] * branch[OUTPUTS[STATES:]]
    return sums
