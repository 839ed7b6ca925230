"""A task of three noisy centres, small enough to train in no time."""

from __future__ import annotations

import torch

from twophase.training.data import Split

CLASSES, FEATURES = 3, 8


def blobs(size: int, seed: int) -> Split:
    """Samples around three centres, in the range of the pixels of a real task."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (size,), generator=generator)
    centres = torch.rand(CLASSES, FEATURES, generator=torch.Generator().manual_seed(99))
    return Split(centres[labels] + 0.2 * torch.randn(size, FEATURES, generator=generator), labels)
