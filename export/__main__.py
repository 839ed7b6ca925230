"""``tp-export``, also as ``python -m twophase.export``."""

from __future__ import annotations

import sys

from twophase.link.process import run

__all__ = ["main"]


def main() -> int:
    """Entry point; returns the exit status."""
    return run("tp-export", "twophase.export.cli")


if __name__ == "__main__":
    sys.exit(main())
