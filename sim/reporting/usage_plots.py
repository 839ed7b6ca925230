"""Figure of an adaptive link: which mode is used how often at each SNR, and what it sends."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from twophase.sim.reporting.drawing import COLOURS, WIDTH, png, snr_axis, svg
from twophase.sim.reporting.mode_plots import mode_looks
from twophase.sim.reporting.tables import air_text

__all__ = ["usage_png", "usage_svg"]

Report = dict[str, Any]


def usage_png(report: Report) -> bytes:
    """Share of each mode and symbols per sample over SNR, as a PNG on white."""

    def draw(figure: Figure) -> None:
        above, below = _draw_usage(figure, report)
        # From the top down, as the bars are stacked.
        handles, names = above.get_legend_handles_labels()
        above.legend(handles[::-1], names[::-1], loc="upper left", bbox_to_anchor=(1.0, 1.0))
        below.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    title = f"{report['task']} over {air_text(report)}: modes in use"
    return png(draw, (8.2, 5.6), title)


def usage_svg(report: Report) -> str:
    """The same for the page, narrow."""
    title = "Share of each mode, and symbols per sample, over Es/N0"

    def draw(figure: Figure) -> None:
        above, below = _draw_usage(figure, report)
        handles, names = above.get_legend_handles_labels()
        bars, labels = below.get_legend_handles_labels()
        figure.legend(handles + bars, names + labels, loc="outside upper left", ncols=3, borderpad=0.1)

    rows = -(-(len(report["mode_table"]) + 2) // 3)
    return svg(draw, (WIDTH, 4.2 + 0.2 * rows), "usage", title)


def _draw_usage(figure: Figure, report: Report) -> tuple[Axes, Axes]:
    """Shares above, symbols below; gives both axes."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 4))
    points = report["points"]
    snr = np.array([point["esn0_db"] for point in points])
    width = 0.86 * float(np.diff(snr).min()) if len(snr) > 1 else 0.6
    _draw_shares(above, report, snr, width)
    payload = np.array([point["payload_symbols_per_sample"] for point in points])
    below.bar(snr, payload, width, color=COLOURS["limit"], label="payload")
    total = payload
    for name, colour in (("header", "ink"), ("pilot", "other4")):
        symbols = np.array([point.get(f"{name}_symbols_per_sample", 0.0) for point in points])
        if symbols.any():
            label = "pilots" if name == "pilot" else name
            below.bar(snr, symbols, width, bottom=total, color=COLOURS[colour], label=label)
        total = total + symbols
    if len(snr) <= _MAX_TOTALS:
        for place, height in zip(snr, total, strict=True):
            whole = height == round(height) or height >= 10
            text = f"{height:.0f}" if whole else f"{height:.1f}"
            below.annotate(
                text,
                (place, height),
                (0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8.5,
                rotation=90 if len(snr) > _MAX_LEVEL else 0,
            )
    below.set_ylabel("symbols per sample")
    below.margins(y=0.2)
    snr_axis(below)
    for axes in (above, below):
        axes.grid(visible=False, axis="x")
    return above, below


_MAX_TOTALS = 27
_MAX_LEVEL = 12
"""Bars up to which there is room for numbers that stand level."""


def _draw_shares(axes: Axes, report: Report, snr: NDArray[np.float64], width: float) -> None:
    bottom = np.zeros(len(snr))
    for name, (colour, _) in mode_looks(report).items():
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
