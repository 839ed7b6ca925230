"""Where things are kept that were fetched or computed once and serve every run."""

from __future__ import annotations

import os
from pathlib import Path

from twophase.link.errors import InputError

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """The user's cache folder for this package; it need not exist yet.

    ``$TWOPHASE_CACHE``; else ``twophase-link`` in ``$XDG_CACHE_HOME``, which counts only if absolute, as its
    specification says; else ``~/.cache/twophase-link``.

    Raises
    ------
    InputError
        If there is no home folder to look in.
    """
    try:
        if named := os.environ.get("TWOPHASE_CACHE"):
            return Path(named).expanduser().absolute()
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return (base if base.is_absolute() else Path.home() / ".cache") / "twophase-link"
    except RuntimeError as error:
        raise InputError(
            "TWOPHASE_CACHE", f"name a folder, as no home folder is known ({error})", os.environ.get("HOME")
        ) from error
