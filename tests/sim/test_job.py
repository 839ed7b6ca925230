"""What a worker is sent, by what its counts are known, and who measures into which folder."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twophase.link.errors import ArtifactError, InputError
from twophase.link.files import lock_file
from twophase.sim.counts import tally_digest
from twophase.sim.packages import versions
from twophase.sim.point import simulate_point
from twophase.sim.settings import Settings, Workers
from twophase.sim.sweep.job import Block, Job, make_job
from twophase.sim.sweep.measure import clear_blocks, measure

SETTINGS = Settings(trials=4, seed=2, codes=("conv",))


@pytest.fixture(scope="module")
def job(bundle: Path) -> Job:
    return make_job(bundle, None, SETTINGS)


def test_a_block_is_part_of_its_point(job: Job) -> None:
    sent = pickle.loads(pickle.dumps(job))
    assert len(pickle.dumps(job)) < 4000
    first, second = sent(Block("", 5.0, 0, 1)), sent(Block("", 5.0, 1, 3))
    # Whatever was measured before, a block is the same.
    sent(Block("", 7.0, 0, 1))
    assert tally_digest(sent(Block("", 5.0, 1, 3))) == tally_digest(second)
    first.merge(second)
    system, _, samples = job.open()
    whole = simulate_point(system, samples, 5.0, SETTINGS)
    assert np.array_equal(first.deployed.correct, whole.deployed.correct)
    assert first.bit_errors == whole.bit_errors
    # A mode by itself has no reference and no baseline.
    alone = job(Block("4x16qam", 5.0, 0, 2))
    assert (alone.references, alone.baselines, list(alone.histograms)) == ({}, {}, [1])


def test_the_key_holds_what_counts_depend_on_and_nothing_else(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(**changed: object) -> str:
        return dataclasses.replace(job, settings=dataclasses.replace(SETTINGS, **changed)).key()

    for same in ({"trials": 9}, {"precision": 0.01}, {"max_trials": 77}, {"tolerance": 0.5}):
        assert key(**same) == job.key()
    # Not where it lies: a bundle that was moved is the same one.
    assert dataclasses.replace(job, bundle=Path("elsewhere")).key() == job.key()
    others = [
        key(seed=3),
        key(channel="rayleigh"),
        key(demapper="maxlog"),
        key(codes=()),
        key(mode="4x16qam"),
    ]
    others += [dataclasses.replace(job, **{name: "0"}).key() for name in ("bundle_sha256", "data_sha256")]
    # A `git pull` between two runs begins afresh, and so does another numba.
    other_versions = versions() | {"numba": "missing"}
    for name, value in (("code_sha256", "0" * 64), ("versions", other_versions)):
        with monkeypatch.context() as patched:
            patched.setattr(f"twophase.sim.sweep.job.{name}", lambda value=value: value)
            others.append(job.key())
    assert len({job.key(), *others}) == 10


def test_another_bundle_under_the_same_path_is_refused(job: Job, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(job.bundle, copy)
    with pytest.raises(ArtifactError, match=r"link\.json' was altered since this run began"):
        dataclasses.replace(job, bundle=copy, bundle_sha256="0" * 64).open()

    def write(samples: int) -> None:
        with np.load(job.data) as held:
            np.savez(tmp_path / "other.npz", input=held["input"][:samples], label=held["label"][:samples])

    write(5)
    mine = make_job(copy, tmp_path / "other.npz", SETTINGS)
    assert len(mine.open()[2].labels) == 5
    write(6)
    with pytest.raises(ArtifactError, match=r"other\.npz' was altered"):
        mine.open()


def test_what_is_missing_is_named(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(ArtifactError, match="no bundle is there"):
        make_job(tmp_path / "absent", None, SETTINGS)
    with pytest.raises(ArtifactError, match=r"absent\.npz' is missing"):
        make_job(bundle, tmp_path / "absent.npz", SETTINGS)
    with pytest.raises(InputError, match="'mode' must be one of"):
        make_job(bundle, None, Settings(mode="8x8qam")).open()


def test_an_interrupted_run_is_taken_up_and_a_finished_one_used_again(
    job: Job, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(points: object, rule: object, executor: object, store: Any, progress: object) -> None:
        block = Block("", 5.0, 0, 4)
        store.save(block, job(block))
        raise KeyboardInterrupt

    opened = job.open()
    with monkeypatch.context() as patched:
        patched.setattr("twophase.sim.sweep.measure.run_sweep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            measure(job, opened, [5.0], Workers(), tmp_path)
    assert "1 finished blocks are kept" in caplog.text
    assert list(tmp_path.rglob(".lock")) == []
    first = measure(job, opened, [5.0], Workers(), tmp_path)
    assert "taking up an interrupted run: 1 finished blocks" in caplog.text
    # As with --bundle X --compare X: the blocks are used again, and nothing is said.
    caplog.clear()
    held = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    second = measure(job, opened, [5.0], Workers(), tmp_path)
    assert caplog.text == ""
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")} == held
    assert tally_digest(first.link[0]) == tally_digest(second.link[0])
    clear_blocks(tmp_path, [job, job])
    assert list(tmp_path.iterdir()) == []


def test_one_folder_is_measured_into_by_one_process(job: Job, tmp_path: Path) -> None:
    # Another opening of the file counts as another process.
    (tmp_path / ".blocks").mkdir()
    taken = f"'out' must not be in use by another tp-sim .*, not '{tmp_path}'"
    with lock_file(tmp_path / ".blocks" / ".lock"), pytest.raises(InputError, match=taken):
        measure(job, job.open(), [5.0], Workers(), tmp_path)
    (tmp_path / ".blocks").rmdir()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".blocks").write_text("a file")
    with pytest.raises(InputError, match="'out' must be a folder that can be written"):
        measure(job, job.open(), [5.0], Workers(), tmp_path)
