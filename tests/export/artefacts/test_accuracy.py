"""The exporter's accuracy is that of the simulator, from other noise of the same law."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tools.tiny_bundle import LINK, ONE_MODE, write_tiny_bundle
from twophase.export.artefacts.accuracy import measure_accuracy, trials_for
from twophase.link.errors import InputError, VerificationError
from twophase.link.manifest import Accuracy
from twophase.link.receiver import Receiver
from twophase.link.samples import load_samples
from twophase.link.transmitter import Transmitter
from twophase.sim.point import simulate_point
from twophase.sim.settings import Settings
from twophase.sim.system import load_system

SNRS_DB = (-4.0, 4.0, 12.0)
TRIALS = 30


@pytest.fixture(scope="module", params=["snr", "content", "fixed"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "bundle"
    return write_tiny_bundle(
        folder, router=request.param, link=ONE_MODE if request.param == "fixed" else LINK
    )


def measured(bundle: Path, sender=Transmitter, **changes) -> Accuracy:
    with np.load(bundle / "eval.npz") as split:
        given = {"features": split["input"], "labels": split["label"]}
    given |= {"trials": 3, "seed": 0, "esn0_db": SNRS_DB} | changes
    features, labels = given.pop("features"), given.pop("labels")
    return measure_accuracy(sender(bundle), Receiver(bundle), features, labels, **given)


def test_it_is_the_accuracy_that_the_simulator_measures(bundle: Path) -> None:
    """Nine comparisons at five standard deviations, of which the estimate is an upper bound: a false alarm
    in fewer than 6 of a million runs."""
    accuracy = measured(bundle, trials=TRIALS)
    assert (accuracy.samples, accuracy.trials, accuracy.esn0_db) == (240, TRIALS, SNRS_DB)
    system, manifest = load_system(bundle)
    samples = load_samples(bundle / "eval.npz", manifest)
    total = accuracy.samples * TRIALS
    for esn0_db, correct, symbols in zip(SNRS_DB, accuracy.correct, accuracy.symbols, strict=True):
        deployed = simulate_point(system, samples, esn0_db, Settings(trials=TRIALS, seed=1)).deployed
        theirs = int(deployed.correct.sum())
        share = (correct + theirs) / (2 * total)
        assert abs(correct - theirs) <= 5.0 * math.sqrt(2 * total * share * (1 - share)) + 1
        used = [
            (manifest.modes[mode].symbols + header) * count
            for (mode, header), count in deployed.frames.items()
        ]
        assert symbols == pytest.approx(sum(used) / deployed.frames.total())
    # at the lowest SNR something goes wrong, at the highest hardly anything
    assert accuracy.correct[0] / total < 0.9 < 0.95 < accuracy.correct[-1] / total


def test_the_same_seed_counts_the_same_and_a_point_does_not_depend_on_the_others(bundle: Path) -> None:
    whole = measured(bundle)
    assert measured(bundle) == whole
    single = measured(bundle, esn0_db=SNRS_DB[1:2])
    assert (single.correct[0], single.symbols[0]) == (whole.correct[1], whole.symbols[1])
    others = measured(bundle, seed=1)
    assert others.correct != whole.correct
    assert others.symbols == whole.symbols


def test_points_that_a_constellation_does_not_have_are_told(bundle: Path) -> None:
    class Wrong(Transmitter):
        def send(self, features, snr_db, mode=None):
            sent = super().send(features, snr_db, mode)
            return replace(sent, symbols=sent.symbols + 16)

    with pytest.raises(VerificationError, match=r"'symbols' must lie in 0\.\."):
        measured(bundle, Wrong)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"trials": 0}, "'trials' must be at least 1, not 0"),
        ({"seed": -1}, "'seed' must be at least 0, not -1"),
        ({"labels": [0]}, "'labels' must have shape"),
        ({"features": np.zeros((0, 5)), "labels": []}, "'labels' must have shape"),
    ],
)
def test_bad_input_is_refused(bundle: Path, change, told: str) -> None:
    with pytest.raises(InputError, match=told):
        measured(bundle, **change)


def test_many_samples_are_sent_fewer_times() -> None:
    assert [trials_for(samples) for samples in (1, 1000, 4000, 20_000, 10**6)] == [20, 20, 5, 1, 1]
