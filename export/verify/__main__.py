"""``tp-verify``, also as ``python -m twophase.export.verify``."""

from __future__ import annotations

import sys

from twophase.link.process import run

__all__ = ["main"]


def main() -> int:
    """Entry point; returns the exit status."""
    return run("tp-verify", "twophase.export.verify.cli")


if __name__ == "__main__":
    sys.exit(main())
