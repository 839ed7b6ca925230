"""The sentence link against what it has to reach, on movie reviews, several seeds.

    python benchmarks/sentences.py --seeds 3 --out runs/sentences

Each seed goes through the commands: tp-train --task reviews (nothing else set), tp-export in float32 and
INT8, tp-sim over AWGN and over block Rayleigh fading, 0..20 dB.  Prints markdown tables, mean ± standard
deviation over seeds on the test split:

1. ceiling (the tuned backbone without a link), deployed accuracy, symbols per sentence (header included), the
   gap to the soft references, TF-IDF sent as a label, the sentence itself and its Shannon bound;
2. the same over block Rayleigh fading;
3. best and last checkpoint (validation), seconds of each step of the training, INT8 against float32.

The test split is read by tp-export, which measures what it built, and by tp-sim; nothing is chosen by it.
Finished runs are kept and not repeated, so that an interrupted benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from runs import call, spread

CHANNELS = {
    "awgn": (),
    "rayleigh": ("--channel", "rayleigh", "--coherence", "sample"),
}
SHOWN_DB = (0.0, 2.0, 5.0, 8.0, 10.0, 15.0, 20.0)
Report = dict[str, Any]


def main() -> None:
    """Train, export and simulate, then print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/sentences"))
    arguments = parser.parse_args()
    runs = [arguments.out / str(seed) for seed in range(arguments.seeds)]
    for seed, run in enumerate(runs):
        _measure(seed, run, arguments.trials)
    for channel in CHANNELS:
        reports = [json.loads((run / f"sim-{channel}" / "report.json").read_text()) for run in runs]
        print(f"\n### {channel}\n")
        _print_points(reports)
        if channel == "awgn":
            _print_targets(reports)
    print("\n### training and INT8\n")
    _print_training(runs)


def _measure(seed: int, run: Path, trials: int) -> None:
    if not (run / "link.json").is_file():
        call("training", "--task", "reviews", "--seed", seed, "--out", run)
    for precision, name in (("float32", "bundle"), ("int8", "bundle-int8")):
        if not (run / name / "link.json").is_file():
            call("export", "--run", run, "--precision", precision, "--random-inputs", 20_000)
    jobs = [(f"sim-{channel}", "bundle", words) for channel, words in CHANNELS.items()]
    for folder, bundle, words in (*jobs, ("sim-int8", "bundle-int8", ())):
        if not (run / folder / "report.json").is_file():
            told = ("--bundle", run / bundle, "--snr", "0:20", "--trials", trials, "--out", run / folder)
            call("sim", *told, *words, failures=(1,))


def _print_points(reports: list[Report]) -> None:
    print(
        "| Es/N0 (dB) | ceiling | deployed | symbols | worst gap to soft (points) | TF-IDF as a label | "
        "sentence itself | its symbols | times | times, Shannon bound |"
    )
    print("|---" * 10 + "|")
    for snr in SHOWN_DB:
        points = [_point(report, snr) for report in reports]
        companions = [point["companions"] for point in points]
        cells = [
            f"{snr:g}",
            spread([report["ceiling"]["accuracy"] for report in reports]),
            spread([point["accuracy_hard"] for point in points]),
            _mean([point["symbols_per_sample"] for point in points]),
            f"{100 * min(point['gap'] for point in points):.2f}",
            spread([entry["tfidf"]["accuracy"] for entry in companions]),
            spread([entry["text"]["accuracy"] for entry in companions]),
            _mean([point["text"]["symbols"] for point in points]),
            _mean([point["text"]["ratio"] for point in points]),
            _mean([point["text"]["bound_ratio"] for point in points]),
        ]
        print("| " + " | ".join(cells) + " |")


def _print_targets(reports: list[Report]) -> None:
    def below(report: Report, low: float, high: float) -> float:
        points = [point for point in report["points"] if low <= point["esn0_db"] <= high]
        return 100 * (report["ceiling"]["accuracy"] - min(point["accuracy_hard"] for point in points))

    every = [point for report in reports for point in report["points"]]
    symbols = [_point(report, 20.0)["symbols_per_sample"] for report in reports]
    rows = (
        ("ceiling less deployed at 5..20 dB, worst SNR (points)", 1.0, [below(r, 5, 20) for r in reports]),
        ("ceiling less deployed at 0 dB (points)", 2.0, [below(r, 0, 0) for r in reports]),
        ("symbols per sentence at 20 dB", 16.0, symbols),
    )
    print("\n| what | at most | each seed |\n|---|---|---|")
    for name, limit, values in rows:
        print(f"| {name} | {limit:g} | {', '.join(f'{value:.2f}' for value in values)} |")
    print(
        f"| soft less deployed, worst SNR and seed (points) | 2 | {-100 * min(p['gap'] for p in every):.2f} |"
    )
    ratios = [point["text"]["ratio"] for point in every]
    bounds = [point["text"]["bound_ratio"] for point in every]
    verdicts = [point["verdict"] for point in every]
    print(f"\nthe sentence itself: {min(ratios):.0f}..{max(ratios):.0f} times as many symbols (asked: 20)")
    print(f"by its Shannon bound: {min(bounds):.0f}..{max(bounds):.0f} times")
    print(f"verdict PASS at {verdicts.count('PASS')} of {len(verdicts)} points")


def _print_training(runs: list[Path]) -> None:
    print(
        "| seed | ceiling (val.) | best hard (val.) | last hard (val.) | best soft | last soft "
        "| hidden states (s) | tuning (s) | link (s) | INT8 decisions that differ |"
    )
    print("|---" * 10 + "|")
    for seed, run in enumerate(runs):
        training = json.loads((run / "link.json").read_text())["training"]
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        export = json.loads((run / "bundle-int8" / "link.json").read_text())["provenance"]["export"]
        hard = [record["validation_accuracy_hard"] for record in records if record["hard_forward"] == 1]
        soft = [record["validation_accuracy_soft"] for record in records]
        seconds = training["backbone"]["seconds"]
        apart = export["front"]["int8"]["float32"]["decisions"]
        cells = [
            f"{seed}", f"{training['backbone']['validation_accuracy']:.4f}",
            f"{max(hard):.4f}", f"{hard[-1]:.4f}", f"{max(soft):.4f}", f"{soft[-1]:.4f}",
            f"{seconds['hidden_states']:.0f}", f"{seconds['tuning']:.0f}",
            f"{sum(record['seconds'] for record in records):.0f}",
            f"{apart['different']} of {apart['compared']}",
        ]  # fmt: skip
        print("| " + " | ".join(cells) + " |")


def _point(report: Report, snr: float) -> Report:
    found: Report = next(point for point in report["points"] if point["esn0_db"] == snr)
    return found


def _mean(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f}"


if __name__ == "__main__":
    main()
