"""Under which settings does single-phase annealing collapse on digits?  Validation split, several seeds.

    python benchmarks/collapse.py --seeds 3 --jobs 2 --out runs/collapse

The soft system of a single-phase run is followed while its temperature falls.  Prints a markdown table: best
soft accuracy over the run and the temperature at which it was reached, soft accuracy after the last epoch,
and hard accuracy of the same last model, all on the validation split over the training range of SNR; mean ±
standard deviation over seeds.  A fall from best to last soft is the collapse that was reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runs import SINGLE_MODE, spread, train_once

HIGH_SNR = ["--train-snr-low-db", "0", "--train-snr-high-db", "20"]
FAST = ["--learning-rate-schedule", "constant", "--learning-rate", "1e-2"]
COLD = ["--anneal-temp-end", "0.02"]
TWO_PHASE = ["--method", "two-phase"]
BIG = ["--codebook-sizes", "64", "--tokens", "4"]
REPORTED = ["--surrogate", "reported"]
CONSTANT = ["--learning-rate-schedule", "constant"]
VARIANTS: dict[str, list[str]] = {
    "preset": [],
    "reported surrogate": REPORTED,
    "reported, K=64": [*REPORTED, *BIG],
    "reported, K=256": [*REPORTED, "--codebook-sizes", "256", "--tokens", "3"],
    "reported, K=64, 0..20 dB": [*REPORTED, *BIG, *HIGH_SNR],
    "reported, K=64, 0..20 dB, constant rate": [*REPORTED, *BIG, *HIGH_SNR, *CONSTANT],
    "reported, K=64, 0..20 dB, constant rate 1e-2": [*REPORTED, *BIG, *HIGH_SNR, *FAST],
    "reported, K=64, 0..20 dB, to T=0.02": [*REPORTED, *BIG, *HIGH_SNR, *COLD],
    "reported, K=64, 0..20 dB, constant rate 1e-2, to T=0.02": [*REPORTED, *BIG, *HIGH_SNR, *FAST, *COLD],
    "product, K=64, 0..20 dB": [*BIG, *HIGH_SNR],
    "product, K=64, 0..20 dB, constant rate": [*BIG, *HIGH_SNR, *CONSTANT],
    "product, K=64, 0..20 dB, constant rate 1e-2": [*BIG, *HIGH_SNR, *FAST],
    "product, K=64, 0..20 dB, to T=0.02": [*BIG, *HIGH_SNR, *COLD],
    "two-phase: reported, K=64, 0..20 dB, constant rate 1e-2": [
        *REPORTED,
        *BIG,
        *HIGH_SNR,
        *FAST,
        *TWO_PHASE,
    ],
}


def main() -> None:
    """Train all variants, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/collapse"))
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), help="names of variants")
    arguments = parser.parse_args()
    jobs = [(name, seed) for seed in range(arguments.seeds) for name in arguments.only]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = list(pool.map(lambda job: _train(*job, arguments.out), jobs))
    print("| single-phase with | best soft | at T | last soft | fall (points) | last hard |")
    print("|---|---|---|---|---|---|")
    for name in arguments.only:
        rows = [records for (job, _), records in zip(jobs, runs, strict=True) if job == name]
        peaks = [max(records, key=lambda record: record["validation_accuracy_soft"]) for records in rows]
        best = [peak["validation_accuracy_soft"] for peak in peaks]
        last = [records[-1]["validation_accuracy_soft"] for records in rows]
        hard = [records[-1]["validation_accuracy_hard"] for records in rows]
        temperature = statistics.mean(peak["vq_temperature"] for peak in peaks)
        fall = [100 * (high - low) for high, low in zip(best, last, strict=True)]
        print(
            f"| {name} | {spread(best)} | {temperature:.2f} | {spread(last)} | "
            f"{statistics.mean(fall):.1f} (max {max(fall):.1f}) | {spread(hard)} |"
        )


def _train(name: str, seed: int, out: Path) -> list[dict[str, Any]]:
    folder = train_once(out, name, seed, [*SINGLE_MODE, "--method", "single-phase", *VARIANTS[name]])
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    main()
