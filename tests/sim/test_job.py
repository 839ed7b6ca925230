"""What a worker is sent: small, checked where it is opened, and known by what its counts depend on."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from twophase.link.errors import ArtifactError, InputError
from twophase.sim.job import Job, make_job
from twophase.sim.settings import Settings
from twophase.sim.sweep import simulate_point
from twophase.sim.tally_arrays import tally_digest
from twophase.sim.work.blocks import Block

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


def test_a_mode_by_itself_has_no_reference_and_no_companion(job: Job) -> None:
    tally = job(Block("4x16qam", 5.0, 0, 2))
    assert (tally.references, tally.companions) == ({}, {})
    assert list(tally.histograms) == [1]


def test_the_key_holds_what_counts_depend_on_and_nothing_else(job: Job) -> None:
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
    assert len({job.key(), *others}) == 9
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
