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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twophase.link.errors import InputError
from twophase.link.process import run
from twophase.sim.counts import SystemCounts, Tally, tally_arrays, tally_digest, tally_from_arrays
from twophase.sim.settings import Workers
from twophase.sim.sweep.executors import Executor, open_executor
from twophase.sim.sweep.job import Block, trial_blocks
from twophase.sim.sweep.schedule import run_sweep
from twophase.sim.sweep.stopping import StopRule
from twophase.sim.sweep.store import BlockStore

POINTS = [("", 0.0), ("", 1.5), ("a mode", 0.0)]
TRIALS = 20
BLOCKS = [block for point in POINTS for block in trial_blocks(point, 0, TRIALS)]
SAMPLES = 300

Right = Sequence[int] | NDArray[np.int64]


def toy_tally(trials: int, deployed: Right, soft: Right | None = None) -> Tally:
    """Counts with nothing but the trials in which link and reference were right about each sample."""
    references = {} if soft is None else {"soft": SystemCounts(np.array(soft))}
    none = np.zeros(len(deployed), dtype=np.int64)
    return Tally(0.0, SystemCounts(np.array(deployed)), references, none, trials=trials)


def merged(parts: Sequence[Tally]) -> Tally:
    """The sum of counts, which stay as they are."""
    total = tally_from_arrays(tally_arrays(parts[0]))
    for part in parts[1:]:
        total.merge(part)
    return total


def same(one: Tally, other: Tally) -> bool:
    """Bit for bit."""
    return tally_digest(one) == tally_digest(other)


class UnsendableError(Exception):
    """Pickles, but what comes out cannot be built again."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


@dataclass
class ToyTask:
    """Flips coins by trial; writes to ``log`` what it did, and misbehaves at ``trouble_at``."""

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

    def __call__(self, block: Block) -> Tally:
        if not self.opened:
            self.note("open")
            self.opened = True
        if block.first == self.trouble_at:
            self.make_trouble()
        counts = merged([self.trial(block, trial) for trial in block.trials])
        self.note(spelled(block))
        return counts

    def trial(self, block: Block, trial: int) -> Tally:
        rng = np.random.default_rng([self.seed, len(block.sweep), round(block.esn0_db * 1e3), trial])
        easy = np.linspace(0.2 + 0.2 * block.esn0_db, 1.0, SAMPLES)
        deployed, soft = (rng.random((2, SAMPLES)) < easy).astype(np.int64)
        counts = toy_tally(1, deployed, None if block.sweep else soft)
        counts.abs_llr = rng.random() / 3  # a sum that depends on the order in which it is made
        return counts

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

    def note(self, what: str) -> None:
        if self.log is not None:
            # One write to a file opened for appending: lines of several processes do not mix.
            with self.log.open("ab", buffering=0) as stream:
                stream.write(f"{os.getpid()} {what}\n".encode())


def spelled(block: Block) -> str:
    return json.dumps([block.sweep, block.esn0_db, block.first, block.count])


def blocks_run(log: Path) -> list[str]:
    """The blocks that tasks with this log have run, :func:`spelled`, in order."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.partition(" ")[2] for line in lines if not line.endswith(" open")]


def openings(log: Path) -> list[int]:
    """The processes in which tasks with this log were opened, once for each time."""
    return [int(line.split()[0]) for line in log.read_text().splitlines() if line.endswith(" open")]


def run_blocks(executor: Executor, blocks: Sequence[Block]) -> dict[Block, Tally]:
    """Results of blocks that are all submitted at once."""
    for block in blocks:
        executor.submit(block)
    return dict(executor.next_result() for _ in blocks)


def main() -> int:
    folder, workers = Path(sys.argv[1]), int(sys.argv[2])
    # The last point's last block hangs, when all else is on its way.
    task = ToyTask(log=folder / "log", trouble="hang", trouble_at=TRIALS - 5)
    with open_executor(task, Workers(workers)) as executor:
        run_sweep(POINTS, StopRule(TRIALS), executor, BlockStore(folder / "blocks", "{}"))
    return 0


if __name__ == "__main__":
    sys.exit(run("toy", "tools.toy_sweep"))
