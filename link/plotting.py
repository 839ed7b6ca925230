"""matplotlib as it comes: no settings of the user's reach the figures that a command only writes to files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twophase.link.command import require

__all__ = ["neutral", "require_matplotlib"]

_SETTINGS = "matplotlibrc"


def require_matplotlib(extra: str, who: str) -> None:
    """Import it for a command without any settings file or variable, which may be broken.

    Raises
    ------
    PackageError
        If it cannot be imported.
    """
    os.environ |= {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}
    # A file in the working folder would come before the variable.
    apart = contextlib.chdir("/") if Path(_SETTINGS).exists() else contextlib.nullcontext()
    with apart:
        require("matplotlib", extra, who)


@contextlib.contextmanager
def neutral(style: Mapping[str, Any]) -> Iterator[None]:
    """Matplotlib's own settings and ``style`` inside, whatever holds outside; text is never a formula."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        name: value for name, value in mpl.rcParamsDefault.items() if not name.startswith("backend")
    }
    with mpl.rc_context(settings | dict(style)):
        yield
