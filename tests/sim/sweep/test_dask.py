"""Blocks on a local Dask cluster: the same counts, and errors that arrive as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from distributed import LocalCluster

from tools.toy_sweep import BLOCKS, POINTS, ToyTask, blocks_run, openings, run_blocks, same
from twophase.link.errors import InputError, PackageError
from twophase.sim.packages import code_sha256, versions
from twophase.sim.settings import Workers
from twophase.sim.sweep import dask as module
from twophase.sim.sweep.dask import Dask
from twophase.sim.sweep.executors import InProcess, open_executor
from twophase.sim.sweep.job import WorkerError, trial_blocks
from twophase.sim.sweep.schedule import run_sweep
from twophase.sim.sweep.stopping import StopRule

RULE = StopRule(3, precision=0.02, max_trials=50)


def _cluster(workers: int) -> LocalCluster:
    return LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a scheduler with two worker processes."""
    with _cluster(2) as running:
        yield running.scheduler_address


def test_a_cluster_gives_what_one_process_gives(cluster: str, tmp_path: Path) -> None:
    with InProcess(ToyTask()) as executor:
        expected = run_sweep(POINTS, RULE, executor)
    with open_executor(ToyTask(log=tmp_path / "log"), Workers(scheduler=cluster)) as executor:
        assert executor.workers == 2
        results = run_sweep(POINTS, RULE, executor)
    assert list(results) == list(expected)
    for point, (counts, reason) in expected.items():
        assert results[point][1] == reason
        assert same(results[point][0], counts)
    # Each block ran once, and each worker opened what it needs once.
    for ran in (blocks_run(tmp_path / "log"), openings(tmp_path / "log")):
        assert len(ran) == len(set(ran))


def test_another_task_takes_the_place_of_the_first_and_errors_arrive_as_they_are(cluster: str) -> None:
    for trouble, kind in (("input", InputError), ("defect", ZeroDivisionError)):
        with (
            Dask(ToyTask(trouble=trouble, trouble_at=5), cluster) as executor,
            pytest.raises(kind, match=r"^'esn0_db' must be another, not 7\.0$|^a defect$"),
        ):
            run_blocks(executor, BLOCKS[:4])
    for seed in (1, 2, 1):
        with Dask(ToyTask(seed=seed), cluster) as executor:
            found = run_blocks(executor, BLOCKS[:4])
        assert all(same(found[block], ToyTask(seed=seed)(block)) for block in BLOCKS[:4])


@pytest.mark.parametrize("name", ["numpy", "code"])
def test_a_worker_with_other_versions_is_refused(cluster: str, monkeypatch: pytest.MonkeyPatch, name) -> None:
    own = module._versions()
    assert own["twophase-link"] != "missing"
    assert own.items() >= versions().items()
    (name,) = (each for each in own if (name in each if name == "code" else name == each))
    assert name == "numpy" or code_sha256().startswith(own[name])
    monkeypatch.setattr(module, "_versions", lambda: {**own, name: "0" * 16})
    refused = pytest.raises(PackageError, match=f"{name} {own[name]} and not 0000")
    with Dask(ToyTask(), cluster) as executor, refused:
        run_blocks(executor, BLOCKS[:1])


def test_what_is_given_up_does_not_run(cluster: str, tmp_path: Path) -> None:
    task = ToyTask(log=tmp_path / "log", trouble="defect", trouble_at=0)
    blocks = list(trial_blocks(POINTS[0], 0, 2000))
    with Dask(task, cluster) as executor, pytest.raises(ZeroDivisionError):
        run_blocks(executor, blocks)
    assert len(blocks_run(tmp_path / "log")) < len(blocks) - 1
    # The cluster is free for others.
    with Dask(ToyTask(), cluster) as executor:
        assert same(run_blocks(executor, blocks[:1])[blocks[0]], ToyTask()(blocks[0]))


def test_a_scheduler_without_answer_or_workers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_START_S", 0.3)
    with _cluster(0) as empty:
        for address in ("tcp://127.0.0.1:9", "nothing like an address:x", empty.scheduler_address):
            with pytest.raises(InputError, match="'scheduler' must"):
                Dask(ToyTask(), address).__enter__()


def test_a_block_that_kills_its_workers_is_given_up() -> None:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        _cluster(1) as own,
        Dask(ToyTask(trouble="killed"), own.scheduler_address) as executor,
        pytest.raises(WorkerError, match=r"lost a block .*goes on from there"),
    ):
        run_blocks(executor, BLOCKS[:1])
