"""``tp-train``, also as ``python -m twophase.training``, for launchers that take a module."""

from __future__ import annotations

import sys

from twophase.link.process import run

__all__ = ["main"]


def main() -> int:
    """Entry point; returns the exit status."""
    return run("tp-train", "twophase.training.cli")


if __name__ == "__main__":
    sys.exit(main())
