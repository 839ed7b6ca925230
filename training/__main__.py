"""``python -m twophase.training``: ``tp-train``, for launchers that take a module."""

from __future__ import annotations

import sys

from twophase.training.cli import main

sys.exit(main())
