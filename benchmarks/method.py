"""Does alignment matter?  Three methods x two surrogates x seeds on a link of one mode.

    python benchmarks/method.py --seeds 5 --jobs 2 --out runs/method

Each run goes through the three commands.  Prints two markdown tables, mean ± standard deviation over seeds:

1. The method: best and last soft validation accuracy over the training range of SNR; test accuracy of the
   deployed ONNX bundle at 0, 5, 10, 20 dB; the worst gap to its soft references; entropies.  Single-phase is
   deployed twice: at its best and at its last soft checkpoint.
2. The default method at the SNRs that it has to reach, with the verdicts of all seeds.

The test split is read once per run, by tp-sim; nothing is chosen by it.  Finished runs are kept and not
repeated, so that an interrupted benchmark continues.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs import SINGLE_MODE, call, spread

METHODS = ("two-phase", "single-phase", "hard-only")
SURROGATES = ("product", "reported")
SHOWN_DB = (0.0, 5.0, 10.0, 20.0)
TARGETS = {-5.0: 0.60, 0.0: 0.90, 5.0: 0.97, 8.0: 0.975, 12.0: 0.975, 16.0: 0.975, 20.0: 0.975}


@dataclass(frozen=True)
class Cell:
    """One system to measure."""

    method: str
    surrogate: str
    deploy: str
    seed: int

    @property
    def folder(self) -> str:
        """Name of its run folder."""
        return f"{self.method}-{self.surrogate}-{self.deploy}-{self.seed}"

    @property
    def row(self) -> tuple[str, str, str]:
        """Which row of the table it belongs to."""
        return self.method, self.surrogate, self.deploy


def main() -> None:
    """Train, export and simulate everything, then print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--channel", choices=("awgn", "rayleigh"), default="awgn")
    parser.add_argument("--out", type=Path, default=Path("runs/method"))
    arguments = parser.parse_args()
    chains = [
        [Cell(method, surrogate, deploy, seed) for deploy in _deployments(method)]
        for seed in range(arguments.seeds)
        for method in METHODS
        for surrogate in SURROGATES
    ]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        done = list(pool.map(lambda chain: _measure(chain, arguments), chains))
    results = {cell: result for group in done for cell, result in group.items()}
    _print_methods(results)
    default = ("two-phase", "product", "best")
    chosen = {cell: result for cell, result in results.items() if cell.row == default}
    _print_targets(chosen, arguments.channel)


def _deployments(method: str) -> tuple[str, ...]:
    return ("best", "last") if method == "single-phase" else ("best",)


def _measure(chain: list[Cell], arguments: argparse.Namespace) -> dict[Cell, dict[str, Any]]:
    """Train once, then deploy each checkpoint that the chain asks for."""
    found = {}
    for cell in chain:
        run = arguments.out / cell.folder
        report = run / f"sim-{arguments.channel}" / "report.json"
        if not report.is_file():
            if not (run / "link.json").is_file():
                _train(cell, chain[0], run, arguments.out)
            if not (run / "bundle" / "link.json").is_file():
                call("export", "--run", run, "--random-inputs", 2000)
            call(
                "sim", "--bundle", run / "bundle", "--snr=-5:20", "--trials", arguments.trials,
                "--channel", arguments.channel, "--out", report.parent, failures=(1,),
            )  # fmt: skip
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        found[cell] = {
            "report": json.loads(report.read_text()),
            "records": records,
            "training": json.loads((run / "link.json").read_text())["training"],
        }
    return found


def _train(cell: Cell, trained: Cell, run: Path, out: Path) -> None:
    if cell != trained:
        shutil.copytree(out / trained.folder, run, ignore=shutil.ignore_patterns("bundle", "sim*"))
        call("training", "--out", run, "--resume", "--deploy", cell.deploy)
        return
    options = ["--method", cell.method, "--surrogate", cell.surrogate, "--seed", cell.seed]
    call("training", "--out", run, *SINGLE_MODE, *options, "--deploy", cell.deploy)


def _print_methods(results: dict[Cell, dict[str, Any]]) -> None:
    columns = [f"hard {snr:g} dB" for snr in SHOWN_DB]
    print(
        "| method | surrogate | deployed | best soft (val.) | last soft (val.) | "
        + " | ".join(columns)
        + " | worst gap 0..20 dB (points) | H_vq | H_sym | PASS |"
    )
    print("|---" * (len(columns) + 9) + "|")
    for row in dict.fromkeys(cell.row for cell in results):
        group = [result for cell, result in results.items() if cell.row == row]
        best = [max(record["validation_accuracy_soft"] for record in result["records"]) for result in group]
        last = [result["records"][-1]["validation_accuracy_soft"] for result in group]
        hard = [spread([_point(result, snr)["accuracy_hard"] for result in group]) for snr in SHOWN_DB]
        gaps = [100 * min(point["gap"] for point in _from_zero(result)) for result in group]
        deployed = [result["training"]["deployed"] for result in group]
        passed = sum(all(point["verdict"] == "PASS" for point in _from_zero(result)) for result in group)
        cells = [
            *row, spread(best), spread(last), *hard, f"{statistics.mean(gaps):.2f} (min {min(gaps):.2f})",
            f"{statistics.mean(entry['vq_entropy'] for entry in deployed):.2f}",
            f"{statistics.mean(entry['symbol_entropy'] for entry in deployed):.2f}", f"{passed}/{len(group)}",
        ]  # fmt: skip
        print("| " + " | ".join(cells) + " |")


def _print_targets(results: dict[Cell, dict[str, Any]], channel: str) -> None:
    print("\n| Es/N0 (dB) | deployed | min..max | asked | label bound | soft, learning | soft, aligned |")
    print("|---" * 7 + "|")
    for snr, asked in TARGETS.items():
        points = [_point(result, snr) for result in results.values()]
        goal = f"{asked:.3f}" if channel == "awgn" else "-"
        hard = [point["accuracy_hard"] for point in points]
        soft = [
            spread([point["references"][name]["accuracy"] for point in points])
            for name in ("learning", "aligned")
        ]
        bound = statistics.mean(point["label_bound"] for point in points)
        print(
            f"| {snr:g} | {spread(hard)} | {min(hard):.4f}..{max(hard):.4f} | {goal} | {bound:.4f} | "
            + " | ".join(soft)
            + " |"
        )
    energy = [point["symbol_energy"] for result in results.values() for point in result["report"]["points"]]
    perplexity = [value for result in results.values() for value in result["training"]["perplexity"]]
    below = [point["gap"] for result in results.values() for point in _from_zero(result)]
    verdicts = [point["verdict"] for result in results.values() for point in _from_zero(result)]
    print(f"\nsymbol energy before charging: {min(energy):.3f}..{max(energy):.3f}")
    print(f"codebook perplexity on training data: {min(perplexity):.2f}..{max(perplexity):.2f}")
    print(f"worst gap at 0..20 dB over all seeds: {100 * min(below):.2f} points")
    print(f"verdict PASS at {verdicts.count('PASS')} of {len(verdicts)} points (0..20 dB, all seeds)")


def _point(result: dict[str, Any], snr: float) -> dict[str, Any]:
    found: dict[str, Any] = next(point for point in result["report"]["points"] if point["esn0_db"] == snr)
    return found


def _from_zero(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [point for point in result["report"]["points"] if point["esn0_db"] >= 0]


if __name__ == "__main__":
    main()
