"""Rules of a manifest's entries that no type holds: names of graphs, free records, and what is derived.

Every entry that a device or a person acts on is computed again and compared, or typed and bounded here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from twophase.link.errors import InputError
from twophase.link.modes import ModeTable

__all__ = ["check_derived", "check_graph_file", "check_record", "check_shares", "check_within", "modes_entry"]

_DEEPEST = 12
_LARGEST = 1e300
_LONGEST = 1 << 20


def check_graph_file(name: str, file: str) -> None:
    """Refuse what is no plain name of an ONNX graph; InputError."""
    if not re.fullmatch(r"\w[\w.-]*\.onnx", file, re.ASCII):
        raise InputError(name, "be the plain name of an .onnx file", file)


def check_within(name: str, values: Collection[float], low: float, high: float) -> None:
    """Refuse a number outside ``low`` to ``high``; InputError."""
    for value in values:
        if not low <= value <= high:
            raise InputError(name, f"lie in {low:g}..{high:g}", value)


def check_record(name: str, record: Mapping[str, Any], fields: Collection[str]) -> None:
    """A free record: JSON of bounded depth, finite numbers, and no entry called as a field of the manifest.

    A reader could take such an entry for the field, which is checked, and the entry is not.

    Raises
    ------
    InputError
        Names the entry.
    """
    if doubled := sorted(set(record) & set(fields)):
        raise InputError(name, f"not hold '{doubled[0]}', which is a field of the manifest", doubled[0])
    for place, value in _leaves(name, record, 0):
        if value is None or isinstance(value, bool):
            continue
        if isinstance(value, str):
            if len(value) > _LONGEST:
                raise InputError(place, f"hold at most {_LONGEST:,} characters", len(value))
        elif not isinstance(value, (int, float)) or not -_LARGEST < value < _LARGEST:
            raise InputError(place, "be finite", value if isinstance(value, float) else type(value).__name__)


def _leaves(place: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > _DEEPEST:
        raise InputError(place, f"be nested at most {_DEEPEST} deep", "more")
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _leaves(f"{place}.{key}", entry, depth + 1)
    elif isinstance(value, (list, tuple)):
        for number, entry in enumerate(value):
            yield from _leaves(f"{place}[{number}]", entry, depth + 1)
    else:
        yield place, value


def check_derived(name: str, found: object, wanted: object) -> None:
    """Refuse an entry that follows from the others and does not agree with them; InputError."""
    if found != wanted:
        raise InputError(name, "be what follows from the other entries", str(found)[:60])


def modes_entry(modes: ModeTable) -> list[dict[str, Any]]:
    """The entry ``modes``, which a reader need not derive."""
    figures = ("information_bits", "channel_bits", "symbols")
    return [
        {"name": name, **{figure: getattr(mode, figure) for figure in figures}}
        for name, mode in zip(modes.names, modes, strict=True)
    ]


def check_shares(name: str, shares: Collection[float]) -> None:
    """Refuse shares below 0 or that do not sum to 1; InputError."""
    if min(shares) < 0 or abs(math.fsum(shares) - 1) > 1e-6:
        raise InputError(name, "be at least 0 and sum to 1", round(math.fsum(shares), 9))
