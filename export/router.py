"""Which routing a bundle gets: the trained one, another header, or the table in the router's place.

Needs no torch, so that bad input is told at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

from twophase.link.errors import InputError
from twophase.link.header import HeaderStep, header_code
from twophase.link.manifest import Manifest
from twophase.link.routing import Routing

__all__ = ["AUTO", "HYSTERESIS_DB", "RouterChoice", "exported_routing"]

RouterChoice = Literal["trained", "table"]
"""``trained``: as the run has it.  ``table``: the run's table, by a look-up that anybody can read."""

AUTO = "auto"
"""Name of the headers that the run planned."""

HYSTERESIS_DB = 1.0
"""Hysteresis of a table that takes a router's place, in dB."""


def exported_routing(
    manifest: Manifest,
    router: RouterChoice = "trained",
    hysteresis_db: float | None = None,
    header: str = AUTO,
) -> Routing:
    """The routing of a bundle.

    Parameters
    ----------
    manifest
        The run's.
    router
        Whether the run's table takes the place of its router.
    hysteresis_db
        Hysteresis in dB of a bundle that goes by a table; None: the run's own, or ``HYSTERESIS_DB`` for a
        table that takes a router's place.
    header
        Name of the one code that tells the mode at every SNR, or ``auto``.

    Raises
    ------
    InputError
        If the link has one mode and a table is asked for, if a hysteresis is given without a table or is
        negative, if a code is named for a link that sends no header, is unknown or has too few words.
    """
    routing = manifest.routing
    if router not in get_args(RouterChoice):
        raise InputError("router", f"be one of {', '.join(get_args(RouterChoice))}", router)
    if router == "table":
        if len(manifest.modes) == 1:
            raise InputError(
                "router", "be 'trained' for a link of one mode: there is nothing to choose", router
            )
        kept = routing.hysteresis_db if routing.router == "table" else HYSTERESIS_DB
        routing = Routing("table", routing.table, kept, ())
    if hysteresis_db is not None:
        if routing.router != "table":
            raise InputError(
                "hysteresis_db",
                f"be left out for the router '{routing.router}': only a table has it",
                hysteresis_db,
            )
        routing = replace(routing, hysteresis_db=hysteresis_db)
    if header != AUTO:
        if not routing.tells_mode:
            raise InputError(
                "header", f"be '{AUTO}' for the router '{routing.router}': it sends no header", header
            )
        header_code(header, len(manifest.modes))
        routing = replace(routing, header=(HeaderStep(routing.header[0].from_db, header),))
    routing.check(manifest.modes)
    return routing
