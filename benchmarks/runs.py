"""What the benchmarks share: calling the commands, and mean ± standard deviation over seeds."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

__all__ = ["SINGLE_MODE", "call", "spread", "train_once"]

SINGLE_MODE = (
    *("--codebook-sizes", "4", "--tokens", "12", "--qam-orders", "16"),
    *("--epochs", "150", "--alignment-start-epoch", "60"),
    *("--train-snr-low-db", "-5", "--train-snr-high-db", "12"),
    *("--search", "float"),
)
"""The link of one mode, 24 bits in six 16-QAM symbols, that the method was first measured on."""


def call(package: str, *words: object, failures: tuple[int, ...] = ()) -> None:
    """Run the command of ``package`` (training, export or sim); stop the benchmark if it fails.

    ``failures`` are exit statuses that are results and not failures, such as 1 for a verdict FAIL.
    """
    command = [sys.executable, "-m", f"twophase.{package}", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and done.returncode not in failures:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")


def train_once(out: Path, name: str, seed: int, options: list[str]) -> Path:
    """Train into a folder named after variant and seed, unless a finished run is there; return the folder."""
    words = "".join(letter if letter.isalnum() else "_" for letter in name)
    folder = out / f"{words}-{seed}"
    if not (folder / "link.json").is_file():
        call("training", "--seed", seed, "--out", folder, *options)
    return folder


def spread(values: list[float]) -> str:
    """``mean ± standard deviation``, to four decimals."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} ± {deviation:.4f}"
