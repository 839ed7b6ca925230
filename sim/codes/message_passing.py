"""Layered message passing on the parity checks of any binary linear code.

One check after the other takes its bits' present LLRs, less what it said about them before, and says

    min-sum:      0.75 times the product of the other signs times the smallest of the other magnitudes
    sum-product:  2 atanh of the product of the others' tanh(LLR / 2)

(normalised min-sum: Chen and Fossorier, IEEE Trans. Commun. 50(3), 2002; layered schedule: Hocevar, IEEE SiPS
2004).  A frame is finished, and its LLRs are kept, as soon as all checks hold.

Sum-product works on odds P1/P0 instead of their logarithms.  A check's answer is the odds of a sum modulo 2
of independent bits, which takes products and sums of positive numbers only: exact, no exponential inside, and
equal bits from NumPy and compiled code.  Odds are held within exp(+-60) on an edge and exp(+-300) on a bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twophase.link.errors import InputError
from twophase.sim.codes.code import checked_kernel, from_lanes, to_lanes

__all__ = ["NORMALISATION", "RULES", "Checks", "parity_checks", "propagate"]

NORMALISATION = np.float32(0.75)
RULES = ("min-sum", "sum-product")
TOLD_LIMIT = 60.0
"""Bound on |log odds| of what the channel and a check say."""
HELD_LIMIT = 300.0
"""Bound on |log odds| of a bit."""
_Floats = NDArray[np.float32]
_Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Checks:
    """Parity checks in the order of their layers; make one with :func:`parity_checks`."""

    width: int
    """Bits of a codeword."""
    layers: tuple[NDArray[np.int64], ...]
    """Shape (checks, degree) each: the bits that each check joins.  No two checks of a layer share a bit."""
    starts: NDArray[np.int64]
    """Shape (all checks + 1,): where each check's edges begin in ``bits``."""
    bits: NDArray[np.int64]
    """Shape (edges,): the same bits, check after check."""

    def hold(self, word: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether words, (frames, width), satisfy all checks; (frames,)."""
        good = np.ones(len(word), dtype=bool)
        for layer in self.layers:
            good &= ~(word[:, layer].sum(axis=2) % 2).any(axis=1)
        return good


def parity_checks(checks: Iterable[Sequence[int]], width: int) -> Checks:
    """Group checks into layers: neighbours of equal degree that share no bit, in the order given.

    InputError if a check joins fewer than two bits, one bit twice, or a bit that does not exist.
    """
    groups: list[list[Sequence[int]]] = []
    taken: set[int] = set()
    for check in checks:
        joined = {int(bit) for bit in check}
        if len(joined) != len(check) or len(check) < 2 or min(joined) < 0 or max(joined) >= width:
            raise InputError("checks", f"each join two or more different bits of 0..{width - 1}", list(check))
        if not groups or len(groups[-1][0]) != len(check) or taken & joined:
            groups.append([])
            taken = set()
        groups[-1].append(check)
        taken |= joined
    layers = tuple(np.array(group, dtype=np.int64) for group in groups)
    degrees = [layer.shape[1] for layer in layers for _ in range(len(layer))]
    starts = np.concatenate([[0], np.cumsum(degrees)]).astype(np.int64)
    bits = np.concatenate([layer.ravel() for layer in layers]) if layers else np.empty(0, dtype=np.int64)
    return Checks(width, layers, starts, bits)


def propagate(
    checks: Checks, llr: _Floats, iterations: int, rule: str = "min-sum", kernel: str = "numpy"
) -> _Floats:
    """A-posteriori LLRs of all bits, (frames, width) float32, from those of the channel, log P1/P0.

    At most ``iterations`` passes over all checks, at least 1, by the ``rule`` ``"min-sum"`` or
    ``"sum-product"``; the ``kernel``, ``"numpy"`` or ``"numba"``, makes no difference to the numbers.
    """
    if rule not in RULES:
        raise InputError("rule", "be 'min-sum' or 'sum-product'", rule)
    if iterations < 1:
        raise InputError("iterations", "be at least 1", iterations)
    if llr.ndim != 2 or llr.shape[1] != checks.width:
        raise InputError("llr", f"have shape (frames, {checks.width})", llr.shape)
    checked_kernel(kernel)
    if rule == "min-sum":
        return _run(rule, checks, llr, iterations, kernel)
    odds = np.exp(np.clip(llr.astype(np.float64), -TOLD_LIMIT, TOLD_LIMIT))
    posterior: _Floats = np.log(_run(rule, checks, odds, iterations, kernel)).astype(np.float32)
    return posterior


def _run(rule: str, checks: Checks, values: NDArray[Any], iterations: int, kernel: str) -> NDArray[Any]:
    """LLRs by min-sum, odds by sum-product, of all bits; (frames, width) to the same."""
    if kernel == "numba":
        from twophase.sim.codes.kernels import min_sum_lanes, sum_product_lanes

        lanes = to_lanes(values)
        compiled = min_sum_lanes if rule == "min-sum" else sum_product_lanes
        compiled(lanes, checks.starts, checks.bits, iterations)
        return from_lanes(lanes, len(values))
    neutral, update = _TWINS[rule]
    result, posterior = values.copy(), values.copy()
    unfinished = np.arange(len(values))
    outgoing = [np.full((len(values), *layer.shape), neutral, values.dtype) for layer in checks.layers]
    for _ in range(iterations):
        for number, layer in enumerate(checks.layers):
            outgoing[number], posterior[:, layer] = update(posterior[:, layer], outgoing[number])
        result[unfinished] = posterior
        still = ~checks.hold(posterior > neutral)
        unfinished, posterior = unfinished[still], posterior[still]
        outgoing = [messages[still] for messages in outgoing]
        if not unfinished.size:
            break
    return result


def _update_llr(posterior: _Floats, outgoing: _Floats) -> tuple[_Floats, _Floats]:
    incoming = posterior - outgoing
    said = _min_sum(incoming)
    return said, incoming + said


def _update_odds(posterior: _Doubles, outgoing: _Doubles) -> tuple[_Doubles, _Doubles]:
    incoming = posterior / outgoing
    said = _sum_product(np.clip(incoming, _OUTGOING_LEAST, _OUTGOING_MOST))
    return said, np.clip(incoming * said, _HELD_LEAST, _HELD_MOST)


def _min_sum(incoming: _Floats) -> _Floats:
    """What checks say to each of their bits, (frames, checks, degree) to the same.

    With LLRs of P1 over P0 a check of d bits turns the sign once more for each of the d - 1 others and once
    for the answer.
    """
    magnitude = np.abs(incoming)
    two = np.partition(magnitude, 1, axis=2)
    least, second = two[:, :, :1], two[:, :, 1:2]
    sign = np.where(incoming > 0, np.float32(-1), np.float32(1))
    others = np.where(magnitude == least, second, least)
    return np.asarray(-NORMALISATION * others * (np.prod(sign, axis=2, keepdims=True) * sign))


def _sum_product(incoming: _Doubles) -> _Doubles:
    """Odds that checks give each of their bits, (frames, checks, degree) to the same.

    Pairs (P0, P1) of all bits before and of all bits after, put together.
    """
    degree = incoming.shape[2]
    zero = 1 / (1 + incoming)
    one = incoming * zero
    before = [(zero[:, :, 0], one[:, :, 0])]
    for place in range(1, degree - 1):
        before.append(_sum_of(*before[-1], zero[:, :, place], one[:, :, place]))
    said = np.empty_like(incoming)
    said[:, :, degree - 1] = before[-1][1] / before[-1][0]
    later = (zero[:, :, degree - 1], one[:, :, degree - 1])
    for place in range(degree - 2, 0, -1):
        both = _sum_of(*before[place - 1], *later)
        said[:, :, place] = both[1] / both[0]
        later = _sum_of(zero[:, :, place], one[:, :, place], *later)
    said[:, :, 0] = later[1] / later[0]
    return said


def _sum_of(a0: _Doubles, a1: _Doubles, b0: _Doubles, b1: _Doubles) -> tuple[_Doubles, _Doubles]:
    """P0 and P1 of a + b modulo 2."""
    return a0 * b0 + a1 * b1, a0 * b1 + a1 * b0


_OUTGOING_LEAST, _OUTGOING_MOST = math.exp(-TOLD_LIMIT), math.exp(TOLD_LIMIT)
_HELD_LEAST, _HELD_MOST = math.exp(-HELD_LIMIT), math.exp(HELD_LIMIT)
_TWINS: dict[str, tuple[float, Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]]] = {
    "min-sum": (0.0, _update_llr),
    "sum-product": (1.0, _update_odds),
}
"""The value that says nothing, and what a layer of checks makes of its bits' values and its last answers."""
