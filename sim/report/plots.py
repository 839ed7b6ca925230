"""Figures over SNR: accuracy, gap, bit errors and information rates; SVG for the page, PNG for elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from twophase.sim.report.drawing import (
    COLOURS,
    WIDTH,
    Look,
    baseline_looks,
    curve,
    draw_ceiling,
    legend_above,
    png,
    snr_axis,
    svg,
)
from twophase.sim.report.mode_plots import mode_looks
from twophase.sim.report.tables import samples_word, span_text
from twophase.sim.results.figures import Point, Report
from twophase.sim.theory.statistics import Interval

__all__ = [
    "accuracy_png",
    "accuracy_svg",
    "baselines_svg",
    "ber_svg",
    "compare_svg",
    "gap_svg",
    "rates_svg",
    "usage_png",
    "usage_svg",
]


_DEPLOYED = Look(COLOURS["deployed"], "o", width=2.4, size=5.5, hollow=False, alpha=0.16)
_SOFT = {
    "learning": Look(COLOURS["learning"], "s", (0, (4, 2)), size=6.0),
    "aligned": Look(COLOURS["aligned"], "^", (0, (1.4, 1.4)), size=7.5),
}
_SPARE = (Look("#cc79a7", "D", (0, (4, 1, 1, 1))), Look("#b8860b", "h", (0, (3, 1))))
"""References of other names."""
_BOUND = Look(COLOURS["limit"], dash="--", width=1.4)
_RATES = (
    ("capacity", "capacity", Look(COLOURS["limit"], dash="--")),
    ("cm_mi", "coded modulation", Look(COLOURS["aligned"], "^", size=6.0)),
    ("bicm_mi", "bit-interleaved", Look(COLOURS["learning"], "s", (0, (4, 2)), size=5.5)),
)


_THEORY: dict[str, tuple[str, dict[str, Any]]] = {
    "ber_theory": ("theory, uniform use", {"color": COLOURS["limit"], "linestyle": "--"}),
    "ber_theory_usage": ("theory, points as used", {"color": COLOURS["learning"]}),
}


def accuracy_png(report: Report) -> bytes:
    """Accuracy over SNR with the paired gap below it, as a PNG on white."""

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 3))
        _draw_accuracy(above, report)
        _draw_gap(below, report)
        above.set_xlabel("")
        handles, names = above.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=3)

    trials = [point.trials for point in report.points]
    samples = f"{report.samples} {samples_word(report)} x {span_text(trials)} trials"
    title = f"{report.task} over {report.channel_text}: {report.verdict} ({samples})"
    return png(draw, (7.2, 7.2), title)


def accuracy_svg(report: Report) -> str:
    """Accuracy of link, soft references and baselines over SNR with 95 % bands; the send-the-label bound."""
    return _svg(_draw_accuracy, report, "accuracy", "Accuracy over Es/N0")


def gap_svg(report: Report) -> str:
    """Paired difference deployed minus soft over SNR with 95 % bands, and the limit of the verdict."""
    return _svg(_draw_gap, report, "gap", "Deployed minus soft accuracy over Es/N0")


def ber_svg(report: Report) -> str:
    """Bit error rate over SNR with 95 % intervals, and both closed forms."""
    return _svg(_draw_ber, report, "ber", "Bit error rate over Es/N0")


def rates_svg(report: Report) -> str:
    """Capacity, mutual information of the modes in use, and information bits per symbol sent."""
    return _svg(_draw_rates, report, "rates", "Bits per symbol over Es/N0")


def _svg(draw: Callable[[Axes, Report], None], report: Report, name: str, title: str) -> str:
    def whole(figure: Figure) -> None:
        axes = figure.subplots()
        draw(axes, report)
        legend_above(figure, axes)

    # A row of the legend needs its share of the height.
    rows = 2 + len(report.references) + len(report.baselines) + (report.ceiling is not None)
    return svg(whole, (WIDTH, 3.4 + (0.1 * rows if name in ("accuracy", "gap") else 0.2)), name, title)


def _draw_accuracy(axes: Axes, report: Report) -> None:
    snr, points = _snr(report), report.points
    for name, look in _references(report):
        soft = [point.references[name] for point in points]
        accuracy = [(entry.accuracy, entry.accuracy_ci) for entry in soft]
        _percent(axes, snr, accuracy, look, f"soft: {name}")
    for name, look in baseline_looks([entry.name for entry in report.baselines]).items():
        others = [point.baselines[name] for point in points]
        _percent(axes, snr, [(entry.accuracy, entry.accuracy_ci) for entry in others], look, name)
    own = [(point.accuracy_hard, point.accuracy_hard_ci) for point in points]
    _percent(axes, snr, own, _DEPLOYED, "deployed")
    bound = [point.label_bound for point in points]
    curve(axes, snr, bound, None, _BOUND, "send-the-label bound", 100)
    draw_ceiling(axes, report)
    low = max(axes.get_ylim()[0], _lowest_shown(points))
    axes.set_ylim(low, min(axes.get_ylim()[1], 100 + 0.03 * (100 - low)))
    axes.set_ylabel("accuracy, %")
    snr_axis(axes)


def _lowest_shown(points: Sequence[Point]) -> float:
    """Where the axis of accuracy ends at the latest: a baseline that fails must not flatten the others."""
    own = [100 * point.accuracy_hard for point in points]
    own += [100 * entry.accuracy for point in points for entry in point.references.values()]
    return float(min(own) - max(_ROOM, 2 * (max(own) - min(own))))


_ROOM = 10.0
"""Points below the lowest accuracy of the link and its references that are shown at least."""


def _draw_gap(axes: Axes, report: Report) -> None:
    snr = _snr(report)
    limit = 0 - 100 * report.tolerance
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    for name, look in _references(report):
        soft = [point.references[name] for point in report.points]
        gaps = [(entry.gap, entry.gap_ci) for entry in soft]
        _percent(axes, snr, gaps, look, f"deployed - soft: {name}")
    axes.axhline(limit, color=COLOURS["limit"], linestyle="--", label=f"limit {limit:g} points")
    axes.set_ylabel("gap, points")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 1.6 * limit), high)
    snr_axis(axes)


def _draw_ber(axes: Axes, report: Report) -> None:
    snr, points = _snr(report), report.points
    rate = _column(report, "ber")
    low, high = np.array([point.ber_ci for point in points]).T
    seen = rate > 0
    axes.errorbar(
        snr[seen],
        rate[seen],
        yerr=(rate[seen] - low[seen], high[seen] - rate[seen]),
        fmt="o",
        color=COLOURS["deployed"],
        capsize=2,
        label="measured, 95 %",
    )
    for name, (label, style) in _THEORY.items():
        axes.plot(snr, _column(report, name), label=label, **style)
    # Below one expected error there is nothing to see; the theory would stretch the axis without end.
    floor = 0.3 / max(point.bits_sent for point in points)
    # A closed form may be so small that it is zero.
    drawn = [*rate[seen], *(rate for name in _THEORY for rate in _column(report, name) if rate > 0)]
    lowest = 0.4 * min(drawn, default=floor)
    top = max(1.0e-2, float(np.max(high)))
    axes.set_ylim(max(floor, lowest, 1e-9), 2 * top)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=9))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("bit error rate")
    snr_axis(axes)


def _draw_rates(axes: Axes, report: Report) -> None:
    snr, points = _snr(report), report.points
    for name, label, look in _RATES:
        curve(axes, snr, [getattr(point, name) for point in points], None, look, label)
    sent = [point.bits_per_sample / point.symbols_per_sample for point in points]
    curve(axes, snr, sent, None, _DEPLOYED, "information bits sent")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("bits per symbol")
    snr_axis(axes)


def _percent(
    axes: Axes, snr: NDArray[np.float64], values: Sequence[tuple[float, Interval]], look: Look, label: str
) -> None:
    curve(axes, snr, [value for value, _ in values], [ends for _, ends in values], look, label, 100)


def _references(report: Report) -> list[tuple[str, Look]]:
    spare = iter(_SPARE * len(report.references))
    names = [entry.name for entry in report.references]
    return [(name, _SOFT[name] if name in _SOFT else next(spare)) for name in names]


def _snr(report: Report) -> NDArray[np.float64]:
    return _column(report, "esn0_db")


def _column(report: Report, name: str) -> NDArray[np.float64]:
    return np.array([getattr(point, name) for point in report.points], dtype=np.float64)


def usage_png(report: Report) -> bytes:
    """Share of each mode and symbols per sample over SNR, as a PNG on white."""

    def draw(figure: Figure) -> None:
        above, below = _draw_usage(figure, report)
        # From the top down, as the bars are stacked.
        handles, names = above.get_legend_handles_labels()
        above.legend(handles[::-1], names[::-1], loc="upper left", bbox_to_anchor=(1.0, 1.0))
        below.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    title = f"{report.task} over {report.channel_text}: modes in use"
    return png(draw, (8.2, 5.6), title)


def usage_svg(report: Report) -> str:
    """The same for the page, narrow."""
    title = "Share of each mode, and symbols per sample, over Es/N0"

    def draw(figure: Figure) -> None:
        above, below = _draw_usage(figure, report)
        handles, names = above.get_legend_handles_labels()
        bars, labels = below.get_legend_handles_labels()
        figure.legend(handles + bars, names + labels, loc="outside upper left", ncols=3, borderpad=0.1)

    rows = -(-(len(report.mode_table) + 2) // 3)
    return svg(draw, (WIDTH, 4.2 + 0.2 * rows), "usage", title)


def _draw_usage(figure: Figure, report: Report) -> tuple[Axes, Axes]:
    """Shares above, symbols below; gives both axes."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 4))
    snr = _snr(report)
    width = 0.86 * float(np.diff(snr).min()) if len(snr) > 1 else 0.6
    _draw_shares(above, report, snr, width)
    total = np.zeros(len(snr))
    for name, label, colour in _PARTS:
        symbols = _column(report, f"{name}_symbols_per_sample")
        if symbols.any():
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


_PARTS = (("payload", "payload", "limit"), ("header", "header", "ink"), ("pilot", "pilots", "other4"))
"""Of a frame's symbols, from below: entry, label, colour."""
_MAX_TOTALS = 27
_MAX_LEVEL = 12
"""Bars up to which there is room for numbers that stand level."""


def _draw_shares(axes: Axes, report: Report, snr: NDArray[np.float64], width: float) -> None:
    bottom = np.zeros(len(snr))
    for name, (colour, _) in mode_looks(report).items():
        share = np.array([100 * point.mode_usage.get(name, 0.0) for point in report.points])
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


_LINEAR = 30
"""Times by which counts of symbols may differ on a linear axis."""


def baselines_svg(report: Report) -> str:
    """Paired difference baseline minus deployed with 95 % bands; below it the symbols that each sends."""
    snr, points = _snr(report), report.points
    looks = baseline_looks([entry.name for entry in report.baselines])

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 3))
        above.axhline(0, color=COLOURS["ink"], linewidth=0.8)
        curve(below, snr, [point.symbols_per_sample for point in points], None, _DEPLOYED, "deployed")
        for name, look in looks.items():
            entries = [point.baselines[name] for point in points]
            intervals = [entry.difference_ci for entry in entries]
            curve(above, snr, [entry.difference for entry in entries], intervals, look, "", 100)
            curve(below, snr, [entry.symbols_per_sample for entry in entries], None, look, name)
        above.set_ylabel("minus deployed,\npoints")
        counts = [entry.symbols_per_sample for point in points for entry in point.baselines.values()]
        counts += [point.symbols_per_sample for point in points]
        if max(counts) > _LINEAR * min(counts):
            below.set_yscale("log")
        _finish(figure, above, below)

    return svg(draw, _size(len(looks)), "baselines", "Each baseline minus deployed, and symbols per sample")


def compare_svg(report: Report) -> str:
    """Accuracy of this bundle and of others with 95 % bands; below it the symbols that each sends."""
    looks = baseline_looks([str(number) for number in range(len(report.compare))])

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 3))
        looks_of = zip(report.compare, looks.values(), strict=True)
        for points, look, name in (
            *((entry.points, look, entry.name) for entry, look in looks_of),
            (report.compared("").points, _DEPLOYED, "this bundle"),
        ):
            snr = np.array([point.esn0_db for point in points])
            intervals = [point.accuracy_ci for point in points]
            curve(above, snr, [point.accuracy for point in points], intervals, look, "", 100)
            curve(below, snr, [point.symbols_per_sample for point in points], None, look, name)
        above.set_ylabel("accuracy, %")
        _finish(figure, above, below)

    return svg(draw, _size(len(looks)), "compare", "Accuracy and symbols per sample of several bundles")


def _size(others: int) -> tuple[float, float]:
    return WIDTH, 4.4 + 0.1 * others


def _finish(figure: Figure, above: Axes, below: Axes) -> None:
    below.set_ylabel("symbols per\nsample")
    if below.get_yscale() == "linear":
        below.set_ylim(bottom=0)
    snr_axis(below)
    above.set_axisbelow(True)
    legend_above(figure, below)
