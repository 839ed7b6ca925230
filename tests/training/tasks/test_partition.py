"""Parts are disjoint, always the same, and have each class in its proportion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from twophase.link.errors import InputError
from twophase.training.tasks.split import Rows, held_out, partition, stratified


def some_labels(counts: tuple[int, ...]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return np.random.default_rng(1).permutation(labels)


@pytest.mark.parametrize("counts", [(500, 500), (300, 90, 10), (10, 10), (10, 105), (37, 11, 13, 200)])
def test_every_part_has_each_class_in_its_proportion(counts: tuple[int, ...]) -> None:
    labels = some_labels(counts)
    parts = stratified(labels)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for part, share in zip(parts, (0.8, 0.1, 0.1), strict=True):
        found = np.bincount(labels[part], minlength=len(counts))
        np.testing.assert_allclose(found, np.array(counts) * share, atol=2)
    for one, other in zip(parts, stratified(labels), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_draw_is_the_one_that_was_measured_with() -> None:
    parts = stratified(some_labels((60, 40)))
    assert parts.test.tolist() == [0, 78, 4, 87, 16, 91, 41, 72, 37, 92]


def test_a_number_can_be_held_out() -> None:
    rest, held = held_out(some_labels((60, 40)), 7)
    assert len(held) == 7
    assert sorted([*rest, *held]) == list(range(100))


def test_an_error_names_the_place_and_cuts_what_is_long() -> None:
    rows = Rows(Path("own.csv"), "line", (2, 5))
    error = rows.fault("be short", "word " * 10_000, 1)
    assert str(error) == "'data' must be short ('own.csv', line 5), not '" + "word " * 8 + "...'"


def test_a_stated_partition_is_taken() -> None:
    rows = Rows(Path("own.csv"), "line", range(40))
    labels = np.arange(40, dtype=np.int64) % 2
    stated = ["train"] * 30 + ["test"] * 6 + ["validation"] * 4
    parts = partition(rows, labels, ("a", "b"), stated)
    assert parts.train.tolist() == list(range(30))
    assert parts.validation.tolist() == [36, 37, 38, 39]
    assert parts.test.tolist() == [30, 31, 32, 33, 34, 35]


def test_rows_of_a_class_may_be_missing_where_it_is_not_trained_for() -> None:
    rows = Rows(Path("own.csv"), "line", range(40))
    labels = np.repeat(np.arange(2, dtype=np.int64), 20)
    stated = ["train"] * 38 + ["test", "validation"]
    assert partition(rows, labels, ("a", "b"), stated).test.tolist() == [38]
    with pytest.raises(InputError, match=r"labels that its training rows .*line 20\), not 'b'"):
        partition(rows, labels, ("a", "b"), ["train"] * 20 + ["test"] * 10 + ["validation"] * 10)
