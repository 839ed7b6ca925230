"""Made-up sentences, a tokenizer for them, and the arrays that the test split of a text task has."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from twophase.link.text import TextEncoder, pack_texts

SPECIAL = ("[UNK]", "[PAD]", "[CLS]", "[SEP]")
OPINIONS = ("awful", "weak", "plain", "fine", "superb")
"""One of them tells the class of a sentence."""
NUMERALS = ("first", "second", "third", "fourth")
FILLERS = ("the", "a", "film", "story", "plot", "with", "of", "and", "scene", "cast", "music", "but")
WORDS = (*SPECIAL, *OPINIONS, *NUMERALS, *FILLERS)
"""The vocabulary; the place of a word is its id.  The id for padding is 1."""


def write_tokenizer(path: Path) -> Path:
    """A tokenizer of whole words, in lower case; words that it does not know become ``[UNK]``."""
    ids = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    tokenizer.enable_padding(pad_id=ids["[PAD]"], pad_token="[PAD]")
    tokenizer.save(str(path))
    return path


def sentences(
    labels: Sequence[int], rng: np.random.Generator, numerals: Sequence[int] | None = None
) -> tuple[str, ...]:
    """A sentence for each label, some with an unknown word; each with one of ``NUMERALS`` if asked for."""
    texts = []
    for place, label in enumerate(labels):
        words = [*rng.choice(FILLERS, rng.integers(1, 8)), OPINIONS[label]]
        words += [NUMERALS[numerals[place]]] if numerals is not None else []
        words += ["café"] if place % 7 == 3 else []
        rng.shuffle(words)
        texts.append(" ".join(words).capitalize() + ".")
    return tuple(texts)


def text_arrays(
    texts: Sequence[str], labels: ArrayLike, classes: int, encoder: TextEncoder, seed: int = 0
) -> dict[str, NDArray[Any]]:
    """Everything of the test split but ``input``: other deciders are right in nine and eight of ten cases."""
    rng = np.random.default_rng([seed, 5])
    label = np.asarray(labels, dtype=np.int64)
    ids, mask = encoder.encode_all(texts)
    content, ends = pack_texts(texts)
    return {
        "label": label,
        "input_ids": ids,
        "attention_mask": mask,
        "text": content,
        "text_ends": ends,
        "without_link": np.where(rng.random(len(label)) < 0.9, label, (label + 1) % classes),
        "tfidf": np.where(rng.random(len(label)) < 0.8, label, (label + 1) % classes),
        "huffman_lengths": huffman_lengths(content.tobytes()),
    }


def huffman_lengths(content: bytes) -> NDArray[np.uint8]:
    """Bits of each byte value in a Huffman code for ``content``; values that it lacks count once."""
    counts = np.bincount(np.frombuffer(content, dtype=np.uint8), minlength=256) * 1000 + 1
    lengths = np.zeros(256, dtype=np.uint8)
    heap = [(int(count), value, [value]) for value, count in enumerate(counts)]
    heapq.heapify(heap)
    while len(heap) > 1:
        one, other = heapq.heappop(heap), heapq.heappop(heap)
        lengths[one[2] + other[2]] += 1
        heapq.heappush(heap, (one[0] + other[0], one[1], one[2] + other[2]))
    return lengths
