"""Which settings a link of one mode takes: all variants, several seeds, judged on the validation split alone.

    python benchmarks/ablation.py --seeds 3 --jobs 2 --out runs/ablation

Prints a markdown table: mean and standard deviation over seeds of the deployed checkpoint's validation
accuracy, averaged over the training range of SNR, hard and soft, and the perplexity of the codewords.
"""

from __future__ import annotations

import argparse
import json
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runs import SINGLE_MODE, spread, train_once

VARIANTS: dict[str, list[str]] = {
    "preset": [],
    "no bridge": ["--no-bridge"],
    "alignment from epoch 20": ["--alignment-start-epoch", "20"],
    "alignment from epoch 100": ["--alignment-start-epoch", "100"],
    "floor 0.4": ["--temp-freeze-floor", "0.4"],
    "floor 1.0": ["--temp-freeze-floor", "1.0"],
    "consistency 0": ["--lambda-consistency", "0"],
    "consistency 2": ["--lambda-consistency", "2"],
    "auxiliary consistency 0.1": ["--lambda-auxiliary", "0.1"],
    "entropy 0": ["--lambda-entropy", "0"],
    "entropy 0.05": ["--lambda-entropy", "0.05"],
    "commitment 0.05": ["--lambda-commitment", "0.05"],
    "latent 0.1": ["--lambda-latent", "0.1"],
    "hardening over 20 epochs": ["--hardening-epochs", "20"],
    "no augmentation": ["--augmentation", "0"],
    "augmentation 0.6": ["--augmentation", "0.6"],
    "no input noise": ["--input-noise", "0"],
    "training at 0..12 dB": ["--train-snr-low-db", "0"],
    "training at 0..20 dB": ["--train-snr-low-db", "0", "--train-snr-high-db", "20"],
    "width 384": ["--hidden", "384"],
    "learning rate 1e-3": ["--learning-rate", "1e-3"],
    "learning rate 4e-3": ["--learning-rate", "4e-3"],
    "N=4 K=64": ["--codebook-sizes", "64", "--tokens", "4"],
    "N=4 K=64, C=16": ["--codebook-sizes", "64", "--tokens", "4", "--embedding-dim", "16"],
    "N=4 K=64, identity labels": ["--codebook-sizes", "64", "--tokens", "4", "--labelling", "identity"],
    "N=4 K=64, binary switching": ["--codebook-sizes", "64", "--tokens", "4", "--labelling", "bsa"],
    "N=6 K=16": ["--codebook-sizes", "16", "--tokens", "6"],
    "N=3 K=256": ["--codebook-sizes", "256", "--tokens", "3"],
    "hard-only": ["--method", "hard-only"],
    "single-phase": ["--method", "single-phase"],
}


def main() -> None:
    """Train all variants, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), help="names of variants")
    arguments = parser.parse_args()
    jobs = [(name, seed) for seed in range(arguments.seeds) for name in arguments.only]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        results = list(pool.map(lambda job: _train(*job, arguments.out), jobs))
    print("| variant | hard | soft | perplexity |\n|---|---|---|---|")
    for name in arguments.only:
        rows = [result for (job, _), result in zip(jobs, results, strict=True) if job == name]
        hard = [row["deployed"]["validation_accuracy_hard"] for row in rows]
        soft = [row["deployed"]["validation_accuracy_soft"] for row in rows]
        perplexity = statistics.mean(row["perplexity"][0] for row in rows)
        print(f"| {name} | {spread(hard)} | {spread(soft)} | {perplexity:.1f} |")


def _train(name: str, seed: int, out: Path) -> dict[str, Any]:
    folder = train_once(out, name, seed, [*SINGLE_MODE, *VARIANTS[name]])
    training: dict[str, Any] = json.loads((folder / "link.json").read_text())["training"]
    return training


if __name__ == "__main__":
    main()
