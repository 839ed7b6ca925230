"""All sentences of a task as token ids."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twophase.link.text import TextEncoder
from twophase.training.data import TextTask

__all__ = ["Source", "Tokens", "tokenize"]


class Source(Protocol):
    """Rows of different lengths, which a batch fills up to the longest of it."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, (n,)."""
        ...

    def batch(self, members: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """What a part of the transformer takes of some texts: (rows, mask), mask (batch, longest) int64."""
        ...


@dataclass(frozen=True)
class Tokens:
    """Token ids of all texts of a task: training, then validation, then test."""

    ids: NDArray[np.int32]
    """(n, longest), filled up on the right."""
    mask: NDArray[np.uint8]
    """(n, longest): 1 where a token stands."""
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]
    """(n,)."""
    train: NDArray[np.int64]
    """Which of the texts are for training, and so on."""
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    cut: int
    """How many texts were longer than they may be."""

    def batch(self, members: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Token ids and mask, both (batch, longest of these) int64."""
        longest = self.lengths[members].max()
        return tuple(  # type: ignore[return-value]
            torch.from_numpy(values[members, :longest].astype(np.int64)) for values in (self.ids, self.mask)
        )


def tokenize(task: TextTask, tokenizer_json: str, max_length: int) -> Tokens:
    """Token ids of all sentences, by the encoder that the deployed link has."""
    parts = (task.train, task.validation, task.test)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokenizer.json"
        file.write_text(tokenizer_json, encoding="utf-8")
        encoder = TextEncoder(file, max_length)
    logger = logging.getLogger("twophase.link.text")
    level = logger.level
    logger.setLevel(logging.ERROR)  # how many are cut is said with the other numbers
    try:
        ids, mask = encoder.encode_all([text for part in parts for text in part.texts])
    finally:
        logger.setLevel(level)
    ends = np.cumsum([len(part) for part in parts])
    train, validation, test = np.split(np.arange(ends[-1], dtype=np.int64), ends[:-1])
    return Tokens(
        ids=ids,
        mask=mask,
        lengths=mask.sum(axis=1, dtype=np.int64),
        labels=np.concatenate([part.labels for part in parts]),
        train=train,
        validation=validation,
        test=test,
        cut=encoder.cut,
    )
