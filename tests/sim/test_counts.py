"""Counts add up, survive a file to the last digit, and are all in the digest."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

from twophase.sim.counts import (
    LLR_EDGES,
    SystemCounts,
    Tally,
    TextCounts,
    tally_arrays,
    tally_digest,
    tally_from_arrays,
)


def _tally(seed: int) -> Tally:
    """Numbers at random in every field."""
    rng, samples, bins = np.random.default_rng(seed), 6, LLR_EDGES.size - 1

    def numbers(*shape: int) -> np.ndarray:
        return rng.integers(0, 99, shape)

    def scalars(counts: Tally | SystemCounts | TextCounts) -> dict[str, float]:
        """A number for each field that is one."""
        plain = {entry.name: entry.type for entry in fields(counts) if entry.type in ("int", "float")}
        return {name: rng.random() if kind == "float" else int(numbers()) for name, kind in plain.items()}

    def system() -> SystemCounts:
        frames = Counter({(3, 4): int(numbers()), (0, 2): 5})
        counts = SystemCounts(numbers(samples), frames, Counter({3: 2}))
        return replace(counts, **scalars(counts))

    text = TextCounts(numbers(samples))
    tally = Tally(
        0.0,
        system(),
        {"learning": system(), "aligned": system()},
        numbers(samples),
        histograms={3: numbers(16), 0: numbers(4)},
        gains={(3, 4): numbers(801)},
        baselines={"conv": system()},
        text=replace(text, **scalars(text)),
        confusion=numbers(4, 4),
        llr_zeros=numbers(bins),
        llr_ones=numbers(bins),
        llr_expected=rng.random(bins),
    )
    return replace(tally, **scalars(tally) | {"esn0_db": -2.5})


def _read_back(tally: Tally) -> Tally:
    stream = io.BytesIO()
    np.savez(stream, **tally_arrays(tally))
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as archive:
        return tally_from_arrays({name: archive[name] for name in archive.files})


def _plain(value: object) -> object:
    """Nested counts as what compares with ==, the order of entries included."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.tolist()
    if is_dataclass(value):
        return [(entry.name, _plain(getattr(value, entry.name))) for entry in fields(value)]
    if isinstance(value, dict):
        return type(value), [(key, _plain(inner)) for key, inner in value.items()]
    return type(value), value


@pytest.mark.parametrize("text", [True, False])
def test_what_is_read_back_is_what_was_kept(text: bool) -> None:
    empty = Tally(0.0, SystemCounts(np.zeros(3, dtype=np.int64)), {}, np.zeros(3, dtype=np.int64))
    for tally in (empty, _tally(1) if text else replace(_tally(1), text=None)):
        assert _plain(_read_back(tally)) == _plain(tally)
        assert tally_digest(_read_back(tally)) == tally_digest(tally)


def _sum(first: object, second: object) -> object:
    """The slow twin of a merge, entry by entry."""
    if is_dataclass(first):
        sums = {e.name: _sum(getattr(first, e.name), getattr(second, e.name)) for e in fields(first)}
        return replace(first, **sums | ({"esn0_db": -2.5} if isinstance(first, Tally) else {}))
    if isinstance(first, dict):
        names = dict.fromkeys([*first, *second])
        return type(first)(
            {
                n: _sum(first[n], second[n]) if n in first and n in second else first.get(n, second.get(n))
                for n in names
            }
        )
    return first + second


def test_counts_add_up_whether_kept_or_not() -> None:
    # A mode that only the later trials use.
    first, second = _tally(1), _tally(2)
    del first.histograms[0]
    del first.gains[3, 4]
    expected = _plain(_sum(first, second))
    kept = _read_back(first)
    kept.merge(_read_back(second))
    first.merge(second)
    assert _plain(first) == _plain(kept) == expected


def test_every_count_is_in_the_digest_and_must_be_there() -> None:
    arrays = tally_arrays(_tally(1))
    digest = tally_digest(_tally(1))
    for name, array in arrays.items():
        others = {key: value for key, value in arrays.items() if key != name}
        if name == "text/correct":  # what tells that sentences were sent
            assert tally_from_arrays(others).text is None
            continue
        with pytest.raises(KeyError):
            tally_from_arrays(others)
        if array.dtype.kind != "U":
            altered = np.copy(array)
            altered.flat[0] += 1
            assert tally_digest(tally_from_arrays(others | {name: altered})) != digest, name
