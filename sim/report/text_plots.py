"""Figure of a text link: accuracy against symbols, of the link, the sentences themselves and labels."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twophase.sim.report.drawing import (
    COLOURS,
    WIDTH,
    Look,
    baseline_looks,
    draw_ceiling,
    place_labels,
    png,
    svg,
    symbols_axis,
)
from twophase.sim.results.figures import Report

__all__ = ["symbols_png", "symbols_svg"]

_DEPLOYED = Look(COLOURS["deployed"], "o", width=1.2, size=6.0, hollow=False)
_BOUND = Look(COLOURS["limit"], "|", width=0.0, size=9.0)
_WIDE = 50
"""Times that the ends of an axis are apart from which it has fewer ticks."""
_NAMED = 3
"""Points of the grid that are named, of the link and of the sentences."""


def symbols_png(report: Report) -> bytes:
    """Accuracy against symbols per sentence, a mark for each SNR, as a PNG on white."""
    title = f"{report.task} over {report.channel_text}: what a sentence costs"
    return png(partial(_draw, report=report, loc="outside lower center", ncols=3), (7.2, 5.0), title)


def symbols_svg(report: Report) -> str:
    """The same for the page, narrow."""
    draw = partial(_draw, report=report, loc="outside upper left", ncols=2, borderpad=0.1)
    rows = 2 + len(report.baselines)
    return svg(draw, (WIDTH, 3.4 + 0.1 * rows), "symbols", "Accuracy against symbols per sentence")


def _draw(figure: Figure, report: Report, **legend: Any) -> None:
    axes, points = figure.subplots(), report.points
    own = [point.symbols_per_sample for point in points]
    _marks(axes, own, [100 * point.accuracy_hard for point in points], _DEPLOYED, "deployed")
    draw_ceiling(axes, report)
    for name, look in baseline_looks([entry.name for entry in report.baselines]).items():
        entries = [point.baselines[name] for point in points]
        accuracy = [100 * entry.accuracy for entry in entries]
        _marks(axes, [entry.symbols_per_sample for entry in entries], accuracy, look, name)
    if report.text is not None:
        bounds = [point.text.bound_symbols for point in points if point.text is not None]
        _marks(axes, bounds, [_best_text(report)] * len(bounds), _BOUND, "text, Shannon bound")
    low, high = _limits(report)
    steps = (1, 3) if high > _WIDE * low else (1, 2, 5)
    symbols_axis(axes, (low, high), [step * 10.0**power for power in range(-1, 7) for step in steps])
    axes.set_xlabel("symbols per sentence, all included")
    axes.set_ylabel("accuracy, %")
    axes.margins(y=0.12)
    axes.set_axisbelow(True)
    figure.legend(**legend)
    figure.draw_without_rendering()  # labels are placed where there is room, so the layout must stand
    place_labels(axes, _named(report), figure.dpi)


def _marks(axes: Axes, symbols: list[float], accuracy: list[float], look: Look, label: str) -> None:
    axes.plot(
        symbols,
        accuracy,
        color=look.colour,
        marker=look.marker,
        markersize=look.size,
        markerfacecolor="none" if look.hollow else look.colour,
        markeredgewidth=1.1 if look.hollow else 0.0,
        linestyle=look.dash if look.width else "none",
        linewidth=0.5 * look.width,
        label=label,
        zorder=2.2 if look.hollow else 2.4,
    )


def _best_text(report: Report) -> float:
    """Accuracy in percent of sentences that all arrive."""
    if report.ceiling is not None:
        return 100 * report.ceiling.accuracy
    return 100 * max(point.baselines["text"].accuracy for point in report.points)


def _named(report: Report) -> list[tuple[float, float, str]]:
    """All marks, to be kept free; lowest, middle and highest Es/N0 of link and sentences have a name."""
    points = report.points
    chosen = {round(float(place)) for place in np.linspace(0, len(points) - 1, min(_NAMED, len(points)))}
    marks = []
    for place, point in enumerate(points):
        name = f"{point.esn0_db:g} dB" if place in chosen else ""
        marks.append((point.symbols_per_sample, 100 * point.accuracy_hard, name))
        for other, entry in point.baselines.items():
            named = name if other == "text" else ""
            marks.append((entry.symbols_per_sample, 100 * entry.accuracy, named))
        if point.text is not None:
            marks.append((point.text.bound_symbols, _best_text(report), ""))
    if report.ceiling is not None:
        line = 100 * report.ceiling.accuracy
        marks += [(float(symbols), line, "") for symbols in np.geomspace(*_limits(report), 80)]
    return marks


def _limits(report: Report) -> tuple[float, float]:
    """Ends of the axis of symbols."""
    counts = [point.symbols_per_sample for point in report.points]
    counts += [entry.symbols_per_sample for p in report.points for entry in p.baselines.values()]
    counts += [point.text.bound_symbols for point in report.points if point.text is not None]
    return 0.7 * min(counts), 1.6 * max(counts)
