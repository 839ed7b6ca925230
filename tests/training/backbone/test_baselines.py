"""TF-IDF decides as scikit-learn does; Huffman lengths are a complete code that no other beats."""

from __future__ import annotations

import heapq
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.training.backbone.baselines import best_logistic, huffman_lengths, tfidf_decisions
from twophase.training.data import Texts, TextTask


def optimal_cost(counts: list[int]) -> int:
    """Bits of the best prefix code: the sum of the weights of all merges."""
    heap = list(counts)
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        cost += merged
        heapq.heappush(heap, merged)
    return cost


@settings(deadline=None)
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60), max_size=8))
def test_huffman_lengths_are_a_complete_code_and_the_shortest(texts: list[str]) -> None:
    lengths = huffman_lengths(texts)
    assert lengths.shape == (256,)
    assert lengths.dtype == np.uint8
    assert sum(2 ** (255 - int(length)) for length in lengths) == 2**255
    written = "".join(texts).encode()
    counts = [1 + written.count(value) for value in range(256)]
    assert sum(count * int(length) for count, length in zip(counts, lengths, strict=True)) == optimal_cost(
        counts
    )


def test_frequent_bytes_are_short_and_the_code_is_always_the_same() -> None:
    lengths = huffman_lengths(["eeeeeeeeeeeeeeee tttt aa"] * 50)
    assert lengths[ord("e")] < lengths[ord("t")] < lengths[ord("z")]
    assert np.array_equal(lengths, huffman_lengths(["eeeeeeeeeeeeeeee tttt aa"] * 50))
    assert huffman_lengths([]).tolist() == [8] * 256


def test_tfidf_learns_words_without_looking_at_test_labels(text_task: TextTask) -> None:
    decided = tfidf_decisions(text_task)
    assert decided.dtype == np.int64
    assert (decided == text_task.test.labels).mean() >= 0.9
    turned = replace(text_task, test=Texts(text_task.test.texts, 1 - text_task.test.labels))
    assert np.array_equal(decided, tfidf_decisions(turned))
    marks = Texts(("!", "?!", "..."), np.array([1, 0, 1]))  # no word: the most frequent class
    assert tfidf_decisions(TextTask("marks", ("a", "b"), marks, marks, marks)).tolist() == [1, 1, 1]


def test_the_validation_split_chooses_the_strength() -> None:
    train = np.array([[1.0], [2.0], [-1.0], [-2.0]])
    labels = np.array([1, 1, 0, 0])
    model, accuracy = best_logistic(train, labels, train, labels, (1e-9, 1.0))
    assert accuracy == 1.0
    assert model.predict(train).tolist() == labels.tolist()
    with pytest.raises(ValueError, match="no strength"):
        best_logistic(train, labels, train, labels, ())
