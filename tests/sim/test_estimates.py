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


@pytest.mark.parametrize(
    ("bias", "at", "taken"),
    [(0.0, "transmitter", (5.0, 5.0)), (-3.0, "transmitter", (2.0, 5.0)), (-3.0, "both", (2.0, 2.0))],
)
def test_a_bias_is_the_transmitters_or_shared(bias, at, taken) -> None:
    settings = Settings(snr_error_bias_db=bias, snr_error_at=at)
    estimates = SnrEstimates(5.0, 3, ROUTING, settings)
    assert not estimates.vary
    for end, expected in zip(estimates.of_trial(0), taken, strict=True):
        assert end.dtype == np.float32
        assert end.tolist() == [expected] * 3


def test_jitter_is_independent_at_each_end_or_shared() -> None:
    count = 4000
    sent, received = _of_trial(samples=count, snr_error_bias_db=1.0, snr_error_jitter_db=2.0)
    # 5 sigma each: false alarms in less than 4e-6 of all seeds.
    for end, mean in ((sent, 6.0), (received, 5.0)):
        assert abs(end.mean() - mean) < 5 * 2.0 / count**0.5
        assert abs(end.std() - 2.0) < 5 * 2.0 / (2 * count) ** 0.5
    assert abs(np.corrcoef(sent, received)[0, 1]) < 5 / count**0.5
    shared = _of_trial(samples=count, snr_error_jitter_db=2.0, snr_error_at="both")
    assert np.array_equal(*shared)
    assert shared[0].std() > 1.0


def test_trials_and_seeds_differ_and_repeat_and_share_nothing_with_noise() -> None:
    first, second = (_of_trial(trial, snr_error_jitter_db=1.0)[0] for trial in (0, 1))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, _of_trial(0, snr_error_jitter_db=1.0)[0])
    assert not np.array_equal(first, _of_trial(0, snr_error_jitter_db=1.0, seed=1)[0])
    drawn = estimate_generator(0, 5.0, 2).standard_normal(50)
    for block in range(3):
        assert not np.intersect1d(drawn, noise_generator(0, 5.0, 2, block).standard_normal(50)).size


def test_each_end_holds_its_own_estimate_within_a_trial() -> None:
    settings = Settings(snr_error_jitter_db=0.5)
    held, free = (
        SnrEstimates(6.2, 200, Routing("table", TABLE, hysteresis_db, ()), settings)
        for hysteresis_db in (1.5, 0.0)
    )
    for trial, end in itertools.product(range(3), (0, 1)):
        step = None
        for kept, estimate in zip(held.of_trial(trial)[end], free.of_trial(trial)[end], strict=True):
            low, high = (-np.inf, np.inf) if step is None else TABLE.bounds(step)
            if not low - 1.5 < estimate < high + 1.5 or step is None:
                step = int(TABLE.choose(estimate))
            assert TABLE.choose(kept) == step
    # Within the hysteresis of one another, but each end starts by what it sees itself.
    apart = SnrEstimates(6.25, 3, Routing("table", TABLE, 1.5, ()), Settings(snr_error_bias_db=-1.0))
    assert [end.tolist() for end in apart.of_trial(0)] == [[5.25] * 3, [6.25] * 3]
