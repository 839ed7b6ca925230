"""How the cost of a sweep grows: time and memory against trials and samples, workers, and where time goes.

    python benchmarks/scale.py runs/digits/bundle [--points 0:10:20] [--trials 25] [--parts trials sweep ...]

Every run is ``tp-sim`` in a process of its own with one thread per process.  Times are the kernel's: wall,
and user plus system of the process and its workers.  RSS is the peak of the largest of these processes.  A
sweep costs a start (imports, opening the bundle, the report) and then so much for each trial; the start is
taken from the two shorter runs, so that the cost of a trial in the longest shows whether time grows linearly.

Parts: ``trials`` 1x, 4x, 16x; ``samples`` 1x, 4x, 16x (the bundle's, repeated); ``workers`` 1 and 2;
``sweep``, 21 points x all samples x 100 trials in one process, with the shares of channel and demapper.
Exit status 1 if a target is missed: linear within 15 %, memory within 10 % over trials, 2 workers 1.8 x,
the sweep within 60 s and at most half of it in channel and demapper.  Linux only; a busy machine misleads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FACTORS = (1, 4, 16)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

SIM = "import sys; from twophase.sim.cli import main; sys.exit(main(sys.argv[1:]))"

# What the sweep looks up by name when it is built is wrapped before.  The counters cost under 1 us a call.
TIMED = """
import functools, json, sys, time
spent = {}
def timed(part, function):
    @functools.wraps(function)
    def wrapper(*arguments, **options):
        begin = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            spent[part] = spent.get(part, 0.0) + time.perf_counter() - begin
    return wrapper
from twophase.link.transmitter import FeatureTransmitter, SoftTransmitter
from twophase.sim import point
from twophase.sim.channel import radio
from twophase.sim.folding import FoldedReceiver
from twophase.sim.sweep import measure
for name in ("__init__", "draw", "send"):
    setattr(radio.Radio, name, timed("channel", getattr(radio.Radio, name)))
for name in ("llr_exact", "llr_maxlog", "llr_hard"):
    setattr(point, name, timed("demapper", getattr(point, name)))
FoldedReceiver.receive = timed("receiver graphs", FoldedReceiver.receive)
for kind in (FeatureTransmitter, SoftTransmitter):
    kind.send = timed("transmitter graphs", kind.send)
measure.run_sweep = timed("sweep", measure.run_sweep)
from twophase.sim.cli import main
status = main(sys.argv[2:])
open(sys.argv[1], "w").write(json.dumps(spent))
sys.exit(status)
"""


@dataclass(frozen=True)
class Cost:
    """What one run took."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds, user and system, workers included."""
    rss: float
    """Peak of the largest process, MiB."""


def run(code: str, words: Sequence[str]) -> Cost:
    """One process; anything but a verdict ends the benchmark."""
    environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
    with tempfile.TemporaryFile() as said:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words], env=environment, stdout=said, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1):
            said.seek(0)
            raise SystemExit(
                f"tp-sim {' '.join(words)} fails: {said.read().decode(errors='replace')[-2000:]}"
            )
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def sim(bundle: Path, out: Path, *words: str) -> Cost:
    """One run of tp-sim."""
    return run(SIM, ["--bundle", str(bundle), "--out", str(out), *words])


def growth(name: str, measure: Callable[[int], Cost], flat: bool) -> list[str]:
    """Table over :data:`FACTORS`; what is missed."""
    print(f"\n| {name} | wall, s | CPU, s | peak RSS, MiB | CPU of one part after the start, s | ratio |")
    print("|---|---|---|---|---|---|")
    costs = [measure(factor) for factor in FACTORS]
    # Two runs give start and slope; the last shows whether the slope holds.
    slope = (costs[1].cpu - costs[0].cpu) / (FACTORS[1] - FACTORS[0])
    start = costs[0].cpu - slope * FACTORS[0]
    for factor, cost in zip(FACTORS, costs, strict=True):
        part = (cost.cpu - start) / factor
        print(
            f"| {factor}x | {cost.wall:.1f} | {cost.cpu:.1f} | {cost.rss:.0f} | {part:.2f} "
            f"| {part / slope:.2f} |",
            flush=True,
        )
    missed = []
    ratio = (costs[-1].cpu - start) / FACTORS[-1] / slope
    if ratio > 1.15:
        missed.append(f"{name}: a part costs {ratio:.2f} x at {FACTORS[-1]}x")
    if flat and costs[-1].rss > 1.1 * costs[0].rss:
        missed.append(f"{name}: memory grows from {costs[0].rss:.0f} to {costs[-1].rss:.0f} MiB")
    return missed


def repeated(data: Path, factor: int, folder: Path) -> Path:
    """The samples of a bundle, ``factor`` times over."""
    with np.load(data) as arrays:
        made = {name: np.concatenate([arrays[name]] * factor) for name in ("input", "label")}
    path = folder / f"samples{factor}.npz"
    np.savez(path, **made)
    return path


def workers(bundle: Path, folder: Path, points: str, trials: int) -> list[str]:
    """One process against two on the same sweep; the counts must be the same."""
    print("\n| workers | wall, s | CPU, s | peak RSS of the largest, MiB | x |")
    print("|---|---|---|---|---|")
    words = ("--snr", points, "--trials", str(trials), "--workers")
    one, two = (sim(bundle, folder / number, *words, number) for number in ("1", "2"))
    for number, cost in ((1, one), (2, two)):
        print(
            f"| {number} | {cost.wall:.1f} | {cost.cpu:.1f} | {cost.rss:.0f} | {one.wall / cost.wall:.2f} |",
            flush=True,
        )
    reports = [json.loads((folder / number / "report.json").read_text())["points"] for number in ("1", "2")]
    missed = [] if reports[0] == reports[1] else ["workers: the points of the two reports differ"]
    if one.wall < 1.8 * two.wall:
        missed.append(f"workers: two are {one.wall / two.wall:.2f} x as fast as one")
    return missed


def full_sweep(bundle: Path, folder: Path) -> list[str]:
    """The sweep of the target, and where its time goes."""
    words = ["--bundle", str(bundle), "--out", str(folder / "full"), "--snr", "0:20", "--trials", "100"]
    plain = run(SIM, words)
    times = folder / "spent.json"
    timed = run(TIMED, [str(times), *words])
    spent = json.loads(times.read_text())
    sweep = spent.pop("sweep")
    print(f"\n21 points x all samples x 100 trials: {plain.wall:.1f} s wall, {plain.cpu:.1f} s CPU,", end=" ")
    print(f"{plain.rss:.0f} MiB; with counters {timed.wall:.1f} s, of which {sweep:.1f} s in the sweep:")
    print("\n| part | s | % of the sweep |\n|---|---|---|")
    for part, seconds in [*spent.items(), ("counting and the rest", sweep - sum(spent.values()))]:
        print(f"| {part} | {seconds:.1f} | {100 * seconds / sweep:.0f} |")
    share = (spent["channel"] + spent["demapper"]) / sweep
    missed = [] if plain.wall <= 60 else [f"sweep: {plain.wall:.0f} s and not 60"]
    return missed + ([] if share <= 0.5 else [f"sweep: {100 * share:.0f} % in channel and demapper"])


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = ("trials", "samples", "workers", "sweep")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--points", default="0:10:20", help="Es/N0 of all parts but the sweep")
    parser.add_argument("--trials", type=int, default=25, help="of 1x; workers take 16 times as many")
    parser.add_argument("--parts", nargs="+", choices=every, default=every)
    arguments = parser.parse_args()
    if arguments.trials < 1:
        parser.error("--trials must be at least 1")
    bundle, points, trials = arguments.bundle.resolve(), arguments.points, arguments.trials
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # Compiled kernels are cached; the first run of all may have to make them.
        sim(bundle, folder / "warm", "--snr", "10", "--trials", "1")
        if "trials" in arguments.parts:

            def more_trials(factor: int) -> Cost:
                return sim(bundle, folder / "t", "--snr", points, "--trials", str(trials * factor))

            missed += growth("trials", more_trials, flat=True)
        if "samples" in arguments.parts:

            def more_samples(factor: int) -> Cost:
                data = repeated(bundle / "eval.npz", factor, folder)
                words = ("--snr", points, "--trials", str(trials), "--data", str(data))
                return sim(bundle, folder / "s", *words)

            # The samples themselves are held, so memory is shown but not held against it.
            missed += growth("samples", more_samples, flat=False)
        if "workers" in arguments.parts:
            missed += workers(bundle, folder, points, trials * FACTORS[-1])
        if "sweep" in arguments.parts:
            missed += full_sweep(bundle, folder)
    if missed:
        raise SystemExit("missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
