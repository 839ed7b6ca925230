"""JSON values as the types that a dataclass declares, nothing coerced silently."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

__all__ = ["from_json"]


def from_json(kind: Any, value: Any, name: str) -> Any:
    """Check that ``value`` is a ``kind``; lists become tuples and objects dataclasses where it asks for them.

    Parameters
    ----------
    kind
        ``Any``, ``str``, ``int``, ``float`` (finite; whole numbers pass), ``Literal[...]``, ``dict[str, T]``,
        ``tuple[T, ...]``, ``T | None``, or a dataclass of such fields, all of which must be there.
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
    if get_origin(kind) is UnionType:
        (present,) = (option for option in inner if option is not NoneType)
        return None if value is None else from_json(present, value, name)
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
    accepted = (int, float) if kind is float else (kind,)
    if type(value) not in accepted:  # 'true' is no 1
        raise ValueError(f"'{name}' must be {_KINDS[kind]}, not {_told(value)}")
    if kind is not float:
        return value
    number = math.nan if abs(value) > _LARGEST else float(value)
    if not math.isfinite(number):
        raise ValueError(f"'{name}' must be finite, not {_told(value)}")
    return number


_KINDS = {str: "a text", int: "a whole number", float: "a number"}
_LARGEST = 1e300


def _told(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
