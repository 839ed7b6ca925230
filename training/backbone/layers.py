"""Sentences as token ids, and a transformer cut in two below the layers that are tuned."""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twophase.link.errors import InputError
from twophase.link.text import TextEncoder
from twophase.training.data import TextTask

__all__ = [
    "FAMILIES",
    "Backbone",
    "Pooled",
    "Source",
    "SplitBackbone",
    "Stack",
    "TextClassifier",
    "Tokens",
    "accuracy_of",
    "bucketed",
    "longest_first",
    "mean_pool",
    "pooled_in_batches",
    "split_backbone",
    "tokenize",
]


FAMILIES = {
    "bert": "encoder",
    "camembert": "encoder",
    "distilbert": "transformer",
    "electra": "encoder",
    "mpnet": "encoder",
    "roberta": "encoder",
    "xlm-roberta": "encoder",
}
"""Model types whose layers follow one another with nothing between or after, and what holds the layers."""

BATCH_TOKENS = 4096
"""Of a batch that is evaluated, with padding."""
CHUNK = 20
"""Batches that are sorted by length among one another."""
DEVIATION_FLOOR = 1e-3
"""A feature that does not vary on the training data is not blown up by the standardisation."""


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


class Stack(nn.Module):
    """Some layers of a transformer: (token ids or hidden states, mask) to hidden states."""

    def __init__(self, model: nn.Module, takes: str) -> None:
        super().__init__()
        self.model = model
        self.takes = takes

    def forward(self, inputs: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states (batch, length, C) after the last of the layers."""
        states: Tensor = self.model(
            **{self.takes: inputs, "attention_mask": attention_mask}
        ).last_hidden_state
        return states


@dataclass(frozen=True)
class SplitBackbone:
    """Both parts share their weights with the model that was cut."""

    lower: Stack | None
    """From token ids to hidden states; None where the whole is tuned."""
    upper: Stack
    """From there, or from token ids where there is no lower part; only its layers take gradients."""
    lower_layers: int
    """Layers of the lower part; -1 where there is none."""


def split_backbone(model: nn.Module, tune_layers: int) -> SplitBackbone:
    """Cut a transformer below its top ``tune_layers`` layers; -1 tunes the whole.

    Raises
    ------
    InputError
        If the model is of no family whose layers can be told apart, or has fewer layers.
    """
    config: Any = model.config
    if config.model_type not in FAMILIES:
        raise InputError(
            "backbone", f"be of a family whose layers are known ({', '.join(FAMILIES)})", config.model_type
        )
    model.requires_grad_(tune_layers == -1)
    if tune_layers == -1:
        return SplitBackbone(None, Stack(model, "input_ids"), -1)
    holder = FAMILIES[config.model_type]
    layers = list(getattr(model, holder).layer)
    if not 0 <= tune_layers <= len(layers):
        raise InputError("tune_layers", f"be at most {len(layers)} (layers), or -1 (the whole)", tune_layers)
    cut = len(layers) - tune_layers
    lower, upper = _with_layers(model, holder, 0, cut), _with_layers(model, holder, cut, len(layers))
    upper.embeddings = _Through()
    if hasattr(upper, "embeddings_project"):
        del upper.embeddings_project  # Electra's, part of the embeddings
    for layer in getattr(upper, holder).layer:
        layer.requires_grad_(True)
    return SplitBackbone(Stack(lower, "input_ids"), Stack(upper, "inputs_embeds"), cut)


def mean_pool(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean of hidden states (batch, length, C) over the tokens that the mask (batch, length) names."""
    weights = attention_mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


class Pooled(nn.Module):
    """Mean over the tokens, then each feature at mean 0 and deviation 1 of the training data."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def fit(self, pooled: Tensor) -> None:
        """Take mean and deviation from means over tokens, (n, C)."""
        double = pooled.double()
        self.mean.copy_(double.mean(0))
        self.deviation.copy_(double.std(0, correction=0).clamp_min(DEVIATION_FLOOR))

    def standardise(self, pooled: Tensor) -> Tensor:
        """Features of means over tokens, both (n, C)."""
        return (pooled - self.mean) / self.deviation

    def forward(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        """Features (batch, C)."""
        return self.standardise(mean_pool(states, attention_mask))


class Backbone(nn.Module):
    """The whole way from token ids to features, for export."""

    def __init__(self, model: nn.Module, pooled: Pooled) -> None:
        super().__init__()
        self.stack = Stack(model, "input_ids")
        self.pooled = pooled

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Features (batch, C) of token ids and mask, both (batch, length)."""
        features: Tensor = self.pooled(self.stack(input_ids, attention_mask), attention_mask)
        return features


class _Through(nn.Module):
    """Stands where the embeddings stood: what comes in are hidden states already."""

    def forward(
        self, input_ids: Tensor | None = None, inputs_embeds: Tensor | None = None, *others: Any, **more: Any
    ) -> Tensor:
        del input_ids, others, more
        if inputs_embeds is None:
            raise TypeError("the upper part takes hidden states")
        return inputs_embeds


def _with_layers(model: nn.Module, holder: str, first: int, last: int) -> Any:
    """The model with a part of its layers; a copy of its structure around the same weights."""
    weights = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    part: Any = copy.deepcopy(model, weights)  # copies what the memo does not hold
    inner = getattr(part, holder)
    inner.layer = nn.ModuleList(list(inner.layer)[first:last])
    part.config.num_hidden_layers = last - first
    return part


def longest_first(
    lengths: NDArray[np.int64], members: NDArray[np.int64], tokens: int
) -> Iterator[NDArray[np.int64]]:
    """Members in batches of at most ``tokens`` tokens with padding; too little memory shows at once."""
    order = members[np.argsort(-lengths[members], kind="stable")]
    first = 0
    while first < len(order):
        count = max(1, tokens // int(lengths[order[first]]))
        yield order[first : first + count]
        first += count


def bucketed(
    lengths: NDArray[np.int64],
    members: NDArray[np.int64],
    size: int,
    generator: np.random.Generator,
) -> list[NDArray[np.int64]]:
    """Members in random batches of ``size`` sentences of like length, in random order, less a remainder.

    The members are shuffled, each ``CHUNK`` batches of them sorted by length and cut, and the batches
    shuffled.
    """
    count = len(members) // size
    order = generator.permutation(members)[: count * size]
    batches: list[NDArray[np.int64]] = []
    for first in range(0, len(order), size * CHUNK):
        chunk = order[first : first + size * CHUNK]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[start : start + size] for start in range(0, len(chunk), size)]
    return [batches[place] for place in generator.permutation(count)]


class TextClassifier(nn.Module):
    """Tuned layers, mean over the tokens, dropout on that, one linear layer."""

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
