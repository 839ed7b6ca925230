"""One link under what tp-sim can simulate: channels, what the receiver knows, other designs beside it.

    python benchmarks/settings_of_sim.py runs/grid-0/bundle runs/grid-1/bundle ... [--trials 20]

Every cell is the mean over the bundles, trained from different seeds, with the standard deviation between
them, of the deployed link's accuracy in percent on the test split; under it, in symbols per sample, what it
cost, pilots and headers included.  Each run is ``tp-sim`` in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from runs import call

GRID = "-5:5:20"

AIRS = {
    "AWGN": [],
    "Rician 6 dB, a gain per symbol": ["--channel", "rician"],
    "Rayleigh, a gain per symbol": ["--channel", "rayleigh"],
    "Rayleigh, a gain per 12 symbols": ["--channel", "rayleigh", "--coherence", "12"],
    "the same, 2 pilots, MMSE": ["--channel", "rayleigh", "--coherence", "12", "--csi", "pilot"],
    "the same, 2 pilots, least squares": [
        *("--channel", "rayleigh", "--coherence", "12", "--csi", "pilot", "--estimator", "ls"),
    ],
    "the same, gains taken for 1": ["--channel", "rayleigh", "--coherence", "12", "--csi", "none"],
    "AWGN, N0 taken 3 dB too high": ["--noise-mismatch-db", "3"],
    "AWGN, N0 taken 3 dB too low": ["--noise-mismatch-db", "-3"],
    "TDL-A, 300 ns": ["--channel", "tdl-a"],
    "TDL-C, 300 ns": ["--channel", "tdl-c"],
    "TDL-C, 300 ns, 2 pilots in 12 subcarriers, MMSE": ["--channel", "tdl-c", "--csi", "pilot"],
}

Points = list[dict[str, Any]]


def simulate(bundle: Path, words: list[str], trials: int) -> Points:
    """Points of a report; the verdict may be either."""
    with tempfile.TemporaryDirectory() as folder:
        given = ["--bundle", bundle, f"--snr={GRID}", "--trials", trials, "--out", folder]
        call("sim", *given, *words, failures=(1,))
        points: Points = json.loads((Path(folder) / "report.json").read_text())["points"]
    return points


def cell(values: list[float], scale: float = 100.0) -> str:
    """Mean and, of several bundles, the standard deviation between them."""
    spread = f" ± {scale * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{scale * mean(values):.1f}{spread}"


def span(values: list[float]) -> str:
    """Fewest and most, one number if they are equal."""
    low, high = min(values), max(values)
    return f"{low:.1f}" if high - low < 0.05 else f"{low:.1f}..{high:.1f}"


def main() -> None:
    """Print both tables as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--trials", type=int, default=20)
    arguments = parser.parse_args()

    beside = ["--code", "conv", "ldpc", "--baseline", "classify-and-send"]
    runs = [simulate(bundle, beside, arguments.trials) for bundle in arguments.bundles]
    at = [point["esn0_db"] for point in runs[0]]
    header = "".join(f" {esn0_db:g} dB |" for esn0_db in at)
    print(f"\n{len(runs)} bundle(s), {arguments.trials} trials, AWGN, other designs at their symbols:\n")
    print(f"| accuracy, % |{header}\n|---|{'---|' * len(at)}")
    print(
        "| deployed |"
        + "".join(f" {cell([run[i]['accuracy_hard'] for run in runs])} |" for i in range(len(at)))
    )
    print(
        "| symbols |"
        + "".join(f" {span([run[i]['symbols_per_sample'] for run in runs])} |" for i in range(len(at)))
    )
    for name in runs[0][0]["companions"]:
        entries = [[run[i]["companions"][name] for run in runs] for i in range(len(at))]
        print(f"| {name} |" + "".join(f" {cell([e['accuracy'] for e in point])} |" for point in entries))
        print(
            "| symbols |"
            + "".join(f" {span([e['symbols_per_sample'] for e in point])} |" for point in entries)
        )
    print(
        "| label bound |"
        + "".join(f" {cell([run[i]['label_bound'] for run in runs])} |" for i in range(len(at)))
    )

    print("\nChannels and what the receiver knows:\n")
    print(f"| accuracy, %; symbols |{header}\n|---|{'---|' * len(at)}")
    lowest = 0.0
    for name, words in AIRS.items():
        runs = [simulate(bundle, words, arguments.trials) for bundle in arguments.bundles]
        lowest = min([lowest, *(point["gap"] for run in runs for point in run)])
        cells = []
        for place in range(len(at)):
            accuracy = cell([run[place]["accuracy_hard"] for run in runs])
            cells.append(f" {accuracy}; {span([run[place]['symbols_per_sample'] for run in runs])} |")
        print(f"| {name} |" + "".join(cells), flush=True)
    print(f"\nlowest gap, deployed minus soft, in all of these: {100 * lowest:+.2f} points")


if __name__ == "__main__":
    main()
