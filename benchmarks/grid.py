"""Measure what the integer grid costs: the same link trained with and without it, seed by seed.

    python benchmarks/grid.py --seeds 5 --jobs 2

For each seed it trains the digits link with ``--search grid`` and with ``--search float``, exports both and
sends them over AWGN, -5 to 20 dB, every fixed mode beside the adaptive link.  It prints the deployed accuracy
and the symbols of both at each SNR, mean ± standard deviation over seeds, and the difference with its
spread; then the same difference for every fixed mode, which no table of thresholds blurs.

The test split is read by tp-sim alone; nothing is chosen by it.  Finished runs are kept and not repeated, so
that an interrupted benchmark continues.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runs import call, spread, train_once
from twophase.link.manifest import load_manifest

SEARCHES = ("float", "grid")
Report = dict[str, Any]


def main() -> None:
    """Train, export and simulate what is missing, then print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/grid"))
    arguments = parser.parse_args()
    cells = [(search, seed) for seed in range(arguments.seeds) for search in SEARCHES]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        made = list(pool.map(lambda cell: _measure(*cell, arguments.out, arguments.trials), cells))
    reports = dict(zip(cells, made, strict=True))
    sides = [[reports[search, seed] for seed in range(arguments.seeds)] for search in SEARCHES]
    _print_link(*sides)
    _print_modes(*sides)


def _measure(search: str, seed: int, out: Path, trials: int) -> Report:
    run = train_once(out, search, seed, ["--search", search])
    if not (run / "bundle" / "link.json").is_file():
        call("export", "--run", run, "--random-inputs", 20_000)
    folder = run / "sim-awgn"
    if not (folder / "report.json").is_file():
        call(
            "sim", "--bundle", run / "bundle", "--snr=-5:20", "--trials", trials, "--modes-report",
            "--out", folder, failures=(1,),
        )  # fmt: skip
    manifest = load_manifest(run / "bundle", "bundle")
    if (manifest.grid is not None) != (search == "grid"):
        raise SystemExit(f"'{run}' was not trained with --search {search}")
    report: Report = json.loads((folder / "report.json").read_text())
    return report


def _print_link(floats: Sequence[Report], grids: Sequence[Report]) -> None:
    print("### The adaptive link, AWGN\n")
    print("| Es/N0 (dB) | float | symbols | grid | symbols | grid minus float (points), worst seed |")
    print("|---" * 6 + "|")
    means: dict[float, float] = {}
    for number, point in enumerate(floats[0]["points"]):
        columns = [[report["points"][number] for report in side] for side in (floats, grids)]
        hard = [[entry["accuracy_hard"] for entry in column] for column in columns]
        symbols = [[entry["symbols_per_sample"] for entry in column] for column in columns]
        difference = [100 * (grid - real) for real, grid in zip(*hard, strict=True)]
        means[point["esn0_db"]] = statistics.mean(difference)
        print(
            f"| {point['esn0_db']:g} | {spread(hard[0])} | {statistics.mean(symbols[0]):.1f} | "
            f"{spread(hard[1])} | {statistics.mean(symbols[1]):.1f} | "
            f"{_signed(difference)}, {min(difference):+.2f} |"
        )
    worst = min(means, key=lambda snr: means[snr])
    print(f"\nworst mean difference {means[worst]:+.2f} points at {worst:g} dB; ", end="")
    print(f"over all SNRs {statistics.mean(means.values()):+.2f}\n")


def _print_modes(floats: Sequence[Report], grids: Sequence[Report]) -> None:
    print("### Every mode by itself, AWGN: grid minus float (points), mean over seeds\n")
    shown = [-5.0, 0.0, 5.0, 10.0, 15.0, 20.0]
    print("| mode | " + " | ".join(f"{snr:g} dB" for snr in shown) + " | worst SNR | mean over SNRs |")
    print("|---" * (len(shown) + 3) + "|")
    for number, entry in enumerate(floats[0]["modes"]):
        means: dict[float, float] = {}
        for place, point in enumerate(entry["points"]):
            real, grid = (
                statistics.mean(report["modes"][number]["points"][place]["accuracy"] for report in side)
                for side in (floats, grids)
            )
            means[point["esn0_db"]] = 100 * (grid - real)
        worst = min(means, key=lambda snr: means[snr])
        cells = " | ".join(f"{means[snr]:+.2f}" for snr in shown)
        print(
            f"| {entry['mode']} | {cells} | {means[worst]:+.2f} at {worst:g} dB | "
            f"{statistics.mean(means.values()):+.2f} |"
        )


def _signed(values: Sequence[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):+.2f} ± {deviation:.2f}"


if __name__ == "__main__":
    main()
