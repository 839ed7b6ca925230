"""What a sentence gives without a backbone: TF-IDF for its class, a Huffman code for its text."""

from __future__ import annotations

import heapq
import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twophase.link.command import require
from twophase.training.data import TextTask

__all__ = ["best_logistic", "huffman_lengths", "tfidf_decisions"]

TFIDF_STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
"""C of the logistic regression on TF-IDF, from which the validation split chooses."""


def tfidf_decisions(task: TextTask) -> NDArray[np.int64]:
    """Classes of the test texts by TF-IDF of one and two words and logistic regression.

    Fitted on the training texts; the strength of regularisation is chosen on the validation texts.  Where no
    training text has a word, the most frequent class.
    """
    vectorizer_of = require("sklearn.feature_extraction.text", "train", "TF-IDF").TfidfVectorizer
    # Words of one letter count too (0.806 on the validation split of reviews; 0.801 without).
    vectorizer = vectorizer_of(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    try:
        train = vectorizer.fit_transform(task.train.texts)
    except ValueError:  # no word at all
        return np.full(len(task.test), np.bincount(task.train.labels).argmax(), dtype=np.int64)
    validation = vectorizer.transform(task.validation.texts)
    model, _ = best_logistic(train, task.train.labels, validation, task.validation.labels, TFIDF_STRENGTHS)
    return np.asarray(model.predict(vectorizer.transform(task.test.texts)), dtype=np.int64)


def best_logistic(
    train: Any,
    train_labels: NDArray[np.int64],
    validation: Any,
    validation_labels: NDArray[np.int64],
    strengths: Sequence[float],
) -> tuple[Any, float]:
    """The logistic regression that does best on the validation split, and how well; of equals the first."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    best: tuple[Any, float] | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough; the validation split judges
        for strength in strengths:
            model = LogisticRegression(C=strength, max_iter=1000).fit(train, train_labels)
            accuracy = float(model.score(validation, validation_labels))
            if best is None or accuracy > best[1]:
                best = model, accuracy
    if best is None:
        raise ValueError("no strength to choose from")
    return best


def huffman_lengths(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Code lengths in bits of all 256 byte values in a Huffman code for texts in UTF-8.

    Every count begins at one, so that any text can be coded.  Ties fall by the byte's value.

    Returns
    -------
    (256,); the sum of 2**-length is 1, and lengths give a canonical code.
    """
    counts = np.ones(256, dtype=np.int64)
    for text in texts:
        counts += np.bincount(np.frombuffer(text.encode(), dtype=np.uint8), minlength=256)
    ticket = itertools.count()
    heap: list[tuple[int, int, tuple[int, ...]]] = [
        (int(count), next(ticket), (value,)) for value, count in enumerate(counts)
    ]
    heapq.heapify(heap)
    lengths = np.zeros(256, dtype=np.uint8)
    while len(heap) > 1:
        (first, _, left), (second, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[list(left + right)] += 1
        heapq.heappush(heap, (first + second, next(ticket), left + right))
    return lengths
