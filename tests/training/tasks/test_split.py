"""Parts are disjoint, always the same, and have each class in its proportion; so has a part of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twophase.link.errors import InputError
from twophase.training.data import Texts, TextTask
from twophase.training.tasks.split import Rows, held_out, partition, stratified, subset

PARTS = ("train", "validation", "test")
ROWS = Rows(Path("own.csv"), "line", range(40))


def some_labels(*counts: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return np.random.default_rng(1).permutation(labels)


@pytest.mark.parametrize("counts", [(300, 90, 10), (10, 10), (10, 105), (37, 11, 13, 200)])
def test_every_part_has_each_class_in_its_proportion(counts: tuple[int, ...]) -> None:
    labels = some_labels(*counts)
    parts = stratified(labels)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for part, share in zip(parts, (0.8, 0.1, 0.1), strict=True):
        found = np.bincount(labels[part], minlength=len(counts))
        np.testing.assert_allclose(found, np.array(counts) * share, atol=2)
    for one, other in zip(parts, stratified(labels), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_draw_is_the_one_that_was_measured_with_and_a_number_can_be_held_out() -> None:
    assert stratified(some_labels(60, 40)).test.tolist() == [0, 78, 4, 87, 16, 91, 41, 72, 37, 92]
    rest, held = held_out(some_labels(60, 40), 7)
    assert len(held) == 7
    assert sorted([*rest, *held]) == list(range(100))


def test_an_error_names_the_place_and_cuts_what_is_long() -> None:
    error = Rows(Path("own.csv"), "line", (2, 5)).fault("be short", "word " * 10_000, 1)
    assert str(error) == "'data' must be short ('own.csv', line 5), not '" + "word " * 8 + "...'"


STATED = ["train"] * 30 + ["test"] * 6 + ["validation"] * 4
ALTERNATING, HALVES = np.arange(40) % 2, np.repeat(np.arange(2), 20)


def test_a_stated_partition_is_taken() -> None:
    parts = partition(ROWS, ALTERNATING, ("a", "b"), STATED)
    found = [parts.train.tolist(), parts.test.tolist(), parts.validation.tolist()]
    assert found == [list(range(30)), list(range(30, 36)), list(range(36, 40))]


@pytest.mark.parametrize(
    ("labels", "stated", "rule", "value"),
    [
        (np.zeros(40, dtype=np.int64), None, "at least 2 classes ('own.csv')", ("a",)),
        (np.arange(40) // 31, None, "at least 10 rows of each class ('own.csv')", "9 of b"),
        (ALTERNATING, [*STATED[:-1], "dev"], "train, validation, test as split ('own.csv', line 39)", "dev"),
        (
            ALTERNATING,
            ["train"] * 30 + ["test"] * 10,
            "each of train, validation, test",
            "none for validation",
        ),
        (HALVES, ["train"] * 18 + STATED[-10:-2] * 2 + STATED[-6:], "its training rows have, too (", "b"),
    ],
)
def test_what_breaks_a_rule_of_all_files_is_named(
    labels: Any, stated: list[str] | None, rule: str, value: object
) -> None:
    with pytest.raises(InputError) as caught:
        partition(ROWS, labels, ("a", "b")[: labels.max() + 1], stated)
    assert rule in caught.value.rule
    assert caught.value.value == value


# --- a part of the whole ----------------------------------------------------------------------------------


def part(name: str, *counts: int) -> Texts:
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return Texts(tuple(f"{name} {number}" for number in range(len(labels))), labels)


WHOLE = TextTask(
    "t", ("a", "b"), part("train", 700, 300), part("validation", 70, 30), part("test", 150, 2), "cite"
)


@pytest.mark.parametrize("samples", [40, 41, 777, 1252])
def test_each_class_of_each_part_has_its_share_which_grows_without_changing(samples: int) -> None:
    small, larger = subset(WHOLE, samples), subset(WHOLE, min(1252, samples + 100))
    assert sum(len(getattr(small, name)) for name in PARTS) == samples
    for name in PARTS:
        now, whole = getattr(small, name), getattr(WHOLE, name)
        assert set(now.texts) <= set(getattr(larger, name).texts) <= set(whole.texts)
        assert len(set(now.texts)) == len(now)
        share = np.bincount(whole.labels) * samples / 1252
        np.testing.assert_allclose(np.bincount(now.labels, minlength=2), np.maximum(share, 1), atol=1)
        assert getattr(subset(WHOLE, samples), name).texts == now.texts
    assert small.citation == "cite"


def test_a_class_that_is_scarce_everywhere_keeps_a_sample_in_each_part() -> None:
    scarce = part("train", 2000, 1, 1, 1), part("validation", 1, 1, 1, 1), part("test", 1, 1, 1, 1)
    small = subset(TextTask("t", ("0", "1", "2", "3"), *scarce), 80)
    assert [len(getattr(small, name)) for name in PARTS] == [72, 4, 4]


@pytest.mark.parametrize("samples", [-1, 39, 1253])
def test_too_few_or_too_many_are_refused(samples: int) -> None:
    with pytest.raises(InputError, match=r"must be 40 \(20 for each class\) to 1252 \(all\) .*, not"):
        subset(WHOLE, samples)
