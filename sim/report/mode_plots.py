"""Figures of an adaptive link among fixed modes, and how a mode looks in any figure.

A codebook has a hue, a constellation a shade of it: the larger, the lighter.  The hues are of Okabe and Ito's
palette; legend and marks say the same in words and shapes.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator
from numpy.typing import NDArray

from twophase.sim.report.drawing import COLOURS, WIDTH, place_labels, png, svg, symbols_axis
from twophase.sim.results.figures import ModeFigures, Report
from twophase.sim.theory.label_bound import label_accuracy, simplex_success

__all__ = ["mode_looks", "modes_png", "modes_svgs"]

_RAMPS = (
    ("#0d4f7c", "#2f86bd", "#84bde0", "#c6e0f0"),
    ("#8f3f00", "#d97524", "#f0ab6b", "#f8d8b8"),
    ("#0a5a43", "#2a9a74", "#82c9ae", "#c4e6da"),
    ("#6b3260", "#a9609a", "#d1a0c6", "#ebd3e5"),
)
_SHADES = {1: (1,), 2: (0, 2), 3: (0, 1, 2), 4: (0, 1, 2, 3)}
_STAR = "#f0e442"
_MARKERS = ("o", "s", "^", "D")
_MAX_PANELS = 6
_PANEL = (3.7, 3.4)


def modes_png(report: Report) -> bytes:
    """Accuracy against symbols per sample, a panel for each of up to six SNRs, as a PNG on white."""
    title = f"{report.task} over {report.channel_text}: the adaptive link among fixed modes"
    rows, columns = _grid(report)
    size = max(6.4, 3.7 * columns), 1.1 + 3.3 * rows
    return png(lambda figure: _draw_modes(figure, report), size, title)


def modes_svgs(report: Report) -> list[str]:
    """The same for the page: the legend, and each panel by itself, so that a narrow page stacks them."""

    def legend(figure: Figure) -> None:
        axes = figure.subplots()
        _draw_panel(axes, report, 0)
        handles, names = axes.get_legend_handles_labels()
        axes.remove()
        figure.legend(handles, names, loc="center", ncols=2)

    def panel(figure: Figure, place: int) -> None:
        axes = figure.subplots()
        _draw_panel(axes, report, place)
        axes.set_ylabel("accuracy, %")
        axes.set_xlabel("symbols per sample")
        figure.draw_without_rendering()  # labels are placed where there is room, so the layout must stand
        place_labels(axes, _named(report, place), figure.dpi)

    rows = -(-(len(_fixed(report)) + 3) // 2)
    drawn = [svg(legend, (WIDTH, 0.3 + 0.21 * rows), "modes-legend", "Marks of the modes")]
    for place in _panels(report):
        title = f"Accuracy against symbols per sample at {report.points[place].esn0_db:g} dB"
        drawn.append(svg(partial(panel, place=place), _PANEL, f"modes-{place}", title))
    return drawn


def mode_looks(report: Report) -> dict[str, tuple[str, str]]:
    """Colour and marker of each mode of the link."""
    orders = sorted({entry.order for entry in report.mode_table})
    shades = _SHADES[len(orders)]
    return {
        entry.mode: (
            _RAMPS[entry.codebook % len(_RAMPS)][shades[orders.index(entry.order)]],
            _MARKERS[orders.index(entry.order)],
        )
        for entry in report.mode_table
    }


def _fixed(report: Report) -> tuple[ModeFigures, ...]:
    assert report.modes is not None
    return report.modes


def _panels(report: Report) -> list[int]:
    """Which points get a panel: all, or so many spread over the grid."""
    count = len(report.points)
    chosen = np.linspace(0, count - 1, min(count, _MAX_PANELS))
    return [round(float(place)) for place in chosen]


def _grid(report: Report) -> tuple[int, int]:
    panels = len(_panels(report))
    rows = 1 if panels <= 3 else 2
    return rows, -(-panels // rows)


def _draw_modes(figure: Figure, report: Report) -> None:
    rows, columns = _grid(report)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    chosen = _panels(report)
    for axes, place in zip(panels, chosen, strict=False):
        _draw_panel(axes, report, place)
    for axes in panels[len(chosen) :]:
        axes.set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel("accuracy, %")
    for axes in panels[: len(chosen)][-columns:]:
        axes.set_xlabel("symbols per sample, header included")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2 * columns, fontsize=9.5)
    figure.draw_without_rendering()  # labels are placed where there is room, so the layout must stand
    for axes, place in zip(panels, chosen, strict=False):
        place_labels(axes, _named(report, place), figure.dpi)


def _named(report: Report, place: int) -> list[tuple[float, float, str]]:
    """Points of a panel, to be named or kept free.

    Names have the modes that no mode of fewer or as many symbols equals, without the ``qam`` that all share;
    the legend names the others.  The adaptive link and the bound's line are kept free.
    """
    point = report.points[place]
    modes: list[tuple[float, float, str]] = []
    best = -1.0
    ordered = sorted(_fixed(report), key=lambda mode: (mode.symbols, -mode.points[place].accuracy))
    for entry in ordered:
        accuracy = entry.points[place].accuracy
        name = entry.mode.replace("qam", "") if accuracy > best else ""
        modes.append((float(entry.symbols), 100 * accuracy, name))
        best = max(best, accuracy)
    marks = [*modes, (point.symbols_per_sample, 100 * point.accuracy_hard, "")]
    lengths, bound = _bound(report, place)
    between = np.geomspace(lengths[0], lengths[-1], 60)
    line = np.interp(np.log(between), np.log(lengths), bound)
    return [*marks, *((float(x), float(y), "") for x, y in zip(between, line, strict=True))]


def _draw_panel(axes: Axes, report: Report, place: int) -> None:
    point = report.points[place]
    fixed = [(entry, entry.points[place]) for entry in _fixed(report)]
    looks = mode_looks(report)
    for entry, figures in fixed:
        colour, marker = looks[entry.mode]
        axes.plot(
            entry.symbols,
            100 * figures.accuracy,
            marker=marker,
            color=colour,
            markersize=6.5,
            markeredgecolor=COLOURS["ink"],
            markeredgewidth=0.5,
            linestyle="none",
            label=entry.mode,
        )
    axes.plot(
        point.symbols_per_sample,
        100 * point.accuracy_hard,
        marker="*",
        color=_STAR,
        markersize=15,
        markeredgecolor=COLOURS["ink"],
        markeredgewidth=0.6,
        linestyle="none",
        label="adaptive link",
        zorder=4,
    )
    low, high = axes.get_ylim()
    _draw_bound(axes, report, place)
    symbols_axis(axes, _limits(report), _TICKS)
    # By the systems, not by the bound, which leaves the panel where the mode is far from it.
    margin = max(1.0, 0.16 * (high - low))
    axes.set_ylim(low - margin, min(high + margin, 101.0))
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in axes.get_yticks() if tick <= 100]))
    axes.set_title(f"{point.esn0_db:g} dB", fontsize=10.5, loc="left")
    axes.set_axisbelow(True)


def _draw_bound(axes: Axes, report: Report, place: int) -> None:
    point = report.points[place]
    lengths, bound = _bound(report, place)
    fixed = report.known_snr == "block"
    label = "send-the-label bound, fixed length" if fixed else "send-the-label bound"
    axes.plot(lengths, bound, "--", color=COLOURS["limit"], label=label, zorder=1)
    if fixed:
        # The adaptive link sends more in a fade; its yardstick sends frames of the same lengths.
        axes.plot(
            point.symbols_per_sample, 100 * point.label_bound, "_", color=COLOURS["limit"],
            markersize=14, markeredgewidth=2, label="the same, adaptive lengths", zorder=1,
        )  # fmt: skip


_TICKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


def _bound(report: Report, place: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Symbols and accuracy in percent of who sends the label of the best classifier among the modes."""
    low, high = _limits(report)
    clean = max(entry.points[place].accuracy_noiseless for entry in _fixed(report))
    lengths = np.arange(max(1, int(low)), int(np.ceil(high)) + 1)
    classes, esn0_db, settings = len(report.classes), report.points[place].esn0_db, report.settings
    air = report.channel, report.coherence, settings.rician_k_db, settings.delay_spread_ns
    delivered = [float(simplex_success(classes, int(symbols), esn0_db, *air)) for symbols in lengths]
    return lengths, np.array([100 * label_accuracy(clean, min(1.0, share), classes) for share in delivered])


def _limits(report: Report) -> tuple[float, float]:
    """Ends of the axis of symbols, the same in all panels."""
    counts = [float(entry.symbols) for entry in _fixed(report)]
    counts += [point.symbols_per_sample for point in report.points]
    return 0.8 * min(counts), 1.3 * max(counts)
