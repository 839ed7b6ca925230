"""Short codes that carry one of M labels in n symbols: what classify-and-send transmits.

No table of best codes covers every M and n, so a code is searched for, over QPSK and, where n is small, over
larger constellations; the one wins that needs the least Es/N0 for a union bound of one percent.  The search
is deterministic and takes well below a second for tens of classes.  It is good, not proven best; how near it
comes to a simplex of the same energy, which needs M - 1 real dimensions, is measured in the tests.

For equally likely words the union bound of maximum-likelihood decoding is (1/M) sum over ordered pairs of
Q(sqrt(D^2 / (2 N0))), D^2 being the pair's squared distance (Proakis, "Digital Communications", 4th edition,
section 5.2).

The search is a coordinate descent on the union bound from several starts.  Costs are rounded to integers
before they are added and compared, so that the result does not hang on the last digit of a machine's
exponential or on the order of a sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfc

from twophase.link.errors import InputError
from twophase.link.noise import esn0_db_to_noise_var

__all__ = ["DESIGN_BOUND", "LabelCode", "label_code"]

_UNIT = 2.0**40
_MOST_ROUNDS = 20
_SEED = 20_240


def _search_binary(classes: int, length: int, ratio: float) -> NDArray[np.uint8]:
    """Binary words, (classes, length), of a small union bound over QPSK at Es/N0 = ``ratio``.

    Two words that differ in d bits are confused with probability Q(sqrt(d Es/N0)).  A column of the code
    splits the words in two; given all other columns, the best split is a largest cut of a graph whose edges
    weigh what it saves to part a pair.  Column after column is improved by single moves until none helps.
    """
    weight = _cost(2 * np.arange(length + 1, dtype=np.float64), ratio)
    rng = np.random.Generator(np.random.PCG64(_SEED))
    starts = int(np.clip(300_000 // (length * classes * classes), 2, 24))
    # Columns that part the words half and half, in random ways.
    columns = np.tile(np.where(np.arange(classes) % 2 == 0, 1, -1)[:, np.newaxis], (1, length))
    found = [_improved(rng.permuted(columns, axis=0), weight) for _ in range(starts)]
    best = min(found, key=lambda entry: entry[0])[1]
    return ((1 - best) // 2).astype(np.uint8)


def _improved(signs: NDArray[np.int64], weight: NDArray[np.int64]) -> tuple[float, NDArray[np.int64]]:
    """Cost and signs, (classes, length), of the code that single moves lead to."""
    classes, length = signs.shape
    cost = math.inf
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
        if present >= cost:
            break
        cost = present
    return cost, signs


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


def _search_points(
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
    best_cost, best = math.inf, np.empty((classes, symbols), dtype=np.complex128)
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
            if total < best_cost:
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


DESIGN_BOUND = 0.01
"""Codes are searched and compared at the Es/N0 at which their union bound has this value."""

_Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LabelCode:
    """M words of n symbols; make one with :func:`label_code`.  Its array is read-only."""

    alphabet: str
    """What the symbols are taken from."""
    words: NDArray[np.complex128]
    """Shape (M, n), of unit average energy if all labels are equally likely."""

    def word_error_bound(self, esn0_db: ArrayLike) -> _Float:
        """Union bound on AWGN at finite Es/N0, mean over all labels, held to at most 1; same shape."""
        ratio = np.asarray(1.0 / esn0_db_to_noise_var(esn0_db))
        return np.asarray(np.minimum(_union_bound(_squared_distances(self.words), ratio), 1.0))

    def decode(self, received: ArrayLike, noise_var: ArrayLike, gain: ArrayLike = 1.0) -> NDArray[np.int64]:
        """Most likely labels, complex (samples, n) to (samples,); of equally likely ones the lowest.

        The word x of the largest  sum over t of (2 Re(y_t conj(h_t x_t)) - |h_t x_t|^2) / N0_t.  The complex
        gain and N0, the total complex variance, broadcast to ``received``.  InputError if the shape is wrong,
        a value is not finite or N0 is not positive.
        """
        y = np.asarray(received, dtype=np.complex128)
        classes, symbols = self.words.shape
        if y.ndim != 2 or y.shape[1] != symbols:
            raise InputError("received", f"have shape (samples, {symbols})", y.shape)
        h = np.broadcast_to(np.asarray(gain, dtype=np.complex128), y.shape)
        variance = np.broadcast_to(np.asarray(noise_var, dtype=np.float64), y.shape)
        if not (np.isfinite(y).all() and np.isfinite(h).all()):
            raise InputError("received", "be finite, and so its gains", "NaN or infinity")
        if not (np.isfinite(variance).all() and (variance > 0).all()):
            raise InputError("noise_var", "be finite and positive", "an array with other values")
        # Real arithmetic, symbol by symbol: complex products and matrix products may round by batch size.
        in_phase = (y.real * h.real + y.imag * h.imag) / variance
        quadrature = (y.imag * h.real - y.real * h.imag) / variance
        power = (h.real**2 + h.imag**2) / variance
        energy = self.words.real**2 + self.words.imag**2
        score = np.zeros((len(y), classes))
        for place, word in enumerate(self.words.T):
            score += 2 * in_phase[:, place, np.newaxis] * word.real
            score += 2 * quadrature[:, place, np.newaxis] * word.imag
            score -= power[:, place, np.newaxis] * energy[:, place]
        return np.asarray(np.argmax(score, axis=1), dtype=np.int64)


@cache
def label_code(classes: int, symbols: int) -> LabelCode:
    """Search the code for M labels, 2 to 256, in n symbols, at least 1.

    Examples
    --------
    >>> code = label_code(2, 3)  # antipodal
    >>> code.alphabet, bool(np.allclose(code.words[0], -code.words[1]))
    ('QPSK', True)
    """
    if not 2 <= classes <= _MOST_CLASSES:
        raise InputError("classes", f"lie in 2..{_MOST_CLASSES}", classes)
    if symbols < 1:
        raise InputError("symbols", "be at least 1", symbols)
    found = [("QPSK", _searched(classes, symbols, None))]
    # Words of QPSK crowd where there are not many more of them than labels.
    if symbols <= 6 and 4**symbols < _ROOMY * classes:
        found += [
            (f"{order}-QAM", _searched(classes, symbols, _grid(order)))
            for order in (16, 64, 256)
            if order**symbols >= classes and (order < 256 or 64**symbols < classes)
        ]
        circle = np.exp(2j * np.pi * np.arange(classes) / classes)
        if symbols == 1:
            found.append((f"{classes}-PSK", circle[:, np.newaxis]))
    alphabet, words = min(found, key=lambda entry: round(_needed_db(entry[1]), 6))
    words = np.ascontiguousarray(words)
    words.setflags(write=False)
    return LabelCode(alphabet, words)


_MOST_CLASSES = 256
_ROOMY = 64


def _searched(classes: int, symbols: int, alphabet: NDArray[np.complex128] | None) -> NDArray[np.complex128]:
    """Search at the Es/N0 of an ideal simplex, then once more at that of what was found."""
    needed = _simplex_db(classes, symbols)
    found: list[NDArray[np.complex128]] = []
    while len(found) < 2 and math.isfinite(needed):
        ratio = 10 ** (needed / 10)
        if alphabet is None:
            levels = (1.0 - 2.0 * _search_binary(classes, 2 * symbols, ratio)) / math.sqrt(2)
            words = levels[:, 0::2] + 1j * levels[:, 1::2]
        else:
            words = _search_points(classes, symbols, alphabet, ratio)
        found.append(words)
        needed = _needed_db(words)
    return min(found, key=_needed_db)


def _grid(order: int) -> NDArray[np.complex128]:
    """Points of a square QAM, unit average energy; no labelling is needed here."""
    side = math.isqrt(order)
    levels = np.arange(1.0 - side, side, 2.0)
    points = (levels[:, np.newaxis] + 1j * levels).ravel()
    return np.asarray(points / np.sqrt(np.mean(np.abs(points) ** 2)))


def _squared_distances(words: NDArray[np.complex128]) -> _Float:
    """Shape (M, M)."""
    distance = np.zeros((len(words), len(words)))
    for place in range(words.shape[1]):
        column = words[:, place]
        distance += np.abs(column[:, np.newaxis] - column) ** 2
    return distance


def _union_bound(distance: _Float, ratio: _Float) -> _Float:
    """Mean over labels of the sum of pairwise error probabilities, the shape of ``ratio`` (Es/N0)."""
    off_diagonal = distance[~np.eye(len(distance), dtype=bool)]
    unequal, counts = np.unique(off_diagonal.round(9), return_counts=True)
    pairwise = erfc(np.sqrt(unequal * ratio[..., np.newaxis] / 4)) / 2  # Q(x) = erfc(x / sqrt 2) / 2
    return np.asarray(pairwise @ counts / len(distance))


def _needed_db(words: NDArray[np.complex128]) -> float:
    """Es/N0 in dB at which the union bound is :data:`DESIGN_BOUND`; infinite if two words are equal."""
    distance = _squared_distances(words)
    if distance[~np.eye(len(distance), dtype=bool)].min() < 1e-9:
        return math.inf
    return _bisected(lambda ratio: float(_union_bound(distance, np.asarray(ratio))))


def _simplex_db(classes: int, symbols: int) -> float:
    """The same for a simplex of n symbols' energy: all D^2 = 2 n M / (M - 1)."""
    argument = symbols * classes / (classes - 1)
    return _bisected(lambda ratio: (classes - 1) * math.erfc(math.sqrt(argument * ratio / 2)) / 2)


def _bisected(bound: Callable[[float], float]) -> float:
    low, high = -60.0, 80.0
    for _ in range(40):
        middle = (low + high) / 2
        if bound(10 ** (middle / 10)) > DESIGN_BOUND:
            low = middle
        else:
            high = middle
    return high
