"""Figures of an adaptive link: which mode is used how often, and how it stands among fixed ones.

A codebook has a hue, a constellation a shade of it: the larger, the lighter.  The hues are of Okabe and Ito's
palette; legend and marks say the same in words and shapes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from twophase.sim.annotate import place_labels
from twophase.sim.drawing import COLOURS, png, snr_axis, svg
from twophase.sim.label_bound import label_accuracy, simplex_success
from twophase.sim.words import channel_text

__all__ = ["modes_png", "modes_svg", "usage_png", "usage_svg"]

Report = dict[str, Any]

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
_USAGE_SIZE = (8.2, 5.6)


def usage_png(report: Report) -> bytes:
    """Share of each mode and symbols per sample over SNR, as a PNG on white."""
    return png(lambda figure: _draw_usage(figure, report), _USAGE_SIZE, _title(report, "modes in use"))


def usage_svg(report: Report) -> str:
    """The same for the page."""
    title = "Share of each mode, and symbols per sample, over Es/N0"
    return svg(lambda figure: _draw_usage(figure, report), _USAGE_SIZE, "usage", title)


def modes_png(report: Report) -> bytes:
    """Accuracy against symbols per sample, a panel for each of up to six SNRs, as a PNG on white."""
    title = _title(report, "the adaptive link among fixed modes")
    return png(lambda figure: _draw_modes(figure, report), _modes_size(report), title)


def modes_svg(report: Report) -> str:
    """The same for the page."""
    title = "Accuracy against symbols per sample, fixed modes and adaptive link"
    return svg(lambda figure: _draw_modes(figure, report), _modes_size(report), "modes", title)


def _title(report: Report, what: str) -> str:
    return f"{report['task']} over {channel_text(report['channel'], report['coherence'])}: {what}"


def _looks(report: Report) -> dict[str, tuple[str, str]]:
    """Colour and marker of each mode of the link."""
    orders = sorted({entry["order"] for entry in report["mode_table"]})
    shades = _SHADES[len(orders)]
    return {
        entry["mode"]: (
            _RAMPS[entry["codebook"] % len(_RAMPS)][shades[orders.index(entry["order"])]],
            _MARKERS[orders.index(entry["order"])],
        )
        for entry in report["mode_table"]
    }


def _draw_usage(figure: Figure, report: Report) -> None:
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 4))
    points = report["points"]
    snr = np.array([point["esn0_db"] for point in points])
    width = 0.86 * float(np.diff(snr).min()) if len(snr) > 1 else 0.6
    _draw_shares(above, report, snr, width)
    payload = np.array([point["payload_symbols_per_sample"] for point in points])
    header = np.array([point["header_symbols_per_sample"] for point in points])
    below.bar(snr, payload, width, color=COLOURS["limit"], label="payload")
    if header.any():
        below.bar(snr, header, width, bottom=payload, color=COLOURS["ink"], label="header")
    if len(snr) <= _MAX_TOTALS:
        for place, total in zip(snr, payload + header, strict=True):
            whole = total == round(total) or total >= 10
            text = f"{total:.0f}" if whole else f"{total:.1f}"
            below.annotate(
                text, (place, total), (0, 2), textcoords="offset points", ha="center", fontsize=8.5
            )
    below.set_ylabel("symbols per sample")
    below.margins(y=0.14)
    below.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    snr_axis(below)
    if len(snr) == 1:
        below.set_xlim(snr[0] - 1.5, snr[0] + 1.5)
    for axes in (above, below):
        axes.grid(visible=False, axis="x")


_MAX_TOTALS = 27


def _draw_shares(axes: Axes, report: Report, snr: NDArray[np.float64], width: float) -> None:
    bottom = np.zeros(len(snr))
    for name, (colour, _) in _looks(report).items():
        share = np.array([100 * point["mode_usage"].get(name, 0.0) for point in report["points"]])
        if share.any():
            axes.bar(
                snr,
                share,
                width,
                bottom=bottom,
                color=colour,
                edgecolor=COLOURS["ink"],
                linewidth=0.3,
                label=name,
            )
            bottom += share
    axes.set_ylabel("share of samples, %")
    axes.set_ylim(0, 100)
    axes.set_axisbelow(True)
    # From the top down, as the bars are stacked.
    handles, names = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], names[::-1], loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9.5)


def _panels(report: Report) -> list[int]:
    """Which points get a panel: all, or so many spread over the grid."""
    count = len(report["points"])
    chosen = np.linspace(0, count - 1, min(count, _MAX_PANELS))
    return [round(float(place)) for place in chosen]


def _grid(report: Report) -> tuple[int, int]:
    panels = len(_panels(report))
    rows = 1 if panels <= 3 else 2
    return rows, -(-panels // rows)


def _modes_size(report: Report) -> tuple[float, float]:
    rows, columns = _grid(report)
    return max(6.4, 3.7 * columns), 1.1 + 3.3 * rows


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
    the legend tells the others.  The adaptive link and the bound's line are kept free.
    """
    point = report["points"][place]
    modes: list[tuple[float, float, str]] = []
    best = -1.0
    ordered = sorted(report["modes"], key=lambda mode: (mode["symbols"], -mode["points"][place]["accuracy"]))
    for entry in ordered:
        accuracy = entry["points"][place]["accuracy"]
        name = str(entry["mode"]).replace("qam", "") if accuracy > best else ""
        modes.append((float(entry["symbols"]), 100 * accuracy, name))
        best = max(best, accuracy)
    lengths, bound = _bound(report, place)
    between = np.geomspace(lengths[0], lengths[-1], 60)
    line = np.interp(np.log(between), np.log(lengths), bound)
    return [
        *modes,
        (point["symbols_per_sample"], 100 * point["accuracy_hard"], ""),
        *((float(x), float(y), "") for x, y in zip(between, line, strict=True)),
    ]


def _draw_panel(axes: Axes, report: Report, place: int) -> None:
    point = report["points"][place]
    fixed = [(entry, entry["points"][place]) for entry in report["modes"]]
    looks = _looks(report)
    for entry, figures in fixed:
        colour, marker = looks[entry["mode"]]
        axes.plot(
            entry["symbols"],
            100 * figures["accuracy"],
            marker=marker,
            color=colour,
            markersize=6.5,
            markeredgecolor=COLOURS["ink"],
            markeredgewidth=0.5,
            linestyle="none",
            label=entry["mode"],
        )
    axes.plot(
        point["symbols_per_sample"],
        100 * point["accuracy_hard"],
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
    lengths, bound = _bound(report, place)
    fixed = report["known_snr"] == "block"
    label = "send-the-label bound, fixed length" if fixed else "send-the-label bound"
    axes.plot(lengths, bound, "--", color=COLOURS["limit"], label=label, zorder=1)
    if fixed:
        # The adaptive link sends more in a fade; its yardstick sends frames of the same lengths.
        axes.plot(
            point["symbols_per_sample"], 100 * point["label_bound"], "_", color=COLOURS["limit"],
            markersize=14, markeredgewidth=2, label="the same, adaptive lengths", zorder=1,
        )  # fmt: skip
    axes.set_xscale("log")
    limits = _limits(report)
    axes.set_xlim(limits)
    axes.xaxis.set_major_locator(FixedLocator([n for n in _TICKS if limits[0] <= n <= limits[1]]))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    # By the systems, not by the bound, which leaves the panel where the mode is far from it.
    margin = max(1.0, 0.16 * (high - low))
    axes.set_ylim(low - margin, min(high + margin, 101.0))
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in axes.get_yticks() if tick <= 100]))
    axes.set_title(f"{point['esn0_db']:g} dB", fontsize=10.5, loc="left")
    axes.set_axisbelow(True)


_TICKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


def _bound(report: Report, place: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Symbols and accuracy in percent of who sends the label of the best classifier among the modes."""
    low, high = _limits(report)
    clean = max(entry["points"][place]["accuracy_noiseless"] for entry in report["modes"])
    lengths = np.arange(max(1, int(low)), int(np.ceil(high)) + 1)
    return lengths, np.array([100 * _label_bound(report, clean, int(n), place) for n in lengths])


def _label_bound(report: Report, clean: float, symbols: int, place: int) -> float:
    classes, esn0_db = len(report["classes"]), report["points"][place]["esn0_db"]
    delivered = simplex_success(classes, symbols, esn0_db, report["channel"], report["coherence"])
    return label_accuracy(clean, min(1.0, float(delivered)), classes)


def _limits(report: Report) -> tuple[float, float]:
    """Ends of the axis of symbols, the same in all panels."""
    counts = [entry["symbols"] for entry in report["modes"]]
    counts += [point["symbols_per_sample"] for point in report["points"]]
    return 0.8 * min(counts), 1.3 * max(counts)
