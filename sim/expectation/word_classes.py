"""Which class the receiver decides for a word of hard decisions: asked once for each word and mode.

Given hard decisions, every LLR is the clip with the sign of a decided bit, so the receiver's answer depends
on the decided word alone: neither on the SNR nor on what was sent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twophase.link.bits import symbols_to_bits
from twophase.link.modes import ModeTable
from twophase.sim.system import Listener

__all__ = ["WordClasses"]

_BATCH = 64
"""Words that the graph is run on at once: few, so that its activations stay in the cache."""
_LARGEST_MEMORY = 1 << 21
"""Words that are remembered at most, 16 bytes each."""
_LARGEST_CODE = 62
"""Bits of a word that a number can stand for."""


class WordClasses:
    """The receiver as a function of decided words of one mode.

    Parameters
    ----------
    listener
        The receiving graph.
    modes, number
        All modes and which of them.
    clip
        |LLR| of a hard decision.
    """

    def __init__(self, listener: Listener, modes: ModeTable, number: int, clip: float) -> None:
        self._listener = listener
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
        codes, place = np.unique(self.codes(words), return_inverse=True)
        if self._table is not None:
            return self._table[codes][place]
        classes = np.empty(len(codes), dtype=np.int64)
        found = np.searchsorted(self._codes, codes).clip(0, max(0, len(self._codes) - 1))
        known = (self._codes[found] == codes) if len(self._codes) else np.zeros(len(codes), dtype=bool)
        classes[known] = self._known[found[known]]
        classes[~known] = self._ask_all(self._words(codes[~known]))
        room = _LARGEST_MEMORY - len(self._codes)
        new_codes, new_classes = codes[~known][:room], classes[~known][:room]
        merged = np.concatenate([self._codes, new_codes])
        order = np.argsort(merged, kind="stable")
        self._codes, self._known = merged[order], np.concatenate([self._known, new_classes])[order]
        return classes[place.reshape(-1)]

    def codes(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number that stands for each word: its bits, MSB first; (words, symbols) to (words,)."""
        code = np.zeros(len(words), dtype=np.int64)
        for column in words.T:
            code = (code << self._mode.bits_per_symbol) | column
        return code

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
        return self._listener.receive(llr, np.full(len(words), self._number)).classes
