"""What both ends take the SNR for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tools.tiny_bundle import TABLE
from twophase.link.routing import Routing
from twophase.sim.point import noise_generator
from twophase.sim.receiver import SnrEstimates, estimate_generator
from twophase.sim.settings import Settings

ROUTING = Routing("snr", TABLE, 0.0, ())


def _of_trial(trial: int = 0, samples: int = 4000, **settings) -> tuple[np.ndarray, np.ndarray]:
    return SnrEstimates(5.0, samples, ROUTING, Settings(**settings)).of_trial(trial)


def test_without_an_error_both_ends_know_the_snr() -> None:
    estimates = SnrEstimates(5.0, 3, ROUTING, Settings())
    assert not estimates.vary
    for end in estimates.of_trial(0):
        assert end.dtype == np.float32
        assert end.tolist() == [5.0, 5.0, 5.0]


@pytest.mark.parametrize(("at", "receiver"), [("transmitter", 5.0), ("both", 2.0)])
def test_a_bias_is_the_transmitters_or_shared(at, receiver) -> None:
    sent, heard = _of_trial(snr_error_bias_db=-3.0, snr_error_at=at)
    assert set(sent) == {2.0}
    assert set(heard) == {receiver}


def test_jitter_is_independent_at_each_end() -> None:
    count = 4000
    sent, heard = _of_trial(samples=count, snr_error_bias_db=1.0, snr_error_jitter_db=2.0)
    # 5 sigma each: false alarms in less than 4e-6 of all seeds.
    for end, mean in ((sent, 6.0), (heard, 5.0)):
        assert abs(end.mean() - mean) < 5 * 2.0 / count**0.5
        assert abs(end.std() - 2.0) < 5 * 2.0 / (2 * count) ** 0.5
    assert abs(np.corrcoef(sent, heard)[0, 1]) < 5 / count**0.5


def test_jitter_at_both_ends_is_one_and_the_same() -> None:
    sent, heard = _of_trial(snr_error_jitter_db=2.0, snr_error_at="both")
    assert np.array_equal(sent, heard)
    assert sent.std() > 1.0


def test_trials_differ_and_repeat() -> None:
    first, second = (_of_trial(trial, snr_error_jitter_db=1.0)[0] for trial in (0, 1))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, _of_trial(0, snr_error_jitter_db=1.0)[0])
    assert not np.array_equal(first, _of_trial(0, snr_error_jitter_db=1.0, seed=1)[0])


def test_estimates_and_noise_do_not_share_random_numbers() -> None:
    drawn = estimate_generator(0, 5.0, 2).standard_normal(50)
    for block in range(3):
        assert not np.intersect1d(drawn, noise_generator(0, 5.0, 2, block).standard_normal(50)).size


def test_each_end_holds_its_own_estimate_within_a_trial() -> None:
    table = Routing("table", TABLE, 1.5, ())
    settings = Settings(snr_error_jitter_db=0.5)
    estimates = SnrEstimates(6.2, 200, table, settings)
    held = [estimates.of_trial(trial) for trial in range(3)]
    free = SnrEstimates(6.2, 200, Routing("table", TABLE, 0.0, ()), settings)
    raw = [free.of_trial(trial) for trial in range(3)]
    for end, trial in itertools.product((0, 1), range(3)):
        step = None
        for kept, estimate in zip(held[trial][end], raw[trial][end], strict=True):
            low, high = (-np.inf, np.inf) if step is None else TABLE.bounds(step)
            if not low - 1.5 < estimate < high + 1.5 or step is None:
                step = int(TABLE.choose(estimate))
            assert TABLE.choose(kept) == step


def test_on_a_threshold_hysteresis_saves_changes_of_mode_but_no_disagreement() -> None:
    """Two thousand sessions of twenty frames at the threshold of 6 dB, each end with an error of its own."""
    settings, sessions = Settings(snr_error_jitter_db=0.4), 2000
    mismatch, changes = {}, {}
    for hysteresis_db in (0.0, 1.0):
        estimates = SnrEstimates(6.0, 20, Routing("table", TABLE, hysteresis_db, ()), settings)
        ends = np.array(
            [[TABLE.choose(end) for end in estimates.of_trial(trial)] for trial in range(sessions)]
        )
        mismatch[hysteresis_db] = (ends[:, 0] != ends[:, 1]).mean()
        changes[hysteresis_db] = (np.diff(ends[:, 0]) != 0).mean()
    # Each end sees either side with even odds.  A session of held ends counts as one draw; 5 sigma: false
    # alarms in less than 1.2e-6 of all seeds.
    for value in mismatch.values():
        assert abs(value - 0.5) < 5 * 0.5 / sessions**0.5
    assert changes[1.0] < 0.05 < 0.4 < changes[0.0]


def test_an_end_does_not_remember_the_other_ones_step() -> None:
    table = Routing("table", TABLE, 1.5, ())
    estimates = SnrEstimates(6.25, 3, table, Settings(snr_error_bias_db=-1.0))
    sent, heard = estimates.of_trial(0)
    # Within the hysteresis of one another, but each end starts by what it sees itself.
    assert sent.tolist() == [5.25] * 3
    assert heard.tolist() == [6.25] * 3
