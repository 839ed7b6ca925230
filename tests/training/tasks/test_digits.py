"""The split is what the benchmark says, and augmentation moves pixels and nothing else."""

from __future__ import annotations

import hashlib

import torch

from twophase.training.data import random_affine
from twophase.training.tasks.digits import digits


def test_digits_split_is_stratified_fixed_and_disjoint() -> None:
    task = digits()
    sizes = (len(task.train), len(task.validation), len(task.test))
    assert sizes == (1068, 189, 540)
    again = digits()
    for split in ("train", "validation", "test"):
        assert torch.equal(getattr(task, split).features, getattr(again, split).features)
        shares = torch.bincount(getattr(task, split).labels) / len(getattr(task, split))
        assert shares.min() > 0.08
        assert shares.max() < 0.12
    rows = torch.cat([task.train.features, task.validation.features, task.test.features])
    assert len(rows) == 1797
    assert rows.min() == 0
    assert rows.max() == 1
    trained = {row.numpy().tobytes() for row in task.train.features}
    assert not trained & {row.numpy().tobytes() for row in task.test.features}
    assert task.input_shape == (64,)
    digest = hashlib.sha256(task.train.features.numpy().tobytes()).hexdigest()
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
