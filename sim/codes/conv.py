"""The rate-1/2 convolutional code with K = 7 and generators 133, 171 (octal) as a block code; soft decoders.

A block begins in state zero and is closed by six zeros, whose code bits are part of the block: k information
bits give 2 (k + 6) mother bits, of which as many as are to be sent are left in or repeated.

Decoders.  :meth:`ConvCode.viterbi` finds the most likely word.  :meth:`ConvCode.decode` gives the exact
a-posteriori LLR of each bit by the algorithm of Bahl, Cocke, Jelinek and Raviv (IEEE Trans. Inf. Theory
20(2), 1974), on probabilities instead of their logarithms: no exponential is left inside the recursions, and
NumPy and compiled code give the same bits.  For that, LLRs of mother bits are held within +-28.  Every state
can be reached from every other in six steps of two bits, so their probabilities differ by less than
exp(12 x 28), and no product of two of them leaves the range of float64.

Trellis.  The register holds the new bit in front: ``register = input << 6 | state``.  Generator j gives the
parity of the register's bits under ``GENERATORS[j]``, and the next state is ``register >> 1``.  The code is
that of CCSDS 131.0-B, IEEE 802.11 and many others (without inverted outputs); commpy calls this reading of
the polynomials ``LSB``.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import InputError
from twophase.sim.codes.code import checked_bits, checked_kernel, checked_llr, collect, from_lanes, to_lanes

__all__ = ["GENERATORS", "MEMORY", "OUTPUTS", "STATES", "ConvCode", "puncturing", "weight_spectrum"]

GENERATORS = (0o133, 0o171)
MEMORY = 6
STATES = 1 << MEMORY


def _branch_outputs() -> NDArray[np.int64]:
    registers = np.arange(2 * STATES)
    outputs = np.zeros(2 * STATES, dtype=np.int64)
    for generator in GENERATORS:
        parity = np.array([int(value).bit_count() & 1 for value in registers & generator])
        outputs = 2 * outputs + parity
    outputs.setflags(write=False)
    return outputs


OUTPUTS = _branch_outputs()
"""Output 2 c0 + c1 of each register value, shape (2 * STATES,).

State s is reached from the states (2 s + b) mod STATES, b = 0 and 1, with the register 2 s + b.
"""

_LARGEST_WEIGHT = 14
_OFFSETS = 8
_AT_AN_END = (0, 2, 3)
_LONG = 200  # steps from which the ends matter little and the search would be slow


@cache
def puncturing(steps: int, n: int) -> NDArray[np.int64]:
    """Which ``n`` of the 2 * ``steps`` mother bits are sent, ascending and cyclic if n is more than all.

    Bits are left out at even distances, and a few more at both ends, where the decoder knows the state.  Of
    some seventy such patterns the one whose code has the fewest words of low weight is taken.  Read-only.
    """
    total = 2 * steps
    best = np.arange(n, dtype=np.int64) % total
    if n < total:
        ends = (0,) if steps > _LONG else _AT_AN_END
        candidates = [
            kept
            for front, back, offset in product(ends, ends, range(_OFFSETS))
            if (kept := _spread(total, n, front, back, offset)) is not None
        ]
        best = min(candidates, key=lambda pattern: weight_spectrum(steps, pattern).tolist())
    best.setflags(write=False)
    return best


def _spread(total: int, n: int, front: int, back: int, offset: int) -> NDArray[np.int64] | None:
    """Leave out ``front`` and ``back`` bits at the ends, the others evenly; None if that is too many."""
    evenly = total - n - front - back
    if evenly < 0:
        return None
    # Places 0, 3, 4, 7, 8, ...: one of the two bits of a step, in turn.
    left_out = [2 * place + place % 2 for place in range(front)]
    left_out += [total - 1 - (2 * place + place % 2) for place in range(back)]
    kept = np.setdiff1d(np.arange(total, dtype=np.int64), left_out)
    # Integers only: the same pattern on every machine.
    places = (np.arange(evenly) * _OFFSETS + offset) * len(kept) // max(1, evenly * _OFFSETS)
    return np.delete(kept, places)


def weight_spectrum(steps: int, pattern: NDArray[np.int64]) -> NDArray[np.int64]:
    """Words of each weight 0..14 of the terminated, punctured code, shape (15,); the zero word excluded.

    Paths through the trellis are counted by the weight of what is sent of them.  Counts are held below 2^40.
    """
    sent = np.bincount(pattern, minlength=2 * steps).reshape(steps, 2)
    counts = np.zeros((STATES, _LARGEST_WEIGHT + 1), dtype=np.int64)
    counts[0, 0] = 1
    registers = np.arange(2 * STATES)
    previous, following = registers % STATES, registers >> 1
    for step in range(steps):
        weights = (OUTPUTS >> 1) * sent[step, 0] + (OUTPUTS & 1) * sent[step, 1]
        grown = np.zeros_like(counts)
        for weight in np.unique(weights):
            # In the tail only zeros enter: the states of the lower half.
            chosen = (weights == weight) & ((following < STATES // 2) | (step < steps - MEMORY))
            moved = counts[previous[chosen], : _LARGEST_WEIGHT + 1 - weight]
            np.add.at(grown[:, weight:], following[chosen], moved)
        counts = np.minimum(grown, 1 << 40)
    spectrum = counts[0].copy()
    spectrum[0] -= 1
    return np.asarray(spectrum, dtype=np.int64)


NORMALISED_EVERY = 16
"""Steps after which Viterbi's decoder takes the largest metric off all."""
UNREACHED = np.float32(-1e9)
"""Metric of a state in which no path can be."""
BCJR_CLIP = 28.0
"""Bound on |LLR| in :meth:`ConvCode.decode`: the bit is then in doubt by 10^-12."""

_EVEN = (2 * np.arange(STATES)) % STATES
_Floats = NDArray[np.float32]


class ConvCode:
    """K = 7, rate 1/2, zero tail: ``k`` information bits, at least 1, to the ``n`` sent, at least ``k``.

    Mother bits are punctured or repeated.  The ``kernel``, ``"numpy"`` or ``"numba"``, makes no difference
    to any bit.

    Examples
    --------
    >>> code = ConvCode(4, 20)
    >>> code.encode([1, 0, 0, 0]).tolist()
    [1, 1, 0, 1, 1, 1, 1, 1, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    """

    def __init__(self, k: int, n: int, kernel: str = "numpy") -> None:
        if k < 1:
            raise InputError("k", "be at least 1", k)
        if n < k:
            raise InputError("n", f"be at least the {k} information bits", n)
        self.k, self.n, self.kernel = k, n, checked_kernel(kernel)
        self.steps = k + MEMORY
        self.pattern = puncturing(self.steps, n)
        self._in_order = np.array_equal(self.pattern, np.arange(2 * self.steps))

    def encode(self, bits: ArrayLike) -> NDArray[np.uint8]:
        """Information bits, (..., k), to the bits sent, (..., n)."""
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
        """Exact a-posteriori LLRs, log P1/P0, of the information bits, (..., n) to (..., k)."""
        mother, shape = self._mother(llr)
        weights = _weights(mother)
        if self.kernel == "numba":
            from twophase.sim.codes.kernels import bcjr_lanes

            lanes = to_lanes(weights)
            sums = np.empty((len(lanes), 2 * self.k, lanes.shape[2]))
            bcjr_lanes(lanes, OUTPUTS, sums)
            both = from_lanes(sums, len(mother))
        else:
            both = _bcjr(weights, self.k)
        soft = np.log(both[:, 1::2]) - np.log(both[:, 0::2])
        return soft.astype(np.float32).reshape(*shape, self.k)

    def viterbi(self, llr: ArrayLike) -> NDArray[np.uint8]:
        """Information bits of the most likely word, (..., n) to (..., k).

        Of two equally good paths into a state the one from the lower state is kept.
        """
        mother, shape = self._mother(llr)
        if self.kernel == "numba":
            from twophase.sim.codes.kernels import viterbi_lanes

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


def _viterbi(llr: _Floats, k: int) -> NDArray[np.uint8]:
    """The slow twin: all frames side by side, (frames, 2 steps) to (frames, k)."""
    frames, steps = len(llr), llr.shape[1] // 2
    metric = np.full((frames, STATES), UNREACHED, dtype=np.float32)
    metric[:, 0] = 0.0
    from_odd = np.empty((steps, frames, STATES), dtype=bool)
    for step in range(steps):
        first, second = llr[:, 2 * step], llr[:, 2 * step + 1]
        branch = np.stack([np.zeros_like(first), second, first, first + second], axis=1)
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
