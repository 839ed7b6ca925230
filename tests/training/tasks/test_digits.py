"""The split is what the benchmark says, and augmentation moves pixels and nothing else."""

from __future__ import annotations

import hashlib

import torch

from twophase.training.data import random_affine
from twophase.training.tasks.digits import digits


def test_digits_split_is_stratified_fixed_and_disjoint() -> None:
    task = digits()
    parts = (task.train, task.validation, task.test)
    assert [len(part) for part in parts] == [1068, 189, 540]
    for part in parts:
        shares = torch.bincount(part.labels) / len(part)
        assert shares.min() > 0.08
        assert shares.max() < 0.12
        assert (part.features.min(), part.features.max()) == (0, 16)
    seen = {row.numpy().tobytes() for part in parts for row in part.features}
    assert len(seen) == 1797
    assert task.input_shape == (64,)
    digest = hashlib.sha256((task.train.features / 16).numpy().tobytes()).hexdigest()
    published = "8914ba9d1ec1116899d2f11abebd404860866a43b84494084add14232d092611"
    assert digest == published, "the training part that the published numbers are of"


def test_affine_follows_its_generator_and_strength() -> None:
    images = torch.rand(50, 8, 8, generator=torch.Generator().manual_seed(0))
    none, weak, strong, again = (
        random_affine(images, strength, torch.Generator().manual_seed(1)) for strength in (0, 0.1, 0.5, 0.5)
    )
    torch.testing.assert_close(none, images)
    assert torch.equal(strong, again)
    assert 0 < (weak - images).norm() < (strong - images).norm()
