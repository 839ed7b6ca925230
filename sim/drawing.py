"""What all figures of a report share: style, colours, and how one becomes SVG or PNG.

An SVG is drawn in the colours of the page's light theme, which are replaced by its CSS variables: the page
then shows it in the theme at hand.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, cast

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = ["COLOURS", "png", "snr_axis", "svg"]

# Okabe and Ito's palette, told apart by colour-blind readers; each is a CSS variable of the page as well.
COLOURS = {
    "deployed": "#0072b2",
    "learning": "#d55e00",
    "aligned": "#009e73",
    "limit": "#767676",
    "ink": "#1a1a1b",
    "grid": "#d9d9d8",
}
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
    "svg.fonttype": "none",
}


def png(draw: Callable[[Figure], None], size: tuple[float, float], title: str) -> bytes:
    """A figure as PNG on white, ``size`` in inches."""
    with mpl.rc_context(cast(Any, _STYLE)):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.suptitle(title, fontsize=12)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=160, metadata={"Software": None})
    return stream.getvalue()


def svg(draw: Callable[[Figure], None], size: tuple[float, float], name: str, title: str) -> str:
    """A figure as an SVG element for the page; ``name`` tells it from the page's other figures."""
    # The salt keeps element names equal from run to run and different from figure to figure.
    with mpl.rc_context(cast(Any, _STYLE | {"svg.hashsalt": name})):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    for variable, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{variable})")
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def snr_axis(axes: Axes) -> None:
    """Label the axis of Es/N0, with ticks at whole numbers."""
    axes.set_xlabel("Es/N0, dB")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_axisbelow(True)
