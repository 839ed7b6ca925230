"""Figures of both ends of the link: samples on the air, and which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray
from scipy.stats import beta

from twophase.link.escape import figure as figure_text
from twophase.link.escape import visible
from twophase.sim.report.drawing import COLOURS, WIDTH, legend_above, svg
from twophase.sim.results.figures import Point, Report, ScatterGroup

__all__ = ["AVERAGED_TO", "calibration_svg", "confusion_svg", "constellation_svg", "llr_svg", "log_odds"]

_Float = NDArray[np.float64]

_SHOWN = 0.98
"""Share of the received symbols that a panel must show; a fade can throw others very far out."""
_STRAY = 1.6
"""How many times as far as the rest the farthest symbol may lie and still be shown."""
_FARTHEST = 4.0
"""Half of a panel's side at most, in units of the reference's."""
_NAMED_CLASSES = 12
"""With more classes the cells of a confusion matrix are too small for numbers."""


def constellation_svg(group: ScatterGroup, esn0_db: float, name: str) -> tuple[str, int]:
    """Received symbols of one mode around the points that are sent; and how many lie outside the figure."""
    received = np.asarray(group.received, dtype=np.float64).reshape(-1, 2)
    reference = np.asarray(group.reference, dtype=np.float64).reshape(-1, 2)
    largest = float(np.abs(reference).max())
    reach = _reach(np.abs(received).max(axis=1))
    limit = min(max(1.2 * largest, 1.05 * reach), _FARTHEST * largest)
    inside = (np.abs(received) <= limit).all(axis=1)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        _decision_lines(axes, reference)
        axes.plot(
            *received[inside].T, "o", color=COLOURS["deployed"], alpha=0.6, markersize=3.2, markeredgewidth=0
        )
        size = 9.0 if len(reference) <= 16 else 6.0 if len(reference) <= 64 else 3.5
        axes.plot(*reference.T, "+", color=COLOURS["ink"], markersize=size, markeredgewidth=1.1)
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
        axes.set_title(f"{esn0_db:g} dB, {group.mode}", fontsize=11, loc="left")
        axes.set_xlabel("in phase")
        axes.set_ylabel("quadrature")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.grid(visible=False)
        axes.spines[["top", "right"]].set_visible(True)

    title = f"Received symbols at {esn0_db:g} dB, {group.mode}"
    return svg(draw, (3.6, 3.7), name, title), int(len(received) - inside.sum())


def _reach(distances: _Float) -> float:
    """How far a panel reaches: to the farthest symbol, unless that lies far beyond the rest."""
    if not len(distances):
        return 0.0
    rest = float(np.quantile(distances, _SHOWN))
    farthest = float(distances.max())
    return farthest if farthest <= _STRAY * rest else rest


def _decision_lines(axes: Axes, reference: _Float) -> None:
    """Thresholds halfway between the levels, if the points are a grid of few enough lines."""
    real, imaginary = (np.unique(np.round(part, 9)) for part in reference.T)
    if len(real) * len(imaginary) != len(reference) or len(reference) > 64:
        return
    style: dict[str, Any] = {"color": COLOURS["grid"], "linewidth": 0.8, "zorder": 0.5}
    for place in (real[1:] + real[:-1]) / 2:
        axes.axvline(place, **style)
    for place in (imaginary[1:] + imaginary[:-1]) / 2:
        axes.axhline(place, **style)


def confusion_svg(report: Report, point: Point, name: str) -> str:
    """Which class is decided for which, in percent of the true class; errors in another hue."""
    counts = np.asarray(point.confusion, dtype=np.float64)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = list(map(visible, report.classes))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for row, column in np.argwhere(counts > 0):
            value = float(share[row, column])
            hue = COLOURS["deployed" if row == column else "learning"]
            # Square roots, so that rare errors show; never so dark that the number is lost.
            axes.add_patch(
                Rectangle(
                    (column - 0.5, row - 0.5), 1, 1, facecolor=hue, alpha=0.55 * value**0.5, linewidth=0
                )
            )
            if len(names) <= _NAMED_CLASSES:
                axes.text(column, row, _cell(value), ha="center", va="center", fontsize=8.5)
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), aspect="equal")
        step = max(1, -(-len(names) // 14))
        places = range(0, len(names), step)
        axes.set_xticks(places, [_short(names[place], len(names)) for place in places])
        axes.set_yticks(places, [_short(names[place], len(names)) for place in places])
        if max(len(_short(entry, len(names))) for entry in names) > 2:
            axes.tick_params(axis="x", rotation=90)
        axes.set_xlabel("decided")
        axes.set_ylabel("true")
        axes.set_title(f"{point.esn0_db:g} dB", fontsize=11, loc="left")
        axes.grid(visible=False)
        axes.tick_params(length=0)

    title = f"Confusion matrix at {point.esn0_db:g} dB, percent of the true class"
    return svg(draw, (4.2, 4.3), name, title)


def _cell(value: float) -> str:
    """Percent in at most three characters; an error is never written as none, nor one as all."""
    percent = 100 * value
    if percent < 0.95:
        return "<1" if percent < 0.05 else f"{percent:.1f}".removeprefix("0")
    return "100" if value == 1 else f"{min(percent, 99.0) if percent > 99 else percent:.0f}"


def _short(name: str, classes: int) -> str:
    """A class's name, cut where many stand in a row."""
    longest = 12 if classes <= _NAMED_CLASSES else 8
    return figure_text(name if len(name) <= longest else name[: longest - 1] + "…")


_SERIES = ((COLOURS["learning"], "s"), (COLOURS["deployed"], "o"), (COLOURS["aligned"], "^"))
_MOST_DECADES = 3
"""Decades of a density's axis from which on not every one has a tick, for the axis is low."""
AVERAGED_TO = 14.0
"""LLR up to which what a bin promises is averaged over its LLRs, and not taken for its middle."""


def llr_svg(report: Report) -> str:
    """Densities of the LLR where a 0 and where a 1 was sent, a panel for each of three SNRs."""
    edges = np.asarray(report.llr_edges, dtype=np.float64)
    points = _spread(report.points)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(len(points), 1, squeeze=False).ravel()
        for axes, point in zip(panels, points, strict=True):
            zeros, ones = (
                np.asarray(counts, dtype=np.float64) for counts in (point.llr_zeros, point.llr_ones)
            )
            _draw_densities(axes, edges, zeros, ones)
            axes.set_title(f"{point.esn0_db:g} dB", fontsize=10.5, loc="left")
        panels[len(points) // 2].set_ylabel("density of bits")
        panels[-1].set_xlabel("LLR = log P(b=1) / P(b=0)")
        legend_above(figure, panels[0])

    return svg(
        draw, (WIDTH, 0.7 + 1.45 * len(points)), "llr", "Histogram of the LLRs by the bit that was sent"
    )


def _draw_densities(axes: Axes, edges: _Float, zeros: _Float, ones: _Float) -> None:
    total = max(1.0, float(zeros.sum() + ones.sum()))
    bits = ((zeros, "deployed", "-", "bit 0 sent"), (ones, "learning", (0, (4, 1.5)), "bit 1 sent"))
    used = np.flatnonzero(zeros + ones)
    widest = float(np.diff(edges)[used].max(initial=1.0))
    floor = 0.5 / total / widest
    for counts, colour, dash, label in bits:
        density = np.maximum(counts / total / np.diff(edges), floor)
        axes.stairs(
            density, edges, baseline=floor, color=COLOURS[colour], linestyle=dash, linewidth=1.5, label=label
        )
        axes.stairs(density, edges, baseline=floor, color=COLOURS[colour], fill=True, alpha=0.13, linewidth=0)
    axes.set_yscale("log")
    axes.set_ylim(bottom=floor)
    low, high = np.log10(axes.get_ylim())
    step = max(1.0, np.ceil((high - low) / _MOST_DECADES))
    decades = np.arange(np.floor(high), np.ceil(low) - 1, -step)
    axes.yaxis.set_major_locator(FixedLocator((10.0**decades).tolist()))
    axes.yaxis.set_minor_locator(NullLocator())
    if len(used):
        axes.set_xlim(edges[used[0]], edges[used[-1] + 1])
    axes.axvline(0, color=COLOURS["limit"], linewidth=0.8)
    axes.set_axisbelow(True)


def calibration_svg(report: Report) -> str:
    """Log odds of the bit that was sent against the LLR; calibrated LLRs lie on the diagonal."""
    edges = np.asarray(report.llr_edges, dtype=np.float64)
    points = _spread(report.points)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        across, up = 2.0, 2.0
        for point, (colour, marker) in zip(points, _SERIES, strict=False):
            promised, seen = _draw_log_odds(axes, edges, point, colour, marker)
            across, up = max(across, 1.08 * promised), max(up, 1.2 * seen)
        ends = [-across, across]
        axes.plot(ends, ends, color=COLOURS["ink"], linewidth=1.0, zorder=1, label="calibrated")
        axes.set(xlim=(-across, across), ylim=(-up, up))
        _probability_ticks(axes, up)
        axes.set_xlabel("LLR of the bin")
        axes.set_ylabel("share of ones among bits of that LLR")
        axes.set_axisbelow(True)
        legend_above(figure, axes)

    return svg(draw, (WIDTH, 5.05), "calibration", "Share of ones among the bits of an LLR")


def _draw_log_odds(axes: Axes, edges: _Float, point: Point, colour: str, marker: str) -> tuple[float, float]:
    """What the bits were against what their LLRs promise; gives the largest of either."""
    promised, seen, low, high = log_odds(edges, point)
    axes.errorbar(
        promised,
        seen,
        yerr=(seen - low, high - seen),
        fmt=marker,
        color=colour,
        markersize=5.0,
        elinewidth=0.9,
        capsize=1.5,
        markerfacecolor="none",
        label=f"{point.esn0_db:g} dB",
    )
    return float(np.max(np.abs(promised), initial=0.0)), float(np.max(np.abs(seen), initial=0.0))


def log_odds(edges: NDArray[np.float64], point: Point) -> tuple[_Float, _Float, _Float, _Float]:
    """Log odds of a one in each bin of LLRs: as the LLRs promise, as it was, and its 95 % interval.

    ``edges`` are those of the bins, shape (bins + 1,); the point's counts have shape (bins,).  Bins without a
    zero or without a one, whose log odds are infinite, are left out.  The interval is that of Clopper and
    Pearson for independent bits.
    """
    zeros, ones, expected = (
        np.asarray(counts, dtype=np.float64)
        for counts in (point.llr_zeros, point.llr_ones, point.llr_expected_ones)
    )
    both = (zeros > 0) & (ones > 0)
    zeros, ones, share = zeros[both], ones[both], expected[both] / (zeros + ones)[both]
    middle = ((edges[1:] + edges[:-1]) / 2)[both]
    # Far out the sum of probabilities rounds to the count.
    near = np.abs(middle) <= AVERAGED_TO
    promised = np.where(near, _logit(np.where(near, share, 0.5)), middle)
    low = np.asarray(beta.ppf(0.025, ones, zeros + 1))
    high = np.asarray(beta.ppf(0.975, ones + 1, zeros))
    return promised, np.log(ones / zeros), _logit(low), _logit(high)


def _logit(probability: _Float) -> _Float:
    return np.asarray(np.log(probability) - np.log1p(-probability))


def _probability_ticks(axes: Axes, limit: float) -> None:
    """Names of probabilities on the axis of log odds."""
    shares = [0.5]
    for rare in (0.1, 0.01, 1e-3, 1e-4, 1e-5):
        shares = [rare, *shares, 1 - rare]
    ticks = [(float(_logit(np.asarray(share))), share) for share in shares]
    shown = [(place, share) for place, share in ticks if abs(place) < limit]
    axes.yaxis.set_major_locator(FixedLocator([place for place, _ in shown]))
    axes.set_yticklabels([f"{share:.5f}".rstrip("0") for _, share in shown])


def _spread(points: Sequence[Point]) -> list[Point]:
    """The first, the middle and the last point, as many as there are."""
    return [points[place] for place in sorted({0, len(points) // 2, len(points) - 1})]
