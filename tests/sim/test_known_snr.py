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
ESN0_DB = 5.0


def _met_db(system: System, samples: Samples, trials: int) -> np.ndarray:
    """The SNR of each frame of each trial: its power gain, drawn once more."""
    met = []
    for trial in range(trials):
        radio = Radio(Settings(**BLOCK), ESN0_DB, noise_generator(0, ESN0_DB, trial, 0))
        radio.draw(len(samples.labels), system.modes.max_symbols)
        met.append(ESN0_DB + 20 * np.log10(np.abs(radio.true_gains[:, 0])))
    return np.concatenate(met)


def test_the_mode_follows_the_gain_of_the_block(by_snr) -> None:
    system, samples = by_snr
    tally = simulate_point(system, samples, ESN0_DB, Settings(**BLOCK, trials=3))
    chosen = system.routing.table.choose(_met_db(system, samples, 3))
    assert len(set(chosen)) > 1
    assert tally.deployed.frames == {(mode, 0): np.count_nonzero(chosen == mode) for mode in set(chosen)}
    assert tally.deployed.mode_errors == 0
    assert tally.transmissions == 3
    # Gains are counted with their modes.
    assert tally.gains.keys() == tally.deployed.frames.keys()
    for key, counts in tally.gains.items():
        assert counts.sum() == tally.deployed.frames[key]
        met = ESN0_DB + GAIN_BINS_DB[counts > 0]
        # A bin is a tenth of a dB wide, so that a threshold may lie inside one.
        inside = (system.routing.table.choose(met + edge) == key[0] for edge in (-0.051, 0.051))
        assert np.logical_or(*inside).all()


def test_bound_and_bit_errors_are_those_of_the_gains_met(by_snr) -> None:
    system, samples = by_snr
    settings = Settings(**BLOCK, trials=40)
    tally = simulate_point(system, samples, ESN0_DB, settings)
    (point,) = point_results([tally], system.modes, CLASSES, settings)
    met = _met_db(system, samples, 40)
    chosen = system.routing.table.choose(met)
    delivered = np.concatenate(
        [
            simplex_success(CLASSES, system.modes[int(mode)].symbols, met[chosen == mode])
            for mode in np.unique(chosen)
        ]
    )
    bound = label_accuracy(point.accuracy_noiseless, float(delivered.mean()), CLASSES)
    assert point.label_bound == pytest.approx(bound, abs=1e-3)  # bins of a tenth of a dB
    # Bits of a frame err together: at most 12 of them share a gain.  5 sigma of frames that err as one:
    # false alarms in less than 6e-7 of all seeds.
    assert abs(point.ber - point.ber_theory_usage) < 5 * math.sqrt(0.25 / len(met))


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
    tally = simulate_point(*by_snr, ESN0_DB, Settings(**BLOCK, trials=2, mode="4x16qam"))
    assert tally.gains == {}
    assert tally.transmissions == 1
