"""Blocks run anywhere: the same results, errors that arrive as they are, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools.toy_sweep import (
    BLOCKS,
    POINTS,
    TRIALS,
    ToyTask,
    blocks_run,
    openings,
    run_blocks,
    same,
    spelled,
)
from twophase.link.errors import InputError
from twophase.sim.settings import Workers
from twophase.sim.sweep.executors import InProcess, Processes, open_executor
from twophase.sim.sweep.job import WorkerError
from twophase.sim.sweep.schedule import run_sweep
from twophase.sim.sweep.stopping import StopRule
from twophase.sim.sweep.store import BlockStore

TESTS = Path(__file__).parents[2]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_block_runs_once_whoever_runs_it(workers: int, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with open_executor(ToyTask(log=log), Workers(workers)) as executor:
        assert isinstance(executor, InProcess if workers == 1 else Processes)
        assert executor.workers == workers
        found = run_blocks(executor, BLOCKS)
    assert found.keys() == set(BLOCKS)
    assert all(same(found[block], ToyTask()(block)) for block in BLOCKS)
    assert sorted(blocks_run(log)) == sorted(map(spelled, BLOCKS))
    # What a task opens, it opens once in each process.
    opened = openings(log)
    assert len(opened) == len(set(opened)) <= workers
    assert (os.getpid() in opened) == (workers == 1)


@pytest.mark.parametrize(
    ("trouble", "kind", "words"),
    [
        ("input", InputError, "^'esn0_db' must be another, not 7.0$"),
        ("defect", ZeroDivisionError, "^a defect"),
        ("unsendable", RuntimeError, "UnsendableError in a worker process: one and two"),
        ("unpickling", RuntimeError, "cannot be unpickled"),
        ("killed", WorkerError, "exit code -9.* goes on from there"),
    ],
)
def test_errors_arrive_as_they_are(trouble: str, kind: type[Exception], words: str) -> None:
    task = ToyTask(trouble=trouble, trouble_at=5)
    with Processes(task, 1) as executor, pytest.raises(kind, match=words) as caught:
        run_blocks(executor, BLOCKS)
    if trouble == "defect":  # with its place
        assert "make_trouble" in caught.value.__notes__[0]
    if isinstance(caught.value, InputError):
        assert (caught.value.name, caught.value.rule, caught.value.value) == ("esn0_db", "be another", 7.0)


def test_what_fails_while_a_worker_makes_ready_is_left_to_its_blocks() -> None:
    """Getting ready only saves time: what is wrong shows in a block, or was not needed."""
    with Processes(ToyTask(trouble="preparing"), 1) as executor:
        ((block, counts),) = run_blocks(executor, BLOCKS[:1]).items()
    assert block == BLOCKS[0]
    assert same(counts, ToyTask()(BLOCKS[0]))


def test_leaving_ends_workers_in_the_middle_of_a_block(tmp_path: Path) -> None:
    with Processes(ToyTask(log=tmp_path / "log", trouble="hang", trouble_at=5), 2) as executor:
        for block in BLOCKS[:2]:
            executor.submit(block)
        assert executor.next_result()[0] == BLOCKS[0]
    for process in openings(tmp_path / "log"):
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_is_ended_leaves_no_worker_and_goes_on_where_it_stopped(
    sent: int, tmp_path: Path
) -> None:
    # Two workers, in a process group of its own, all of whose points hang in their last block.
    with subprocess.Popen(
        [sys.executable, "-m", "tools.toy_sweep", str(tmp_path), "2"],
        cwd=TESTS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "hanging\n"
        (os.kill if sent == signal.SIGKILL else os.killpg)(started.pid, sent)
        try:
            # The workers hold the other end of stdout: that it ends proves that they have.
            stdout, stderr = started.communicate(timeout=60)
        finally:
            if started.poll() is None:
                os.killpg(started.pid, signal.SIGKILL)
    # Only the parent speaks.
    end, said = {
        signal.SIGINT: (130, "toy: interrupted; nothing half-written is left\n"),
        signal.SIGTERM: (143, "toy: terminated; nothing half-written is left\n"),
        signal.SIGKILL: (-sent, ""),
    }[sent]
    assert (started.returncode, stderr) == (end, said)
    assert set(stdout.splitlines()) <= {"hanging"}
    store = BlockStore(tmp_path / "blocks", "{}")
    kept = {spelled(block) for block in BLOCKS if store.load(block) is not None}
    # What was kept had run; what had run may not have been kept yet.
    assert kept
    assert kept <= set(blocks_run(tmp_path / "log"))
    with InProcess(ToyTask(log=tmp_path / "again")) as executor:
        again = run_sweep(POINTS, StopRule(TRIALS), executor, store)
        expected = run_sweep(POINTS, StopRule(TRIALS), InProcess(ToyTask()))
    assert all(same(again[point][0], expected[point][0]) for point in POINTS)
    assert set(blocks_run(tmp_path / "again")) == set(map(spelled, BLOCKS)) - kept


def test_a_program_from_stdin_has_workers_too(tmp_path: Path) -> None:
    script = (
        "from tools.toy_sweep import BLOCKS, ToyTask, run_blocks\n"
        "from twophase.sim.sweep.executors import Processes\n"
        "with Processes(ToyTask(), 2) as executor: print(len(run_blocks(executor, BLOCKS)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-"], input=script, cwd=TESTS, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (f"{len(BLOCKS)}\n", "")


@pytest.mark.parametrize("given", [(0,), (1025,), (2, "tcp://127.0.0.1:1")])
def test_numbers_of_workers_are_refused_before_one_starts(given) -> None:
    with pytest.raises(InputError, match=r"'(workers|processes)' must"):
        Workers(*given)
