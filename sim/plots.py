"""Figures of accuracy, gap and bit errors over SNR: SVG for the page and PNG for elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from twophase.sim.drawing import COLOURS, png, snr_axis, svg
from twophase.sim.words import channel_text

__all__ = ["accuracy_png", "accuracy_svg", "ber_svg", "gap_svg"]

Report = dict[str, Any]

_MARKERS = {"deployed": "o", "learning": "s", "aligned": "^"}
_SPARE = ("#cc79a7", "#b8860b")  # references of other names


def accuracy_png(report: Report) -> bytes:
    """Accuracy over SNR with the paired gap below it, as a PNG on white."""

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 3))
        _draw_accuracy(above, report)
        _draw_gap(below, report)
        above.set_xlabel("")

    channel = channel_text(report["channel"], report["coherence"])
    samples = f"{report['samples']} samples x {report['trials']} trials"
    title = f"{report['task']} over {channel}: {report['verdict']} ({samples})"
    return png(draw, (7.2, 6.4), title)


def accuracy_svg(report: Report) -> str:
    """Deployed and soft accuracy over SNR with 95 % bands, and the send-the-label bound."""
    return _svg(_draw_accuracy, report, "accuracy", "Accuracy over Es/N0")


def gap_svg(report: Report) -> str:
    """Paired difference deployed minus soft over SNR with 95 % bands, and the limit of the verdict."""
    return _svg(_draw_gap, report, "gap", "Deployed minus soft accuracy over Es/N0")


def ber_svg(report: Report) -> str:
    """Bit error rate over SNR with 95 % intervals, and both closed forms."""
    return _svg(_draw_ber, report, "ber", "Bit error rate over Es/N0")


def _svg(draw: Callable[[Axes, Report], None], report: Report, name: str, title: str) -> str:
    return svg(lambda figure: draw(figure.subplots(), report), (6.4, 4.0), name, title)


def _draw_accuracy(axes: Axes, report: Report) -> None:
    snr = _column(report, "esn0_db")
    axes.plot(
        snr, 100 * _column(report, "label_bound"), "--", color=COLOURS["limit"], label="send-the-label bound"
    )
    for name, colour, marker in _references(report):
        points = [point["references"][name] for point in report["points"]]
        label = f"soft: {name}"
        _banded(axes, snr, points, "accuracy", "accuracy_ci", colour, marker, label)
    _banded(
        axes,
        snr,
        report["points"],
        "accuracy_hard",
        "accuracy_hard_ci",
        COLOURS["deployed"],
        "o",
        "deployed",
    )
    axes.set_ylabel("accuracy, %")
    axes.legend(loc="lower right")
    snr_axis(axes)


def _draw_gap(axes: Axes, report: Report) -> None:
    snr = _column(report, "esn0_db")
    limit = 0 - 100 * report["tolerance"]
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    axes.axhline(limit, color=COLOURS["limit"], linestyle="--", label=f"limit {limit:g} points")
    for name, colour, marker in _references(report):
        points = [point["references"][name] for point in report["points"]]
        _banded(axes, snr, points, "gap", "gap_ci", colour, marker, f"deployed - soft: {name}")
    axes.set_ylabel("gap, points")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 1.6 * limit), high)
    axes.legend(loc="best", fontsize=9.5)
    snr_axis(axes)


def _draw_ber(axes: Axes, report: Report) -> None:
    snr = _column(report, "esn0_db")
    axes.plot(snr, _column(report, "ber_theory"), "--", color=COLOURS["limit"], label="theory, uniform use")
    axes.plot(
        snr, _column(report, "ber_theory_usage"), color=COLOURS["learning"], label="theory, points as sent"
    )
    rate = _column(report, "ber")
    low, high = np.array([point["ber_ci"] for point in report["points"]]).T
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
    axes.set_yscale("log")
    # Below one expected error there is nothing to see; the theory would stretch the axis without end.
    floor = 0.3 / max(point["bits_sent"] for point in report["points"])
    top = max(1.0e-2, float(np.max(high)))
    axes.set_ylim(max(floor, 1e-9), 2 * top)
    axes.set_ylabel("bit error rate")
    axes.legend(loc="lower left")
    snr_axis(axes)


def _banded(
    axes: Axes,
    snr: NDArray[np.float64],
    points: list[dict[str, Any]],
    value: str,
    interval: str,
    colour: str,
    marker: str,
    label: str,
) -> None:
    """Line in percent with its interval as a band."""
    low, high = 100 * np.array([point[interval] for point in points]).T
    axes.fill_between(snr, low, high, color=colour, alpha=0.11, linewidth=0)
    axes.plot(snr, [100 * point[value] for point in points], marker=marker, color=colour, label=label)


def _references(report: Report) -> list[tuple[str, str, str]]:
    """Name, colour and marker of each soft reference."""
    spare = iter(_SPARE * len(report["references"]))
    names = [entry["name"] for entry in report["references"]]
    return [
        (name, COLOURS[name] if name in _MARKERS else next(spare), _MARKERS.get(name, "D")) for name in names
    ]


def _column(report: Report, name: str) -> NDArray[np.float64]:
    return np.array([point[name] for point in report["points"]], dtype=np.float64)
