"""Received symbols for the report's pictures: a few of each mode at three points of the grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twophase.link.constellation import qam
from twophase.link.samples import Samples
from twophase.sim.point import PointSimulator
from twophase.sim.settings import Settings
from twophase.sim.system import System

__all__ = ["scatter_entries"]

_SYMBOLS = 400


def scatter_entries(
    system: System, samples: Samples, grid: Sequence[float], settings: Settings
) -> list[dict[str, Any]]:
    """Entries of ``scatter`` in ``report.json``: lowest, middle and highest Es/N0, each with its modes."""
    ordered = sorted(set(grid))
    shown = sorted({ordered[0], ordered[len(ordered) // 2], ordered[-1]})
    entries = []
    for esn0_db in shown:
        seen = PointSimulator(system, samples, esn0_db, settings).look(_SYMBOLS)
        entries.append(
            {
                "esn0_db": esn0_db,
                "groups": [
                    {
                        "mode": system.modes.names[number],
                        "order": system.modes[number].order,
                        "received": [[round(point.real, 4), round(point.imag, 4)] for point in points],
                        "reference": [
                            [point.real, point.imag] for point in qam(system.modes[number].order).points
                        ],
                    }
                    for number, points in sorted(seen.items())
                ],
            }
        )
    return entries
