"""What a worker is sent: small, checked where it is opened, known by what its counts depend on."""

from __future__ import annotations

import dataclasses
import logging
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
from twophase.sim.sweep.blocks import Block
from twophase.sim.sweep.job import Job, make_job
from twophase.sim.sweep.measure import clear_blocks, measure

SETTINGS = Settings(trials=4, seed=2, codes=("conv",))


@pytest.fixture(scope="module")
def job(bundle: Path) -> Job:
    return make_job(bundle, None, SETTINGS)


def test_a_block_is_part_of_its_point(job: Job) -> None:
    sent = pickle.loads(pickle.dumps(job))
    assert len(pickle.dumps(job)) < 4000
    first, second = sent(Block("", 5.0, 0, 1)), sent(Block("", 5.0, 1, 3))
    first.merge(second)
    system, _, samples = job.open()
    whole = simulate_point(system, samples, 5.0, SETTINGS)
    assert np.array_equal(first.deployed.correct, whole.deployed.correct)
    assert first.bit_errors == whole.bit_errors
    # Whatever was measured before, a block is the same.
    again = job(Block("", 5.0, 1, 3))
    job(Block("", 7.0, 0, 1))
    assert tally_digest(job(Block("", 5.0, 1, 3))) == tally_digest(again)


def test_a_mode_by_itself_has_no_reference_and_no_baseline(job: Job) -> None:
    tally = job(Block("4x16qam", 5.0, 0, 2))
    assert (tally.references, tally.baselines) == ({}, {})
    assert list(tally.histograms) == [1]


def test_the_key_holds_what_counts_depend_on_and_nothing_else(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(**changed: object) -> str:
        return dataclasses.replace(job, settings=dataclasses.replace(SETTINGS, **changed)).key()

    for same in ({"trials": 9}, {"precision": 0.01}, {"max_trials": 77}, {"tolerance": 0.5}):
        assert key(**same) == job.key()
    others = [
        key(seed=3),
        key(channel="rayleigh"),
        key(csi="pilot", estimator="ls"),
        key(demapper="maxlog"),
        key(codes=()),
        key(mode="4x16qam"),
        dataclasses.replace(job, bundle_sha256="0").key(),
        dataclasses.replace(job, data_sha256="0").key(),
    ]
    before = {job.key(), *others}
    assert len(before) == 9
    # A `git pull` between two runs begins afresh, and so does another numba.
    with monkeypatch.context() as patched:
        patched.setattr("twophase.sim.sweep.job.code_sha256", lambda: "0" * 64)
        assert job.key() not in before
    with monkeypatch.context() as patched:
        patched.setattr("twophase.sim.sweep.job.versions", lambda: versions() | {"numba": "missing"})
        assert job.key() not in before
    # Not where it lies: a bundle that was moved is the same one.
    assert dataclasses.replace(job, bundle=Path("elsewhere")).key() == job.key()


def test_another_bundle_under_the_same_path_is_refused(job: Job, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(job.bundle, copy)
    with pytest.raises(ArtifactError, match=r"link\.json' was altered since this run began"):
        dataclasses.replace(job, bundle=copy, bundle_sha256="0" * 64).open()
    other = tmp_path / "other.npz"
    with np.load(job.data) as held:
        np.savez(other, input=held["input"][:5], label=held["label"][:5])
    mine = make_job(copy, other, SETTINGS)
    assert len(mine.open()[2].labels) == 5
    with np.load(job.data) as held:
        np.savez(other, input=held["input"][:6], label=held["label"][:6])
    with pytest.raises(ArtifactError, match=r"other\.npz' was altered"):
        mine.open()


def test_what_is_missing_is_named(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(ArtifactError, match="no bundle is there"):
        make_job(tmp_path / "absent", None, SETTINGS)
    with pytest.raises(ArtifactError, match=r"absent\.npz' is missing"):
        make_job(bundle, tmp_path / "absent.npz", SETTINGS)
    with pytest.raises(InputError, match="'mode' must be one of"):
        make_job(bundle, None, Settings(mode="8x8qam")).open()


def test_what_this_process_has_finished_is_no_interrupted_run(
    job: Job, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = job.open()
    first = measure(job, opened, [5.0], Workers(), tmp_path)
    held = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    # As with --bundle X --compare X: the blocks are used again, and nothing is said.
    second = measure(job, opened, [5.0], Workers(), tmp_path)
    assert caplog.text == ""
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")} == held
    assert tally_digest(first.link[0]) == tally_digest(second.link[0])
    clear_blocks(tmp_path, [job, job])
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_is_told_and_leaves_no_lock(
    job: Job, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(points: object, rule: object, executor: object, store: Any, progress: object) -> None:
        block = Block("", 5.0, 0, 4)
        store.save(block, job(block))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("twophase.sim.sweep.measure.run_sweep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            measure(job, job.open(), [5.0], Workers(), tmp_path)
    assert "1 finished blocks are kept" in caplog.text
    assert list(tmp_path.rglob(".lock")) == []
    with caplog.at_level(logging.WARNING):
        measure(job, job.open(), [5.0], Workers(), tmp_path)
    assert "taking up an interrupted run: 1 finished blocks" in caplog.text
    clear_blocks(tmp_path, [job])
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
