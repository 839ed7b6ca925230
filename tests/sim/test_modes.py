"""Every mode by itself, and the adaptive link among them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tools.tiny_bundle import CLASSES, LINK, TABLE
from twophase.sim.counts import SystemCounts, Tally
from twophase.sim.point import simulate_point
from twophase.sim.results.figures import BestFixed, Point
from twophase.sim.results.modes import mode_figures, with_best_fixed
from twophase.sim.results.points import point_results
from twophase.sim.settings import Settings, Workers
from twophase.sim.sweep.job import make_job
from twophase.sim.sweep.measure import Measured, measure
from twophase.sim.theory.statistics import paired_gap

MODES = LINK.modes
GRID = (1.0, 7.0)
SETTINGS = Settings(trials=3, seed=4)


@pytest.fixture(scope="module")
def measured(bundle: Path) -> Measured:
    job = make_job(bundle, None, SETTINGS)
    return measure(job, job.open(), GRID, Workers(), modes_report=True)


@pytest.fixture(scope="module")
def points(measured) -> list[Point]:
    return point_results(measured.link, MODES, CLASSES, SETTINGS)


def test_every_mode_is_what_a_run_of_that_mode_gives(by_snr, measured) -> None:
    entries = mode_figures(measured.modes, MODES, CLASSES, SETTINGS)
    assert [(entry.mode, entry.symbols, entry.bits) for entry in entries] == [
        (name, mode.symbols, mode.information_bits) for name, mode in zip(MODES.names, MODES, strict=True)
    ]
    for entry, tallies in zip(entries, measured.modes, strict=True):
        assert tallies[0].references == {}
        alone = replace(SETTINGS, mode=entry.mode)
        shown = entry.points[1]
        (point,) = point_results([simulate_point(*by_snr, GRID[1], alone)], MODES, CLASSES, alone)
        for own, other in (
            ("accuracy", "accuracy_hard"),
            ("accuracy_ci", "accuracy_hard_ci"),
            *(
                (name, name)
                for name in ("esn0_db", "accuracy_noiseless", "label_bound", "ber", "symbol_energy")
            ),
        ):
            assert getattr(shown, own) == getattr(point, other)
        assert point.mode_usage == {entry.mode: 1.0}


def test_where_the_router_takes_one_mode_it_is_that_mode(measured, points) -> None:
    for place, point in enumerate(with_best_fixed(points, measured.link, measured.modes, MODES, SETTINGS)):
        # The same gains and noise: not only as good, but right and wrong on the same frames.
        own = measured.modes[int(TABLE.choose(point.esn0_db))][place]
        assert np.array_equal(own.deployed.correct, measured.link[place].deployed.correct)
        best = point.best_fixed
        assert best.symbols >= point.symbols_per_sample
        assert best.difference == pytest.approx(point.accuracy_hard - best.accuracy)


def _tally(mode: int, right: int, samples: int = 40) -> Tally:
    frames = Counter({(mode, 0): 10 * samples})
    counts = SystemCounts(np.full(samples, right), frames, energy_sum=1.0, transmissions=1)
    return Tally(0.0, counts, {}, np.zeros(samples, dtype=np.int64), trials=10)


@pytest.mark.parametrize(
    ("rights", "symbols", "best"),
    [
        ((7, 8, 9, 5), 1.0, 2),  # all modes are as long: the best of them
        ((7, 8, 9, 5), 2.0 + 1e-12, 2),  # rounding of a mean
        ((7, 8, 9, 5), 2.5, 0),  # only the mode of three symbols is
        ((7, 8, 9, 5), 6.0, 2),  # none is: of all
        ((8, 8, 8, 8), 1.5, 1),  # of equally good ones the shorter
    ],
)
def test_the_best_fixed_mode_has_as_many_symbols(points, rights, symbols, best) -> None:
    assert [mode.symbols for mode in MODES] == [3, 2, 2, 1]
    fixed = [[_tally(number, right)] for number, right in enumerate(rights)]
    own = _tally(3, 6)
    (point,) = with_best_fixed(
        [replace(points[0], symbols_per_sample=symbols)], [own], fixed, MODES, SETTINGS
    )
    gap = paired_gap(own.deployed.correct / 10 - fixed[best][0].deployed.correct / 10)
    expected = BestFixed(MODES.names[best], MODES[best].symbols, rights[best] / 10, gap.gap, gap.interval)
    assert point.best_fixed == replace(expected, accuracy=pytest.approx(expected.accuracy))
