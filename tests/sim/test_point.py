"""The data path of a point: same air for all, energy charged, every count as a slow twin counts it."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from tools.tiny_bundle import CLASSES, LINK, write_tiny_bundle
from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import qam
from twophase.link.demap import llr_bruteforce
from twophase.link.modem import Transmission, group_by_mode
from twophase.link.receiver import Reception
from twophase.link.samples import Samples, load_samples
from twophase.link.transmitter import SoftTransmitter
from twophase.sim import frames
from twophase.sim.channel.radio import Radio
from twophase.sim.counts import GAIN_BINS_DB, LLR_EDGES, tally_digest
from twophase.sim.frames import soft_stream, transmit
from twophase.sim.point import PointSimulator, noise_generator, simulate_point
from twophase.sim.results.points import point_results
from twophase.sim.settings import Settings
from twophase.sim.sweep.measure import scatter_of
from twophase.sim.system import SoftReference, System, load_system
from twophase.sim.theory.label_bound import label_accuracy, simplex_success
from twophase.sim.theory.rates import ber_for_usage

MODES = LINK.modes
BLOCK = {"channel": "rayleigh", "coherence": "sample", "known_snr": "block"}


@pytest.mark.parametrize(
    "settings",
    [
        Settings(trials=6, codes=("conv",), baselines=("classify-and-send",)),
        Settings(trials=6, channel="rayleigh", coherence=6, csi="pilot", snr_error_jitter_db=2.0),
        Settings(trials=6, channel="tdl-a", csi="pilot", pilots=3, estimator="ls", noise_estimate="pilot"),
    ],
)
def test_blocks_of_trials_add_up_to_the_whole(content, settings) -> None:
    whole = simulate_point(*content, 6.0, settings)
    simulator = PointSimulator(*content, 6.0, settings)
    # Out of order, and by another simulator that has transmitted nothing yet.
    last = PointSimulator(*content, 6.0, settings).run(range(4, 6))
    first = simulator.run(range(1))
    first.merge(simulator.run(range(1, 4)))
    first.merge(last)
    # Sums of real numbers are put together in another way here; everything else is equal.
    for found, expected in (
        (first, whole),
        (first.deployed, whole.deployed),
        *((first.references[name], whole.references[name]) for name in whole.references),
        *((first.baselines[name], whole.baselines[name]) for name in whole.baselines),
    ):
        for entry in fields(found):
            value = getattr(expected, entry.name)
            if entry.name == "llr_expected" or entry.type == "float":
                np.testing.assert_allclose(getattr(found, entry.name), value, rtol=1e-12)
                setattr(found, entry.name, value)
    assert tally_digest(first) == tally_digest(whole)


def test_noise_differs_between_points_trials_and_blocks() -> None:
    keys = [
        (0, 5.0, 0, 0),
        (1, 5.0, 0, 0),
        (0, 5.000001, 0, 0),
        (0, -5.0, 0, 0),
        (0, 5.0, 1, 0),
        (0, 5.0, 0, 1),
    ]
    assert len({noise_generator(*key).random() for key in keys}) == len(keys)
    assert noise_generator(0, 0.0, 2, 3).random() == noise_generator(0, -0.0, 2, 3).random()


def test_more_samples_than_a_block(content, monkeypatch) -> None:
    whole = simulate_point(*content, 8.0, Settings(trials=3))
    monkeypatch.setattr(frames, "BLOCK", 50)
    blocks = simulate_point(*content, 8.0, Settings(trials=3))
    assert (blocks.bits_sent, blocks.codewords_sent) == (whole.bits_sent, whole.codewords_sent)
    assert np.array_equal(blocks.noiseless_correct, whole.noiseless_correct)
    assert blocks.deployed.energy == whole.deployed.energy
    # Other noise, the same law: 5 sigma of the difference of two error counts.
    assert abs(blocks.bit_errors - whole.bit_errors) < 5 * math.sqrt(2 * 4 * whole.bit_errors)


@pytest.mark.parametrize(("channel", "esn0_db"), [("awgn", 12.0), ("rayleigh", 7.0)])
def test_bit_errors_meet_theory_at_the_measured_energy(content, channel, esn0_db) -> None:
    settings = Settings(channel=channel, trials=150)
    tally = simulate_point(*content, esn0_db, settings)
    (point,) = point_results([tally], MODES, CLASSES, settings)
    # A QAM axis may err in two bits at once, so the count's variance is at most doubled.  4.5 sigma of that:
    # a false alarm in less than 2e-5 of all seeds.
    expected = point.ber_theory_usage * point.bits_sent
    assert expected > 300
    assert abs(point.bit_errors - expected) < 4.5 * math.sqrt(2 * expected)
    # Not charged for its energy the constellation would be seen at another SNR; the test can tell.
    uncharged = sum(
        float(ber_for_usage(counts, MODES[number].order, esn0_db, channel))
        * counts.sum() * MODES[number].bits_per_symbol * settings.trials
        for number, counts in tally.histograms.items()
    )  # fmt: skip
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
            points[rows, entry.symbols :] = 7.0  # after the symbols: must never reach the air
        return sent.mode, self._factor * points


@pytest.mark.parametrize("channel", ["awgn", "rayleigh"])
def test_soft_goes_through_the_same_air(system, samples, channel) -> None:
    twin = SoftReference("twin", "", _HardPointsAsSoft(system, 1.0), system.receiver)
    both = replace(system, references=(twin,))
    ideal = simulate_point(both, samples, 1.0, Settings(channel=channel, trials=5, header="ideal"))
    assert 0 < ideal.deployed.correct.sum() < ideal.deployed.correct.size * 5
    assert np.array_equal(ideal.references["twin"].correct, ideal.deployed.correct)
    # With a real header the deployed link mistakes some modes; its references are given theirs.
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
    """A receiver that keeps the LLRs that it is given."""

    def __init__(self, receiver) -> None:
        self._receiver = receiver
        self.llr: list[np.ndarray] = []

    def receive(self, llr, mode):
        self.llr.append(np.array(llr))
        return self._receiver.receive(llr, mode)


@pytest.mark.parametrize("channel", ["awgn", "rayleigh"])
def test_each_receiver_is_given_its_own_stream_at_its_true_scale(system, samples, channel) -> None:
    deployed, own = _Recording(system.receiver), _Recording(system.receiver)
    weak = replace(system, transmitter=_Inner(), receiver=deployed)
    weak = replace(weak, references=(SoftReference("twin", "", _HardPointsAsSoft(weak, 0.5), own),))
    esn0_db, noise_var, count = 3.0, 10**-0.3, len(samples.labels)
    tally = simulate_point(
        weak, samples, esn0_db, Settings(channel=channel, trials=1, seed=8, header="ideal")
    )
    assert tally.deployed.energy == pytest.approx(0.2)
    assert tally.references["twin"].energy == pytest.approx(0.05)
    # Undisturbed first, then one trial; the twin's own receiver gets the trial only.
    undisturbed, disturbed = np.split(np.concatenate(deployed.llr), 2)
    radio = Radio(Settings(channel=channel), esn0_db, noise_generator(8, esn0_db, 0, 0))
    radio.draw(count, MODES.max_symbols)
    sent = np.zeros((count, MODES.max_symbols), dtype=complex)
    sent[:, :2] = qam(16).points[0] / math.sqrt(0.2)
    received = radio.send(sent).received[:, :2]
    # The same model put another way: not the gain but the constellation carries the scale.
    for llr, energy in ((disturbed, 0.2), (np.concatenate(own.llr), 0.05)):
        points = qam(16).points / math.sqrt(energy)
        expected = llr_bruteforce(received, points, noise_var, radio.true_gains[:, :2])
        np.testing.assert_allclose(llr[:, :8], expected, rtol=1e-9, atol=1e-9)
    # Undisturbed, the receiver is sure of every bit, whatever the SNR of the point.
    assert np.array_equal(undisturbed[:, :8], np.full((count, 8), -100.0))
    assert simulate_point(weak, samples, 30.0, Settings(trials=2)).bit_errors == 0


def test_llrs_are_counted_by_what_they_are_and_by_the_bit_that_was_sent(system, samples) -> None:
    settings = Settings(trials=1, header="ideal")
    deployed = _Recording(system.receiver)
    tally = simulate_point(replace(system, receiver=deployed), samples, 1.0, settings)
    sent = transmit(system.transmitter, samples.features, 1.0, MODES)
    llr, bits = [], []
    # One call for each mode in a batch: first the undisturbed ones, then those of the trial.
    for given, (mode, rows) in zip(deployed.llr[len(MODES) :], group_by_mode(sent.mode, MODES), strict=True):
        llr.append(given[:, : mode.channel_bits].ravel())
        bits.append(sent.bits[rows, : mode.channel_bits].ravel())
    value, one = np.concatenate(llr), np.concatenate(bits).astype(bool)
    inside = value.clip(-99.9, 99.9)
    assert np.array_equal(tally.llr_ones, np.histogram(inside[one], LLR_EDGES)[0])
    assert np.array_equal(tally.llr_zeros, np.histogram(inside[~one], LLR_EDGES)[0])
    promised = np.histogram(inside, LLR_EDGES, weights=expit(value))[0]
    np.testing.assert_allclose(tally.llr_expected, promised)
    (point,) = point_results([tally], MODES, CLASSES, settings)
    assert point.bits_sent == tally.llrs == value.size
    assert point.mean_abs_llr == pytest.approx(np.abs(value).mean())


class _Uniform(_Inner):
    """Sends all points of 16-QAM equally often, as LLRs take for granted."""

    def send(self, features, snr_db, mode=None) -> Transmission:
        sent = super().send(features, snr_db, mode)
        sent.symbols[:, :2] = np.arange(2 * len(features)).reshape(-1, 2) % 16
        sent.bits[:, :8] = symbols_to_bits(sent.symbols[:, :2], 4)
        return sent


@pytest.mark.parametrize("channel", ["awgn", "rayleigh"])
@pytest.mark.parametrize("mismatch_db", [0.0, 1.0])
def test_ones_are_as_many_as_llrs_promise(system, samples, channel, mismatch_db) -> None:
    settings = Settings(channel=channel, trials=200, header="ideal", noise_mismatch_db=mismatch_db)
    uniform = replace(system, transmitter=_Uniform(), references=())
    tally = simulate_point(uniform, samples, 6.0, settings)
    total = tally.llr_ones + tally.llr_zeros
    rate = tally.llr_expected / np.maximum(total, 1)
    enough = np.minimum(rate, 1 - rate) * total > 100
    assert np.count_nonzero(enough) > 15
    # The two bits of an axis may err together, so the count's variance is at most doubled.  4.5 sigma of that
    # in at most 42 bins: a false alarm in less than 3e-4 of all seeds.
    excess = np.abs(tally.llr_ones - tally.llr_expected)[enough]
    deviation = np.sqrt(2 * total * rate * (1 - rate))[enough]
    assert (excess < 4.5 * deviation).all() == (mismatch_db == 0)  # who takes N0 too high promises too little


def test_llrs_of_a_mistaken_mode_are_left_out(by_snr) -> None:
    tally = simulate_point(*by_snr, 7.0, Settings(trials=1, snr_error_bias_db=-3.0))
    assert tally.deployed.mode_errors == len(by_snr[1].labels)
    assert tally.llr_ones.sum() == tally.llr_zeros.sum() == tally.llr_expected.sum() == 0


def test_noise_free_accuracy_depends_on_the_transmitter_only(content) -> None:
    # At -30 dB LLRs scaled for that SNR would be next to nothing.
    low, high = (simulate_point(*content, snr, Settings(trials=1)) for snr in (-30.0, 40.0))
    assert np.array_equal(low.noiseless_correct, high.noiseless_correct)
    assert low.deployed.correct.sum() < high.deployed.correct.sum()


def test_each_reference_uses_its_own_graphs(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle", samples=80, wrong_learning_receiver=True)
    loaded, manifest = load_system(folder)
    samples = load_samples(folder / "eval.npz", manifest)
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


def test_other_demappers_read_the_same(system, samples) -> None:
    few = Samples(samples.features[:40], samples.labels[:40])
    exact, maxlog, commpy = (
        simulate_point(system, few, 9.0, Settings(trials=1, header="ideal", demapper=name))
        for name in ("exact", "maxlog", "commpy")
    )
    assert exact.bit_errors == maxlog.bit_errors == commpy.bit_errors
    assert np.array_equal(commpy.deployed.correct, exact.deployed.correct)
    assert commpy.abs_llr == pytest.approx(exact.abs_llr, rel=1e-9) != pytest.approx(maxlog.abs_llr, rel=1e-9)
    # Deployed once, and each of two references once; without noise the exact kernel is used.
    assert (exact.llrs_total, maxlog.llrs_total, commpy.llrs_total) == (0, 0, 3 * exact.bits_sent)
    assert commpy.llrs_replaced < commpy.llrs_total // 10


def test_codewords_and_decisions_are_counted_once_each(content) -> None:
    samples = content[1]
    tally = simulate_point(*content, -30.0, Settings(trials=4, header="ideal"))
    wishes = samples.features[:, -1].astype(int)
    assert tally.codewords_sent == 4 * sum(MODES[wish].tokens for wish in wishes)
    # In pure noise an index is right once in K.  5 sigma, tokens independent.
    expected = 4 * sum(MODES[wish].tokens * (1 - 1 / MODES[wish].codebook_size) for wish in wishes)
    spread = 5 * math.sqrt(0.25 * tally.codewords_sent) + 0.05 * expected
    assert abs(tally.codeword_errors - expected) < spread
    # By true class in rows.
    assert tally.confusion.sum(axis=1).tolist() == (4 * np.bincount(samples.labels)).tolist()
    assert np.trace(tally.confusion) == tally.deployed.correct.sum()


def test_a_decision_stands_in_its_own_column(by_snr) -> None:
    class Stubborn:
        def receive(self, llr, mode) -> Reception:
            logits = np.tile(np.float32([0, 0, 1, 0]), (len(llr), 1))
            return Reception(logits, np.zeros((len(llr), 1), dtype=np.int64))

    system, samples = by_snr
    stubborn = replace(system, receiver=Stubborn(), references=())
    tally = simulate_point(stubborn, samples, 0.0, Settings(trials=1))
    expected = np.outer(np.bincount(samples.labels), np.arange(CLASSES) == 2)
    assert np.array_equal(tally.confusion, expected)


def test_a_baseline_stands_after_the_header_of_its_sample(content) -> None:
    """Undisturbed it errs no more than the link: were it cut out elsewhere, it would receive mere zeros."""
    settings = Settings(trials=1, codes=("conv", "ldpc"), baselines=("classify-and-send",))
    tally = simulate_point(*content, 60.0, settings)
    assert (tally.bit_errors, tally.codeword_errors, tally.deployed.mode_errors) == (0, 0, 0)
    for counts in (tally.deployed, *tally.baselines.values()):
        assert np.array_equal(counts.correct, tally.noiseless_correct)
    frames = tally.deployed.frames
    total = sum(count * (MODES[mode].symbols + header) for (mode, header), count in frames.items())
    assert tally.baselines["classify-and-send"].symbols == total
    assert tally.baselines["conv"].sent == frames.total()
    # The link itself is as it is alone; of noise, only that of a wider row is another.
    alone, among = (
        simulate_point(*content, 6.0, Settings(trials=1, baselines=b)) for b in ((), settings.baselines)
    )
    assert np.array_equal(alone.deployed.correct, among.deployed.correct)


def test_pilots_of_all_frames_are_counted(content) -> None:
    settings = Settings(trials=2, channel="rayleigh", coherence=6, csi="pilot", pilots=2)
    tally = simulate_point(*content, 8.0, settings)
    expected = sum(
        count * 2 * math.ceil((MODES[mode].symbols + header) / 4)
        for (mode, header), count in tally.deployed.frames.items()
    )
    assert tally.pilots == expected
    (point,) = point_results([tally], MODES, CLASSES, settings)
    assert point.pilot_symbols_per_sample == expected / tally.deployed.frames.total()


def test_received_symbols_lie_around_their_points(by_snr) -> None:
    settings = Settings(channel="rayleigh", coherence="sample")
    entries = scatter_of(*by_snr, [0.0, 20.0, 40.0, 50.0], settings)
    assert [entry.esn0_db for entry in entries] == [0.0, 40.0, 50.0]
    for group in entries[-1].groups:
        received, reference = (np.array(points) @ [1, 1j] for points in (group.received, group.reference))
        assert group.order == len(reference) == MODES[MODES.find(group.mode)].order
        assert 0 < len(received) <= 400
        assert np.median(np.abs(received[:, np.newaxis] - reference).min(axis=1)) < 0.02
    assert np.std(np.array(entries[0].groups[0].received)) > 0.5


def _gains_db(samples: Samples, trial: int) -> np.ndarray:
    """The power gains of a trial at 5 dB, drawn once more."""
    radio = Radio(Settings(**BLOCK), 5.0, noise_generator(0, 5.0, trial, 0))
    radio.draw(len(samples.labels), MODES.max_symbols)
    return 20 * np.log10(np.abs(radio.true_gains[:, 0]))


def test_ends_that_know_the_block_follow_its_gain_and_so_does_theory(by_snr) -> None:
    system, samples = by_snr
    settings = Settings(**BLOCK, trials=20)
    tally = simulate_point(system, samples, 5.0, settings)
    gain_db = np.concatenate([_gains_db(samples, trial) for trial in range(settings.trials)])
    chosen = system.routing.table.choose(5.0 + gain_db)
    assert tally.deployed.frames == {(n, 0): count for n, count in enumerate(np.bincount(chosen)) if count}
    assert len(tally.deployed.frames) > 1
    assert (tally.deployed.mode_errors, tally.transmissions) == (0, settings.trials)
    # Gains are counted with their modes, in bins of a tenth of a dB.
    for number in np.unique(chosen):
        bins = np.rint((gain_db[chosen == number] - GAIN_BINS_DB[0]) * 10).astype(int).clip(0)
        assert np.array_equal(tally.gains[int(number), 0], np.bincount(bins, minlength=GAIN_BINS_DB.size))
    (point,) = point_results([tally], MODES, CLASSES, settings)
    symbols = np.array([mode.symbols for mode in MODES])[chosen]
    met = [simplex_success(CLASSES, int(n), 5.0 + gain_db[symbols == n]) for n in np.unique(symbols)]
    bound = label_accuracy(point.accuracy_noiseless, float(np.concatenate(met).mean()), CLASSES)
    assert point.label_bound == pytest.approx(bound, abs=1e-3)
    # Bits of a frame err together: at most 12 of them share a gain.  5 sigma of frames that err as one:
    # false alarms in less than 6e-7 of all seeds.
    assert abs(point.ber - point.ber_theory_usage) < 5 * math.sqrt(0.25 / gain_db.size)


def test_a_forced_mode_adapts_to_nothing(by_snr) -> None:
    tally = simulate_point(*by_snr, 5.0, Settings(**BLOCK, trials=2, mode="4x16qam"))
    assert (tally.gains, tally.transmissions) == ({}, 1)
