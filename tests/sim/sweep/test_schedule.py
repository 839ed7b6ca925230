"""A sweep in blocks: the same counts however it is split, resumed or reordered."""

from __future__ import annotations

import gc
import itertools
import pickle
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.toy_sweep import (
    BLOCKS,
    POINTS,
    TRIALS,
    ToyTask,
    blocks_run,
    merged,
    same,
    spelled,
    toy_tally,
)
from twophase.link.errors import InputError
from twophase.sim.counts import Tally
from twophase.sim.sweep.executors import InProcess
from twophase.sim.sweep.job import BLOCK_TRIALS, Block, Point, trial_blocks
from twophase.sim.sweep.schedule import run_sweep
from twophase.sim.sweep.stopping import BlockSquares, StopRule
from twophase.sim.sweep.store import BlockStore

RULE = StopRule(TRIALS)
PRECISE = StopRule(3, precision=0.02, max_trials=50)
"""Some points of the toy reach this, in different rounds, and some do not."""

Results = dict[Point, tuple[Tally, str]]


@given(st.integers(0, 300), st.integers(0, 300))
def test_blocks_hold_every_trial_once_and_in_order(first: int, count: int) -> None:
    blocks = list(trial_blocks(("a mode", -2.5), first, first + count))
    assert [trial for block in blocks for trial in block.trials] == list(range(first, first + count))
    assert all(block.point == ("a mode", -2.5) for block in blocks)
    # Only the last may be shorter; a block travels, and is a key.
    assert all(block.count == BLOCK_TRIALS for block in blocks[:-1])
    assert {pickle.loads(pickle.dumps(block)) for block in blocks} == set(blocks)


class Shuffled(InProcess):
    """Gives results in the order that ``choose`` picks from as many as are under way."""

    def __init__(self, task: ToyTask, workers: int, choose: Callable[[int], int]) -> None:
        super().__init__(task)
        self.workers = workers
        self.most_running = 0
        self._choose = choose

    def next_result(self) -> tuple[Block, Tally]:
        self.most_running = max(self.most_running, len(self._waiting))
        self._waiting.rotate(-self._choose(len(self._waiting)))
        return super().next_result()


def _twin(points: list[Point], rule: StopRule) -> Results:
    """The slow, obvious way: point after point, round after round, block after block."""
    results = {}
    for point in points:
        parts, first = [], 0
        for end in rule.rounds():
            parts += [ToyTask()(block) for block in trial_blocks(point, first, end)]
            first, squares = end, BlockSquares()
            for part in parts:
                squares.add(part)
            reason = rule.reason(merged(parts), squares)
            if reason is not None:
                break
        assert reason is not None
        results[point] = merged(parts), reason
    return results


def _assert_same(results: Results, expected: Results) -> None:
    assert list(results) == list(expected)
    for point, (counts, reason) in expected.items():
        assert results[point][1] == reason
        assert same(results[point][0], counts)


def test_the_toy_can_tell_rounds_and_orders_apart() -> None:
    """Else the tests below would say little."""
    assert len({counts.trials for counts, _ in _twin(POINTS, PRECISE).values()}) > 1
    parts = [ToyTask()(block).abs_llr for block in trial_blocks(POINTS[0], 0, TRIALS)]
    assert len({sum(order) for order in itertools.permutations(parts)}) > 1


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 9), st.sampled_from([RULE, PRECISE, StopRule(3), StopRule(1, 0.3, 9)]), st.randoms())
def test_any_order_gives_what_one_after_the_other_gives(workers, rule, random) -> None:
    with Shuffled(ToyTask(), workers, random.randrange) as executor:
        together = run_sweep(POINTS, rule, executor)
        _assert_same(together, _twin(POINTS, rule))
        point = random.choice(POINTS)
        _assert_same(run_sweep([point], rule, executor), {point: together[point]})


def test_workers_are_busy_until_little_is_left() -> None:
    workers, seen = 3, []
    points = [("", float(place)) for place in range(6)]
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
    alive: weakref.WeakValueDictionary[Block, Tally] = weakref.WeakValueDictionary()
    most = 0

    class Task(ToyTask):
        def __call__(self, block: Block) -> Tally:
            nonlocal most
            alive[block] = counts = toy_tally(block.count, [0])
            most = max(most, len(alive))
            return counts

    # The latest first: as much as possible waits for an earlier one.
    grid = [("", float(place)) for place in range(points)]
    gc.disable()
    try:
        with Shuffled(Task(), 2, lambda running: running - 1) as executor:
            results = run_sweep(grid, StopRule(5_000), executor)
    finally:
        gc.enable()
    assert [counts.trials for counts, _ in results.values()] == [5_000] * points
    # One total for each point, and twice what may run.
    assert most <= points + 8 + 2


def test_progress_counts_trials_and_ends_where_it_plans() -> None:
    seen: list[tuple[Block, int, int]] = []
    with Shuffled(ToyTask(), 2, lambda running: running // 2) as executor:
        results = run_sweep(POINTS, PRECISE, executor, progress=lambda *now: seen.append(now))
    done = [now[1] for now in seen]
    assert np.array_equal(np.diff(done, prepend=0), [now[0].count for now in seen])
    assert all(now[1] <= now[2] for now in seen)
    # The first point's first round is its first block, and not enough.
    assert seen[0][2] == 6 + 3 + 3
    assert seen[-1][1] == seen[-1][2] == sum(counts.trials for counts, _ in results.values())


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.data())
def test_a_sweep_goes_on_from_any_blocks(tmp_path_factory: pytest.TempPathFactory, data) -> None:
    tmp_path = tmp_path_factory.mktemp("any")
    store = BlockStore(tmp_path / "blocks", "{}")
    kept = data.draw(st.sets(st.sampled_from(BLOCKS)))
    for block in kept:
        store.save(block, ToyTask()(block))
    damaged = data.draw(st.sets(st.sampled_from(sorted(kept, key=spelled)))) if kept else set()
    for block in damaged:
        store._path(block).write_bytes(b"no archive")
    with InProcess(ToyTask(log=tmp_path / "log")) as executor:
        _assert_same(run_sweep(POINTS, RULE, executor, store), _twin(POINTS, RULE))
    assert set(blocks_run(tmp_path / "log")) == {
        spelled(block) for block in BLOCKS if block not in kept or block in damaged
    }
    # What is finished is not run again.
    with InProcess(ToyTask(log=tmp_path / "second")) as executor:
        _assert_same(run_sweep(POINTS, RULE, executor, store), _twin(POINTS, RULE))
    assert not blocks_run(tmp_path / "second")


def test_blocks_that_ended_before_an_error_are_kept(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, "{}")
    with InProcess(ToyTask(trouble="defect", trouble_at=5)) as executor, pytest.raises(ZeroDivisionError):
        run_sweep(POINTS, RULE, executor, store)
    assert store.load(BLOCKS[0]) is not None


def test_points_are_named_once_and_may_be_none() -> None:
    with InProcess(ToyTask(trouble="defect")) as executor:
        with pytest.raises(InputError, match="'points' must"):
            run_sweep([POINTS[0], POINTS[0]], RULE, executor)
        assert run_sweep([], RULE, executor) == {}
