"""The sentences of a test split: as text, and as the token ids that the backbone takes."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twophase.export.graphs.run import Values
from twophase.link.errors import ArtifactError, InputError
from twophase.link.manifest import Manifest
from twophase.link.text import TextEncoder, unpack_texts

__all__ = ["Sentences", "load_sentences", "problems_of_tokenizer", "write_split"]

_TYPES = {"input_ids": np.int32, "attention_mask": np.uint8, "text": np.uint8, "text_ends": np.int64}


@dataclass(frozen=True, eq=False)
class Sentences:
    """The test split ahead of the backbone."""

    input_ids: NDArray[np.int64]
    """Shape (n, longest), filled up on the right."""
    lengths: NDArray[np.int64]
    """Tokens of each, shape (n,)."""
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def first(self, count: int) -> Sentences:
        """The first so many."""
        return Sentences(self.input_ids[:count], self.lengths[:count], self.texts[:count])

    def alone(self, row: int) -> Values:
        """Ids and mask of one sentence by itself, (1, length), as a device has them."""
        return self.padded(np.array([row]))

    def padded(self, rows: NDArray[np.int64]) -> Values:
        """Ids and mask of some, filled up to the longest of them."""
        longest = int(self.lengths[rows].max())
        mask = np.arange(longest) < self.lengths[rows, np.newaxis]
        return {"input_ids": self.input_ids[rows, :longest], "attention_mask": mask.astype(np.int64)}


def load_sentences(path: Path, manifest: Manifest) -> Sentences:
    """Read the sentences of an ``eval.npz`` whose features and labels are checked.

    Raises
    ------
    ArtifactError
        If an array is missing, or a type, shape or value does not fit the others or the manifest.
    """
    assert manifest.front is not None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            count = len(arrays["input"])
            held = {name: arrays[name] for name in _TYPES}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"'{path}' is no test split of sentences: {error}") from error
    try:
        lengths = _lengths(held, count, manifest.front.max_length)
        texts = unpack_texts(held["text"], held["text_ends"])
    except InputError as error:
        raise ArtifactError(f"'{path}': {error}") from error
    if len(texts) != count:
        raise ArtifactError(f"'{path}' must hold a text for each of {count} samples, not {len(texts)}")
    return Sentences(held["input_ids"].astype(np.int64), lengths, texts)


def _lengths(held: Values, count: int, max_length: int) -> NDArray[np.int64]:
    """Tokens of each sentence."""
    for name, dtype in _TYPES.items():
        if held[name].dtype != dtype:
            raise InputError(name, f"be {np.dtype(dtype)}", str(held[name].dtype))
    ids, mask = held["input_ids"], held["attention_mask"]
    if ids.ndim != 2 or len(ids) != count or not 1 <= ids.shape[1] <= max_length:
        raise InputError("input_ids", f"have shape ({count}, 1 to {max_length})", ids.shape)
    if ids.min() < 0:
        raise InputError("input_ids", "be at least 0", int(ids.min()))
    lengths: NDArray[np.int64] = mask.sum(axis=-1, dtype=np.int64)
    filled = np.arange(ids.shape[1]) < lengths[..., np.newaxis]
    if mask.shape != ids.shape or (mask != filled).any() or lengths.min() < 1:
        raise InputError(
            "attention_mask", "be 1 at every token, of which each row has one, and 0 after", "other"
        )
    return lengths


def problems_of_tokenizer(tokenizer: Path, sentences: Sentences, manifest: Manifest) -> list[str]:
    """Whether a tokenizer encodes the texts to their ids: one sentence if it does not.

    Raises
    ------
    ArtifactError, InputError
        If the file is no tokenizer, or a text is none that a link may be given.
    PackageError
        If ``tokenizers`` is not installed.
    """
    assert manifest.front is not None
    ids, mask = TextEncoder(tokenizer, manifest.front.max_length).encode_all(sentences.texts)
    given = [row[:length] for row, length in zip(ids, mask.sum(axis=1), strict=True)]
    wanted = [row[:length] for row, length in zip(sentences.input_ids, sentences.lengths, strict=True)]
    pairs = zip(given, wanted, strict=True)
    unlike = [number for number, (one, other) in enumerate(pairs) if not np.array_equal(one, other)]
    if not unlike:
        return []
    first = unlike[0]
    return [
        f"it gives other ids than 'input_ids' for {len(unlike)} of {len(sentences)} sentences, first for "
        f"number {first}: {_shown(given[first])} instead of {_shown(wanted[first])}"
    ]


def write_split(source: Path, target: Path, features: NDArray[np.float32]) -> None:
    """Copy an ``eval.npz`` with other features; equal arrays give equal bytes."""
    with source.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        held: dict[str, Any] = {name: arrays[name] for name in arrays.files}
    np.savez(target, **(held | {"input": features}))


def _shown(ids: NDArray[Any]) -> str:
    values = ids.tolist()
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
