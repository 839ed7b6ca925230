"""Parts of a task are refused where they do not fit, before anything is trained on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tools.small_link import blobs
from twophase.link.errors import InputError
from twophase.training.data import Split, Task, Texts, TextTask, check_parts

FEATURES, LABELS = torch.zeros(2, 1), torch.tensor([0, 1])
GOOD = blobs(8, 0)
TAUGHT = Split(GOOD.features, GOOD.labels, torch.ones(8, 2))


def texts(*labels: int) -> Texts:
    return Texts(tuple(f"number {label}" for label in labels), np.array(labels, dtype=np.int64))


def text_task(test: Any) -> TextTask:
    return TextTask("t", ("a", "b"), texts(0, 1), texts(0), test)


def checked(train: Any = GOOD, validation: Any = GOOD, test: Any = GOOD) -> None:
    check_parts(Task("t", ("a", "b", "c"), train, validation, test))


@pytest.mark.parametrize(
    ("make", "name", "rule", "value"),
    [
        (lambda: Split(FEATURES * torch.nan, LABELS), "features", "be finite", None),
        (lambda: Split(FEATURES, LABELS[:1]), "labels", "have shape (2,)", (1,)),
        (lambda: Split(FEATURES.double(), LABELS), "features", "tensor of torch.float32", torch.float64),
        (lambda: Split(FEATURES, LABELS.float()), "labels", "tensor of torch.int64", torch.float32),
        (lambda: Split(torch.zeros(2), LABELS), "features", "have shape (n, ...)", (2,)),
        (lambda: Split(FEATURES, LABELS, torch.ones(3, 2)), "teacher", "shape (2, classes)", (3, 2)),
        (lambda: Split(FEATURES, LABELS, np.ones((2, 2))), "teacher", "torch.float32", np.ndarray),
        (lambda: Split(FEATURES, LABELS, torch.ones(2, 2) * torch.nan), "teacher", "be finite", None),
        (lambda: Texts(["a"], np.array([0])), "texts", "be a tuple of strings", list),
        (lambda: Texts(("a", "b"), np.array([0])), "labels", "have shape (2,)", (1,)),
        (lambda: Texts(("a",), [0]), "labels", "be an array of int64", list),
        (lambda: Texts(("a", " \n"), np.array([0, 1])), "texts", "not blank (number 1)", " \n"),
        (lambda: Texts(("a\ud800",), np.array([0])), "texts", "lone surrogates", None),
        (lambda: text_task(texts(0, 2)), "test", "labels in 0..1", 2),
        (lambda: text_task(texts(-1)), "test", "labels in 0..1", -1),
        (lambda: text_task(texts()), "test", "at least one sample", 0),
        (lambda: text_task(("a", "b")), "test", "of the type Texts", tuple),
        (lambda: checked(train=texts(0)), "train", "of the type Split", Texts),
        (lambda: checked(validation=Split(GOOD.features[:, :2], GOOD.labels)), "validation", "(8,)", (2,)),
        (lambda: checked(train=TAUGHT), "train", "teacher of 3 classes", 2),
        (lambda: checked(train=Split(GOOD.features, GOOD.labels * 0)), "train", "at least 2 classes", 1),
    ],
)
def test_what_does_not_fit_is_refused(
    make: Callable[[], object], name: str, rule: str, value: object
) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert caught.value.name == name
    assert rule in caught.value.rule
    assert value is None or caught.value.value == value


@pytest.mark.parametrize("classes", [("a",), ("a", "a"), ("a", " "), ["a", "b"], ("a", 1)])
def test_classes_are_different_names(classes: Any) -> None:
    checked()
    for kind, part in ((TextTask, texts(0)), (Task, GOOD)):
        with pytest.raises(InputError, match="'classes'"):
            kind("t", classes, part, part, part)


def test_taking_keeps_samples_and_labels_together() -> None:
    split = Split(torch.arange(6.0)[:, None], torch.arange(6), torch.arange(12.0).reshape(6, 2))
    taken = split.take(np.array([4, 1])).to(torch.device("cpu"))
    assert taken.teacher.tolist() == [[8.0, 9.0], [2.0, 3.0]]
    assert taken.features.tolist() == [[4.0], [1.0]]
    assert taken.labels.tolist() == [4, 1]
    sentences = texts(0, 1, 2).take(np.array([2, 0]))
    assert sentences.texts == ("number 2", "number 0")
    assert sentences.labels.tolist() == [2, 0]
    assert len(sentences) == 2
