"""Blocks run anywhere: the same results, errors that arrive as they are, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools.toy_sweep import POINTS, ToyCounts, ToyTask, logged, same, spelled
from twophase.link.errors import InputError
from twophase.sim.settings import MOST_WORKERS, Workers
from twophase.sim.sweep.blocks import Block, WorkerError, trial_blocks
from twophase.sim.sweep.executors import Executor, InProcess, Processes, open_executor

BLOCKS = [block for point in POINTS for block in trial_blocks(point, 0, 12)]
TESTS = Path(__file__).parents[2]


def _run(executor: Executor, blocks: list[Block]) -> dict[Block, ToyCounts]:
    for block in blocks:
        executor.submit(block)
    return dict(executor.next_result() for _ in blocks)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_block_runs_once_whoever_runs_it(workers: int, tmp_path: Path) -> None:
    task = ToyTask(log=tmp_path / "log")
    with open_executor(task, workers) as executor:
        assert executor.workers == workers
        found = _run(executor, BLOCKS)
    assert found.keys() == set(BLOCKS)
    assert all(same(found[block], ToyTask()(block)) for block in BLOCKS)
    events = logged(tmp_path / "log")
    assert sorted(what for _, what in events if what != "open") == sorted(map(spelled, BLOCKS))
    # What a task opens, it opens once in each process.
    opened = [process for process, what in events if what == "open"]
    assert len(opened) == len(set(opened)) <= workers
    assert (os.getpid() in opened) == (workers == 1)


def test_a_worker_gets_another_block_when_it_has_ended_one() -> None:
    with Processes(ToyTask(), 2) as executor:
        for block in BLOCKS[:2]:
            executor.submit(block)
        seen = []
        for block in BLOCKS[2:]:
            seen.append(executor.next_result()[0])
            executor.submit(block)
        seen += [executor.next_result()[0] for _ in range(2)]
    assert sorted(map(spelled, seen)) == sorted(map(spelled, BLOCKS))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_on_purpose_arrives_as_itself(workers: int) -> None:
    with (
        open_executor(ToyTask(trouble="input", trouble_at=5), workers) as executor,
        pytest.raises(InputError) as caught,
    ):
        _run(executor, BLOCKS)
    assert (caught.value.name, caught.value.rule, caught.value.value) == ("esn0_db", "be another", 7.0)
    assert str(caught.value) == "'esn0_db' must be another, not 7.0"


def test_a_defect_arrives_with_its_place() -> None:
    with (
        Processes(ToyTask(trouble="defect"), 2) as executor,
        pytest.raises(ZeroDivisionError, match="a defect") as caught,
    ):
        _run(executor, BLOCKS)
    (note,) = caught.value.__notes__
    assert "make_trouble" in note


def test_an_error_that_cannot_travel_is_told_in_words() -> None:
    with (
        Processes(ToyTask(trouble="unsendable"), 2) as executor,
        pytest.raises(WorkerError, match="UnsendableError in a worker process: one and two"),
    ):
        _run(executor, BLOCKS)


def test_a_task_that_cannot_travel_is_told() -> None:
    with (
        Processes(ToyTask(trouble="unpickling"), 2) as executor,
        pytest.raises(RuntimeError, match="cannot be unpickled"),
    ):
        _run(executor, BLOCKS)


def test_a_killed_worker_is_told() -> None:
    with (
        Processes(ToyTask(trouble="killed", trouble_at=5), 2) as executor,
        pytest.raises(WorkerError, match=r"exit code -9 .*goes on from there"),
    ):
        _run(executor, BLOCKS)


def test_leaving_ends_workers_in_the_middle_of_a_block(tmp_path: Path) -> None:
    hanging = ToyTask(log=tmp_path / "log", trouble="hang", trouble_at=5)
    with Processes(hanging, 2) as executor:
        for block in BLOCKS[:2]:
            executor.submit(block)
        assert executor.next_result()[0] == BLOCKS[0]
    for process in {process for process, _ in logged(tmp_path / "log")}:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def _start(folder: Path) -> subprocess.Popen[str]:
    """A sweep in two workers, in a process group of its own, all of whose points hang in their last block."""
    started = subprocess.Popen(
        [sys.executable, "-m", "tools.toy_sweep", str(folder), "2"],
        cwd=TESTS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "hanging\n"
    return started


def _ended(started: subprocess.Popen[str]) -> tuple[str, str]:
    """What it said once it has ended; one that does not end fails the test instead of holding it up."""
    try:
        return started.communicate(timeout=60)
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)


# The workers hold the other end of stdout: that it ends proves that they have.


def test_ctrl_c_ends_all_and_only_the_parent_speaks(tmp_path: Path) -> None:
    with _start(tmp_path) as started:
        os.killpg(started.pid, signal.SIGINT)
        stdout, stderr = _ended(started)
    assert started.returncode == 130
    assert stdout.splitlines()[-1] == "interrupted"
    assert not stderr


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    with _start(tmp_path) as started:
        os.kill(started.pid, signal.SIGKILL)
        stdout, stderr = _ended(started)
    assert started.returncode == -signal.SIGKILL
    assert set(stdout.splitlines()) <= {"hanging"}
    assert not stderr


def test_executors_are_chosen_by_what_is_asked_for() -> None:
    assert isinstance(open_executor(ToyTask()), InProcess)
    assert isinstance(open_executor(ToyTask(), 2), Processes)
    with pytest.raises(InputError, match="'workers' must be at least 1"):
        open_executor(ToyTask(), 0)
    with pytest.raises(InputError, match="'workers' must be at least 1"):
        Processes(ToyTask(), 0)
    with pytest.raises(InputError, match="'workers' must be left out with --scheduler"):
        open_executor(ToyTask(), 2, "tcp://127.0.0.1:1")


def test_what_fails_while_a_worker_makes_ready_is_left_to_its_blocks() -> None:
    """Getting ready only saves time: what is wrong shows in a block, or was not needed."""
    with Processes(ToyTask(trouble="preparing"), 1) as executor:
        executor.submit(BLOCKS[0])
        block, counts = executor.next_result()
    assert block == BLOCKS[0]
    assert same(counts, ToyTask()(BLOCKS[0]))


def test_more_workers_than_any_machine_has_are_refused_before_one_starts() -> None:
    for start in (
        lambda: open_executor(ToyTask(), 99_999_999),
        lambda: Processes(ToyTask(), MOST_WORKERS + 1),
        lambda: Workers(MOST_WORKERS + 1),
    ):
        with pytest.raises(InputError, match=f"'workers' must be at most {MOST_WORKERS}, not "):
            start()
    assert Processes(ToyTask(), MOST_WORKERS).workers == MOST_WORKERS
