"""What both ends take the SNR for, and receivers that see nothing but their own sample."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from tools.tiny_bundle import LINK, TABLE
from twophase.link.demap import llr_exact
from twophase.link.routing import Hysteresis, Routing
from twophase.sim.channel.radio import Arrival, Radio
from twophase.sim.frames import framed, payload_stream, transmit
from twophase.sim.point import noise_generator
from twophase.sim.receiver import ReceivingEnd, SnrEstimates, estimate_generator
from twophase.sim.settings import Settings

MODES = LINK.modes


def _of_trial(trial: int = 0, samples: int = 4000, hysteresis_db: float = 0.0, **settings):
    routing = Routing("table", TABLE, hysteresis_db, ())
    return SnrEstimates(5.0, samples, routing, Settings(**settings)).of_trial(trial)


@pytest.mark.parametrize(
    ("bias", "at", "transmitter", "receiver"),
    [(0.0, "transmitter", 5.0, 5.0), (-3.0, "transmitter", 2.0, 5.0), (-3.0, "both", 2.0, 2.0)],
)
def test_a_bias_is_the_transmitters_or_shared(bias, at, transmitter, receiver) -> None:
    ends = _of_trial(samples=3, snr_error_bias_db=bias, snr_error_at=at)
    for end, expected in zip(ends, (transmitter, receiver), strict=True):
        assert end.dtype == np.float32
        assert end.tolist() == [expected] * 3


def test_jitter_is_independent_at_each_end_unless_shared_and_repeats_by_trial_and_seed() -> None:
    count = 4000
    jitter = {"snr_error_bias_db": 1.0, "snr_error_jitter_db": 2.0}
    sent, received = _of_trial(samples=count, **jitter)
    # 5 sigma each: false alarms in less than 4e-6 of all seeds.
    for end, mean in ((sent, 6.0), (received, 5.0)):
        assert abs(end.mean() - mean) < 5 * 2.0 / count**0.5
        assert abs(end.std() - 2.0) < 5 * 2.0 / (2 * count) ** 0.5
    assert abs(np.corrcoef(sent, received)[0, 1]) < 5 / count**0.5
    assert np.array_equal(*_of_trial(snr_error_at="both", **jitter))
    assert np.array_equal(sent, _of_trial(**jitter)[0])
    assert not np.array_equal(sent, _of_trial(1, **jitter)[0])
    assert not np.array_equal(sent, _of_trial(seed=1, **jitter)[0])


def test_estimates_and_noise_do_not_share_random_numbers() -> None:
    drawn = estimate_generator(0, 5.0, 2).standard_normal(50)
    for block in range(3):
        assert not np.intersect1d(drawn, noise_generator(0, 5.0, 2, block).standard_normal(50)).size


@pytest.mark.parametrize("trial", [0, 1])
def test_each_end_holds_its_own_estimates_from_the_start_of_each_trial(trial: int) -> None:
    jitter = {"samples": 200, "snr_error_bias_db": 1.1, "snr_error_jitter_db": 0.5}
    held, free = (_of_trial(trial, hysteresis_db=held_db, **jitter) for held_db in (1.5, 0.0))
    for kept, estimates in zip(held, free, strict=True):
        assert np.array_equal(kept, Hysteresis(TABLE, 1.5).hold(estimates))
    assert not np.array_equal(held[0], free[0])


@pytest.mark.parametrize("batch", [1, 64])
def test_what_is_received_does_not_depend_on_order_or_batch(content, batch) -> None:
    system, samples = content
    rng = np.random.default_rng(5)
    count = len(samples.labels)
    # Estimates on both sides of the header's step, so that codes, lengths and modes mix in a batch.
    transmitter_db, receiver_db = (5 + rng.standard_normal((2, count))).astype(np.float32)
    payload = payload_stream(transmit(system.transmitter, samples.features, transmitter_db, MODES), MODES)
    frames = framed(payload, system.routing.header_of(len(MODES)), transmitter_db)
    radio = Radio(Settings(channel="rayleigh", coherence="sample"), 5.0, rng)
    radio.draw(*frames.points.shape)
    arrival = radio.send(frames.points)
    end = ReceivingEnd(system.routing, MODES, llr_exact, 100.0)

    def received(rows: np.ndarray) -> tuple[np.ndarray, ...]:
        part = Arrival(*(getattr(arrival, entry.name)[rows] for entry in fields(arrival)))
        decided = end.receive(system.receiver, part, frames.energy, receiver_db[rows])
        return decided.mode, decided.llr, decided.classes, decided.indices

    everything = received(np.arange(count))
    assert np.count_nonzero(everything[0] != frames.mode) > 10
    order = rng.permutation(count)
    pieces = [received(order[start : start + batch]) for start in range(0, count, batch)]
    for whole, parts in zip(everything, zip(*pieces, strict=True), strict=True):
        assert np.array_equal(whole[order], np.concatenate(parts))
