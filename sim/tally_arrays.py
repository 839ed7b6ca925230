"""Counts of a point as named arrays, for the file of a finished block and for a digest of all of them.

The order of entries is kept, because sums over them are taken in it: counts that were read back give the same
report to the last digit.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twophase.sim.counts import SystemCounts, Tally, TextCounts

__all__ = ["tally_arrays", "tally_digest", "tally_from_arrays"]


_COLUMNS = {"frames": 3, "correct_by_mode": 2}
"""Of the counters, key and count."""


def tally_arrays(tally: Tally) -> dict[str, NDArray[Any]]:
    """All counts of a point as arrays; the inverse of :func:`tally_from_arrays`."""
    return _to_arrays(tally)


def tally_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Tally:
    """Counts from what :func:`tally_arrays` gave.

    Raises
    ------
    KeyError
        If a count is missing.
    """
    return Tally(**_from_arrays(Tally, arrays))


def tally_digest(tally: Tally) -> str:
    """SHA-256 over every count: equal if all counts are, and practically only then."""
    state = hashlib.sha256()
    for name, array in sorted(tally_arrays(tally).items()):
        state.update(f"{name} {array.dtype.str} {array.shape}".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def _to_arrays(counts: Any) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for entry in fields(counts):
        value = getattr(counts, entry.name)
        if isinstance(value, Counter):
            rows = [[*(key if isinstance(key, tuple) else (key,)), count] for key, count in value.items()]
            arrays[entry.name] = np.array(rows, dtype=np.int64).reshape(-1, _COLUMNS[entry.name])
        elif isinstance(value, (SystemCounts, TextCounts)):
            arrays |= {f"{entry.name}/{name}": array for name, array in _to_arrays(value).items()}
        elif value is None:
            continue  # the digest of who counts nothing here stays what it was
        elif isinstance(value, dict):
            arrays |= _dict_arrays(entry.name, value)
        else:
            arrays[entry.name] = np.asarray(value)
    return arrays


def _dict_arrays(name: str, values: dict[Any, Any]) -> dict[str, NDArray[Any]]:
    """Entries of a dict, each under its key; keys are names, modes, or (mode, header symbols)."""
    arrays: dict[str, NDArray[Any]] = {f"{name}": np.array([_spelled(key) for key in values], dtype="U64")}
    for key, value in values.items():
        place = f"{name}/{_spelled(key)}"
        if isinstance(value, SystemCounts):
            arrays |= {f"{place}/{inner}": array for inner, array in _to_arrays(value).items()}
        else:
            arrays[place] = value
    return arrays


def _spelled(key: object) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _from_arrays(kind: type, arrays: Mapping[str, NDArray[Any]], prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for entry in fields(kind):
        place = f"{prefix}{entry.name}"
        if entry.name in ("references", "companions"):
            names = arrays[place].tolist()
            values[entry.name] = {
                name: SystemCounts(**_from_arrays(SystemCounts, arrays, f"{place}/{name}/")) for name in names
            }
        elif entry.name == "deployed":
            values[entry.name] = SystemCounts(**_from_arrays(SystemCounts, arrays, f"{place}/"))
        elif entry.name == "text":
            values["text"] = None
            if "text/correct" in arrays:
                values["text"] = TextCounts(**_from_arrays(TextCounts, arrays, "text/"))
        elif entry.name in ("histograms", "gains"):
            keys = {key: tuple(map(int, key.split())) for key in arrays[place].tolist()}
            values[entry.name] = {
                (key if entry.name == "gains" else key[0]): arrays[f"{place}/{spelled}"]
                for spelled, key in keys.items()
            }
        elif entry.name in ("frames", "correct_by_mode"):
            rows = arrays[place].tolist()
            single = entry.name == "correct_by_mode"
            values[entry.name] = Counter({(row[0] if single else tuple(row[:-1])): row[-1] for row in rows})
        else:
            array = arrays[place]
            values[entry.name] = array.item() if array.ndim == 0 else array
    return values
