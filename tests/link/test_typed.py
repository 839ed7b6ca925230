"""JSON values become what a dataclass declares, or are refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from twophase.link.errors import InputError
from twophase.link.typed import POSITIVE, Rule, at_least, check_fields, from_json, within


@dataclass(frozen=True)
class Point:
    """Stands for a configuration."""

    name: str
    place: tuple[float, ...]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (tuple[Point, ...], [{"name": "a", "place": [1, 2.5]}], (Point("a", (1.0, 2.5)),)),
        (dict[str, Any], {"x": [1, None]}, {"x": [1, None]}),
        (Literal["run", "bundle"], "run", "run"),
        (Literal["all"] | int, 3, 3),
        (Literal["all"] | int, "all", "all"),
        (Path | None, "runs", Path("runs")),
        (Point | None, None, None),
        (Point | None, {"name": "a", "place": [1]}, Point("a", (1.0,))),
    ],
)
def test_lists_and_objects_become_tuples_and_dataclasses(kind: Any, value: Any, expected: Any) -> None:
    found = from_json(kind, value, "x")
    assert found == expected
    assert repr(found) == repr(expected)  # a whole number becomes a float


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (tuple[float, ...], [0.0, float("inf")], "'x[1]' must be finite, not inf"),
        (tuple[float, ...], [0.0, False], "'x[1]' must be a number, not False"),
        (tuple[tuple[int, ...], ...], [[1], [2, "3"]], "'x[1][1]' must be a whole number, not '3'"),
        (tuple[int, ...], 1, "'x' must be a list, not 1"),
        (Literal["run", "bundle"], "walk", "'x' must be one of 'run', 'bundle', not 'walk'"),
        (dict[str, int], {"a": 1.0}, "'x.a' must be a whole number, not 1.0"),
        (dict[str, int], [], "'x' must be an object, not []"),
        (Point, {"name": "a", "place": [], "time": 1}, "'x' has no time"),
        (Point | None, {"place": []}, "'x' lacks name"),
        (int | None, "7", "'x' must be a whole number, not '7'"),
        (Literal["all"] | int, True, "'x' must be a whole number, not True"),
        (int | str, None, "'x' must be a text, not None"),
        (bool, 1, "'x' must be true or false, not 1"),
        (Path | None, 3, "'x' must be a path, not 3"),
        (Point, "n" * 99, f"'x' must be an object, not '{'n' * 56}..."),
    ],
)
def test_what_does_not_fit_is_named(kind: Any, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        from_json(kind, value, "x")
    assert str(caught.value) == message


@dataclass(frozen=True)
class Settings:
    """One field of every kind that has a rule."""

    choice: Literal["a", "b"] = "a"
    count: Annotated[int, at_least(1), Rule("be even", lambda value: value % 2 == 0)] = 2
    share: Annotated[float, within(0, 1, " (half is 0.5)")] = 0
    rate: Annotated[float, POSITIVE] | None = None
    sizes: tuple[Annotated[int, at_least(2)], ...] = ()
    length: Literal["all"] | int = "all"
    flag: bool = False
    out: Path | None = None
    anything: Any = None

    def __post_init__(self) -> None:
        check_fields(self)


def test_settings_that_keep_their_rules_pass() -> None:
    Settings("b", 4, 1, 1e-9, (2, 3), 7, True, Path("out"), object())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"choice": None}, "'choice' must be one of a, b, not None"),
        ({"count": 0}, "'count' must be at least 1, not 0"),
        ({"count": 3}, "'count' must be even, not 3"),
        ({"count": True}, "'count' must be a whole number, not True"),
        ({"share": 1.5}, "'share' must lie in 0..1 (half is 0.5), not 1.5"),
        ({"share": float("nan")}, "'share' must lie in 0..1 (half is 0.5), not nan"),
        ({"share": "0.5"}, "'share' must be a number, not '0.5'"),
        ({"rate": 0.0}, "'rate' must be positive, not 0.0"),
        ({"rate": float("inf")}, "'rate' must be positive, not inf"),
        ({"sizes": [4]}, "'sizes' must be a tuple, not [4]"),
        ({"sizes": (4, 1)}, "'sizes' must be at least 2, not 1"),
        ({"length": "some"}, "'length' must be one of all or be a whole number, not 'some'"),
        ({"flag": 1}, "'flag' must be true or false, not 1"),
        ({"out": "runs"}, "'out' must be a path, not 'runs'"),
    ],
)
def test_settings_that_break_a_rule_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Settings(**values)
    assert str(caught.value) == message
