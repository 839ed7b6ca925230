"""A sweep in blocks: the same counts however it is split, resumed or reordered."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.toy_sweep import POINTS, ToyCounts, ToyTask, logged, same, spelled, toy_store
from twophase.link.errors import InputError
from twophase.sim.sweep.blocks import Block, Point, trial_blocks
from twophase.sim.sweep.executors import InProcess, open_executor
from twophase.sim.sweep.schedule import run_sweep
from twophase.sim.sweep.stopping import BlockSquares, StopRule

RULE = StopRule(20)
PRECISE = StopRule(3, precision=0.02, max_trials=50)
"""Some points of the toy reach this, in different rounds, and some do not."""

Results = dict[Point, tuple[ToyCounts, str]]


class Shuffled(InProcess):
    """Gives results in the order that ``choose`` picks from as many as are under way."""

    def __init__(self, task: ToyTask, workers: int, choose: Callable[[int], int]) -> None:
        super().__init__(task)
        self.workers = workers
        self.most_running = 0
        self._choose = choose

    def next_result(self) -> tuple[Block, ToyCounts]:
        self.most_running = max(self.most_running, len(self._waiting))
        self._waiting.rotate(-self._choose(len(self._waiting)))
        return super().next_result()


def _twin(points: list[Point], rule: StopRule, task: ToyTask) -> Results:
    """The slow, obvious way: point after point, round after round, block after block."""
    results = {}
    for point in points:
        counts, squares, first, reason = None, BlockSquares(), 0, None
        rounds = rule.rounds()
        while reason is None:
            end = next(rounds)
            for block in trial_blocks(point, first, end):
                more = task(block)
                squares.add(more)
                if counts is None:
                    counts = more
                else:
                    counts.merge(more)
            first = end
            assert counts is not None
            reason = rule.reason(counts, squares)
        assert counts is not None
        results[point] = counts, reason
    return results


def _assert_same(results: Results, expected: Results) -> None:
    assert list(results) == list(expected)
    for point, (counts, reason) in expected.items():
        assert results[point][1] == reason
        assert same(results[point][0], counts)


def test_rounds_of_the_toy_differ() -> None:
    """Else the tests below would say little."""
    ended = {counts.trials for counts, _ in _twin(POINTS, PRECISE, ToyTask()).values()}
    assert len(ended) > 1
    # ... and the order of its sums can be seen in them.
    parts = [ToyTask()(block).real for block in trial_blocks(POINTS[0], 0, 20)]
    assert len({sum(parts[place:] + parts[:place]) for place in range(len(parts))}) > 1


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 9), st.sampled_from([RULE, PRECISE, StopRule(3), StopRule(1, 0.3, 9)]), st.randoms())
def test_any_order_gives_what_one_after_the_other_gives(workers, rule, random) -> None:
    with Shuffled(ToyTask(), workers, random.randrange) as executor:
        results = run_sweep(POINTS, rule, executor)
    _assert_same(results, _twin(POINTS, rule, ToyTask()))


def test_worker_processes_give_the_same() -> None:
    with open_executor(ToyTask(), 2) as executor:
        results = run_sweep(POINTS, PRECISE, executor)
    _assert_same(results, _twin(POINTS, PRECISE, ToyTask()))


def test_a_point_is_the_same_alone_and_in_a_grid() -> None:
    with InProcess(ToyTask()) as executor:
        together = run_sweep(POINTS, PRECISE, executor)
        for point in reversed(POINTS):
            _assert_same(run_sweep([point], PRECISE, executor), {point: together[point]})


def test_workers_are_busy_until_little_is_left() -> None:
    workers = 3
    points = [("", float(place)) for place in range(6)]
    seen = []
    with Shuffled(ToyTask(), workers, lambda running: 0) as executor:
        run_sweep(
            points,
            RULE,
            executor,
            progress=lambda block, done, planned: seen.append((planned - done, len(executor._waiting))),
        )
    assert executor.most_running == 2 * workers
    # While a result is merged, the others have as much to do as they can run: also between two points.
    assert all(running >= workers for left, running in seen if left > 5 * 2 * workers)


@pytest.mark.parametrize("points", [1, 4])
def test_what_is_held_is_bounded_whatever_the_number_of_trials(points: int) -> None:
    alive: weakref.WeakSet[Remembered] = weakref.WeakSet()
    most = 0

    class Remembered(ToyCounts):
        __hash__ = object.__hash__

    class Task(ToyTask):
        def __call__(self, block: Block) -> ToyCounts:
            nonlocal most
            none = np.zeros(1, dtype=np.int64)
            counts = Remembered(block.count, replace_correct(none), {})
            alive.add(counts)
            most = max(most, len(alive))
            return counts

    def replace_correct(correct: np.ndarray) -> object:
        return type("Decisions", (), {"correct": correct})()

    # The latest first: as much as possible waits for an earlier one.
    executor = Shuffled(Task(), 2, lambda running: running - 1)
    grid = [("", float(place)) for place in range(points)]
    gc.disable()
    try:
        with executor:
            results = run_sweep(grid, StopRule(20_000), executor)
    finally:
        gc.enable()
    assert [counts.trials for counts, _ in results.values()] == [20_000] * points
    # One total for each point, and twice what may run.
    assert most <= points + 8 + 2


def test_progress_counts_trials_and_ends_where_it_plans() -> None:
    told: list[tuple[Block, int, int]] = []
    with Shuffled(ToyTask(), 2, lambda running: running // 2) as executor:
        results = run_sweep(POINTS, PRECISE, executor, progress=lambda *now: told.append(now))
    done = np.array([now[1] for now in told])
    assert np.array_equal(np.diff(done, prepend=0), [now[0].count for now in told])
    assert all(now[1] <= now[2] for now in told)
    # The first point's first round is its first block, and not enough.
    assert told[0][2] == 6 + 3 + 3
    assert told[-1][1] == told[-1][2] == sum(counts.trials for counts, _ in results.values())


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.data())
def test_a_sweep_goes_on_from_any_blocks(tmp_path_factory: pytest.TempPathFactory, data) -> None:
    tmp_path = tmp_path_factory.mktemp("any")
    store = toy_store(tmp_path / "blocks")
    every = [block for point in POINTS for block in trial_blocks(point, 0, 20)]
    kept = data.draw(st.sets(st.sampled_from(every)))
    for block in kept:
        store.save(block, ToyTask()(block))
    damaged = data.draw(st.sets(st.sampled_from(sorted(kept, key=spelled)))) if kept else set()
    for block in damaged:
        store._path(block).write_bytes(b"no archive")
    with InProcess(ToyTask(log=tmp_path / "log")) as executor:
        _assert_same(run_sweep(POINTS, RULE, executor, store), _twin(POINTS, RULE, ToyTask()))
    ran = {what for _, what in logged(tmp_path / "log")} - {"open"}
    assert ran == {spelled(block) for block in every if block not in kept or block in damaged}
    # What is finished is not run again.
    with InProcess(ToyTask(log=tmp_path / "second")) as executor:
        _assert_same(run_sweep(POINTS, RULE, executor, store), _twin(POINTS, RULE, ToyTask()))
    assert not logged(tmp_path / "second")


def test_blocks_that_ended_before_an_error_are_kept(tmp_path: Path) -> None:
    store = toy_store(tmp_path)
    for trouble, kind in (("defect", ZeroDivisionError), ("input", InputError)):
        with InProcess(ToyTask(trouble=trouble, trouble_at=5)) as executor, pytest.raises(kind):
            run_sweep(POINTS, RULE, executor, store)
        assert store.load(Block(*POINTS[0], 0, 5)) is not None


def test_points_are_named_once_and_may_be_none() -> None:
    with InProcess(ToyTask(trouble="defect")) as executor:
        with pytest.raises(InputError, match="'points' must"):
            run_sweep([POINTS[0], POINTS[0]], RULE, executor)
        assert run_sweep([], RULE, executor) == {}
