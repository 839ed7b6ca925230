"""Parts of a task are refused where they do not fit, before anything is trained on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tools.blobs import blobs
from twophase.link.errors import InputError
from twophase.training.data import Split, Task, Texts, TextTask, check_parts


def texts(*labels: int) -> Texts:
    return Texts(tuple(f"number {label}" for label in labels), np.array(labels, dtype=np.int64))


def test_not_a_number_is_refused() -> None:
    with pytest.raises(InputError, match="'features' must be finite"):
        Split(torch.tensor([[float("nan")]]), torch.tensor([0]))
    with pytest.raises(InputError, match="'labels' must have shape"):
        Split(torch.zeros(2, 1), torch.tensor([0]))


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (
            torch.zeros(2, 1, dtype=torch.float64),
            torch.tensor([0, 1]),
            "'features' .* torch.float32, not torch.float64",
        ),
        (
            np.zeros((2, 1), dtype=np.float32),
            torch.tensor([0, 1]),
            "'features' .* not <class 'numpy.ndarray'>",
        ),
        (torch.zeros(2, 1), torch.tensor([0.0, 1.0]), "'labels' must be a tensor of torch.int64"),
    ],
)
def test_other_types_are_refused(features: Any, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Split(features, labels)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (torch.ones(3, 2), r"'teacher' must have shape \(2, classes\), not \(3, 2\)"),
        (torch.ones(2), r"'teacher' must have shape \(2, classes\), not \(2,\)"),
        (torch.ones(2, 2, dtype=torch.float64), "'teacher' must be a tensor of torch.float32"),
        (np.ones((2, 2)), "'teacher' must be a tensor of torch.float32, not <class 'numpy.ndarray'>"),
        (torch.full((2, 2), float("nan")), "'teacher' must be finite"),
    ],
)
def test_a_teacher_tells_of_each_sample(teacher: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Split(torch.zeros(2, 1), torch.tensor([0, 1]), teacher)


def test_taking_keeps_samples_and_labels_together() -> None:
    split = Split(torch.arange(6.0)[:, None], torch.arange(6), torch.arange(12.0).reshape(6, 2))
    taken = split.take(np.array([4, 1]))
    assert taken.teacher is not None
    assert taken.teacher.tolist() == [[8.0, 9.0], [2.0, 3.0]]
    assert taken.to(torch.device("cpu")).teacher is not None
    assert taken.features.tolist() == [[4.0], [1.0]]
    assert taken.labels.tolist() == [4, 1]
    sentences = texts(0, 1, 2).take(np.array([2, 0]))
    assert sentences.texts == ("number 2", "number 0")
    assert sentences.labels.tolist() == [2, 0]
    assert len(sentences) == 2


@pytest.mark.parametrize(
    ("given", "labels", "message"),
    [
        (["a"], np.array([0]), "'texts' must be a tuple of strings, not <class 'list'>"),
        (("a", "b"), np.array([0]), r"'labels' must have shape \(2,\), not \(1,\)"),
        (("a",), np.array([0.0]), "'labels' must be an array of int64, not dtype"),
        (("a",), [0], "'labels' must be an array of int64, not <class 'list'>"),
        (("a", " \n"), np.array([0, 1]), r"not blank \(number 1\), not ' \\n'"),
        (("a", 3), np.array([0, 1]), r"not blank \(number 1\), not 3"),
        (("a\ud800",), np.array([0]), "lone surrogates"),
    ],
)
def test_texts_that_no_link_can_send_are_refused(given: Any, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Texts(given, labels)


@pytest.mark.parametrize("classes", [("a",), ("a", "a"), ("a", " "), ["a", "b"], ("a", 1)])
def test_classes_are_different_names(classes: Any) -> None:
    with pytest.raises(InputError, match="'classes'"):
        TextTask("t", classes, texts(0), texts(0), texts(0))
    with pytest.raises(InputError, match="'classes'"):
        Task("t", classes, blobs(4, 0), blobs(4, 1), blobs(4, 2))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (texts(0, 2), r"'test' must have labels in 0..1, the numbers of the classes, not 2"),
        (texts(-1), r"'test' must have labels in 0..1, the numbers of the classes, not -1"),
        (texts(), "'test' must hold at least one sample"),
        (("a", "b"), "'test' must be of the type Texts"),
    ],
)
def test_parts_of_texts_fit_the_classes(part: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TextTask("t", ("a", "b"), texts(0, 1), texts(0), part)


def test_parts_of_features_fit_one_another() -> None:
    good = blobs(8, 0)
    check_parts(Task("t", ("a", "b", "c"), good, good, good))
    narrow = Split(good.features[:, :2], good.labels)
    with pytest.raises(InputError, match=r"'validation' .* shape \(8,\), as train has, not \(2,\)"):
        check_parts(Task("t", ("a", "b", "c"), good, narrow, good))
    taught = Split(good.features, good.labels, torch.ones(8, 2))
    with pytest.raises(InputError, match="'train' must have a teacher of 3 classes, not 2"):
        check_parts(Task("t", ("a", "b", "c"), taught, good, good))
    wrong: Any = texts(0)
    with pytest.raises(InputError, match="'train' must be of the type Split"):
        check_parts(Task("t", ("a", "b", "c"), wrong, good, good))
    with pytest.raises(InputError, match="'test' must be of the type Split"):
        check_parts(Task("t", ("a", "b", "c"), good, good, wrong))
