"""Every mode by itself against the adaptive link: what the choice of the mode is worth.

Each mode is sent for all samples, known to both ends, without a header, through the same gains and noise as
:func:`~twophase.sim.point.simulate_point` gives for ``--mode``.  Where the adaptive link sends no header
either, its frames are as wide, and the comparison is in pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from twophase.link.modes import ModeTable
from twophase.sim.counts import Tally
from twophase.sim.results.figures import BestFixed, LinkFigures, ModeFigures, ModePoint, Point
from twophase.sim.results.points import frame_symbols, link_figures
from twophase.sim.settings import Settings
from twophase.sim.theory.statistics import paired_gap

__all__ = ["mode_figures", "with_best_fixed"]


def mode_figures(
    tallies: Sequence[Sequence[Tally]], modes: ModeTable, classes: int, settings: Settings
) -> tuple[ModeFigures, ...]:
    """Each mode by itself over the grid, from its counts, [mode][point], without soft references."""
    return tuple(
        ModeFigures(
            name,
            frame_symbols(mode, 0, settings),
            mode.information_bits,
            tuple(_mode_point(link_figures(tally, modes, classes, settings)) for tally in points),
        )
        for name, mode, points in zip(modes.names, modes, tallies, strict=True)
    )


def _mode_point(figures: LinkFigures) -> ModePoint:
    return ModePoint(
        figures.esn0_db,
        figures.accuracy_hard,
        figures.accuracy_hard_ci,
        figures.accuracy_noiseless,
        figures.label_bound,
        figures.ber,
        figures.codeword_error_rate,
        figures.symbol_energy,
    )


def with_best_fixed(
    points: Sequence[Point],
    adaptive: Sequence[Tally],
    fixed: Sequence[Sequence[Tally]],
    modes: ModeTable,
    settings: Settings,
) -> list[Point]:
    """Points with the best mode of at least as many symbols as the adaptive link has there.

    Where no mode is that long, because the header makes the adaptive link the longest of all, it is the best
    of all modes.  ``fixed`` are the counts of every mode, [mode][point].
    """
    lengths = [frame_symbols(mode, 0, settings) for mode in modes]
    completed = []
    for place, (point, own) in enumerate(zip(points, adaptive, strict=True)):
        # A mean over many frames of one length need not come out as that whole number.
        least = point.symbols_per_sample - 1e-9
        long_enough = [number for number, length in enumerate(lengths) if length >= least]
        best = max(
            long_enough or range(len(modes)),
            key=lambda number: (int(fixed[number][place].deployed.correct.sum()), -lengths[number]),
        )
        other = fixed[best][place]
        gap = paired_gap(own.deployed.correct / own.trials - other.deployed.correct / other.trials)
        accuracy = float(other.deployed.correct.mean() / other.trials)
        chosen = BestFixed(modes.names[best], lengths[best], accuracy, gap.gap, gap.interval)
        completed.append(replace(point, best_fixed=chosen))
    return completed
