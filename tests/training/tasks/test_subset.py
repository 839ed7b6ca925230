"""A small task is a part of the whole one: the same proportions, and nothing that tests ever trains."""

from __future__ import annotations

import numpy as np
import pytest

from twophase.link.errors import InputError
from twophase.training.data import Texts, TextTask
from twophase.training.tasks.split import subset


def part(name: str, *counts: int) -> Texts:
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return Texts(tuple(f"{name} {number}" for number in range(len(labels))), labels)


WHOLE = TextTask(
    "t", ("a", "b"), part("train", 700, 300), part("validation", 70, 30), part("test", 150, 2), "cite"
)


@pytest.mark.parametrize("samples", [40, 41, 100, 777, 1252])
def test_each_class_of_each_part_has_its_share(samples: int) -> None:
    small = subset(WHOLE, samples)
    assert isinstance(small, TextTask)
    parts = ("train", "validation", "test")
    assert sum(len(getattr(small, name)) for name in parts) == samples
    for name in parts:
        now, whole = getattr(small, name), getattr(WHOLE, name)
        assert set(now.texts) <= set(whole.texts)
        assert len(set(now.texts)) == len(now)
        share = np.bincount(whole.labels) * samples / 1252
        np.testing.assert_allclose(np.bincount(now.labels, minlength=2), np.maximum(share, 1), atol=1)
    assert small.citation == "cite"
    assert subset(WHOLE, samples).train.texts == small.train.texts


def test_a_subset_grows_without_changing() -> None:
    small, large = subset(WHOLE, 200), subset(WHOLE, 600)
    assert isinstance(small.test, Texts)
    assert isinstance(large.test, Texts)
    assert set(small.test.texts) < set(large.test.texts)


def test_a_class_that_is_scarce_everywhere_keeps_a_sample_in_each_part() -> None:
    classes = tuple(str(number) for number in range(4))
    scarce = part("train", 2000, 1, 1, 1), part("validation", 1, 1, 1, 1), part("test", 1, 1, 1, 1)
    small = subset(TextTask("t", classes, *scarce), 80)
    assert [len(small.train), len(small.validation), len(small.test)] == [72, 4, 4]


@pytest.mark.parametrize("samples", [-1, 39, 1253])
def test_too_few_or_too_many_are_refused(samples: int) -> None:
    rule = rf"'samples' must be 40 \(20 for each class\) to 1252 \(all\) for the task 't', not {samples}"
    with pytest.raises(InputError, match=rule):
        subset(WHOLE, samples)
