"""The sentences behind the features of a text link, and what others decide about them.

An ``.npz`` of a text task holds, besides ``input`` and ``label``: ``text`` (the UTF-8 of all sentences) and
``text_ends`` (where each ends), the tokens ``input_ids`` and ``attention_mask``, ``without_link`` and
``tfidf`` (classes that two classifiers decide for), and ``huffman_lengths`` (bits of each byte value in a
Huffman code of the training texts).  A ``.csv`` holds sentences and labels alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twophase.link.errors import InputError
from twophase.link.rows import as_known, filled, label_numbers, read_table
from twophase.link.text import unpack_texts

__all__ = ["SENTENCE_ARRAYS", "WITHOUT_LINK", "Sentences", "classes_from", "read_csv", "sentences_from"]

SENTENCE_ARRAYS = (
    "input_ids",
    "attention_mask",
    "text",
    "text_ends",
    "without_link",
    "tfidf",
    "huffman_lengths",
)
"""Arrays of a text task's ``.npz``; all of them, or none but ``WITHOUT_LINK``."""
WITHOUT_LINK = "without_link"
"""The one of them that the test split of any task holds: what is decided without a channel."""
LONGEST_CODEWORD = 64
"""Most bits of a codeword of the Huffman code."""

_Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class Sentences:
    """What the samples of a text task are features of."""

    texts: tuple[str, ...]
    input_ids: NDArray[np.int64]
    """Tokens, shape (samples, longest), filled up on the right."""
    lengths: NDArray[np.int64]
    """Tokens of each sentence, shape (samples,)."""
    without_link: NDArray[np.int64]
    """Classes that the backbone's own linear classifier decides for, shape (samples,)."""
    tfidf: NDArray[np.int64]
    """Classes that logistic regression on TF-IDF decides for, shape (samples,)."""
    huffman_lengths: NDArray[np.uint8]
    """Bits of each byte value, shape (256,)."""

    def __len__(self) -> int:
        return len(self.texts)

    def first(self, count: int) -> Sentences:
        """The first so many."""
        per_sample = vars(self).keys() - {"huffman_lengths"}
        return replace(self, **{name: getattr(self, name)[:count] for name in per_sample})

    def alone(self, row: int) -> dict[str, NDArray[np.int64]]:
        """Ids and mask of one sentence by itself, (1, length), as a device has them."""
        return self.padded(np.array([row]))

    def padded(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Ids and mask of some, filled up to the longest of them."""
        longest = int(self.lengths[rows].max())
        mask = np.arange(longest) < self.lengths[rows, np.newaxis]
        return {"input_ids": self.input_ids[rows, :longest], "attention_mask": mask.astype(np.int64)}


def sentences_from(arrays: _Arrays, samples: int, classes: int) -> Sentences | None:
    """The sentences of an ``.npz``; None if it holds features alone.

    Raises
    ------
    InputError
        If some of the arrays are missing or one has another type, shape or range.
    """
    held = [name for name in SENTENCE_ARRAYS if name in arrays and name != WITHOUT_LINK]
    if not held:
        return None
    for name in SENTENCE_ARRAYS:
        if name not in arrays:
            raise InputError("data", f"hold '{name}' beside '{held[0]}'", ", ".join(sorted(arrays)))
    ids, lengths = _tokens(arrays, samples)
    return Sentences(
        texts=_texts(arrays, samples),
        input_ids=ids,
        lengths=lengths,
        without_link=classes_from("without_link", arrays["without_link"], samples, classes),
        tfidf=classes_from("tfidf", arrays["tfidf"], samples, classes),
        huffman_lengths=_huffman_lengths(arrays["huffman_lengths"]),
    )


def read_csv(path: Path, classes: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Sentences and labels of a ``.csv`` in UTF-8 with the columns ``text`` and ``label``, and any others.

    A label is the name of a class or, where no class is called by a number, its number.  Where a column
    ``split`` states the part of each row, those of ``test`` are read.

    Raises
    ------
    InputError
        If a column is missing or there is no row, or a row has other fields than the head, an empty text or
        an unknown class, or the file is no UTF-8; the line is named.
    ArtifactError
        If the file is missing or unreadable.
    """
    columns, rows = read_table(path)
    filled(columns, rows, "text", "label")
    numbers, names = label_numbers(rows, np.array(columns["label"]))
    labels = as_known(rows, numbers, names, classes)
    parts = columns.get("split", ["test"] * len(labels))
    tested = [row for row, part in enumerate(parts) if part == "test"]
    if not tested:
        raise rows.fault("have rows of the part test", "none")
    return tuple(columns["text"][row] for row in tested), labels[tested]


def _tokens(arrays: _Arrays, samples: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids, (samples, longest), and how many each sentence has."""
    ids, mask = arrays["input_ids"], arrays["attention_mask"]
    for name, array in (("input_ids", ids), ("attention_mask", mask)):
        if array.dtype.kind not in "iu":
            raise InputError(name, "be integers", str(array.dtype))
        if array.ndim != 2 or len(array) != samples or not array.shape[1]:
            raise InputError(name, f"have shape ({samples}, tokens)", array.shape)
    if ids.shape != mask.shape:
        raise InputError("attention_mask", f"have shape {ids.shape}, as 'input_ids'", mask.shape)
    if int(ids.min()) < 0:
        raise InputError("input_ids", "be at least 0", int(ids.min()))
    ones = mask.astype(np.int64)
    if not (np.isin(ones, (0, 1)).all() and (np.diff(ones, axis=1) <= 0).all() and ones[:, 0].all()):
        raise InputError("attention_mask", "be ones, then zeros, in each row", "other rows")
    return ids.astype(np.int64), ones.sum(axis=1)


def _texts(arrays: _Arrays, samples: int) -> tuple[str, ...]:
    if arrays["text_ends"].shape != (samples,):
        raise InputError("text_ends", f"have shape ({samples},), one per sample", arrays["text_ends"].shape)
    texts = unpack_texts(arrays["text"], arrays["text_ends"])
    for number, text in enumerate(texts):
        if not text.strip():
            raise InputError("text", "hold no empty sentence", f"one (sentence {number})")
    return texts


def classes_from(name: str, values: NDArray[np.generic], samples: int, classes: int) -> NDArray[np.int64]:
    """Numbers of classes as an ``.npz`` holds them, shape (samples,); InputError if they are none."""
    if values.dtype.kind not in "iu":
        raise InputError(name, "be integers", str(values.dtype))
    if values.shape != (samples,):
        raise InputError(name, f"have shape ({samples},), one per sample", values.shape)
    numbers = values.astype(np.int64)
    outside = (numbers < 0) | (numbers >= classes)
    if outside.any():
        raise InputError(name, f"lie in 0..{classes - 1}", int(numbers[outside][0]))
    return numbers


def _huffman_lengths(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    name = "huffman_lengths"
    if values.dtype.kind not in "iu" or values.shape != (256,):
        raise InputError(name, "be integers, shape (256,)", f"{values.dtype}, {values.shape}")
    lengths = values.astype(np.int64)
    if lengths.min() < 1 or lengths.max() > LONGEST_CODEWORD:
        outlier = int(lengths.min() if lengths.min() < 1 else lengths.max())
        raise InputError(name, f"lie in 1..{LONGEST_CODEWORD}", outlier)
    kraft = math.fsum(2.0 ** -int(length) for length in lengths)
    if kraft > 1:
        raise InputError(name, "satisfy Kraft's inequality, sum of 2^-length <= 1", kraft)
    return lengths.astype(np.uint8)
