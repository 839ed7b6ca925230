"""Counts survive a file to the last digit, and every count is in the digest."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter

import numpy as np
import pytest

from twophase.sim.counts import LLR_EDGES, SystemCounts, Tally, tally_arrays, tally_digest, tally_from_arrays

BINS = LLR_EDGES.size - 1


def _system(rng: np.random.Generator, samples: int) -> SystemCounts:
    return SystemCounts(
        correct=rng.integers(0, 9, samples),
        frames=Counter({(3, 4): 7, (0, 2): 5}),
        correct_by_mode=Counter({3: 2}),
        mode_errors=3,
        energy_sum=float(rng.random()),
        transmissions=2,
        symbols=11,
        sent=4,
    )


def _tally(seed: int, samples: int = 6) -> Tally:
    rng = np.random.default_rng(seed)
    return Tally(
        esn0_db=-2.5,
        deployed=_system(rng, samples),
        references={"learning": _system(rng, samples), "aligned": _system(rng, samples)},
        noiseless_correct=rng.integers(0, 2, samples),
        histograms={3: rng.integers(0, 99, 16), 0: rng.integers(0, 99, 4)},
        gains={(3, 4): rng.integers(0, 9, 801)},
        transmissions=1,
        trials=5,
        baselines={"conv": _system(rng, samples)},
        confusion=rng.integers(0, 9, (4, 4)),
        llr_zeros=rng.integers(0, 9, BINS),
        llr_ones=rng.integers(0, 9, BINS),
        llr_expected=rng.random(BINS),
        signal_power=float(rng.random()),
        signal_count=9,
        noise_power=float(rng.random()),
        noise_count=10,
        pilots=3,
        bit_errors=1,
        bits_sent=2,
        codeword_errors=3,
        codewords_sent=4,
        abs_llr=float(rng.random()),
        llrs=6,
        llrs_replaced=7,
        llrs_total=8,
    )


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
    if dataclasses.is_dataclass(value):
        return [(entry.name, _plain(getattr(value, entry.name))) for entry in dataclasses.fields(value)]
    if isinstance(value, dict):
        return type(value), [(key, _plain(inner)) for key, inner in value.items()]
    return type(value), value


def test_what_is_read_back_is_what_was_kept() -> None:
    tally = _tally(1)
    assert _plain(_read_back(tally)) == _plain(tally)
    empty = Tally(0.0, SystemCounts(np.zeros(3, dtype=np.int64)), {}, np.zeros(3, dtype=np.int64))
    assert _plain(_read_back(empty)) == _plain(empty)


def test_a_missing_count_is_an_error() -> None:
    arrays = tally_arrays(_tally(1))
    for name in arrays:
        with pytest.raises(KeyError):
            tally_from_arrays({key: value for key, value in arrays.items() if key != name})


def test_counts_add_up_whether_kept_or_not() -> None:
    total, kept = _tally(1), _read_back(_tally(1))
    total.merge(_tally(2))
    kept.merge(_read_back(_tally(2)))
    assert _plain(total) == _plain(kept)
    first, second = _tally(1), _tally(2)
    assert total.esn0_db == -2.5
    assert total.trials == 10
    assert np.array_equal(total.deployed.correct, first.deployed.correct + second.deployed.correct)
    assert total.references["aligned"].mode_errors == 6
    assert total.baselines["conv"].frames == Counter({(3, 4): 14, (0, 2): 10})
    assert np.array_equal(total.histograms[3], first.histograms[3] + second.histograms[3])
    assert np.array_equal(total.confusion, first.confusion + second.confusion)
    assert total.abs_llr == first.abs_llr + second.abs_llr


def test_a_mode_that_only_later_trials_use_is_added() -> None:
    total, later = _tally(1), _tally(2)
    del total.histograms[0]
    del total.gains[3, 4]
    total.merge(later)
    assert np.array_equal(total.histograms[0], later.histograms[0])
    assert np.array_equal(total.gains[3, 4], later.gains[3, 4])


def test_every_count_is_in_the_digest() -> None:
    tally = _tally(1)
    digest = tally_digest(tally)
    assert digest == tally_digest(_read_back(tally))
    for name, array in tally_arrays(tally).items():
        if array.dtype.kind == "U":
            continue
        altered = dict(tally_arrays(tally))
        altered[name] = np.copy(array)
        altered[name].flat[0] += 1
        assert tally_digest(tally_from_arrays(altered)) != digest, name
