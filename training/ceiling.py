"""What the link's encoder allows without a channel: the same encoder with a classifier on it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from twophase.training.data import Split
from twophase.training.model.network import LinkModel

__all__ = ["Ceiling", "train_ceiling"]

_STEPS = 2000
"""About so many are taken, in 10 to 60 epochs: a classifier is fitted in far fewer than a link."""
_FEWEST, _MOST = 10, 60
_SEED = 7


@dataclass(frozen=True)
class Ceiling:
    """A classifier without a channel."""

    test: NDArray[np.int64]
    """Decided classes of the test split, shape (samples,)."""
    train_accuracy: float
    validation_accuracy: float


def train_ceiling(
    model: LinkModel,
    parts: tuple[Split, Split, Tensor],
    varied: Callable[[Tensor, torch.Generator], Tensor],
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
) -> Ceiling:
    """Train encoder and a classifier of two layers, and keep the epoch that is best in validation.

    ``model`` is untrained; its encoder alone is used.  ``parts`` are the training and validation splits and
    the features of the test split, (n, *input_shape), all on the model's device; ``varied`` varies a batch as
    the training of the link does.  The global generator of torch is left as it was.
    """
    train, validation, test = parts
    device = train.features.device
    generator = torch.Generator().manual_seed(_SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        width, classes = model.encoder.second.out_features, model.classifier[-1].out_features
        assert isinstance(width, int)
        assert isinstance(classes, int)
        head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, classes)).to(device)
    classifier = nn.Sequential(model.encoder, head)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=learning_rate, weight_decay=weight_decay)
    steps = max(1, len(train) // batch_size)
    epochs = min(_MOST, max(_FEWEST, math.ceil(_STEPS / steps)))
    best, kept = -1.0, copy.deepcopy(classifier.state_dict())
    for epoch in range(epochs):
        classifier.train()
        for step, rows in enumerate(
            torch.randperm(len(train), generator=generator).split(batch_size)[:steps]
        ):
            share = (epoch * steps + step) / (epochs * steps)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * (1 + math.cos(math.pi * share)) / 2
            features, labels = train.features[rows.to(device)], train.labels[rows.to(device)]
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(classifier(varied(features, generator)), labels).backward()
            optimizer.step()
        accuracy = _accuracy(classifier, validation)
        if accuracy > best:
            best, kept = accuracy, copy.deepcopy(classifier.state_dict())
    classifier.load_state_dict(kept)
    return Ceiling(_decided(classifier, test).cpu().numpy(), _accuracy(classifier, train), best)


def _accuracy(classifier: nn.Module, split: Split) -> float:
    return float((_decided(classifier, split.features) == split.labels).double().mean())


@torch.no_grad()
def _decided(classifier: nn.Module, features: Tensor) -> Tensor:
    classifier.eval()
    return torch.cat([classifier(part).argmax(1) for part in features.split(2048)])
