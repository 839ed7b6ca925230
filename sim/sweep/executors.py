"""Where blocks are run: in this process, in worker processes, or on a Dask cluster.

An executor takes blocks and gives their results in any order; who merges them puts them in order, so that a
report does not depend on where they ran.  Worker processes are started anew (``spawn``): nothing of this
process, such as threads or a generator's state, leaks into them.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import ModuleType
from typing import Any, Protocol, Self

from twophase.link.errors import LinkError
from twophase.sim.counts import Tally
from twophase.sim.settings import Workers
from twophase.sim.sweep.job import Block, Job, WorkerError

__all__ = ["Executor", "InProcess", "Processes", "open_executor"]


class Executor(Protocol):
    """Runs blocks; a context manager that leaves no process running."""

    @property
    def workers(self) -> int:
        """How many blocks can run at once."""

    def submit(self, block: Block) -> None:
        """Have a block run; returns at once."""

    def next_result(self) -> tuple[Block, Tally]:
        """Wait for a submitted block, whichever ends first; what its task raised is raised here."""

    def __enter__(self) -> Self:
        """Start what is needed."""

    def __exit__(self, *raised: object) -> None:
        """End it; what still runs is given up."""


def open_executor(task: Job, workers: Workers) -> Executor:
    """The executor for ``--workers`` and ``--scheduler``; PackageError if Dask is needed and missing."""
    if workers.scheduler is None:
        return InProcess(task) if workers.processes == 1 else Processes(task, workers.processes)
    from twophase.sim.sweep.dask import Dask

    return Dask(task, workers.scheduler)


class InProcess:
    """Blocks one after the other, in this process."""

    workers = 1

    def __init__(self, task: Job) -> None:
        self._task = task
        self._waiting: deque[Block] = deque()

    def submit(self, block: Block) -> None:
        """Put a block in the queue; it runs when a result is asked for."""
        self._waiting.append(block)

    def next_result(self) -> tuple[Block, Tally]:
        """Run the next block."""
        block = self._waiting.popleft()
        return block, self._task(block)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._waiting.clear()


class Processes:
    """Blocks in worker processes on this machine.

    The workers end with this process, however it ends, and on leaving the context.  They do not see Ctrl-C or
    SIGTERM, which may come to the whole group: these are this process's, which ends them.  The task is
    pickled, and sent to each worker once.  The program's main module is not imported there, so that a script
    needs no guard, and one from stdin has workers, too.
    """

    def __init__(self, task: Job, workers: int) -> None:
        self.workers = workers
        self._task = task
        self._processes: dict[Connection, SpawnProcess] = {}
        self._running: dict[Connection, Block] = {}
        self._waiting: deque[Block] = deque()

    def submit(self, block: Block) -> None:
        """Hand a block to an idle worker, or put it in the queue."""
        self._waiting.append(block)
        self._hand_out()

    def next_result(self) -> tuple[Block, Tally]:
        """Wait for a worker; WorkerError if one was killed, RuntimeError if what it raised cannot be sent."""
        # A worker that ends closes its end, which shows as "ready" and then as the end of the file.
        ready = wait(list(self._running))[0]
        assert isinstance(ready, Connection)
        block = self._running.pop(ready)
        try:
            result, error, trace = ready.recv()
        except (EOFError, ConnectionResetError):
            process = self._processes.pop(ready)
            process.join()
            if process.exitcode != -signal.SIGKILL:
                raise RuntimeError(f"a worker process ended with exit code {process.exitcode}") from None
            raise WorkerError(
                "a worker process was killed (exit code -9), as when memory runs out; finished blocks are "
                "kept, so the same command goes on from there"
            ) from None
        if error is not None:
            if not isinstance(error, LinkError):
                error.add_note(f"raised in a worker process:\n{trace}")
            raise error
        self._hand_out()
        return block, result

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        payload = pickle.dumps(self._task)
        # Workers inherit the mask, so that no signal but SIGKILL ends them, not even while they start.  The
        # tracker of resources would lift it on its first start, hence that comes before.
        from multiprocessing.resource_tracker import ensure_running

        ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        try:
            for number in range(self.workers):
                own, other = context.Pipe()
                name = f"worker {number + 1}"
                process = context.Process(target=_work, args=(other, payload), name=name, daemon=True)
                self._processes[own] = process
                process.start()
                other.close()
        except BaseException:
            self._end()
            raise
        finally:
            sys.modules["__main__"] = main
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self

    def __exit__(self, *raised: object) -> None:
        self._end()

    def _hand_out(self) -> None:
        for connection in self._processes:
            if not self._waiting:
                return
            if connection not in self._running:
                # A worker that has died is found out when its result is awaited.
                self._running[connection] = self._waiting.popleft()
                with suppress(BrokenPipeError):
                    connection.send(self._running[connection])

    def _end(self) -> None:
        # Killed, not asked: a block may take minutes, and a worker has nothing to put in order.
        for process in self._processes.values():
            if process.pid is not None:
                process.kill()
        for connection, process in self._processes.items():
            if process.pid is not None:
                process.join()
                process.close()
            connection.close()
        self._processes.clear()
        self._running.clear()
        self._waiting.clear()


def _work(connection: Connection, payload: bytes) -> None:
    """Life of a worker process: blocks in, results out, until the other end is closed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    task: Job | None = None
    with suppress(Exception):  # whatever it is, the first block meets it again and reports it
        task = pickle.loads(payload)
        task.prepare()
    while True:
        try:
            block = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            # Here and not before, so that a task that cannot be unpickled is reported like any other error.
            task = pickle.loads(payload) if task is None else task
            answer: tuple[Any, BaseException | None, str] = task(block), None, ""
            pickled = pickle.dumps(answer)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other process raises it
            pickled = pickle.dumps((None, _sendable(error), traceback.format_exc()))
        try:
            connection.send_bytes(pickled)
        except (BrokenPipeError, ConnectionResetError):
            return


def _end_with_parent() -> None:
    """A block under way would run to its end although nobody takes its result."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _sendable(error: Exception) -> Exception:
    """The error itself if another process can build it, else its words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - a constructor of its own may raise anything
        return RuntimeError(f"{type(error).__name__} in a worker process: {error}")
    return error
