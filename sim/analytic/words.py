"""P(decided class | sent word) under hard decisions: exactly for short words, by strata for long ones.

Every LLR is then the clip with the sign of a decided bit, so the receiver's answer depends on the decided
word alone, neither on the SNR nor on what was sent: it is asked once for each word and mode
(:class:`WordClasses`).

Short words: every received word is looked at.  With F[r, c] = 1 where the receiver decides class c for the
word r, the law is the expectation of F over r.  Given the gains it is multilinear: one matrix product for
each symbol, over the words of all other symbols at once, gives it for ALL sent words, without a sum over
pairs of words.

Long words: what may be received for a sent word is cut into two strata whose probabilities are known exactly.
The head holds the sent word itself, no symbol error, and every word whose probability lies above a threshold;
the receiver is asked about each of them.  From the rest, the tail, words are drawn by their exact law, given
that they lie there.  The threshold on P(received | sent), weighed by how many samples send the word, is
common to all sent words and splits a budget of receiver runs so that the expected error is least: many runs
for the head where few errors are likely, none where nearly every word is as unlikely as any other.

Where symbols share a gain the head is the sent word alone: its probability is a mean over the gain, too, but
to enumerate others would cost such a mean for each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twophase.link.bits import symbols_to_bits
from twophase.link.modes import ModeTable
from twophase.sim.analytic.laws import WordLaw
from twophase.sim.folding import FoldedReceiver

__all__ = [
    "Strata",
    "WordClasses",
    "class_probabilities",
    "enumerate_head",
    "head_threshold",
    "stratified_probabilities",
    "word_codes",
]

_Float = NDArray[np.float64]
_Words = NDArray[np.int64]

_BATCH = 64
"""Words that the graph is run on at once: few, so that its activations stay in the cache."""
_LARGEST_MEMORY = 1 << 21
"""Words that are remembered at most, 16 bytes each."""
_LARGEST_CODE = 62
"""Bits of a word that a number can stand for."""


class WordClasses:
    """The receiving graph as a function of decided words of one mode; ``clip`` is a hard decision's |LLR|."""

    def __init__(self, receiver: FoldedReceiver, modes: ModeTable, number: int, clip: float) -> None:
        self._receiver = receiver
        self._number = number
        self._mode = modes[number]
        self._width = modes.max_bits
        self._clip = clip
        self._codes = np.empty(0, dtype=np.int64)
        self._known = np.empty(0, dtype=np.int64)
        self._table: NDArray[np.int64] | None = None
        self.asked = 0
        """Words that the receiving graph was run on."""

    def table(self) -> NDArray[np.int64]:
        """Class of every word, shape (M**symbols,), the first symbol most significant."""
        if self._table is None:
            size = 1 << self._mode.channel_bits
            self._table = np.empty(size, dtype=np.int64)
            for start in range(0, size, _BATCH):
                codes = np.arange(start, min(start + _BATCH, size))
                self._table[codes] = self._ask(self._words(codes))
        return self._table

    def of(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        """Class of each word, point numbers (words, symbols) to (words,)."""
        if self._mode.channel_bits > _LARGEST_CODE:
            distinct, place = np.unique(words, axis=0, return_inverse=True)
            return self._ask_all(distinct)[place.reshape(-1)]
        codes, place = np.unique(word_codes(words, self._mode.order), return_inverse=True)
        if self._table is not None:
            return self._table[codes][place]
        classes = np.empty(len(codes), dtype=np.int64)
        known = np.isin(codes, self._codes)
        classes[known] = self._known[np.searchsorted(self._codes, codes[known])]
        classes[~known] = self._ask_all(self._words(codes[~known]))
        room = _LARGEST_MEMORY - len(self._codes)
        new_codes, new_classes = codes[~known][:room], classes[~known][:room]
        merged = np.concatenate([self._codes, new_codes])
        order = np.argsort(merged, kind="stable")
        self._codes, self._known = merged[order], np.concatenate([self._known, new_classes])[order]
        return classes[place.reshape(-1)]

    def _words(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        step = self._mode.bits_per_symbol
        shifts = np.arange(self._mode.symbols - 1, -1, -1, dtype=np.int64) * step
        return (codes[:, np.newaxis] >> shifts) & (self._mode.order - 1)

    def _ask_all(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        parts = [self._ask(words[start : start + _BATCH]) for start in range(0, len(words), _BATCH)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def _ask(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        self.asked += len(words)
        llr = np.zeros((len(words), self._width))
        bits = symbols_to_bits(words, self._mode.bits_per_symbol)
        llr[:, : self._mode.channel_bits] = self._clip * (2.0 * bits - 1.0)
        return self._receiver.receive(llr, np.full(len(words), self._number)).classes


_ELEMENTS = 1 << 24
"""Numbers of a tensor at most, 128 MiB: classes are taken in groups."""


def word_codes(words: NDArray[np.int64], order: int) -> NDArray[np.int64]:
    """Number of each word, its first symbol most significant; point numbers (words, symbols) to (words,)."""
    codes = np.zeros(len(words), dtype=np.int64)
    for column in words.T:
        codes = codes * order + column
    return codes


def class_probabilities(
    law: WordLaw, table: NDArray[np.int64], words: NDArray[np.int64], classes: int
) -> _Float:
    """P(decided class | sent word), (words, classes); rows sum to 1.

    ``table`` holds the class of every received word by its :func:`word_codes`, shape (M**symbols,); ``words``
    are the sent ones as point numbers, (words, symbols).
    """
    codes = word_codes(words, law.order)
    expected = np.empty((len(words), classes))
    group = max(1, _ELEMENTS // len(table))
    for start in range(0, classes, group):
        chosen = np.arange(start, min(start + group, classes))
        tensor = (table[:, np.newaxis] == chosen).astype(np.float64)
        for block in law.blocks:
            tensor = _contract(law, tensor, block.stop - block.start)
        # Every contraction takes the leading symbol and puts it after the classes.
        expected[:, chosen] = tensor.reshape(len(chosen), -1)[:, codes].T
    return expected


def _contract(law: WordLaw, tensor: _Float, symbols: int) -> _Float:
    """Average the leading ``symbols`` axes, which share a gain, and move them after all others."""
    total: _Float | None = None
    for weight, matrix in zip(law.weights, law.matrices, strict=True):
        moved = tensor
        for _ in range(symbols):
            moved = moved.reshape(law.order, -1).T @ matrix.T
        total = weight * moved if total is None else total + weight * moved
    assert total is not None
    return total


_BIN = 0.1
"""Step of the histograms of log-probabilities, in nats."""
_RANGE = 300
"""Bins: received words down to exp(-30) of the likeliest count as different."""
_LEAST_TAIL = 1e-4
"""A tail of less probability is not drawn from; what is not resolved widens the interval instead."""
_DRAWS = 1 << 16
"""Words drawn at once."""
_CANDIDATES = 1 << 20
"""Words drawn at most, for all sent words, to find such as lie in a tail."""
_SLACK = 1e-9
"""By how much rounding may lower the log-probability of a prefix."""


@dataclass(frozen=True)
class Strata:
    """Law of the decided class, and how well it is known; one row for each sent word."""

    head: _Float
    """P(decided class, received word in the head | sent word), shape (words, classes); exact."""
    tail: _Float
    """P(received word in the tail | sent word), shape (words,); exact."""
    counts: NDArray[np.int64]
    """Decided classes of the words drawn from the tail, shape (words, classes)."""

    @property
    def probabilities(self) -> _Float:
        """P(decided class | sent word), (words, classes); a tail without draws adds nothing."""
        drawn = np.maximum(self.counts.sum(axis=1), 1)
        return np.asarray(self.head + (self.tail / drawn)[:, np.newaxis] * self.counts)

    @property
    def unresolved(self) -> _Float:
        """Probability of a tail from which nothing was drawn, (words,)."""
        return np.where(self.counts.sum(axis=1) > 0, 0.0, self.tail)


def stratified_probabilities(
    law: WordLaw,
    classes_of: Callable[[_Words], NDArray[np.int64]],
    words: _Words,
    weight: _Float,
    classes: int,
    budget: int,
    rng: np.random.Generator,
) -> Strata:
    """Estimate the law of the decided class for each sent word, looking at about ``budget`` received ones.

    ``classes_of`` is the receiver, words (n, symbols) to classes (n,).  ``words`` are the sent ones as point
    numbers, (words, symbols), no two equal; ``weight`` is the share of the samples that send each, (words,).
    ``rng`` is for the tail.
    """
    threshold = head_threshold(law, words, weight, budget) if law.is_memoryless else np.inf
    log_law = _log(law.matrices[0])
    heads = []
    for word, share in zip(words, weight, strict=True):
        least = threshold - np.log(share)
        heads.append(enumerate_head(log_law, word, least) if law.is_memoryless else word[np.newaxis])
    sizes = np.array([len(head) for head in heads])
    owner = np.repeat(np.arange(len(words)), sizes)
    received = np.concatenate(heads)
    probability = law.probability(words[owner], received)
    exact = np.zeros((len(words), classes))
    np.add.at(exact, (owner, classes_of(received)), probability)
    tail = np.maximum(0.0, 1.0 - exact.sum(axis=1))

    draws = _allocate(weight, tail, max(budget - len(received), budget // 4))
    drawn = [
        _draw_tail(law, log_law, word, threshold - np.log(share), int(count), float(rest), rng)
        for word, share, count, rest in zip(words, weight, draws, tail, strict=True)
    ]
    counts = np.zeros((len(words), classes), dtype=np.int64)
    owner = np.repeat(np.arange(len(words)), draws)
    if len(owner):
        np.add.at(counts, (owner, classes_of(np.concatenate(drawn))), 1)
    return Strata(exact, tail, counts)


def head_threshold(law: WordLaw, words: _Words, weight: _Float, budget: int) -> float:
    """Least log(share x P(received | sent)) of the head, from histograms convolved symbol by symbol.

    With n words in the head and mass m outside it the error of an estimate goes like m / sqrt(budget - n).
    The histograms are coarse, so that n is met roughly; the strata stay exact whatever the threshold.
    """
    matrix = law.matrices[0]
    log_law = _log(matrix)
    best = log_law.max(axis=1)
    place = np.minimum(np.rint((best[:, np.newaxis] - log_law) / _BIN), _RANGE).astype(np.int64)
    # For each sent point, how many decided ones stand in each bin below the likeliest, and their probability.
    number, mass = (
        np.array([np.bincount(bins, row, _RANGE + 1)[:_RANGE] for bins, row in zip(place, of, strict=True)])
        for of in (np.ones_like(matrix), matrix)
    )
    tops = best[words].sum(axis=1) + np.log(weight)
    top = float(tops.max())
    many, inside = np.zeros(_RANGE), np.zeros(_RANGE)
    for word, own, share in zip(words, tops, weight, strict=True):
        offset = int(np.rint((top - own) / _BIN))
        if offset >= _RANGE:
            continue
        for total, single, factor in ((many, number, 1.0), (inside, mass, share)):
            convolved = np.full(1, factor)
            for point in word:
                convolved = np.convolve(convolved, single[point])[:_RANGE]
            held = convolved[: _RANGE - offset]
            total[offset : offset + len(held)] += held
    many, inside = np.cumsum(many), np.cumsum(inside)
    outside = np.maximum(weight.sum() - inside, _LEAST_TAIL / 10)
    allowed = many <= 0.75 * budget
    error = np.where(allowed, outside / np.sqrt(np.maximum(budget - many, 1.0)), np.inf)
    if not allowed.any():
        return np.inf
    return float(top - _BIN * (np.argmin(error) + 0.5))


def enumerate_head(log_law: _Float, word: _Words, least: float) -> _Words:
    """All received words of at least a log-probability, and the sent word; shape (words, symbols).

    ``log_law`` is log P(decided | sent), shape (M, M), ``word`` the sent one, shape (symbols,); an infinite
    ``least`` gives the sent word alone.
    """
    rows = log_law[word]
    later = np.append(np.cumsum(rows.max(axis=1)[::-1])[::-1][1:], 0.0)
    score = np.zeros(1)
    prefix = np.empty((1, 0), dtype=np.int64)
    for row, rest in zip(rows, later, strict=True):
        extended = score[:, np.newaxis] + row
        parent, point = np.nonzero(extended + rest >= least - _SLACK)
        score = extended[parent, point]
        prefix = np.concatenate([prefix[parent], point[:, np.newaxis]], axis=1)
    head = prefix[score >= least]
    if (head == word).all(axis=1).any():
        return head
    return np.concatenate([word[np.newaxis], head])


def _allocate(weight: _Float, tail: _Float, budget: int) -> NDArray[np.int64]:
    """Draws from each tail, in proportion to what it weighs, (words,); none from a tail that is too small.

    One draw takes 1 / tail candidates.  Their number is bounded: a tail of which few draws can be had weighs
    little, too.
    """
    share = np.where(tail >= _LEAST_TAIL, weight * tail, 0.0)
    if not share.any():
        return np.zeros(len(weight), dtype=np.int64)
    draws = budget * share / share.sum()
    candidates = (draws[share > 0] / tail[share > 0]).sum()
    draws *= min(1.0, _CANDIDATES / candidates)
    return np.where(share > 0, np.maximum(np.ceil(draws), 2), 0).astype(np.int64)


def _draw_tail(
    law: WordLaw,
    log_law: _Float,
    word: _Words,
    least: float,
    count: int,
    tail: float,
    rng: np.random.Generator,
) -> _Words:
    """``count`` received words by the law, given that they lie in the tail: drawn and rejected."""
    kept: list[_Words] = []
    missing = count
    while missing > 0:
        drawn = _draw(law, word, min(_DRAWS, int(missing / tail * 1.1) + 16), rng)
        outside = (drawn != word).any(axis=1)
        if law.is_memoryless:
            # In the order of the enumeration, so that rounding puts a word on the same side.
            score = np.zeros(len(drawn))
            for place, point in enumerate(word):
                score = score + log_law[point, drawn[:, place]]
            outside &= score < least
        kept.append(drawn[outside][:missing])
        missing -= len(kept[-1])
    return np.concatenate(kept) if kept else np.empty((0, len(word)), dtype=np.int64)


def _draw(law: WordLaw, word: _Words, count: int, rng: np.random.Generator) -> _Words:
    """Received words by the law, (count, symbols)."""
    drawn = np.empty((count, len(word)), dtype=np.int64)
    for block in law.blocks:
        uniform = rng.random((count, block.stop - block.start))
        if law.is_memoryless:
            for column, place in enumerate(range(block.start, block.stop)):
                drawn[:, place] = _inverse(law.matrices[0, word[place]], uniform[:, column])
            continue
        node = np.sort(_inverse(law.weights, rng.random(count)))
        edges = np.searchsorted(node, np.arange(len(law.weights) + 1))
        for number in np.flatnonzero(np.diff(edges)):
            rows = slice(edges[number], edges[number + 1])
            for column, place in enumerate(range(block.start, block.stop)):
                drawn[rows, place] = _inverse(law.matrices[number, word[place]], uniform[rows, column])
        # The blocks' nodes are independent: their order must not be.
        drawn[:, block] = drawn[rng.permutation(count), block]
    return drawn


def _inverse(probability: _Float, uniform: _Float) -> NDArray[np.int64]:
    """Numbers of a discrete law from uniform ones, same shape."""
    steps = np.cumsum(probability)
    place = np.searchsorted(steps, uniform * steps[-1], side="right")
    return np.asarray(np.minimum(place, len(steps) - 1), dtype=np.int64)


def _log(probability: _Float) -> _Float:
    """Natural logarithm, -700 where there is nothing."""
    return np.log(np.maximum(probability, np.exp(-700.0)))
