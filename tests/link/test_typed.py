"""JSON values become what a dataclass declares, or are refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from twophase.link.typed import from_json


@dataclass(frozen=True)
class Point:
    """Stands for a configuration."""

    name: str
    place: tuple[float, ...]


def test_lists_and_objects_become_tuples_and_dataclasses() -> None:
    value = [{"name": "a", "place": [1, 2.5]}, {"name": "b", "place": []}]
    points = from_json(tuple[Point, ...], value, "points")
    assert points == (Point("a", (1.0, 2.5)), Point("b", ()))
    assert all(type(number) is float for number in points[0].place)
    assert from_json(dict[str, Any], {"x": [1, None]}, "extra") == {"x": [1, None]}
    assert from_json(Literal["run", "bundle"], "run", "kind") == "run"


def test_what_may_be_missing_is_none_or_what_it_must_be() -> None:
    assert from_json(Point | None, None, "x") is None
    assert from_json(Point | None, {"name": "a", "place": [1]}, "x") == Point("a", (1.0,))


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (tuple[float, ...], [0.0, float("inf")], "'x[1]' must be finite, not inf"),
        (tuple[float, ...], [0.0, False], "'x[1]' must be a number, not False"),
        (tuple[tuple[int, ...], ...], [[1], [2, "3"]], "'x[1][1]' must be a whole number, not '3'"),
        (Literal["run", "bundle"], "walk", "'x' must be one of 'run', 'bundle', not 'walk'"),
        (dict[str, int], {"a": 1.0}, "'x.a' must be a whole number, not 1.0"),
        (Point, {"name": "a", "place": [], "time": 1}, "'x' has no time"),
        (Point, {"place": []}, "'x' lacks name"),
        (Point | None, {"place": []}, "'x' lacks name"),
        (int | None, "7", "'x' must be a whole number, not '7'"),
        (Point, "n" * 99, f"'x' must be an object, not '{'n' * 56}..."),
    ],
)
def test_what_does_not_fit_is_named(kind: Any, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        from_json(kind, value, "x")
    assert str(caught.value) == message
