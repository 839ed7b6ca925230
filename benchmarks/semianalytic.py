"""Expected accuracy without noise draws against Monte Carlo: agreement, and time for the same precision.

    python benchmarks/semianalytic.py runs/digits/bundle [--snr=-5:2.5:20] [--mode 16x4qam] [--trials 40]

Monte Carlo is the simulator's own data path (``simulate_point``) with hard decisions, for the deployed link
ALONE: without the soft references that a sweep runs beside it, which would make it about three times slower.

Precision is that of the mean over the noise for the given samples: both average over the same samples.  One
trial of all samples has the variance v = sum p (1 - p) / n^2, where p are the expectations; so Monte Carlo
needs T = (1.96 / h)^2 v trials for a half-width h, at its measured time per trial.  h is that of the
semi-analytic interval, but at least 1e-6; where the result is exact, h is --precision, a hundredth of a
point.  The semi-analytic time is that of the point alone, the table of all received words included.  In a
sweep the table is made once and the receiver is asked once about each word: the last line compares the time
of the whole sweep with the sum of Monte Carlo's.

z is the difference of both over their common standard error.  The limit |z| <= 4 is passed by a correct
simulator in 99.7 % of all seeds at 40 points (false alarm 40 x 6.3e-5).  A point that is less than 50 times
as fast as Monte Carlo is marked MISSED.  Exit status 1 if a z is beyond its limit or a point is MISSED.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

from twophase.link.errors import LinkError
from twophase.link.noise import snr_grid
from twophase.link.samples import load_samples
from twophase.sim.analytic.expected import Limits, expected_accuracy
from twophase.sim.point import simulate_point
from twophase.sim.settings import Settings
from twophase.sim.system import load_system

Z_LIMIT = 4.0
ASKED = 50.0
LEAST_WIDTH = 1e-6


def main() -> int:
    """Print the table; 0 if both agree at every point and none is less than 50 times as fast."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--snr", default="-5:2.5:20")
    parser.add_argument("--mode", action="append", help="fixed mode, may be repeated; default: the router")
    parser.add_argument("--channel", default="awgn", choices=("awgn", "rayleigh", "rician"))
    parser.add_argument("--coherence", default="symbol")
    parser.add_argument("--trials", type=int, default=40, help="Monte Carlo trials that are really run")
    parser.add_argument("--precision", type=float, default=1e-4, help="half-width where the result is exact")
    parser.add_argument("--evaluations", type=int, default=Limits.evaluations)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    system, manifest = load_system(arguments.bundle)
    samples = load_samples(arguments.bundle / "eval.npz", manifest.input_shape, len(manifest.classes))
    alone = replace(system, references=())
    coherence = int(arguments.coherence) if arguments.coherence.isdigit() else arguments.coherence
    base = Settings(
        channel=arguments.channel,
        coherence=coherence,
        demapper="hard",
        header="ideal",
        trials=arguments.trials,
        seed=arguments.seed,
    )
    limits = Limits(evaluations=arguments.evaluations)
    print("| mode | Es/N0 dB | method | expected | +- | Monte Carlo | z | s | trials needed | s | faster |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    largest, ratios, simulated, swept = 0.0, [], 0.0, 0.0
    grid = [float(point) for point in snr_grid(arguments.snr)]
    for mode in arguments.mode or [None]:
        settings = replace(base, mode=mode)
        start = time.perf_counter()
        expected_accuracy(alone, samples, grid, settings, limits)
        swept += time.perf_counter() - start
        for esn0_db in grid:
            start = time.perf_counter()
            point = expected_accuracy(alone, samples, [esn0_db], settings, limits)[0]
            spent = time.perf_counter() - start
            simulate_point(alone, samples, esn0_db, replace(settings, trials=1))  # warm
            start = time.perf_counter()
            tally = simulate_point(alone, samples, esn0_db, settings)
            per_trial = (time.perf_counter() - start) / settings.trials

            count = len(samples.labels)
            measured = float(tally.deployed.correct.sum()) / (count * settings.trials)
            variance = float((point.expectation * (1 - point.expectation)).sum()) / count**2
            error = math.hypot(math.sqrt(variance / settings.trials), point.half_width / 1.96)
            z = (measured - point.accuracy) / error if error > 0 else 0.0
            exact = set(point.methods.values()) == {"exact"}
            aim = arguments.precision if exact else max(point.half_width, LEAST_WIDTH)
            trials = math.ceil(variance * (1.96 / aim) ** 2)
            ratio = trials * per_trial / spent
            largest = max(largest, abs(z))
            ratios.append(ratio)
            simulated += trials * per_trial
            cells = (
                "+".join(point.shares),
                f"{esn0_db:g}",
                "+".join(sorted(set(point.methods.values()))),
                f"{point.accuracy:.5f}",
                f"0 ({aim:g})" if exact else f"{point.half_width:.1e}",
                f"{measured:.5f}",
                f"{z:+.2f}",
                f"{spent:.2f}",
                str(trials),
                f"{trials * per_trial:.1f}",
                f"{ratio:.1f} x" if ratio >= ASKED else f"{ratio:.1f} x MISSED",
            )
            print("|", " | ".join(cells), "|", flush=True)
    reached = sum(ratio >= ASKED for ratio in ratios)
    print(f"\n{reached} of {len(ratios)} points at least {ASKED:g} x faster than Monte Carlo")
    print(f"whole sweep: {swept:.1f} s; Monte Carlo: {simulated:.0f} s; {simulated / swept:.0f} x faster")
    print(f"largest |z| {largest:.2f} (limit {Z_LIMIT:g})")
    failed = largest > Z_LIMIT or reached < len(ratios)
    print("FAIL" if failed else "PASS")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LinkError as error:
        sys.exit(f"error: {error}")
