"""Every mode by itself, and the adaptive link among them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tools.fake_report import fake_report
from tools.tiny_bundle import CLASSES, LINK, TABLE
from twophase.sim.counts import SystemCounts, Tally
from twophase.sim.point import simulate_point
from twophase.sim.results.figures import BestFixed
from twophase.sim.results.modes import mode_figures, with_best_fixed
from twophase.sim.results.points import point_results
from twophase.sim.settings import Settings, Workers
from twophase.sim.sweep.job import make_job
from twophase.sim.sweep.measure import measure
from twophase.sim.theory.statistics import paired_gap

MODES = LINK.modes
GRID = (1.0, 7.0)
SETTINGS = Settings(trials=3, seed=4)


@pytest.fixture(scope="module")
def fixed(bundle: Path, by_snr) -> list[list[Tally]]:
    measured = measure(
        make_job(bundle, None, SETTINGS), (by_snr[0], None, by_snr[1]), GRID, Workers(), modes_report=True
    )
    assert all(tally.references == {} for points in measured.modes for tally in points)
    return measured.modes


def test_every_mode_is_what_a_run_of_that_mode_gives(by_snr, fixed) -> None:
    entries = mode_figures(fixed, MODES, CLASSES, SETTINGS)
    assert [entry.mode for entry in entries] == list(MODES.names)
    assert [(entry.symbols, entry.bits) for entry in entries] == [
        (mode.symbols, mode.information_bits) for mode in MODES
    ]
    for number, entry in enumerate(entries):
        alone = Settings(trials=3, seed=4, mode=MODES.names[number])
        tallies = [simulate_point(*by_snr, esn0_db, alone) for esn0_db in GRID]
        points = point_results(tallies, MODES, CLASSES, alone)
        for shown, point in zip(entry.points, points, strict=True):
            assert (shown.esn0_db, shown.accuracy, shown.accuracy_ci) == (
                *(point.esn0_db, point.accuracy_hard, point.accuracy_hard_ci),
            )
            assert (shown.ber, shown.symbol_energy) == (point.ber, point.symbol_energy)
            assert point.mode_usage == {entry.mode: 1.0}


def test_where_the_router_takes_one_mode_it_is_that_mode(by_snr, fixed) -> None:
    adaptive = [simulate_point(*by_snr, esn0_db, SETTINGS) for esn0_db in GRID]
    points = point_results(adaptive, MODES, CLASSES, SETTINGS)
    points = with_best_fixed(points, adaptive, fixed, MODES, SETTINGS)
    for place, esn0_db in enumerate(GRID):
        # The same gains and noise: not only as good, but right and wrong on the same frames.
        own = fixed[int(TABLE.choose(esn0_db))][place]
        assert np.array_equal(own.deployed.correct, adaptive[place].deployed.correct)
        best = points[place].best_fixed
        assert best.symbols >= points[place].symbols_per_sample
        assert best.difference == pytest.approx(points[place].accuracy_hard - best.accuracy)
        assert best.difference_ci[0] <= best.difference <= best.difference_ci[1]


def _tally(mode: int, header: int, right: int, samples: int = 40) -> Tally:
    counts = SystemCounts(
        np.full(samples, right),
        frames=Counter({(mode, header): 10 * samples}),
        energy_sum=1.0,
        transmissions=1,
    )
    return Tally(0.0, counts, {}, np.zeros(samples, dtype=np.int64), trials=10)


def _best_fixed(symbols: float, own: Tally, fixed: list[list[Tally]]) -> BestFixed:
    point = replace(fake_report((0.0,)).points[0], symbols_per_sample=symbols)
    (point,) = with_best_fixed([point], [own], fixed, MODES, SETTINGS)
    assert point.best_fixed is not None
    return point.best_fixed


@pytest.mark.parametrize(
    ("symbols", "best"),
    [
        (1.0, 2),  # all modes are as long: the best of them
        (2.0, 2),
        (2.0 + 1e-12, 2),  # rounding of a mean
        (2.5, 0),  # only the mode of three symbols is
        (6.0, 2),  # none is: of all
    ],
)
def test_the_best_fixed_mode_has_as_many_symbols(symbols, best) -> None:
    assert [mode.symbols for mode in MODES] == [3, 2, 2, 1]
    fixed = [[_tally(number, 0, right)] for number, right in enumerate((7, 8, 9, 5))]
    own = _tally(3, 0, 6)
    entry = _best_fixed(symbols, own, fixed)
    assert entry.mode == MODES.names[best]
    assert entry.symbols == MODES[best].symbols
    assert entry.accuracy == pytest.approx((0.7, 0.8, 0.9, 0.5)[best])
    assert entry.difference == pytest.approx(0.6 - entry.accuracy)
    expected = paired_gap(own.deployed.correct / 10 - fixed[best][0].deployed.correct / 10)
    assert entry.difference_ci == expected.interval


def test_of_equally_good_modes_the_shorter_is_named() -> None:
    fixed = [[_tally(number, 0, 8)] for number in range(4)]
    assert _best_fixed(1.5, _tally(3, 0, 8), fixed).symbols == 2
