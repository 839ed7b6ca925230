"""Figures of other systems beside the link: companions on the same air, and other bundles."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twophase.sim.reporting.drawing import (
    COLOURS,
    WIDTH,
    Look,
    companion_looks,
    curve,
    legend_above,
    snr_axis,
    svg,
)

__all__ = ["companions_svg", "compare_svg"]

Report = dict[str, Any]

_LINEAR = 30
"""Times by which counts of symbols may differ on a linear axis."""
_DEPLOYED = Look(COLOURS["deployed"], "o", width=2.4, size=5.5, hollow=False, alpha=0.16)


def companions_svg(report: Report) -> str:
    """Paired difference companion minus deployed with 95 % bands; below it the symbols that each sends."""
    points = report["points"]
    snr = np.array([point["esn0_db"] for point in points])
    looks = companion_looks([entry["name"] for entry in report["companions"]])

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 3))
        above.axhline(0, color=COLOURS["ink"], linewidth=0.8)
        curve(below, snr, [point["symbols_per_sample"] for point in points], None, _DEPLOYED, "deployed")
        for name, look in looks.items():
            entries = [point["companions"][name] for point in points]
            intervals = [entry["difference_ci"] for entry in entries]
            curve(above, snr, [entry["difference"] for entry in entries], intervals, look, "", 100)
            curve(below, snr, [entry["symbols_per_sample"] for entry in entries], None, look, name)
        above.set_ylabel("minus deployed,\npoints")
        counts = [entry["symbols_per_sample"] for point in points for entry in point["companions"].values()]
        counts += [point["symbols_per_sample"] for point in points]
        if max(counts) > _LINEAR * min(counts):
            below.set_yscale("log")
        _finish(figure, above, below)

    return svg(draw, _size(len(looks)), "companions", "Each companion minus deployed, and symbols per sample")


def compare_svg(report: Report) -> str:
    """Accuracy of this bundle and of others with 95 % bands; below it the symbols that each sends."""
    looks = companion_looks([str(number) for number in range(len(report["compare"]))])

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 3))
        systems = [
            (entry["points"], "accuracy", look, entry["name"])
            for entry, look in zip(report["compare"], looks.values(), strict=True)
        ]
        for points, value, look, name in [
            *systems,
            (report["points"], "accuracy_hard", _DEPLOYED, "this bundle"),
        ]:
            snr = np.array([point["esn0_db"] for point in points])
            intervals = [point[f"{value}_ci"] for point in points]
            curve(above, snr, [point[value] for point in points], intervals, look, "", 100)
            curve(below, snr, [point["symbols_per_sample"] for point in points], None, look, name)
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
