"""The data path: modes mixed in one batch, energy charged, noise shared, no sample that sees another."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from tools.tiny_bundle import CLASSES, LINK, write_tiny_bundle
from twophase.link.constellation import qam
from twophase.link.demap import llr_bruteforce, llr_exact
from twophase.link.errors import ArtifactError
from twophase.link.modem import Transmission, group_by_mode, payload_llr
from twophase.link.samples import Samples, load_samples
from twophase.link.transmitter import SoftTransmitter
from twophase.sim import frames
from twophase.sim.channel.radio import Radio
from twophase.sim.frames import payload_stream, soft_stream, transmit
from twophase.sim.point import _NOISELESS_DB, noise_generator, simulate_point
from twophase.sim.receiver import decide
from twophase.sim.results.points import point_results
from twophase.sim.settings import Settings
from twophase.sim.system import SoftReference, System, load_system
from twophase.sim.theory.rates import ber_for_usage

MODES = LINK.modes


def test_the_stream_has_unit_energy_and_the_receiver_knows_the_gain(system, samples) -> None:
    sent = transmit(system.transmitter, samples.features, 10.0, MODES)
    stream = payload_stream(sent, MODES)
    used = np.arange(MODES.max_symbols) < sent.symbol_count[:, None]
    assert len(np.unique(sent.mode)) == len(MODES) == 4
    assert np.mean(np.abs(stream.points[used]) ** 2) == pytest.approx(1.0)
    assert not stream.points[~used].any()
    unscaled = np.concatenate(
        [
            qam(mode.order).points[sent.symbols[rows, : mode.symbols]].ravel()
            for mode, rows in group_by_mode(sent.mode, MODES)
        ]
    )
    assert stream.energy == pytest.approx(np.mean(np.abs(unscaled) ** 2))
    # The tiny codes do not use the points equally often: there is an energy to charge.
    assert abs(stream.energy - 1) > 0.01
    # Undisturbed, the gain brings every symbol back onto its point: LLRs spell the bits.
    gains = np.full(stream.points.shape, 1 / math.sqrt(stream.energy))
    llr = payload_llr(stream.points, 1e-3, gains, group_by_mode(sent.mode, MODES), MODES.max_bits, 100.0)
    inside = np.arange(MODES.max_bits) < sent.bit_count[:, None]
    assert np.array_equal(llr[inside] > 0, sent.bits[inside].astype(bool))
    assert not llr[~inside].any()


@pytest.mark.parametrize("channel", ["awgn", "rayleigh"])
def test_mixed_modes_equal_sample_by_sample(system, samples, channel) -> None:
    sent = transmit(system.transmitter, samples.features, 4.0, MODES)
    stream = payload_stream(sent, MODES)
    radio = Radio(Settings(channel=channel), 4.0, np.random.default_rng(0))
    radio.draw(*stream.points.shape)
    received = radio.send(stream.points).received
    gains = radio.true_gains / math.sqrt(stream.energy)
    llr = payload_llr(received, 0.4, gains, group_by_mode(sent.mode, MODES), MODES.max_bits, 100.0)
    classes, indices = decide(system.receiver, llr, sent.mode, group_by_mode(sent.mode, MODES))
    for row in range(0, len(sent.mode), 7):
        mode = MODES[int(sent.mode[row])]
        alone = llr_bruteforce(
            received[row, : mode.symbols], qam(mode.order).points, 0.4, gains[row, : mode.symbols]
        )
        padded = np.zeros(MODES.max_bits)
        padded[: mode.channel_bits] = alone
        np.testing.assert_allclose(llr[row], padded, rtol=1e-9, atol=1e-9)
        reception = system.receiver.receive(padded, sent.mode[row])
        assert reception.classes[0] == classes[row]
        assert np.array_equal(reception.indices[0], indices[row])


def test_a_point_is_the_same_in_any_grid(system, samples) -> None:
    settings = Settings(trials=2, seed=3)
    first = simulate_point(system, samples, 5.0, settings)
    simulate_point(system, samples, 6.0, settings)
    again = simulate_point(system, samples, 5.0, settings)
    assert np.array_equal(first.deployed.correct, again.deployed.correct)
    assert (first.bit_errors, first.abs_llr) == (again.bit_errors, again.abs_llr)
    other = simulate_point(system, samples, 5.0, dataclasses.replace(settings, seed=4))
    assert other.bit_errors != first.bit_errors or other.abs_llr != first.abs_llr


def test_noise_differs_between_points_trials_and_blocks() -> None:
    keys = [
        (0, 5.0, 0, 0),
        (1, 5.0, 0, 0),
        (0, 5.000001, 0, 0),
        (0, -5.0, 0, 0),
        (0, 5.0, 1, 0),
        (0, 5.0, 0, 1),
    ]
    draws = {noise_generator(*key).random() for key in keys}
    assert len(draws) == len(keys)
    assert noise_generator(0, 0.0, 2, 3).random() == noise_generator(0, -0.0, 2, 3).random()


def test_more_samples_than_a_block(system, samples, monkeypatch) -> None:
    whole = simulate_point(system, samples, 8.0, Settings(trials=3))
    monkeypatch.setattr(frames, "BLOCK", 50)
    blocks = simulate_point(system, samples, 8.0, Settings(trials=3))
    assert blocks.bits_sent == whole.bits_sent
    assert blocks.codewords_sent == whole.codewords_sent
    assert np.array_equal(blocks.noiseless_correct, whole.noiseless_correct)
    assert blocks.deployed.energy == whole.deployed.energy
    # Other noise, the same law: 5 sigma of the difference of two error counts.
    assert abs(blocks.bit_errors - whole.bit_errors) < 5 * math.sqrt(2 * 4 * whole.bit_errors)


@pytest.mark.parametrize(("channel", "esn0_db"), [("awgn", 7.0), ("rayleigh", 7.0), ("awgn", 12.0)])
def test_bit_errors_meet_theory_at_the_measured_energy(system, samples, channel, esn0_db) -> None:
    trials = 150
    tally = simulate_point(system, samples, esn0_db, Settings(channel=channel, trials=trials))
    point = point_results([tally], MODES, CLASSES, Settings(channel=channel, trials=trials))[0]
    # A QAM axis may err in two bits at once, so the count's variance is at most doubled.  4.5 sigma of that:
    # a false alarm in less than 2e-5 of all seeds.
    expected = point.ber_theory_usage * point.bits_sent
    assert expected > 300
    assert abs(point.bit_errors - expected) < 4.5 * math.sqrt(2 * expected)
    # Not charged for its energy the constellation would be seen at another SNR; the test can tell.
    uncharged = sum(
        float(ber_for_usage(counts, MODES[number].order, esn0_db, channel))
        * counts.sum()
        * MODES[number].bits_per_symbol
        * trials
        for number, counts in tally.histograms.items()
    )
    assert abs(uncharged - expected) > 0.01 * expected


class _HardPointsAsSoft:
    """A soft transmitter that sends the deployed one's points, weaker by a factor."""

    def __init__(self, system: System, factor: float) -> None:
        self._system, self._factor = system, factor

    def send(self, features, snr_db, mode=None):
        sent = self._system.transmitter.send(features, snr_db, mode)
        points = np.zeros(sent.symbols.shape, dtype=complex)
        for entry, rows in group_by_mode(sent.mode, MODES):
            points[rows, : entry.symbols] = qam(entry.order).points[sent.symbols[rows, : entry.symbols]]
            points[rows, entry.symbols :] = 7.0  # behind the symbols: must never reach the air
        return sent.mode, self._factor * points


@pytest.mark.parametrize("channel", ["awgn", "rayleigh"])
def test_soft_goes_through_the_same_air(system, samples, channel) -> None:
    twin = SoftReference("twin", "", _HardPointsAsSoft(system, 1.0), system.receiver)
    both = dataclasses.replace(system, references=(twin,))
    told = simulate_point(both, samples, 1.0, Settings(channel=channel, trials=5, header="ideal"))
    assert 0 < told.deployed.correct.sum() < told.deployed.correct.size * 5
    assert np.array_equal(told.references["twin"].correct, told.deployed.correct)
    # With a real header the deployed link mistakes some modes; its references are told theirs.
    coded = simulate_point(both, samples, 1.0, Settings(channel=channel, trials=5))
    assert coded.deployed.mode_errors > 0
    assert coded.references["twin"].mode_errors == 0
    assert coded.references["twin"].correct.sum() > coded.deployed.correct.sum()


class _Inner:
    """Sends the weakest point of 16-QAM only, in mode 1: an average energy of 0.2."""

    def send(self, features, snr_db, mode=None) -> Transmission:
        count, inner = len(features), MODES[1]
        assert (inner.order, inner.symbols, inner.channel_bits) == (16, 2, 8)
        return Transmission(
            mode=np.ones(count, dtype=np.int64),
            indices=np.zeros((count, MODES.max_tokens), dtype=np.int64),
            bits=np.zeros((count, MODES.max_bits), dtype=np.uint8),
            symbols=np.zeros((count, MODES.max_symbols), dtype=np.int64),
            bit_count=np.full(count, inner.channel_bits),
            symbol_count=np.full(count, inner.symbols),
            header=np.zeros((count, 0), dtype=np.int64),
            header_count=np.zeros(count, dtype=np.int64),
        )


class _Recording:
    """A receiver that keeps what it hears."""

    def __init__(self, receiver) -> None:
        self._receiver = receiver
        self.heard: list[np.ndarray] = []

    def receive(self, llr, mode):
        self.heard.append(np.array(llr))
        return self._receiver.receive(llr, mode)


@pytest.mark.parametrize("channel", ["awgn", "rayleigh"])
def test_each_receiver_hears_its_own_stream_at_its_true_scale(system, samples, channel) -> None:
    deployed, own = _Recording(system.receiver), _Recording(system.receiver)
    weak = dataclasses.replace(system, transmitter=_Inner(), receiver=deployed)
    weak = dataclasses.replace(
        weak, references=(SoftReference("twin", "", _HardPointsAsSoft(weak, 0.5), own),)
    )
    esn0_db, noise_var = 3.0, 10**-0.3
    settings = Settings(channel=channel, trials=1, seed=8, header="ideal")
    tally = simulate_point(weak, samples, esn0_db, settings)
    assert tally.deployed.energy == pytest.approx(0.2)
    assert tally.references["twin"].energy == pytest.approx(0.05)
    # Undisturbed first, then one trial; the twin's own receiver hears the trial only.
    undisturbed, disturbed = np.split(np.concatenate(deployed.heard), 2)
    twin = np.concatenate(own.heard)
    assert len(undisturbed) == len(disturbed) == len(twin) == len(samples.labels)
    radio = Radio(Settings(channel=channel), esn0_db, noise_generator(8, esn0_db, 0, 0))
    radio.draw(len(samples.labels), MODES.max_symbols)
    sent = np.zeros((len(samples.labels), MODES.max_symbols), dtype=complex)
    sent[:, :2] = qam(16).points[0] / math.sqrt(0.2)
    received = radio.send(sent).received[:, :2]
    # The same model put another way: not the gain but the constellation carries the scale.
    for heard, energy in ((disturbed, 0.2), (twin, 0.05)):
        points = qam(16).points / math.sqrt(energy)
        expected = llr_bruteforce(received, points, noise_var, radio.true_gains[:, :2])
        np.testing.assert_allclose(heard[:, :8], expected, rtol=1e-9, atol=1e-9)
    # Undisturbed, the receiver is sure of every bit, whatever the SNR of the point.
    assert np.array_equal(undisturbed[:, :8], np.full((len(samples.labels), 8), -100.0))


@pytest.mark.parametrize("trials", [1, 3])
def test_mean_abs_llr_is_over_all_bits_of_all_trials(system, samples, trials) -> None:
    deployed = _Recording(system.receiver)
    settings = Settings(trials=trials, header="ideal")
    tally = simulate_point(dataclasses.replace(system, receiver=deployed), samples, 1.0, settings)
    # One call for each mode in a batch: first all undisturbed ones, then those of the trials.
    assert len(deployed.heard) == len(MODES) * (1 + trials)
    heard = np.concatenate(deployed.heard[len(MODES) :])
    bits = sum(MODES[int(wish)].channel_bits for wish in samples.features[:, -1])
    point = point_results([tally], MODES, CLASSES, settings)[0]
    assert point.bits_sent == trials * bits
    assert point.mean_abs_llr == pytest.approx(np.abs(heard).sum() / (trials * bits))


@pytest.mark.parametrize("order", [4, 16, 64, 256])
def test_undisturbed_symbols_saturate_every_llr(order) -> None:
    points = qam(order).points
    llr = llr_exact(points, qam(order), 10 ** (-_NOISELESS_DB / 10))
    assert np.array_equal(np.abs(llr), np.full(llr.shape, 100.0))


def test_noise_free_accuracy_depends_on_the_transmitter_only(system, samples) -> None:
    # At -30 dB LLRs scaled for that SNR would be next to nothing.
    low, high = (simulate_point(system, samples, snr, Settings(trials=1)) for snr in (-30.0, 40.0))
    assert np.array_equal(low.noiseless_correct, high.noiseless_correct)
    assert low.deployed.correct.sum() < high.deployed.correct.sum()


def test_each_reference_uses_its_own_graphs(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle", samples=80, wrong_learning_receiver=True)
    loaded, manifest = load_system(folder)
    samples = load_samples(folder / "eval.npz", manifest.input_shape, CLASSES)
    tally = simulate_point(loaded, samples, 30.0, Settings(trials=1))
    # Its own receiver: only the learning reference takes two classes for one another.
    swapped = np.isin(samples.labels, (0, 1))
    assert tally.references["learning"].correct[swapped].mean() < 0.1
    assert tally.references["aligned"].correct[swapped].mean() > 0.9
    assert tally.deployed.correct[swapped].mean() > 0.9
    # Its own transmitter, with another temperature: another energy, that of its file.
    energies = {
        name: soft_stream(SoftTransmitter(folder, file), samples.features, 30.0, MODES).energy
        for name, file in (("learning", "soft_learning.onnx"), ("aligned", "soft.onnx"))
    }
    assert {name: counts.energy for name, counts in tally.references.items()} == energies
    assert energies["learning"] != energies["aligned"]


def test_bits_are_decided_at_the_true_scale(system, samples) -> None:
    weak = dataclasses.replace(system, transmitter=_Inner())
    assert simulate_point(weak, samples, 30.0, Settings(trials=2)).bit_errors == 0


@pytest.mark.parametrize("demapper", ["maxlog", "commpy"])
def test_other_demappers_read_the_same(system, samples, demapper) -> None:
    few = Samples(samples.features[:40], samples.labels[:40])
    exact = simulate_point(system, few, 9.0, Settings(trials=1, header="ideal"))
    other = simulate_point(system, few, 9.0, Settings(trials=1, header="ideal", demapper=demapper))
    assert other.bit_errors == exact.bit_errors
    if demapper == "commpy":
        assert np.array_equal(other.deployed.correct, exact.deployed.correct)
        # Deployed once, and each of two references once; without noise the exact kernel is used.
        assert other.llrs_total == 3 * exact.bits_sent
        assert other.llrs_replaced < other.llrs_total // 10
        assert other.abs_llr == pytest.approx(exact.abs_llr, rel=1e-9)
    else:
        assert other.abs_llr != exact.abs_llr
        assert other.llrs_total == 0


def test_codeword_errors_count_real_tokens_only(system, samples) -> None:
    tally = simulate_point(system, samples, -30.0, Settings(trials=4, header="ideal"))
    wishes = samples.features[:, -1].astype(int)
    tokens = sum(MODES[wish].tokens for wish in wishes)
    assert tally.codewords_sent == 4 * tokens
    # In pure noise an index is right once in K.  5 sigma, tokens independent.
    expected = 4 * sum(
        mode.tokens * (1 - 1 / mode.codebook_size) * np.sum(wishes == n) for n, mode in enumerate(MODES)
    )
    assert (
        abs(tally.codeword_errors - expected) < 5 * math.sqrt(0.25 * tally.codewords_sent) + 0.05 * expected
    )


class _Altered:
    """A hard transmitter that sends something it must not."""

    def __init__(self, system: System, **changes) -> None:
        self._system, self._changes = system, changes

    def send(self, features, snr_db, mode=None) -> Transmission:
        sent = self._system.transmitter.send(features, snr_db, mode)
        changes = {name: change(getattr(sent, name).copy()) for name, change in self._changes.items()}
        return dataclasses.replace(sent, **changes)


def _set(value):
    def change(array: np.ndarray) -> np.ndarray:
        array[0, ...] = value
        return array

    return change


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": _set(4)}, "chooses mode 4 of 4"),
        ({"mode": _set(-1)}, "chooses mode -1 of 4"),
        ({"bit_count": _set(1)}, "another number of bits or symbols"),
        ({"symbol_count": _set(9)}, "another number of bits or symbols"),
        ({"symbols": _set(16)}, "symbols outside"),
        ({"indices": _set(99)}, "indices outside"),
        ({"bits": lambda bits: 1 - bits}, "do not spell its bits"),
    ],
)
def test_a_transmitter_that_breaks_its_mode_is_refused(system, samples, changes, message) -> None:
    with pytest.raises(ArtifactError, match=message):
        transmit(_Altered(system, **changes), samples.features, 3.0, MODES)


class _Soft:
    def __init__(self, value: complex) -> None:
        self._value = value

    def send(self, features, snr_db, mode=None):
        return np.zeros(len(features), dtype=np.int64), np.full(
            (len(features), MODES.max_symbols), self._value
        )


@pytest.mark.parametrize(("value", "message"), [(np.nan, "not finite"), (0j, "no energy")])
def test_a_soft_transmitter_without_a_signal_is_refused(samples, value, message) -> None:
    with pytest.raises(ArtifactError, match=message):
        soft_stream(_Soft(value), samples.features, 3.0, MODES)
