"""What the hints of a dataclass say, held to: choices, ranges, and JSON values as the types it declares.

::

    @dataclass(frozen=True)
    class Settings:
        device: Literal["auto", "cpu"] = "auto"
        share: Annotated[float, within(0, 1)] = 0.5
        sizes: tuple[Annotated[int, at_least(2)], ...] = (64,)

        def __post_init__(self) -> None:
            check_fields(self)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from twophase.link.errors import InputError

__all__ = ["POSITIVE", "Count", "Rule", "Seed", "Threads", "at_least", "check_fields", "from_json", "within"]


@dataclass(frozen=True)
class Rule:
    """What a value must do beside being of its type; stands in ``Annotated`` after the type."""

    words: str
    """As said after "must"."""
    holds: Callable[[Any], bool]


POSITIVE = Rule("be positive", lambda value: 0 < value < math.inf)


def at_least(low: float) -> Rule:
    """Finite, and not below ``low``."""
    return Rule(f"be at least {low}", lambda value: low <= value < math.inf)


def within(low: float, high: float, hint: str = "") -> Rule:
    """From ``low`` to ``high``, both included; ``hint`` follows in the message."""
    return Rule(f"lie in {low:,}..{high:,}{hint}", lambda value: low <= value <= high)


Count = Annotated[int, within(1, 1_000_000)]
"""Of epochs, trials, samples of a batch, widths: more is a typing error."""
Seed = Annotated[int, at_least(0)]
Threads = Annotated[int, within(1, 1024)]
"""Of processors too: more is a typing error, and no machine's cores."""


def check_fields(instance: object) -> None:
    """Hold the fields of a dataclass to their hints: type, ``Literal`` choices and ``Rule``s.

    None passes where the hint allows it; of a tuple each entry is checked.

    Raises
    ------
    InputError
        Names field, rule and value; of a tuple the entry at fault.
    """
    owner: Any = type(instance)
    for name, kind in _hints(owner):
        fault = _fault(kind, getattr(instance, name))
        if fault is not None:
            raise InputError(name, *fault)


@cache
def _hints(owner: type) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(owner, include_extras=True)
    return tuple((item.name, hints[item.name]) for item in fields(owner))


def _fault(kind: Any, value: Any) -> tuple[str, Any] | None:
    """Rule that ``value`` breaks, and what breaks it; None for a good one."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        broken = (rule.words for rule in inner[1:] if isinstance(rule, Rule) and not rule.holds(value))
        words = next(broken, None) if (fault := _fault(inner[0], value)) is None else None
        return fault if words is None else (words, value)
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return None
        faults = [_fault(option, value) for option in inner if option is not NoneType]
        words = " or ".join(fault[0] for fault in faults if fault is not None)
        return None if None in faults else (words, value)
    if origin is tuple:
        if not isinstance(value, tuple):
            return "be a tuple", value
        return next(filter(None, (_fault(inner[0], entry) for entry in value)), None)
    if origin is Literal:
        return None if value in inner else (f"be one of {', '.join(map(str, inner))}", value)
    accepted = (int, float) if kind is float else kind
    if kind in _KINDS and (not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool)):
        return f"be {_KINDS[kind]}", value
    if kind is int and not -(2**63) <= value < 2**63:
        return "lie within 64 bits", value
    return None


def from_json(kind: Any, value: Any, name: str) -> Any:
    """Check that ``value`` is a ``kind``; lists become tuples and objects dataclasses where it asks for them.

    Parameters
    ----------
    kind
        ``Any``, ``str``, ``bool``, ``int``, ``float`` (finite; whole numbers pass), ``Path``,
        ``Literal[...]``, ``dict[str, T]``, ``tuple[T, ...]``, ``T | U``, ``T | None``, or a dataclass of such
        fields, all of which must be there.
    value
        What was read.
    name
        What errors call it.

    Raises
    ------
    ValueError
        If it is something else; the message names the entry at fault.
    """
    if kind is Any:
        return value
    if is_dataclass(kind) and isinstance(kind, type):
        return _dataclass_from(kind, value, name)
    inner = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        *others, last = (option for option in inner if option is not NoneType)
        for option in others:
            with contextlib.suppress(ValueError):
                return from_json(option, value, name)
        return None if value is None and NoneType in inner else from_json(last, value, name)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"'{name}' must be a list, not {_told(value)}")
        if _is_plain(inner[0], value):  # a large codebook takes no second
            return tuple(value)
        return tuple(from_json(inner[0], entry, f"{name}[{number}]") for number, entry in enumerate(value))
    if get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise ValueError(f"'{name}' must be an object, not {_told(value)}")
        return {key: from_json(inner[1], entry, f"{name}.{key}") for key, entry in value.items()}
    if get_origin(kind) is Literal:
        if value not in inner:
            raise ValueError(f"'{name}' must be one of {', '.join(map(repr, inner))}, not {_told(value)}")
        return value
    return _number_or_text(kind, value, name)


def _dataclass_from(kind: type, value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"'{name}' must be an object, not {_told(value)}")
    hints = get_type_hints(kind)
    wanted = [item.name for item in fields(kind)]
    for problem, names in (
        ("lacks", [entry for entry in wanted if entry not in value]),
        ("has no", [entry for entry in value if entry not in wanted]),
    ):
        if names:
            raise ValueError(f"'{name}' {problem} {', '.join(names)}")
    return kind(**{entry: from_json(hints[entry], value[entry], f"{name}.{entry}") for entry in wanted})


def _is_plain(kind: Any, values: list[Any]) -> bool:
    """Whether all are of the simple type ``kind`` already."""
    return (
        kind in _KINDS
        and set(map(type, values)) == {kind}
        and (kind is not float or all(map(math.isfinite, values)))
    )


def _number_or_text(kind: type, value: Any, name: str) -> Any:
    accepted = {float: (int, float), Path: (str,)}.get(kind, (kind,))
    if type(value) not in accepted:  # 'true' is no 1
        raise ValueError(f"'{name}' must be {_KINDS[kind]}, not {_told(value)}")
    if kind is not float:
        return kind(value)
    number = math.nan if abs(value) > _LARGEST else float(value)
    if not math.isfinite(number):
        raise ValueError(f"'{name}' must be finite, not {_told(value)}")
    return number


_KINDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a number", Path: "a path"}
_LARGEST = 1e300


def _told(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
