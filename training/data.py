"""A task: samples, labels and a split, behind one small interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from twophase.link.errors import InputError, PackageError

__all__ = ["TASKS", "Split", "Task", "digits", "random_affine"]


@dataclass(frozen=True)
class Split:
    """Samples of one part of the data."""

    features: Tensor
    """(n, *input_shape), float32."""
    labels: Tensor
    """(n,), int64."""

    def __post_init__(self) -> None:
        if not torch.isfinite(self.features).all():
            raise InputError("features", "be finite", "an array with NaN or infinity")
        if self.labels.shape != self.features.shape[:1]:
            raise InputError("labels", f"have shape ({len(self.features)},)", tuple(self.labels.shape))

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """The same samples on another device."""
        return Split(self.features.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Task:
    """A classification task.  The test split is for ``eval.npz`` alone: training never looks at it."""

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    augment: Callable[[Tensor, float, torch.Generator], Tensor]
    """Random variation of a batch of features: (features, strength, generator) -> features."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample's features."""
        return tuple(self.train.features.shape[1:])


def digits() -> Task:
    """1,797 handwritten digits of 8x8 pixels from scikit-learn, pixel values 0..1.

    Stratified, seed 0: 30 % are the test split; 15 % of the remaining 70 % are the validation split.
    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.

    Raises
    ------
    PackageError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise PackageError(
            "the task 'digits' needs scikit-learn: pip install 'twophase-link[train]'"
        ) from error
    data = load_digits()
    pixels = (data.data / 16.0).astype(np.float32)
    labels = data.target.astype(np.int64)
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.3, stratify=labels, random_state=0)
    train, validation = train_test_split(rest, test_size=0.15, stratify=labels[rest], random_state=0)

    def split(members: NDArray[np.int64]) -> Split:
        return Split(torch.from_numpy(pixels[members]), torch.from_numpy(labels[members]))

    return Task(
        name="digits",
        classes=tuple(str(digit) for digit in range(10)),
        train=split(train),
        validation=split(validation),
        test=split(test),
        augment=lambda features, strength, generator: random_affine(
            features.unflatten(1, (8, 8)), strength, generator
        ).flatten(1),
    )


def random_affine(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Rotate, shift and scale each image at random, with bilinear interpolation and zeros outside.

    At strength 1 the standard deviations are 0.25 rad of rotation, 3 % of the width of shift and 8 % of
    scale.

    Parameters
    ----------
    images
        (batch, height, width).
    strength
        Multiplies all three.
    """
    draws = torch.randn(len(images), 4, generator=generator).to(images.device) * strength
    angle, scale, shift = 0.25 * draws[:, 0], 1 + 0.08 * draws[:, 1], 0.06 * draws[:, 2:]
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    matrix = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)
    grid = F.affine_grid(
        torch.cat([matrix, shift[:, :, None]], 2), [len(images), 1, *images.shape[1:]], align_corners=False
    )
    return F.grid_sample(images[:, None], grid, align_corners=False)[:, 0]


TASKS: dict[str, Callable[[], Task]] = {"digits": digits}
"""Tasks by the name that ``--task`` takes."""
