"""Names beside the points of a scatter, where they cover neither points nor one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

__all__ = ["place_labels"]

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
    """Write each name beside its point; limits and layout of the axes must be final.

    A label takes the first place that is free.  One that finds none stands where it covers least.

    Parameters
    ----------
    axes
        Where the points are drawn already.
    points
        x, y and name; a point without a name is only kept free.
    dpi
        Of the figure.
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
            name,
            (x, y),
            (right, up),
            textcoords="offset points",
            ha=align,
            va="bottom",
            fontsize=_FONT_SIZE,
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
