"""The embedded task: handwritten digits."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from twophase.link.command import require
from twophase.training.data import Split, Task, random_affine
from twophase.training.tasks.split import stratified

__all__ = ["digits"]


def digits() -> Task:
    """1,797 handwritten digits of 8x8 pixels from scikit-learn, pixel values 0..16.

    Stratified, seed 0: 30 % are the test split; 15 % of the remaining 70 % are the validation split.
    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    data = require("sklearn.datasets", "train", "the task 'digits'").load_digits()
    pixels = data.data.astype(np.float32)
    labels = data.target.astype(np.int64)
    parts = stratified(labels, test=0.3, validation=0.15)

    def split(members: NDArray[np.int64]) -> Split:
        return Split(torch.from_numpy(pixels[members]), torch.from_numpy(labels[members]))

    return Task(
        name="digits",
        classes=tuple(str(digit) for digit in range(10)),
        train=split(parts.train),
        validation=split(parts.validation),
        test=split(parts.test),
        augment=lambda features, strength, generator: random_affine(
            features.unflatten(1, (8, 8)), strength, generator
        ).flatten(1),
        scaling="one",
    )
