"""The channel of the edge example, and what both ends make of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tools.tiny_bundle import MODE_SNR
from twophase.link import Receiver, Transmitter


@pytest.mark.parametrize(("kind", "snr_db"), [*(("table", snr_db) for snr_db in MODE_SNR), ("content", 0.0)])
def test_each_mode_arrives(
    radio: ModuleType, edge_bundle: Callable[[str], Path], kind: str, snr_db: float
) -> None:
    bundle = edge_bundle(kind)
    with np.load(bundle / "eval.npz") as data:
        features, labels = data["input"], data["label"]
    transmitter, receiver = Transmitter(bundle, hold=True), Receiver(bundle, hold=True)
    channel = radio.Channel(60.0, False, radio.slot_length(transmitter.manifest), seed=0)
    modes = set()
    for row, sample in enumerate(features):
        sent = transmitter.transmit(sample, snr_db)
        air = channel.carry(sent.iq[0, : sent.count[0]])
        decided = receiver.decide(air.received, 0.01, air.gains, snr_db)
        assert (decided.mode[0], decided.classes[0]) == (sent.mode[0], labels[row])
        modes.add(int(sent.mode[0]))
    assert modes == ({0, 1, 2, 3} if kind == "content" else {MODE_SNR.index(snr_db)})


def test_noise_and_fading_have_the_stated_power_and_follow_from_the_seed(radio: ModuleType) -> None:
    """Means of 20,000 exponentials, held to six standard deviations: false alarm below 1e-8."""
    length = 20_000
    silence, ones = np.zeros(0, np.complex64), np.ones(length, np.complex64)
    noisy, again, other = (radio.Channel(3.0, False, length, seed).carry(silence) for seed in (1, 1, 4))
    assert (noisy.gains == 1).all()
    assert np.mean(np.abs(noisy.received) ** 2) == pytest.approx(10**-0.3, rel=6 / length**0.5)
    np.testing.assert_array_equal(noisy.received, again.received)
    assert (noisy.received != other.received).all()
    faded = radio.Channel(200.0, True, length, seed=2).carry(ones)
    assert np.mean(np.abs(faded.gains) ** 2) == pytest.approx(1.0, rel=6 / length**0.5)
    np.testing.assert_allclose(faded.received, faded.gains, atol=1e-8)


def test_the_receiver_gets_as_much_of_every_frame(radio: ModuleType) -> None:
    channel = radio.Channel(60.0, False, 4, seed=0)
    for sent in (0, 1, 4, 9):
        air = channel.carry(np.ones(sent, np.complex64))
        assert air.received.shape == air.gains.shape == (4,)
        np.testing.assert_allclose(np.abs(air.received), np.arange(4) < sent, atol=0.02)
