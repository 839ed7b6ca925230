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


def test_the_training_part_is_the_one_behind_the_published_numbers() -> None:
    digest = hashlib.sha256(digits().train.features.numpy().tobytes()).hexdigest()
    assert digest == "8914ba9d1ec1116899d2f11abebd404860866a43b84494084add14232d092611"


def test_affine_at_strength_zero_is_the_identity() -> None:
    images = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(random_affine(images, 0.0, torch.Generator().manual_seed(1)), images)


def test_affine_follows_its_generator_and_strength() -> None:
    images = torch.rand(50, 8, 8, generator=torch.Generator().manual_seed(0))
    first = random_affine(images, 0.5, torch.Generator().manual_seed(1))
    assert torch.equal(first, random_affine(images, 0.5, torch.Generator().manual_seed(1)))
    weak = random_affine(images, 0.1, torch.Generator().manual_seed(1))
    assert (weak - images).norm() < (first - images).norm()
