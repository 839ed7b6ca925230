"""How good each labelling is: mean gain in dB over random labellings, on Gaussian codebooks.

The figure is ``labelling_gain_db``: how much less squared error flipped label bits cause than with a random
labelling, each bit being wrong with the stated probability.  Columns: mean over the seeds, spread (standard
deviation) behind the sign.

    python benchmarks/labelling.py
    python benchmarks/labelling.py --sizes 256 --dims 8 --seeds 10 --bit-error-prob 0.01
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from twophase.link.labelling import (
    identity_labels,
    kdtree_gray_labels,
    kdtree_natural_labels,
    labelling_gain_db,
    make_labels,
    pca_gray_labels,
)

Labeller = Callable[[NDArray[np.float64], float, int], NDArray[np.int64]]

METHODS: dict[str, Labeller] = {
    "identity": lambda codebook, flip, seed: identity_labels(len(codebook)),
    "PCA-Gray": lambda codebook, flip, seed: pca_gray_labels(codebook),
    "kd-tree Gray": lambda codebook, flip, seed: kdtree_gray_labels(codebook),
    "kd-tree natural": lambda codebook, flip, seed: kdtree_natural_labels(codebook),
    "BSA": lambda codebook, flip, seed: make_labels("bsa", codebook, bit_error_prob=flip, seed=seed),
}


def measure(size: int, dim: int, seeds: int, flip: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gains in dB and seconds, each of shape (methods, seeds); one codebook for each seed."""
    gains = np.empty((len(METHODS), seeds))
    seconds = np.empty_like(gains)
    for seed in range(seeds):
        codebook = np.random.default_rng([seed, size, dim]).normal(size=(size, dim))
        for row, labeller in enumerate(METHODS.values()):
            start = time.perf_counter()
            labels = labeller(codebook, flip, seed)
            seconds[row, seed] = time.perf_counter() - start
            gains[row, seed] = labelling_gain_db(codebook, labels, bit_error_prob=flip)
    return gains, seconds


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 64, 256], help="K, codewords")
    parser.add_argument("--dims", type=int, nargs="+", default=[4, 8], help="components of a codeword")
    parser.add_argument("--seeds", type=int, default=5, help="codebooks per row")
    parser.add_argument("--bit-error-prob", type=float, default=0.05, help="probability of a wrong label bit")
    chosen = parser.parse_args()
    if chosen.seeds < 1:
        parser.error("--seeds must be at least 1")

    print(
        f"Labelling gain over random in dB, bit error probability {chosen.bit_error_prob:g}, "
        f"{chosen.seeds} Gaussian codebooks per row\n"
    )
    print("| K | d | " + " | ".join(METHODS) + " | seconds of BSA |")
    print("|---" * (len(METHODS) + 3) + "|")
    for size in chosen.sizes:
        for dim in chosen.dims:
            gains, seconds = measure(size, dim, chosen.seeds, chosen.bit_error_prob)
            spread = gains.std(axis=1, ddof=1) if chosen.seeds > 1 else np.zeros(len(gains))
            cells = [f"{mean:.2f} ± {by:.2f}" for mean, by in zip(gains.mean(axis=1), spread, strict=True)]
            print(f"| {size} | {dim} | " + " | ".join(cells) + f" | {seconds[-1].mean():.2f} |", flush=True)


if __name__ == "__main__":
    main()
