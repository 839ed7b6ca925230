"""What a user may ask of an export: the routing of the bundle, and where it goes.

Nothing here needs torch or onnx, so that bad input is refused at once.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from twophase.link.errors import InputError
from twophase.link.files import followed
from twophase.link.header import HeaderStep, header_code
from twophase.link.manifest import MANIFEST_NAME, Manifest, kind_of
from twophase.link.routing import Routing

__all__ = ["AUTO", "HYSTERESIS_DB", "RouterChoice", "check_target", "exported_routing"]

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
    """The routing of a bundle, from the manifest of its run.

    Parameters
    ----------
    hysteresis_db
        In dB, of a bundle that goes by a table; None: the run's own, or ``HYSTERESIS_DB`` for a table that
        takes a router's place.
    header
        Name of the one code that signals the mode at every SNR, or ``auto``.

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


def check_target(out: Path) -> None:
    """Refuse to replace anything but an older bundle, and a folder that cannot be replaced as a whole.

    Raises
    ------
    InputError
        If ``out`` cannot be written, is a file, a folder with something else in it, a mount point, or
        the working directory or a folder around it.
    """
    try:
        _check_target(out, followed(out, "out"))
    except OSError as error:
        raise InputError("out", f"be writable ({error.strerror or error})", str(out)) from error


def _check_target(out: Path, target: Path) -> None:
    if Path.cwd().is_relative_to(target):
        raise InputError("out", "be no folder that you are in, for it is replaced as a whole", str(out))
    if target.is_mount():
        raise InputError("out", "be a folder below the mount point, for it is replaced as a whole", str(out))
    if target.is_dir() and kind_of(target / MANIFEST_NAME) != "bundle" and any(target.iterdir()):
        raise InputError("out", "be a new or empty folder, or an older bundle to replace", str(out))
    existing = next(path for path in (target, *target.parents) if path.exists())
    if not existing.is_dir():
        raise InputError("out", f"be a folder, and '{existing}' is a file", str(out))
    # a folder is replaced by renaming, which writes in the one around it
    for folder in dict.fromkeys((existing, target.parent if target.exists() else existing)):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError("out", f"be writable, and '{folder}' is not", str(out))
