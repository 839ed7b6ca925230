"""Run the commands as a user does: in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

MODULES = {
    "tp-train": "twophase.training",
    "tp-export": "twophase.export",
    "tp-sim": "twophase.sim",
    "tp-verify": "twophase.export.verify",
}


def run_command(
    command: str,
    *arguments: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 900,
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` with its output captured as text; the limit is one that a busy machine keeps, too."""
    words: Sequence[str] = [sys.executable, "-m", MODULES[command], *map(str, arguments)]
    environment = {**os.environ, **(env or {})}
    return subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=timeout
    )


def assert_refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Exit status 2 and one line on stderr that contains all ``parts``; nothing on stdout."""
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for part in parts:
        assert part in lines[0], lines[0]
    assert not done.stdout
