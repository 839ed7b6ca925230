"""How often the verdict is PASS, FAIL or UNDECIDED for links that are 0 to 3 points worse, by their samples.

A link that is worse in one place is mixed, trial by trial, with the link as it was exported until it is worse
than that by so many percentage points where it is worst.  The reference is the link as it was exported, as a
soft path that is just as good would be.  The places:

- transmitter: noise on the inputs of the deployed transmitter alone, the same in every trial;
- receiver: LLRs multiplied by 5 at the input of ``rx.onnx``;
- quantisation: LLRs in steps of 12 at the input of ``rx.onnx``.

Then samples are drawn with replacement and the verdict is given as ``tp-sim`` gives it.  ``discordant`` is
the study of equal systems that differ in many samples, half of them either way, at as many SNRs.

    python benchmarks/power.py runs/digits/bundle --out power.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twophase.link.samples import Samples
from twophase.sim.point import PointSimulator
from twophase.sim.settings import Settings
from twophase.sim.sweep.job import make_job
from twophase.sim.system import System
from twophase.sim.theory.decision import judge, overall

GRID = (-5.0, 0.0, 5.0, 10.0, 20.0)
TRIALS = 10
TOLERANCE = 0.02
WORSE = (0.0, 0.01, 0.02, 0.03)
SAMPLES = (60, 180, 540, 1000, 3000)
VERDICTS = ("PASS", "FAIL", "UNDECIDED")
DISCORDANT = (0.02, 0.11, 0.3, 0.63)

Bits = NDArray[np.bool_]
"""Whether each decision was right, (points, trials, samples)."""


@dataclass(frozen=True)
class _Altered:
    """A receiver whose LLRs are altered on their way in."""

    receiver: Any
    alter: Callable[[NDArray[Any]], NDArray[Any]]

    def receive(self, llr: Any, mode: Any) -> Any:
        return self.receiver.receive(self.alter(np.asarray(llr)), mode)


class _Noisy:
    """A transmitter that sees its inputs in noise, the same for a sample in every call."""

    def __init__(self, transmitter: Any, spread: NDArray[np.float32], share: float) -> None:
        self._transmitter, self._spread, self._share = transmitter, spread, share

    def send(self, features: NDArray[np.float32], *words: Any) -> Any:
        noise = np.random.default_rng(0).standard_normal(features.shape)
        moved = features + self._share * self._spread * noise
        return self._transmitter.send(moved.astype(np.float32), *words)


def places(system: System, samples: Samples) -> Iterator[tuple[str, System]]:
    """The link, worse in each place by more than is asked for."""
    scale = samples.features.std().astype(np.float32)
    yield "transmitter", replace(system, transmitter=_Noisy(system.transmitter, scale, 1.0))  # type: ignore[arg-type]
    for name, alter in (
        ("receiver", lambda llr: 5 * llr),
        ("quantisation", lambda llr: 12 * np.round(llr / 12)),
    ):
        yield name, replace(system, receiver=_Altered(system.receiver, alter))  # type: ignore[arg-type]


def decisions(system: System, samples: Samples) -> Bits:
    """Of the deployed link; the noise is the same for any system."""
    settings, found = Settings(trials=TRIALS), []
    for esn0_db in GRID:
        point = PointSimulator(replace(system, references=()), samples, esn0_db, settings)
        tallies = [point.run(range(trial, trial + 1)) for trial in range(TRIALS)]
        found.append(np.array([tally.deployed.correct > 0 for tally in tallies]))
    return np.array(found)


def mixed(good: Bits, bad: Bits, worse: float, rng: np.random.Generator) -> Bits:
    """Decisions that are worse by so much on average at the point where they are worst."""
    order = rng.random(good.shape)
    low, high = 0.0, 1.0
    for _ in range(30):
        share = (low + high) / 2
        made = np.where(order < share, bad, good)
        gap = (made.mean(axis=(1, 2)) - good.mean(axis=(1, 2))).min()
        low, high = (share, high) if gap > -worse else (low, share)
    return np.where(order < high, bad, good)


def shares(
    differences: NDArray[np.float64], samples: int, draws: int, rng: np.random.Generator
) -> list[float]:
    """How often each verdict is given; ``differences`` are means over trials, (comparisons, population)."""
    found = []
    for _ in range(draws):
        drawn = differences[:, rng.integers(0, differences.shape[1], samples)]
        found.append(overall(judge(row, TOLERANCE, len(drawn)) for row in drawn))
    return [found.count(verdict) / draws for verdict in VERDICTS]


def discordant(share: float, samples: int, draws: int, rng: np.random.Generator) -> list[float]:
    """The same for equal systems of which so many samples differ, half of them either way."""
    found = []
    for _ in range(draws):
        rows = rng.choice([-1.0, 0.0, 1.0], (len(GRID), samples), p=[share / 2, 1 - share, share / 2])
        found.append(overall(judge(row, TOLERANCE, len(rows)) for row in rows))
    return [found.count(verdict) / draws for verdict in VERDICTS]


def main() -> None:
    """Measure, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    system, _, samples = make_job(arguments.bundle, None, Settings()).open()
    rng = np.random.default_rng(0)
    good = decisions(system, samples)
    rows: list[tuple[str, float, int, list[float]]] = []
    for name, altered in places(system, samples):
        bad = decisions(altered, samples)
        lost = (good.mean(axis=(1, 2)) - bad.mean(axis=(1, 2))).max()
        print(f"{name}: by itself up to {100 * lost:.1f} points worse")
        for worse in WORSE:
            made = good if worse == 0 else mixed(good, bad, worse, rng)
            gaps = made.mean(axis=1) - good.mean(axis=1)
            rows += [(name, worse, count, shares(gaps, count, arguments.draws, rng)) for count in SAMPLES]
    for share in DISCORDANT:
        rows += [
            (f"equal, {share:.0%} differ", 0.0, count, discordant(share, count, arguments.draws, rng))
            for count in SAMPLES
        ]
    for name, worse, count, found in rows:
        shown = "  ".join(f"{verdict} {part:5.1%}" for verdict, part in zip(VERDICTS, found, strict=True))
        print(f"{name:20} {100 * worse:.0f} points worse, {count:5} samples: {shown}")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
