"""How far a sweep is, on stderr if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from twophase.sim.work.blocks import Block
from twophase.sim.work.schedule import Progress

__all__ = ["sweep_progress"]


@contextmanager
def sweep_progress() -> Iterator[Progress]:
    """A bar with the time that is left; nothing where stderr is no terminal.

    Blocks that an interrupted run has left count as done at once.
    """
    if not sys.stderr.isatty():
        yield lambda block, done, planned: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description:>21}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TextColumn("run"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        # Nothing is counted before the first block is done.
        task = bar.add_task("starting", total=None, count="")

        def show(block: Block, done: int, planned: int) -> None:
            where = f"{block.esn0_db:g} dB {block.sweep}"
            bar.update(
                task, description=where, completed=done, total=planned, count=f"{done}/{planned} trials"
            )

        yield show
