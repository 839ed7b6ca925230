"""Ends that go by the SNR of each block: the mode follows the gain that was met, and theory with it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tools.tiny_bundle import CLASSES
from twophase.link.samples import Samples
from twophase.sim.channel.radio import Radio
from twophase.sim.counts import GAIN_BINS_DB
from twophase.sim.point import noise_generator, simulate_point
from twophase.sim.results.points import point_results
from twophase.sim.settings import Settings
from twophase.sim.system import System
from twophase.sim.theory.label_bound import label_accuracy, simplex_success

BLOCK = {"channel": "rayleigh", "coherence": "sample", "known_snr": "block"}
TRIALS = 40


def _gains_db(system: System, samples: Samples, esn0_db: float, trial: int) -> np.ndarray:
    """The power gains of a trial, drawn once more."""
    radio = Radio(Settings(**BLOCK), esn0_db, noise_generator(0, esn0_db, trial, 0))
    radio.draw(len(samples.labels), system.modes.max_symbols)
    return 20 * np.log10(np.abs(radio.true_gains[:, 0]))


def test_the_mode_follows_the_gain_of_the_block(by_snr) -> None:
    system, samples = by_snr
    tally = simulate_point(system, samples, 5.0, Settings(**BLOCK, trials=3))
    expected = np.zeros(len(system.modes), dtype=int)
    for trial in range(3):
        chosen = system.routing.table.choose(5.0 + _gains_db(system, samples, 5.0, trial))
        expected += np.bincount(chosen, minlength=len(system.modes))
    counted = [
        sum(count for (mode, _), count in tally.deployed.frames.items() if mode == number)
        for number in range(len(system.modes))
    ]
    assert counted == expected.tolist()
    assert np.count_nonzero(expected) > 1
    assert tally.deployed.mode_errors == 0
    assert tally.transmissions == 3


def test_gains_are_counted_with_their_modes(by_snr) -> None:
    system, samples = by_snr
    tally = simulate_point(system, samples, 5.0, Settings(**BLOCK, trials=2))
    assert sum(int(counts.sum()) for counts in tally.gains.values()) == 2 * len(samples.labels)
    for (mode, header), counts in tally.gains.items():
        assert header == 0
        met = GAIN_BINS_DB[counts > 0]
        # A bin is a tenth of a dB wide, so that a threshold may lie inside one.
        inside = np.concatenate([system.routing.table.choose(5.0 + met + edge) for edge in (-0.051, 0.051)])
        assert mode in inside.tolist()


def test_bound_and_bit_errors_are_those_of_the_gains_met(by_snr) -> None:
    system, samples = by_snr
    settings = Settings(**BLOCK, trials=TRIALS)
    tally = simulate_point(system, samples, 5.0, settings)
    (point,) = point_results([tally], system.modes, CLASSES, settings)
    delivered, by_frame = [], []
    for trial in range(TRIALS):
        gain_db = _gains_db(system, samples, 5.0, trial)
        for mode in np.unique(chosen := system.routing.table.choose(5.0 + gain_db)):
            met = 5.0 + gain_db[chosen == mode]
            delivered.append(simplex_success(CLASSES, system.modes[int(mode)].symbols, met))
    for counts in tally.gains.values():
        by_frame.append(counts.sum())
    mean = float(np.mean(np.concatenate(delivered)))
    bound = label_accuracy(point.accuracy_noiseless, mean, CLASSES)
    assert point.label_bound == pytest.approx(bound, abs=1e-3)  # bins of a tenth of a dB
    # Bits of a frame err together: at most 12 of them share a gain.  5 sigma of frames that err as one:
    # false alarms in less than 6e-7 of all seeds.
    frames = sum(by_frame)
    spread = 5 * math.sqrt(0.25 / frames)
    assert abs(point.ber - point.ber_theory_usage) < spread


def test_knowing_the_block_avoids_errors_in_its_fades(by_snr) -> None:
    system, samples = by_snr
    points = []
    for known in ("block", "mean"):
        settings = Settings(channel="rayleigh", coherence="sample", known_snr=known, trials=10)
        tally = simulate_point(system, samples, 11.0, settings)
        points.append(point_results([tally], system.modes, CLASSES, settings)[0])
    known, mean = points
    assert len(known.mode_usage) > len(mean.mode_usage) == 1
    # In its fades the link goes back to its robust modes: 6.3 points over twelve seeds, sigma 0.5.
    assert known.accuracy_hard > mean.accuracy_hard + 0.03


def test_a_forced_mode_adapts_to_nothing(by_snr) -> None:
    system, samples = by_snr
    tally = simulate_point(system, samples, 5.0, Settings(**BLOCK, trials=2, mode="4x16qam"))
    assert tally.gains == {}
    assert tally.transmissions == 1
