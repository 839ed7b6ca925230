"""The tuned layers with a linear classifier on them: the system without a link."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twophase.training.backbone.batches import longest_first
from twophase.training.backbone.parts import Stack, mean_pool
from twophase.training.backbone.tokens import Source

__all__ = ["TextClassifier", "accuracy_of", "pooled_in_batches"]

BATCH_TOKENS = 4096


class TextClassifier(nn.Module):
    """Tuned layers, mean over the tokens, dropout, one linear layer.

    Parameters
    ----------
    upper
        The layers.
    width
        C of a hidden state.
    classes
        How many there are.
    dropout
        On the mean over the tokens.
    """

    def __init__(self, upper: Stack, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.upper = upper
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, classes)

    def pool(self, inputs: Tensor, attention_mask: Tensor) -> Tensor:
        """Means over the tokens, (batch, C)."""
        return mean_pool(self.upper(inputs, attention_mask), attention_mask)

    def forward(self, inputs: Tensor, attention_mask: Tensor) -> Tensor:
        """Scores of the classes, (batch, classes)."""
        scores: Tensor = self.classifier(self.dropout(self.pool(inputs, attention_mask)))
        return scores


def pooled_in_batches(
    model: TextClassifier, source: Source, members: NDArray[np.int64], device: torch.device
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Means over the tokens of some texts, batch by batch: (which of the texts, (batch, C))."""
    with torch.inference_mode():
        for batch in longest_first(source.lengths, members, BATCH_TOKENS):
            inputs, mask = source.batch(batch)
            yield batch, model.pool(inputs.to(device), mask.to(device))


def accuracy_of(
    model: TextClassifier,
    source: Source,
    members: NDArray[np.int64],
    labels: NDArray[np.int64],
    device: torch.device,
) -> float:
    """Share of texts whose class the model tells; ``labels`` are those of all texts."""
    right = 0
    for batch, pooled in pooled_in_batches(model, source, members, device):
        with torch.inference_mode():
            decided = model.classifier(pooled).argmax(1).cpu().numpy()
        right += int((decided == labels[batch]).sum())
    return right / len(members)
