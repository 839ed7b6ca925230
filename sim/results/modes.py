"""Every mode by itself beside the adaptive link: what the choice of the mode is worth.

Each mode is sent for all samples, known to both ends, without a header, through the same gains and noise as
:func:`~twophase.sim.point.simulate_point` gives for ``--mode``.  Where the adaptive link sends no header
either, its frames are as wide, and the comparison is in pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twophase.link.modes import Mode, ModeTable
from twophase.sim.channel.radio import pilot_symbols
from twophase.sim.counts import Tally
from twophase.sim.results.figures import link_figures
from twophase.sim.settings import Settings
from twophase.sim.theory.statistics import paired_gap

__all__ = ["add_best_fixed", "mode_entries"]

_SHOWN = (
    "esn0_db",
    "accuracy",
    "accuracy_ci",
    "accuracy_noiseless",
    "label_bound",
    "ber",
    "codeword_error_rate",
    "symbol_energy",
)


def mode_entries(
    tallies: Sequence[Sequence[Tally]], modes: ModeTable, classes: int, settings: Settings
) -> list[dict[str, Any]]:
    """Entries of ``modes`` in ``report.json``, one for each mode.

    Parameters
    ----------
    tallies
        Counts of every mode at every SNR point, [mode][point], soft references left out.
    modes, classes, settings
        As for :func:`~twophase.sim.results.figures.point_results`.
    """
    entries = []
    for name, mode, points in zip(modes.names, modes, tallies, strict=True):
        figures = [link_figures(tally, modes, classes, settings) for tally in points]
        entries.append(
            {
                "mode": name,
                "symbols": _symbols(mode, settings),
                "bits": mode.information_bits,
                "points": [{key: entry[key] for key in _SHOWN} for entry in figures],
            }
        )
    return entries


def add_best_fixed(
    points: Sequence[dict[str, Any]],
    adaptive: Sequence[Tally],
    fixed: Sequence[Sequence[Tally]],
    modes: ModeTable,
    settings: Settings,
) -> None:
    """Put ``best_fixed`` into each point: the best mode of at least as many symbols as the adaptive link.

    Where no mode is that long, because the header makes the adaptive link the longest of all, it is the best
    of all modes.

    Parameters
    ----------
    points
        Entries of the adaptive link, altered in place.
    adaptive
        Its counts at each point.
    fixed
        Those of every mode, [mode][point].
    modes
        All modes of the link.
    settings
        How the sweep was run: pilots count as symbols.
    """
    lengths = [_symbols(mode, settings) for mode in modes]
    for place, (point, own) in enumerate(zip(points, adaptive, strict=True)):
        # A mean over many frames of one length need not come out as that whole number.
        least = point["symbols_per_sample"] - 1e-9
        long_enough = [number for number, length in enumerate(lengths) if length >= least]
        best = max(
            long_enough or range(len(modes)),
            key=lambda number: (int(fixed[number][place].deployed.correct.sum()), -lengths[number]),
        )
        other = fixed[best][place]
        gap = paired_gap(own.deployed.correct / own.trials - other.deployed.correct / other.trials)
        point["best_fixed"] = {
            "mode": modes.names[best],
            "symbols": lengths[best],
            "accuracy": float(other.deployed.correct.mean() / other.trials),
            "difference": gap.gap,
            "difference_ci": gap.interval,
        }


def _symbols(mode: Mode, settings: Settings) -> int:
    """Symbols of a frame of this mode without a header, pilots included."""
    return mode.symbols + int(pilot_symbols(settings, mode.symbols))
