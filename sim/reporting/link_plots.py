"""Figures of both ends of the link: samples on the air, and which classes are taken for which."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from twophase.sim.reporting.drawing import COLOURS, svg

__all__ = ["confusion_svg", "constellation_svg"]

Report = dict[str, Any]
_Float = NDArray[np.float64]

_SHOWN = 0.98
"""Share of the received symbols that a panel must show; a fade can throw others very far out."""
_STRAY = 1.6
"""How many times as far as the rest the farthest symbol may lie and still be shown."""
_FARTHEST = 4.0
"""Half of a panel's side at most, in units of the reference's."""
_NAMED_CLASSES = 12
"""With more classes the cells of a confusion matrix are too small for numbers."""


def constellation_svg(group: dict[str, Any], esn0_db: float, name: str) -> tuple[str, int]:
    """Received symbols of one mode around the points that are sent.

    Parameters
    ----------
    group
        ``mode``, ``order``, ``received`` and ``reference``, pairs of real and imaginary part.
    esn0_db
        Of the panel, for its title.
    name
        Tells this figure from the page's others.

    Returns
    -------
    tuple
        The SVG, and how many received symbols lie outside it.
    """
    received = np.asarray(group["received"], dtype=np.float64).reshape(-1, 2)
    reference = np.asarray(group["reference"], dtype=np.float64).reshape(-1, 2)
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
        axes.set_title(f"{esn0_db:g} dB, {group['mode']}", fontsize=11, loc="left")
        axes.set_xlabel("in phase")
        axes.set_ylabel("quadrature")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.grid(visible=False)
        axes.spines[["top", "right"]].set_visible(True)

    title = f"Received symbols at {esn0_db:g} dB, {group['mode']}"
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


def confusion_svg(report: Report, point: dict[str, Any], name: str) -> str:
    """Which class is decided for which, in percent of the true class; errors in another hue.

    Parameters
    ----------
    report
        Names the classes.
    point
        Whose ``confusion`` is drawn, rows true, columns decided.
    name
        Tells this figure from the page's others.
    """
    counts = np.asarray(point["confusion"], dtype=np.float64)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [str(entry) for entry in report["classes"]]

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
        axes.set_title(f"{point['esn0_db']:g} dB", fontsize=11, loc="left")
        axes.grid(visible=False)
        axes.tick_params(length=0)

    title = f"Confusion matrix at {point['esn0_db']:g} dB, percent of the true class"
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
    return name if len(name) <= longest else name[: longest - 1] + "…"
