"""Word laws to class laws: the fast sum against the slow one, and strata against the exact sum."""

from __future__ import annotations

import numpy as np
import pytest

from twophase.link.modes import Mode, ModeTable
from twophase.link.receiver import Reception
from twophase.sim.analytic.laws import WordLaw, word_law
from twophase.sim.analytic.words import (
    Strata,
    WordClasses,
    class_probabilities,
    enumerate_head,
    head_threshold,
    stratified_probabilities,
    word_codes,
)

MODE = Mode(codebook=0, codebook_size=4, tokens=3, order=4)
CLASSES = 3
WORDS = np.array([[0, 0, 0], [1, 2, 3], [3, 3, 1]])
SHARE = np.array([0.5, 0.3, 0.2])
KINDS = [("awgn", "symbol"), ("rayleigh", "symbol"), ("rician", 2), ("rayleigh", "sample")]


def _table(order: int, symbols: int) -> np.ndarray:
    """A receiver: class of every word."""
    return np.random.default_rng(0).integers(0, CLASSES, order**symbols)


@pytest.mark.parametrize(("channel", "coherence"), KINDS)
@pytest.mark.parametrize("mode", [MODE, Mode(0, 16, 2, 16)], ids=["4qam", "16qam"])
def test_contraction_is_the_sum_over_all_words(mode, channel, coherence, monkeypatch) -> None:
    law = word_law(mode, 0.3, channel, coherence)
    words = np.random.default_rng(1).integers(0, mode.order, (5, mode.symbols))
    table = _table(mode.order, mode.symbols)
    fast = class_probabilities(law, table, words, CLASSES)
    received = np.stack(np.unravel_index(np.arange(len(table)), (mode.order,) * mode.symbols), axis=-1)
    probability = law.probability(words[:, np.newaxis], received)
    np.testing.assert_allclose(fast, probability @ np.eye(CLASSES)[table], atol=1e-12)
    # Classes in groups are the same.
    monkeypatch.setattr("twophase.sim.analytic.words._ELEMENTS", 1)
    np.testing.assert_allclose(class_probabilities(law, table, words, CLASSES), fast, rtol=1e-13)


@pytest.mark.parametrize("least", [-1.0, -4.0, -8.0, -100.0, np.inf])
def test_a_head_is_what_lies_above_the_threshold(least) -> None:
    law = word_law(MODE, 0.3)
    everything = np.stack(np.unravel_index(np.arange(64), (4, 4, 4)), axis=-1)
    log_law = np.log(law.matrices[0])
    for word in WORDS:
        head = enumerate_head(log_law, word, least)
        above = law.probability(word, everything) >= np.exp(least) * (1 - 1e-12)
        above |= (everything == word).all(axis=1)
        assert sorted(map(tuple, head.tolist())) == sorted(map(tuple, everything[above].tolist()))


def test_the_budget_goes_where_words_are_likely() -> None:
    """The head grows to most of the mass where errors are rare, and stays small where all is alike."""
    mode = Mode(codebook=0, codebook_size=16, tokens=6, order=16)
    words = np.zeros((1, 6), dtype=np.int64)
    for noise_var, least_mass, most_mass in ((0.02, 0.9999, 1.0), (0.1, 0.5, 1.0), (10.0, 0.0, 0.01)):
        law = word_law(mode, noise_var)
        least = head_threshold(law, words, np.ones(1), 2000)
        head = enumerate_head(np.log(np.maximum(law.matrices[0], 1e-300)), words[0], least)
        assert len(head) <= 1.5 * 2000  # it is met roughly
        assert least_mass <= law.probability(words[0], head).sum() <= most_mass


@pytest.mark.parametrize(("channel", "coherence"), KINDS)
def test_strata_agree_with_the_exact_sum(channel, coherence) -> None:
    law, table = word_law(MODE, 0.6, channel, coherence), _table(4, 3)

    def strata(law: WordLaw, budget: int, seed: int = 0) -> Strata:
        rng = np.random.default_rng(seed)
        return stratified_probabilities(
            law, lambda words: table[word_codes(words, 4)], WORDS, SHARE, CLASSES, budget, rng
        )

    exact = class_probabilities(law, table, WORDS, CLASSES)
    # A budget that leaves most to the tail, and many draws from it.
    runs = [strata(law, 30, seed) for seed in range(200)]
    assert min(run.tail.min() for run in runs) > 0.05
    # The sent word itself is always in the head.
    assert all((law.probability(WORDS, WORDS) <= 1 - run.tail + 1e-12).all() for run in runs)
    estimates = np.array([run.probabilities for run in runs])
    np.testing.assert_allclose(estimates.sum(axis=-1), 1, atol=1e-12)
    error = estimates.std(axis=0, ddof=1) / np.sqrt(len(runs))
    # 36 means of 200: |z| < 4.75, false alarm below 36 x 3e-6 (t with 199 degrees of freedom) = 1e-4.
    assert (np.abs(estimates.mean(axis=0) - exact) < 4.75 * error + 1e-12).all()
    # With enough budget nothing is left to chance.
    law = word_law(MODE, 0.2)
    exact, full = class_probabilities(law, table, WORDS, CLASSES), strata(law, 1000)
    assert full.tail.max() < 1e-4
    assert not full.counts.any()
    np.testing.assert_allclose(full.head, exact, atol=1e-4)
    assert (full.unresolved >= (exact - full.head).max(axis=1) - 1e-12).all()


class _Spelling:
    """A receiver whose class is a hash of the hard bits; it counts its runs and refuses soft ones."""

    runs = 0

    def receive(self, llr, mode) -> Reception:
        values = np.asarray(llr)
        assert set(np.unique(np.abs(values))) <= {0.0, 50.0}
        assert set(np.asarray(mode).tolist()) == {1}
        self.runs += len(values)
        code = ((values > 0) @ (1 << np.arange(values.shape[1]))) % 5
        return Reception(np.eye(5, dtype=np.float32)[code], np.zeros((len(values), 1), dtype=np.int64))


@pytest.mark.parametrize("symbols", [3, 40])
def test_the_receiver_is_asked_once_for_each_word(symbols) -> None:
    long = Mode(codebook=0, codebook_size=4, tokens=symbols, order=4)
    modes = ModeTable((Mode(0, 4, 1, 4), long))
    spelling = _Spelling()
    receiver = WordClasses(spelling, modes, 1, 50.0)
    words = np.random.default_rng(0).integers(0, 4, (100, symbols))
    words[50:] = words[:50]
    distinct = len(np.unique(words, axis=0))
    classes = receiver.of(words)
    assert np.array_equal(classes[:50], classes[50:])
    assert spelling.runs == receiver.asked == distinct
    again = receiver.of(words[::-1])
    assert np.array_equal(again[::-1], classes)
    assert spelling.runs == (distinct if symbols == 3 else 2 * distinct)  # 80 bits: too long to remember
    if symbols == 3:
        table = receiver.table()
        assert np.array_equal(table[word_codes(words, 4)], classes)
        runs = spelling.runs
        assert np.array_equal(receiver.of(words), classes)
        assert spelling.runs == runs
