"""Searches for short codes: coordinate descent on the union bound from several starts.

Costs are rounded to integers before they are added and compared, so that the result does not hang on the last
digit of a machine's exponential or on the order of a sum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc

__all__ = ["search_binary", "search_points"]

_UNIT = 2.0**40
_MOST_ROUNDS = 20
_SEED = 20_240


def search_binary(classes: int, length: int, ratio: float) -> NDArray[np.uint8]:
    """Binary words, (classes, length), of a small union bound over QPSK at Es/N0 = ``ratio``.

    Two words that differ in d bits are confused with probability Q(sqrt(d Es/N0)).  A column of the code
    splits the words in two; given all other columns, the best split is a largest cut of a graph whose edges
    weigh what it saves to part a pair.  Column after column is improved by single moves until none helps.
    """
    weight = _cost(2 * np.arange(length + 1, dtype=np.float64), ratio)
    rng = np.random.Generator(np.random.PCG64(_SEED))
    starts = int(np.clip(300_000 // (length * classes * classes), 2, 24))
    best_cost, best = None, None
    for _ in range(starts):
        signs = _balanced(rng, classes, length)
        cost = None
        for _ in range(_MOST_ROUNDS):
            distance = (length - signs @ signs.T) // 2
            for column in range(length):
                sign = signs[:, column]
                distance -= sign[:, np.newaxis] != sign
                saved = weight[distance] - weight[distance + 1]
                np.fill_diagonal(saved, 0)
                _enlarge_cut(saved, sign)
                distance += sign[:, np.newaxis] != sign
            present = int(weight[distance][np.triu_indices(classes, 1)].sum())
            if cost is not None and present >= cost:
                break
            cost = present
        assert cost is not None
        if best_cost is None or cost < best_cost:
            best_cost, best = cost, signs.copy()
    assert best is not None
    return ((1 - best) // 2).astype(np.uint8)


def _balanced(rng: np.random.Generator, classes: int, length: int) -> NDArray[np.int64]:
    """Columns that part the words half and half, in random ways; signs, (classes, length)."""
    column = np.where(np.arange(classes) % 2 == 0, 1, -1)
    return rng.permuted(np.tile(column[:, np.newaxis], (1, length)), axis=0)


def _enlarge_cut(saved: NDArray[np.int64], sign: NDArray[np.int64]) -> None:
    """Move one word after the other to the other side while that saves something; in place."""
    # What moving a word saves: the pairs that it parts less those that it joins.
    gain = sign * (saved * sign).sum(axis=1)
    while True:
        word = int(np.argmax(gain))
        if gain[word] <= 0:
            return
        sign[word] = -sign[word]
        gain += 2 * sign[word] * saved[word] * sign
        gain[word] = -gain[word]


def search_points(
    classes: int, symbols: int, alphabet: NDArray[np.complex128], ratio: float
) -> NDArray[np.complex128]:
    """Words, (classes, symbols), of points of ``alphabet``, scaled to unit average energy.

    One symbol of one word after the other takes the best point.  A point's energy is charged with the rate at
    which more energy of the whole code would raise the union bound at a fixed Es/N0.
    """
    rng = np.random.Generator(np.random.PCG64(_SEED))
    starts = int(np.clip(400_000 // (classes * classes * symbols * alphabet.size), 2, 16))
    power = np.abs(alphabet) ** 2
    apart = np.abs(alphabet[:, np.newaxis] - alphabet) ** 2
    best_cost, best = None, np.empty((classes, symbols), dtype=np.complex128)
    pairs = np.triu_indices(classes, 1)
    for _ in range(starts):
        chosen = rng.integers(0, alphabet.size, (classes, symbols))
        for _ in range(_MOST_ROUNDS):
            before = chosen.copy()
            energy = float(power[chosen].mean())
            scaled = apart / energy
            distance = np.zeros((classes, classes))
            for place in range(symbols):
                distance += scaled[chosen[:, place][:, np.newaxis], chosen[:, place]]
            charge = _charge(distance[pairs], ratio) / (classes * symbols * energy)
            for word in range(classes):
                for place in range(symbols):
                    here = chosen[:, place]
                    others = distance[word] - scaled[here[word], here]
                    cost = _cost(np.maximum(others + scaled[:, here], 0.0), ratio)
                    cost[:, word] = 0
                    point = int(np.argmin(cost.sum(axis=1) + np.rint(charge * power).astype(np.int64)))
                    row = others + scaled[point, here]
                    row[word] = 0.0
                    chosen[word, place] = point
                    distance[word], distance[:, word] = row, row
            total = _total(apart, power, chosen, ratio)
            if best_cost is None or total < best_cost:
                best_cost = total
                best = alphabet[chosen] / np.sqrt(power[chosen].mean())
            if np.array_equal(before, chosen):
                break
    return best


def _total(
    apart: NDArray[np.float64], power: NDArray[np.float64], chosen: NDArray[np.int64], ratio: float
) -> int:
    """Sum over pairs of the code as it is, its energy taken into account."""
    distance = sum(apart[column[:, np.newaxis], column] for column in chosen.T) / power[chosen].mean()
    return int(_cost(distance[np.triu_indices(len(chosen), 1)], ratio).sum())


def _cost(squared_distance: NDArray[np.float64], ratio: float) -> NDArray[np.int64]:
    """Q(sqrt(D^2 Es / (2 N0))) in units of 2^-40."""
    return np.rint(_UNIT / 2 * erfc(np.sqrt(squared_distance * ratio / 4))).astype(np.int64)


def _charge(squared_distance: NDArray[np.float64], ratio: float) -> float:
    """Energy times the derivative of the sum of pairs by it: -D^2 dQ/dD^2, summed."""
    argument = np.sqrt(squared_distance * ratio / 4)
    return float(_UNIT / 2 * np.sum(argument * np.exp(-(argument**2))) / np.sqrt(np.pi))
