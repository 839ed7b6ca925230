"""Baseband of the edge example: energy, channel, and what the receiving end makes of it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tools.tiny_bundle import MODE_SNR, write_tiny_bundle
from twophase.link.errors import ArtifactError
from twophase.link.runtime import Receiver, Transmitter


def split(bundle: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(bundle / "eval.npz") as data:
        return data["input"], data["label"]


@pytest.mark.parametrize("snr_db", MODE_SNR)
def test_each_mode_arrives_and_has_unit_energy(radio: ModuleType, table_bundle: Path, snr_db: float) -> None:
    features, labels = split(table_bundle)
    transmitter = Transmitter(table_bundle)
    speaker, listener = radio.Speaker(transmitter), radio.Listener(Receiver(table_bundle))
    channel = radio.Channel(60.0, False, radio.slot_length(transmitter.manifest), seed=0)
    expected = transmitter.send(features, snr_db)
    energy = 0.0
    for row, sample in enumerate(features):
        sent, signal = speaker.speak(sample, snr_db)
        assert len(signal) == sent.symbol_count[0] == expected.symbol_count[row]
        energy += float(np.mean(np.abs(signal) ** 2)) / len(features)
        assert listener.decide(channel.carry(signal), snr_db) == (expected.mode[row], labels[row])
    assert energy == pytest.approx(1.0)


@pytest.mark.parametrize("snr_db", [0.0, 12.0])
def test_a_header_tells_what_the_receiver_cannot_know(
    radio: ModuleType, content_bundle: Path, snr_db: float
) -> None:
    features, labels = split(content_bundle)
    transmitter = Transmitter(content_bundle)
    speaker, listener = radio.Speaker(transmitter), radio.Listener(Receiver(content_bundle))
    channel = radio.Channel(60.0, False, radio.slot_length(transmitter.manifest), seed=0)
    modes = set()
    for row, sample in enumerate(features):
        sent, signal = speaker.speak(sample, snr_db)
        assert len(signal) == sent.header_count[0] + sent.symbol_count[0]
        assert listener.decide(channel.carry(signal), snr_db) == (sent.mode[0], labels[row])
        modes.add(int(sent.mode[0]))
    assert modes == {0, 1, 2, 3}


def test_each_end_holds_its_mode(radio: ModuleType, table_bundle: Path) -> None:
    """Estimates that jitter around the threshold at 6 dB by less than the hysteresis of 1.5 dB."""
    features, _ = split(table_bundle)
    speaker, listener = (
        radio.Speaker(Transmitter(table_bundle)),
        radio.Listener(Receiver(table_bundle)),
    )
    channel = radio.Channel(60.0, False, 16, seed=0)
    modes = []
    for estimate in (7.0, 5.0, 6.5, 4.8, 4.0, 7.0, 8.0):
        sent, signal = speaker.speak(features[0], estimate)
        believed, _ = listener.decide(channel.carry(signal), estimate)
        assert believed == sent.mode[0]
        modes.append(believed)
    assert modes == [2, 2, 2, 2, 1, 1, 2]


def test_noise_and_fading_have_the_stated_power(radio: ModuleType) -> None:
    """Means of 20,000 exponentials, held to six standard deviations: false alarm below 1e-8."""
    length = 20_000
    silence, ones = np.zeros(0, np.complex64), np.ones(length, np.complex64)
    heard = radio.Channel(3.0, False, length, seed=1).carry(silence)
    assert (heard.gains == 1).all()
    assert np.mean(np.abs(heard.samples) ** 2) == pytest.approx(10**-0.3, rel=6 / length**0.5)
    faded = radio.Channel(200.0, True, length, seed=2).carry(ones)
    assert np.mean(np.abs(faded.gains) ** 2) == pytest.approx(1.0, rel=6 / length**0.5)
    np.testing.assert_allclose(faded.samples, faded.gains, atol=1e-8)


def test_the_receiver_hears_as_much_of_every_frame(radio: ModuleType) -> None:
    channel = radio.Channel(60.0, False, 4, seed=0)
    for sent in (0, 1, 4, 9):
        heard = channel.carry(np.ones(sent, np.complex64))
        assert heard.samples.shape == heard.gains.shape == (4,)
        np.testing.assert_allclose(np.abs(heard.samples[:sent]), 1, atol=0.02)
        np.testing.assert_allclose(np.abs(heard.samples[sent:]), 0, atol=0.02)


def test_the_same_seed_gives_the_same_noise(radio: ModuleType) -> None:
    silence = np.zeros(0, np.complex64)
    one, again, other = (radio.Channel(0.0, True, 8, seed).carry(silence) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.samples, again.samples)
    assert (one.samples != other.samples).all()


def test_a_bundle_without_energies_is_refused(radio: ModuleType, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", samples=4)
    with pytest.raises(ArtifactError, match=r"no 'training\.symbol_energy'"):
        radio.Speaker(Transmitter(bundle))
    with pytest.raises(ArtifactError, match=r"no 'training\.symbol_energy'"):
        radio.Listener(Receiver(bundle))
