"""The exporter's accuracy is that of the simulator, from other noise of the same law."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tools.tiny_bundle import ONE_MODE, write_tiny_bundle
from twophase.export.artefacts.accuracy import measure_accuracy, trials_for
from twophase.link.errors import InputError, VerificationError
from twophase.link.manifest import Accuracy
from twophase.link.receiver import Receiver
from twophase.link.samples import load_samples
from twophase.link.transmitter import Transmitter
from twophase.sim.point import simulate_point
from twophase.sim.settings import Settings
from twophase.sim.system import load_system

SNRS_DB = (-4.0, 1.0, 4.0, 8.0, 12.0)
TRIALS = 30


@pytest.fixture(scope="module", params=["snr", "content"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "bundle"
    return write_tiny_bundle(folder, router=request.param)


def measured(
    bundle: Path, snrs_db: tuple[float, ...] = SNRS_DB, trials: int = TRIALS, seed: int = 0
) -> Accuracy:
    with np.load(bundle / "eval.npz") as split:
        features, labels = split["input"], split["label"]
    sender, receiver = Transmitter(bundle), Receiver(bundle)
    return measure_accuracy(sender, receiver, features, labels, trials=trials, seed=seed, esn0_db=snrs_db)


def test_it_is_the_accuracy_that_the_simulator_measures(bundle: Path) -> None:
    """Ten comparisons at five standard deviations, of which the estimate is an upper bound: a false alarm
    in fewer than 6 of a million runs."""
    accuracy = measured(bundle)
    assert (accuracy.samples, accuracy.trials, accuracy.esn0_db) == (240, TRIALS, SNRS_DB)
    system, manifest = load_system(bundle)
    samples = load_samples(bundle / "eval.npz", manifest.input_shape, len(manifest.classes))
    shares = []
    for esn0_db, correct, symbols in zip(SNRS_DB, accuracy.correct, accuracy.symbols, strict=True):
        tally = simulate_point(system, samples, esn0_db, Settings(trials=TRIALS, seed=1))
        total = accuracy.samples * TRIALS
        theirs = int(tally.deployed.correct.sum())
        share = (correct + theirs) / (2 * total)
        assert abs(correct - theirs) <= 5.0 * math.sqrt(2 * total * share * (1 - share)) + 1
        frames = tally.deployed.frames
        used = sum(
            (manifest.modes[mode].symbols + header) * count for (mode, header), count in frames.items()
        )
        assert symbols == pytest.approx(used / frames.total())
        shares.append(correct / total)
    # at the lowest SNR something goes wrong, at the highest hardly anything
    assert shares[0] < 0.9 < 0.95 < shares[-1]


def test_the_same_seed_counts_the_same_and_a_point_does_not_depend_on_the_others(bundle: Path) -> None:
    whole = measured(bundle, trials=3)
    assert measured(bundle, trials=3) == whole
    single = measured(bundle, (SNRS_DB[1],), trials=3)
    assert (single.correct[0], single.symbols[0]) == (whole.correct[1], whole.symbols[1])
    others = measured(bundle, trials=3, seed=1)
    assert others.correct != whole.correct
    assert others.symbols == whole.symbols


def test_one_mode(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", link=ONE_MODE)
    accuracy = measured(bundle, (30.0,), trials=2)
    # without noise the class with the best score is decided for
    with np.load(bundle / "eval.npz") as split:
        right = int((split["input"][:, :4].argmax(axis=1) == split["label"]).sum())
    assert accuracy.correct == (2 * right,)
    assert accuracy.symbols == (float(ONE_MODE.modes[0].symbols),)


def test_points_that_a_constellation_does_not_have_are_told(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", link=ONE_MODE)

    class Wrong(Transmitter):
        def send(self, features, snr_db, mode=None):
            sent = super().send(features, snr_db, mode)
            return replace(sent, symbols=sent.symbols + 16)

    with pytest.raises(VerificationError, match=r"'symbols' must lie in 0\.\.15"):
        measure_accuracy(
            Wrong(bundle), Receiver(bundle), np.zeros((2, 5)), [0, 1], trials=1, seed=0, esn0_db=(5.0,)
        )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"trials": 0}, "'trials' must be at least 1, not 0"),
        ({"seed": -1}, "'seed' must be at least 0, not -1"),
        ({"labels": [0]}, "'labels' must have shape"),
        ({"features": np.zeros((0, 5)), "labels": []}, "'labels' must have shape"),
    ],
)
def test_bad_input_is_refused(tmp_path: Path, change, told: str) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", link=ONE_MODE)
    given = {"features": np.zeros((2, 5)), "labels": [0, 1], "trials": 1, "seed": 0, "esn0_db": (5.0,)}
    arguments = given | change
    features, labels = arguments.pop("features"), arguments.pop("labels")
    with pytest.raises(InputError, match=told):
        measure_accuracy(Transmitter(bundle), Receiver(bundle), features, labels, **arguments)


def test_many_samples_are_sent_fewer_times() -> None:
    assert [trials_for(samples) for samples in (1, 540, 1000, 4000, 20_000, 10**6)] == [20, 20, 20, 5, 1, 1]
