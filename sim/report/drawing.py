"""What all figures of a report share: style, colours, legends, and how one becomes SVG or PNG.

An SVG is drawn in the colours of the page's light theme, which are replaced by its CSS variables: the page
then shows it in the theme at hand.  Figures are narrow, so that their letters can be read on a phone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from twophase.link.escape import figure as figure_text
from twophase.link.escape import html
from twophase.link.plotting import neutral
from twophase.sim.results.figures import Report

__all__ = [
    "COLOURS",
    "WIDTH",
    "Look",
    "baseline_looks",
    "curve",
    "draw_ceiling",
    "legend_above",
    "place_labels",
    "png",
    "snr_axis",
    "svg",
    "symbols_axis",
]


_Float = NDArray[np.float64]

_FONT_SIZE = 9.0
_WIDTH = 0.58  # of a character, in font sizes
_MARK = 5.0  # half of a mark's extent, in points
_PLACES = tuple(
    (x, y, align)
    for rise in (0, 6, 12, 18)
    for x, y, align in (
        (7, -4 + rise, "left"),
        (7, -4 - rise, "left"),
        (-7, -4 + rise, "right"),
        (-7, -4 - rise, "right"),
        (0, 6 + rise, "center"),
        (0, -14 - rise, "center"),
    )
)
"""Offsets of a label's lower end in points, the nearest first, and how it is aligned."""


def place_labels(axes: Axes, points: Sequence[tuple[float, float, str]], dpi: float) -> None:
    """Write each name next to its point; limits and layout of the axes must be final.

    A label takes the first place that is free.  One that finds none stands where it covers least.  ``points``
    are x, y and name; a point without a name is only kept free.
    """
    scale = dpi / 72
    frame = np.array(axes.get_window_extent().extents)
    centres = axes.transData.transform(np.array([point[:2] for point in points], dtype=np.float64))
    reach = _MARK * scale
    taken = np.hstack([centres - reach, centres + reach])
    for (x, y, name), centre in zip(points, centres, strict=True):
        if not name:
            continue
        boxes = np.array([_box(centre, place, name, scale) for place in _PLACES])
        outside = _area(boxes) - _common(boxes, frame[np.newaxis])[:, 0]
        chosen = int(np.argmin(_common(boxes, taken).sum(axis=1) + outside))
        right, up, align = _PLACES[chosen]
        axes.annotate(
            name, (x, y), (right, up), textcoords="offset points", ha=align, va="bottom", fontsize=_FONT_SIZE
        )
        taken = np.vstack([taken, boxes[chosen]])


def _box(centre: _Float, place: tuple[float, float, str], name: str, scale: float) -> _Float:
    """Left, lower, right and upper end in pixels."""
    right, up, align = place
    width, height = _WIDTH * _FONT_SIZE * len(name) * scale, _FONT_SIZE * scale
    left = centre[0] + right * scale - {"left": 0.0, "right": width, "center": width / 2}[align]
    low = centre[1] + up * scale
    return np.array([left, low, left + width, low + height])


def _area(boxes: _Float) -> _Float:
    """(..., 4) to (...,); zero where an end lies before its start."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def _common(first: _Float, second: _Float) -> _Float:
    """Area that each of the first boxes shares with each of the second, (n, 4) and (m, 4) to (n, m)."""
    lower = np.maximum(first[:, np.newaxis, :2], second[np.newaxis, :, :2])
    upper = np.minimum(first[:, np.newaxis, 2:], second[np.newaxis, :, 2:])
    return _area(np.concatenate([lower, upper], axis=-1))


# Okabe and Ito's palette, told apart by colour-blind readers; each is a CSS variable of the page as well.
COLOURS = {
    "deployed": "#0072b2",
    "learning": "#d55e00",
    "aligned": "#009e73",
    "limit": "#767676",
    "ink": "#1a1a1b",
    "grid": "#d9d9d8",
    "other1": "#b0418b",
    "other2": "#8a6d00",
    "other3": "#6a4fb3",
    "other4": "#3c7d8c",
    "other5": "#7b2d59",
}
WIDTH = 4.5
"""Of a figure in inches: about that of a phone's page."""

_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.edgecolor": COLOURS["ink"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.6,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["ink"],
    "ytick.color": COLOURS["ink"],
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.handlelength": 2.4,
    "legend.columnspacing": 1.4,
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Look:
    """How a curve is drawn; curves that coincide stay visible side by side, by dash, size and hollow mark."""

    colour: str
    marker: str = ""
    dash: Any = "-"
    width: float = 1.5
    size: float = 5.5
    hollow: bool = True
    alpha: float = 0.08
    """Of the band around it."""


_BASELINES = {"conv": 0, "ldpc": 1, "classify-and-send": 2, "tfidf": 3, "text": 4}
_OTHERS = (
    Look(COLOURS["other1"], "D", (0, (5, 1.2, 1, 1.2))),
    Look(COLOURS["other2"], "v", (0, (7, 2)), size=6.0),
    Look(COLOURS["other3"], "P", (0, (2.2, 1.6)), size=6.0),
    Look(COLOURS["other4"], "X", (0, (3, 1.2, 1, 1.2, 1, 1.2)), size=6.0),
    Look(COLOURS["other5"], "<", (0, (6, 1.5, 2, 1.5)), size=6.0),
)


def baseline_looks(names: Sequence[str]) -> dict[str, Look]:
    """How each baseline, or each other bundle, is drawn: known names always alike, others in turn."""
    free = [place for place in range(len(_OTHERS)) if place not in {_BASELINES.get(name) for name in names}]
    spare = iter((free or list(range(len(_OTHERS)))) * (len(names) + 1))
    return {name: _OTHERS[_BASELINES[name] if name in _BASELINES else next(spare)] for name in names}


def curve(
    axes: Axes,
    x: NDArray[np.float64],
    values: Sequence[float | None],
    intervals: Sequence[Sequence[float]] | None,
    look: Look,
    label: str,
    scale: float = 1.0,
) -> None:
    """A line with its interval as a band; a value that is not there leaves a gap."""
    zorder = 2.4 if look.hollow else 2.2
    if intervals is not None:
        low, high = scale * np.array(intervals, dtype=np.float64).T
        axes.fill_between(x, low, high, color=look.colour, alpha=look.alpha, linewidth=0)
    axes.plot(
        x,
        scale * np.array(values, dtype=np.float64),
        color=look.colour,
        linestyle=look.dash,
        linewidth=look.width,
        marker=look.marker,
        markersize=look.size,
        markerfacecolor="none" if look.hollow else look.colour,
        markeredgewidth=1.1 if look.hollow else 0.0,
        markevery=1 + len(x) // 32,
        label=figure_text(label),
        zorder=zorder,
    )


def draw_ceiling(axes: Axes, report: Report) -> None:
    """The accuracy without a channel as a level line with its interval, if the report has one; in percent."""
    if report.ceiling is None:
        return
    ceiling = report.ceiling
    low, high = ceiling.accuracy_ci
    axes.axhspan(100 * low, 100 * high, color=COLOURS["ink"], alpha=0.06, linewidth=0, zorder=0.5)
    name = figure_text(ceiling.name)
    axes.axhline(100 * ceiling.accuracy, color=COLOURS["ink"], linestyle=(0, (1, 1.5)), label=name)


def legend_above(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """The legend above the axes, where it covers no curve; what is measured of the link comes first."""
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda place: names[place] not in _FIRST)
    entries: list[Artist] = [handles[place] for place in order]
    labels = [names[place] for place in order]
    figure.legend(entries, labels, loc="outside upper left", ncols=columns, borderpad=0.1)


_FIRST = ("deployed", "this bundle", "measured, 95 %", "information bits sent")


def png(draw: Callable[[Figure], None], size: tuple[float, float], title: str) -> bytes:
    """A figure as PNG on white, ``size`` in inches."""
    with neutral(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.suptitle(figure_text(title), fontsize=12)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=160, metadata={"Software": None})
    return stream.getvalue()


def svg(draw: Callable[[Figure], None], size: tuple[float, float], name: str, title: str) -> str:
    """A figure as an SVG element for the page; ``name`` distinguishes it from the page's other figures."""
    # The salt keeps element names equal from run to run and different from figure to figure.
    with neutral(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = _TAG.sub(lambda tag: _attributes(tag[0]), _STYLE_SHEET.sub("", text[text.index("<svg") :]))
    root = f'<svg role="img" aria-label="{html(title)}" font-family="sans-serif" {_LINES} '
    return text.replace("<svg ", root, 1)


def _attributes(tag: str) -> str:
    """A tag without style, which a strict content security policy does not let through: attributes instead.

    Colours are the page's variables; where its style sheet is not let through either they are themselves.
    """
    tag = _INLINE.sub(lambda style: " ".join(map(_attribute, _DECLARATION.findall(style[1]))), tag)
    tag = _DRAWN.sub(lambda drawn: _DIGITS.sub(r"\1", drawn[0]), tag)
    # Groups are named alike in every figure, and nothing refers to them.
    tag = _GROUP.sub("<g", tag)
    return _COLOUR.sub(lambda colour: f"var(--{_NAMES[colour[0]]}, {colour[0]})", tag)


def _attribute(declaration: tuple[str, str]) -> str:
    name, value = declaration
    if name == "font-family":
        return ""  # the page's own
    if name == "font":  # of older releases, all in one
        name, value = "font-size", _SIZE.findall(value)[0]
    return f'{name}="{value}"'


_TAG = re.compile("<[^>]*>")
_INLINE = re.compile(r'\bstyle="([^"]*)"')
_DECLARATION = re.compile(r"([a-z-]+):\s*([^;]+)")
_SIZE = re.compile(r"[\d.]+px")
_STYLE_SHEET = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
_LINES = 'stroke-linejoin="round" stroke-linecap="butt"'
"""What the style sheet that matplotlib puts into a figure says, there of all elements of the page."""
_NAMES = {colour: variable for variable, colour in COLOURS.items()}
_COLOUR = re.compile("|".join(_NAMES))
# Hundredths of a point are finer than any screen.
_DRAWN = re.compile(r'\b(?:d|x|y)="[^"]*"')
_GROUP = re.compile(r'<g id="[^"]*"')
_DIGITS = re.compile(r"(\.\d\d)\d+")


def symbols_axis(axes: Axes, limits: tuple[float, float], ticks: Sequence[float]) -> None:
    """A logarithmic axis of counts of symbols, with those of the ticks that lie within its limits."""
    axes.set_xscale("log")
    axes.set_xlim(limits)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if limits[0] <= tick <= limits[1]]))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


_NARROWEST = 3.0
"""Axis of Es/N0 in dB: a single point stands in its middle."""


def snr_axis(axes: Axes) -> None:
    """Label the axis of Es/N0, with ticks at whole numbers."""
    axes.set_xlabel("Es/N0, dB")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    low, high = axes.get_xlim()
    if high - low < _NARROWEST:
        axes.set_xlim((low + high - _NARROWEST) / 2, (low + high + _NARROWEST) / 2)
    axes.set_axisbelow(True)
