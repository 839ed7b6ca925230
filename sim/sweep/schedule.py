"""A sweep as blocks: which to run next, and when a point is finished.

Points are opened in their order.  While a point's round is not decided, the next one's blocks keep the
workers busy.  Counts are merged as soon as those of all earlier trials are, so that no more than a few blocks
are held at a time, however many trials there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from twophase.link.command import Terminal
from twophase.link.errors import InputError
from twophase.sim.counts import Tally
from twophase.sim.sweep.executors import Executor
from twophase.sim.sweep.job import Block, Point, trial_blocks
from twophase.sim.sweep.stopping import BlockSquares, StopRule
from twophase.sim.sweep.store import BlockStore

__all__ = ["Progress", "run_sweep", "sweep_progress"]


Progress = Callable[[Block, int, int], None]
"""Called after each block: the block, trials of all points that are done, and trials that are planned, which
grow if a point takes another round."""


def run_sweep(
    points: Sequence[Point],
    rule: StopRule,
    executor: Executor,
    store: BlockStore | None = None,
    progress: Progress = lambda block, done, planned: None,
) -> dict[Point, tuple[Tally, str]]:
    """Measure every point until the rule ends it, which sees that point's counts alone.

    Gives for each point, in the given order, its counts and why it ended.  That depends on the points, the
    rule and what the blocks give; not on the executor, on how many blocks were in the store, or on which was
    finished first.  To clear the store, once the report is written, is left to the caller.  InputError if a
    point is named twice; whatever a block raises is raised here.
    """
    if len(set(points)) < len(points):
        raise InputError("points", "be named once each", list(points))
    sweep = _Sweep(points, rule)
    running = 0
    while True:
        # Each worker has a block to go on with while its result is merged.  What waits to be merged is
        # bounded, too: the first of each point's blocks that it waits for is always running.
        most_running = 2 * executor.workers
        while running < most_running and running + sweep.held < 2 * most_running:
            block = sweep.next_block()
            if block is None:
                break
            counts = None if store is None else store.load(block)
            if counts is None:
                executor.submit(block)
                running += 1
            else:
                sweep.take(block, counts)
                progress(block, sweep.done, sweep.planned)
        if not running:
            break
        block, result = executor.next_result()
        running -= 1
        if store is not None:
            store.save(block, result)
        sweep.take(block, result)
        progress(block, sweep.done, sweep.planned)
    return sweep.results()


class _Sweep:
    """All points: those that have not begun, those under way, and those that are finished."""

    def __init__(self, points: Sequence[Point], rule: StopRule) -> None:
        self._states = {point: _PointState(point, rule) for point in points}
        self._under_way: list[_PointState] = []
        self._to_begin = iter(self._states.values())
        self.done = 0
        """Trials of all points that are finished."""

    @property
    def held(self) -> int:
        """Blocks that wait for the counts of earlier trials."""
        return sum(len(state.waiting) for state in self._under_way)

    @property
    def planned(self) -> int:
        """Trials of all points up to the end of each one's round."""
        return sum(state.round_end for state in self._states.values())

    def next_block(self) -> Block | None:
        """The next block of the earliest point that has one; None until a round is decided, or at the end."""
        for state in self._under_way:
            block = next(state.blocks, None)
            if block is not None:
                return block
        for state in self._to_begin:
            self._under_way.append(state)
            return next(state.blocks)
        return None

    def take(self, block: Block, counts: Tally) -> None:
        """Counts of a block that is finished."""
        state = self._states[block.point]
        self.done += block.count
        state.take(block, counts)
        if state.reason is not None:
            self._under_way.remove(state)

    def results(self) -> dict[Point, tuple[Tally, str]]:
        """Counts and reasons of all points, which are finished."""
        results = {}
        for point, state in self._states.items():
            assert state.total is not None
            assert state.reason is not None
            results[point] = state.total, state.reason
        return results


class _PointState:
    """One point under way: what is merged, what waits to be, and which blocks are still to run."""

    def __init__(self, point: Point, rule: StopRule) -> None:
        self._point, self._rule = point, rule
        self._rounds = rule.rounds()
        self.round_end = next(self._rounds)
        """Trials at the end of the round."""
        self.blocks = trial_blocks(point, 0, self.round_end)
        self.waiting: dict[int, tuple[Block, Tally]] = {}
        self._merged = 0
        self._squares = BlockSquares()
        self.total: Tally | None = None
        self.reason: str | None = None

    def take(self, block: Block, counts: Tally) -> None:
        self.waiting[block.first] = block, counts
        while self._merged in self.waiting:
            self._merge(*self.waiting.pop(self._merged))

    def _merge(self, block: Block, counts: Tally) -> None:
        self._squares.add(counts)
        if self.total is None:
            self.total = counts
        else:
            self.total.merge(counts)
        self._merged += block.count
        if self._merged < self.round_end:
            return
        self.reason = self._rule.reason(self.total, self._squares)
        if self.reason is None:
            self.round_end = next(self._rounds)
            self.blocks = trial_blocks(self._point, self._merged, self.round_end)


@contextmanager
def sweep_progress() -> Iterator[Progress]:
    """A bar with the time that is left; nothing where stderr is no terminal.

    Blocks that an interrupted run has left count as done at once.
    """
    with Terminal().progress() as bar:
        yield lambda block, done, planned: bar.show(f"{block.esn0_db:g} dB {block.sweep}", done, planned)
