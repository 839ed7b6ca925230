"""Blocks on a cluster: an executor over Dask distributed (the ``[cluster]`` extra).

The task travels with every block, a few hundred bytes; a worker opens what the task needs at its first block
and keeps it.  A worker process runs one block at a time, however many threads it has, for a task need not
bear several: ``dask worker --nthreads 1 --nworkers N`` makes the most of a machine.  Every worker must see
the bundle and the samples under the same paths and must hold the same code and the same versions of all
that computes; each block checks that.  Processors whose vector units differ may round the graphs' sums
differently, so bit-identical reports need workers of one kind.
"""

from __future__ import annotations

import gc
import pickle
import threading
from asyncio import CancelledError
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from twophase.link.errors import InputError, PackageError, remedy
from twophase.sim.counts import Tally
from twophase.sim.packages import code_sha256, versions
from twophase.sim.sweep.job import Block, Job, WorkerError

if TYPE_CHECKING:
    from distributed import Future


__all__ = ["Dask"]


_START_S = 30
"""How long a scheduler may take to answer, and then to have a worker."""

_one_at_a_time = threading.Lock()
_tasks: dict[bytes, Job] = {}


class Dask:
    """Blocks on the workers of a Dask scheduler.

    A worker that is lost is replaced by the others; Dask gives up after three losses on one block.  The
    address is as ``tcp://10.0.0.1:8786``.  PackageError if Dask distributed is not installed.
    """

    def __init__(self, task: Job, address: str) -> None:
        try:
            import distributed  # noqa: F401 - late: it takes a second, and is optional
        except ImportError as error:
            raise PackageError(f"--scheduler needs Dask distributed: {remedy('cluster')}") from error
        self._payload = pickle.dumps(task)
        self._address = address
        self._client: Any = None  # distributed's own methods carry no types
        self._done: Any = None
        self._blocks: dict[Future[Any], Block] = {}

    @property
    def workers(self) -> int:
        """Worker processes, as many as there are now."""
        assert self._client is not None, "not entered"
        threads: dict[str, int] = self._client.nthreads()
        return max(1, len(threads))

    def submit(self, block: Block) -> None:
        """Send a block to the scheduler."""
        assert self._client is not None, "not entered"
        future = self._client.submit(_run_block, self._payload, _versions(), block, pure=False)
        self._blocks[future] = block
        self._done.add(future)

    def next_result(self) -> tuple[Block, Tally]:
        """Wait for a block; WorkerError if Dask gives it up: its workers, or the scheduler, are lost."""
        from distributed import KilledWorker

        assert self._done is not None, "not entered"
        future: Future[Any] = next(self._done)
        block = self._blocks.pop(future)
        try:
            result: Tally = future.result()
        except (KilledWorker, CancelledError) as error:
            raise WorkerError(
                f"the cluster at {self._address} lost a block ({type(error).__name__}); finished blocks are "
                "kept, so the same command goes on from there"
            ) from error
        return block, result

    def __enter__(self) -> Self:
        import distributed

        client: Any = distributed.Client
        with suppress(OSError, ValueError):
            self._client = client(self._address, timeout=_START_S, set_as_default=False)
        if self._client is None:
            # A client that found no scheduler must go now: it closes itself when it is collected, and hangs
            # if that happens while another one starts.
            gc.collect()
            raise InputError("scheduler", "be the address of a Dask scheduler that answers", self._address)
        try:
            self._client.wait_for_workers(1, timeout=_START_S)
        except TimeoutError as error:
            self._client.close()
            raise InputError("scheduler", "be of a scheduler that has workers", self._address) from error
        completed: Any = distributed.as_completed
        self._done = completed([], loop=self._client.loop)
        return self

    def __exit__(self, *raised: object) -> None:
        if self._client is not None:
            # Closing gives up what nobody else waits for; cancelling would tell every client of the cluster.
            self._blocks.clear()
            self._client.close()
        self._client = self._done = None


def _run_block(payload: bytes, expected: dict[str, str], block: Block) -> Any:
    """What a worker does; it keeps the task of its last block."""
    own = _versions()
    if own != expected:
        differing = [
            f"{name} {own.get(name, 'unknown')} and not {expected.get(name, 'unknown')}"
            for name in sorted(own.keys() | expected.keys())
            if own.get(name) != expected.get(name)
        ]
        raise PackageError(f"a worker of the cluster has {', '.join(differing)}: results would differ")
    with _one_at_a_time:
        if payload not in _tasks:
            _tasks.clear()
            _tasks[payload] = pickle.loads(payload)
        return _tasks[payload](block)


@cache
def _versions() -> dict[str, str]:
    return versions() | {"the code of link and sim": code_sha256()[:16]}
