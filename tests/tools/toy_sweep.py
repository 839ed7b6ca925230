"""A sweep without a radio: blocks of coin flips, for tests of what runs, keeps and merges them.

As a program it runs such a sweep in worker processes:

    python -m tools.toy_sweep FOLDER WORKERS
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from twophase.link.errors import InputError
from twophase.sim.sweep.blocks import Block
from twophase.sim.sweep.executors import open_executor
from twophase.sim.sweep.schedule import run_sweep
from twophase.sim.sweep.stopping import StopRule
from twophase.sim.sweep.store import BlockStore

POINTS = [("", 0.0), ("", 1.5), ("a mode", 0.0)]
SAMPLES = 300


@dataclass
class ToyDecisions:
    correct: np.ndarray


@dataclass
class ToyCounts:
    trials: int
    deployed: ToyDecisions
    references: dict[str, ToyDecisions]
    real: float = 0.0
    """A sum that depends on the order in which it is made."""

    def merge(self, later: ToyCounts) -> None:
        self.trials += later.trials
        self.real += later.real
        self.deployed.correct = self.deployed.correct + later.deployed.correct
        for name, other in later.references.items():
            self.references[name].correct = self.references[name].correct + other.correct


def to_arrays(counts: ToyCounts) -> dict[str, np.ndarray]:
    references = {f"reference {name}": item.correct for name, item in counts.references.items()}
    return {
        "trials": np.array(counts.trials),
        "real": np.array(counts.real),
        "deployed": counts.deployed.correct,
        **references,
    }


def from_arrays(arrays: Mapping[str, np.ndarray]) -> ToyCounts:
    prefix = "reference "
    return ToyCounts(
        int(arrays["trials"]),
        ToyDecisions(arrays["deployed"]),
        {
            name.removeprefix(prefix): ToyDecisions(array)
            for name, array in arrays.items()
            if name.startswith(prefix)
        },
        float(arrays["real"]),
    )


def same(one: ToyCounts, other: ToyCounts) -> bool:
    """Bit for bit."""
    first, second = to_arrays(one), to_arrays(other)
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


class UnsendableError(Exception):
    """Pickles, but what comes out cannot be built again."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


@dataclass
class ToyTask:
    """Flips coins by trial; tells ``log`` what it did, and misbehaves at ``trouble_at``."""

    seed: int = 3
    log: Path | None = None
    trouble: str = ""
    trouble_at: int = 0
    """First trial of the block, in any point."""
    opened: bool = field(default=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "opened": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["trouble"] == "unpickling":
            raise RuntimeError("cannot be unpickled")
        self.__dict__.update(state)

    def prepare(self) -> None:
        if self.trouble == "preparing":
            raise RuntimeError("cannot be prepared")

    def __call__(self, block: Block) -> ToyCounts:
        if not self.opened:
            self.tell("open")
            self.opened = True
        if block.first == self.trouble_at:
            self.make_trouble()
        parts = [self.trial(block, trial) for trial in block.trials]
        counts = parts[0]
        for part in parts[1:]:
            counts.merge(part)
        self.tell(spelled(block))
        return counts

    def trial(self, block: Block, trial: int) -> ToyCounts:
        key = [self.seed, len(block.sweep), round(block.esn0_db * 1e3), trial]
        rng = np.random.default_rng(key)
        easy = np.linspace(0.2 + 0.2 * block.esn0_db, 1.0, SAMPLES)
        draw = rng.random((2, SAMPLES))
        references = {} if block.sweep else {"soft": ToyDecisions((draw[1] < easy).astype(np.int64))}
        return ToyCounts(1, ToyDecisions((draw[0] < easy).astype(np.int64)), references, rng.random() / 3)

    def make_trouble(self) -> None:
        if self.trouble == "input":
            raise InputError("esn0_db", "be another", 7.0)
        if self.trouble == "defect":
            raise ZeroDivisionError("a defect")
        if self.trouble == "unsendable":
            raise UnsendableError("one", "two")
        if self.trouble == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "hang":
            print("hanging", flush=True)
            threading.Event().wait()

    def tell(self, what: str) -> None:
        if self.log is not None:
            # One write to a file opened for appending: lines of several processes do not mix.
            with self.log.open("ab", buffering=0) as stream:
                stream.write(f"{os.getpid()} {what}\n".encode())


def spelled(block: Block) -> str:
    return json.dumps([block.sweep, block.esn0_db, block.first, block.count])


def logged(log: Path) -> list[tuple[int, str]]:
    """Process and event, in order."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(int(line.partition(" ")[0]), line.partition(" ")[2]) for line in lines]


def toy_store(folder: Path, key: str = "{}") -> BlockStore:
    return BlockStore(folder, key, to_arrays, from_arrays)


def main() -> None:
    folder, workers = Path(sys.argv[1]), int(sys.argv[2])
    # The last point's last block hangs, when all else is on its way.
    task = ToyTask(log=folder / "log", trouble="hang", trouble_at=15)
    try:
        with open_executor(task, workers) as executor:
            run_sweep(POINTS, StopRule(20), executor, toy_store(folder / "blocks"))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
