"""How the receiver learns the mode: headers that fail as theory says, estimates that disagree, no leak."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

from tools.tiny_bundle import CLASSES, LINK, ONE_MODE, TABLE, write_tiny_bundle
from twophase.link.demap import llr_exact
from twophase.link.errors import ArtifactError, InputError
from twophase.link.header import header_code
from twophase.link.routing import HeaderStep
from twophase.link.samples import Samples, load_samples
from twophase.sim.channel.radio import Arrival, Radio
from twophase.sim.frames import framed, payload_stream, transmit
from twophase.sim.point import simulate_point
from twophase.sim.receiver import ReceivingEnd, SnrEstimates
from twophase.sim.results.figures import Point
from twophase.sim.results.points import point_results
from twophase.sim.settings import Settings
from twophase.sim.system import SoftReference, System, load_system
from twophase.sim.theory.label_bound import label_accuracy, simplex_success
from twophase.sim.theory.power_gain import power_gain_nodes

MODES = LINK.modes


def _point(opened: tuple[System, Samples], esn0_db: float, **settings) -> Point:
    chosen = Settings(**settings)
    tally = simulate_point(*opened, esn0_db, chosen)
    return point_results([tally], opened[0].modes, CLASSES, chosen)[0]


def _word_error(code: str, esn0_db: float, channel: str) -> float:
    """Exact, for the four modes: either code is two index bits by themselves, each in so many code bits.

    A bit in n code bits of the same gain g errs with probability Q(sqrt(n g Es/N0)): QPSK gives Es/2 to each
    of its bits, N0/2 is the noise on its axis.  Both bits share one gain.
    """
    n = {"plain": 1, "hamming84": 4}[code]
    power, weight = (np.ones(1), np.ones(1)) if channel == "awgn" else power_gain_nodes((1.0,))
    return float(weight @ (1 - (1 - ndtr(-np.sqrt(n * power * 10 ** (esn0_db / 10)))) ** 2))


# Seven comparisons of at least 100 expected errors at 4.5 sigma: a false alarm in 5e-5 of all seeds.
@pytest.mark.parametrize(
    ("code", "esn0_db", "channel", "coherence"),
    [
        ("plain", 0.0, "awgn", "symbol"),
        ("plain", 7.0, "awgn", "symbol"),
        ("hamming84", -6.0, "awgn", "symbol"),
        ("hamming84", 0.0, "awgn", "symbol"),
        ("plain", 10.0, "rayleigh", "symbol"),
        ("plain", 10.0, "rayleigh", "sample"),
        ("hamming84", 3.0, "rayleigh", "sample"),
    ],
)
def test_headers_fail_as_often_as_theory_says(content, code, esn0_db, channel, coherence) -> None:
    system, samples = content
    expected = _word_error(code, esn0_db, channel)
    trials = min(50, math.ceil(500 / (expected * len(samples.labels))))
    settings = Settings(trials=trials, channel=channel, coherence=coherence)
    # The tiny transmitter chooses by a feature; the frame's header follows from the routing.
    routing = dataclasses.replace(system.routing, header=(HeaderStep(-10.0, code),))
    system = dataclasses.replace(system, routing=routing, references=())
    tally = simulate_point(system, samples, esn0_db, settings)
    sent = tally.deployed.frames.total()
    assert sent * expected > 100
    deviation = math.sqrt(sent * expected * (1 - expected))
    assert abs(tally.deployed.mode_errors - sent * expected) < 4.5 * deviation
    if channel == "awgn":
        bound = float(header_code(code, len(MODES)).word_error_bound(esn0_db))
        assert expected <= bound
        assert tally.deployed.mode_errors < sent * bound + 4.5 * deviation


def test_a_header_costs_what_it_costs(content) -> None:
    wishes = content[1].features[:, -1].astype(int)
    payload = np.mean([MODES[wish].symbols for wish in wishes])
    bits = np.mean([MODES[wish].information_bits for wish in wishes])
    for esn0_db, header in ((0.0, 4.0), (6.0, 1.0)):
        point = _point(content, esn0_db, trials=2)
        assert point.payload_symbols_per_sample == pytest.approx(payload)
        assert point.header_symbols_per_sample == header
        assert point.symbols_per_sample == pytest.approx(payload + header)
        assert point.bits_per_sample == pytest.approx(bits)
        assert point.header_bits_per_sample == 2
        assert point.header_error_rate == point.mode_error_rate > 0
        assert point.ebn0_db == pytest.approx(point.esn0_db - 10 * np.log10(bits / (payload + header)))
        shares = {MODES.names[n]: np.mean(wishes == n) for n in range(len(MODES))}
        assert point.mode_usage == pytest.approx(shares)
        by_mode = sum(point.accuracy_by_mode[name] * share for name, share in shares.items())
        assert by_mode == pytest.approx(point.accuracy_hard)


def test_an_ideal_header_makes_no_error_and_costs_nothing(content, by_snr) -> None:
    coded, ideal = (_point(content, -3.0, trials=4, header=name) for name in ("coded", "ideal"))
    assert coded.mode_error_rate > 0.05
    assert (ideal.mode_error_rate, ideal.header_error_rate) == (0, None)
    assert (ideal.header_symbols_per_sample, ideal.header_bits_per_sample) == (0, 0)
    assert ideal.symbols_per_sample == pytest.approx(coded.payload_symbols_per_sample)
    assert ideal.accuracy_hard > coded.accuracy_hard
    for reference in ideal.references.values():
        assert reference.symbols_per_sample == pytest.approx(ideal.symbols_per_sample)
    # It hides a wrong SNR from the receiver, too.
    wrong = _point(by_snr, 5.0, trials=1, header="ideal", snr_error_bias_db=3.0)
    assert (wrong.mode_usage, wrong.mode_error_rate) == ({MODES.names[2]: 1.0}, 0)


@pytest.mark.parametrize(
    ("esn0_db", "bias"), [(-1.0, 3.0), (3.0, -3.0), (5.0, 3.0), (7.0, 0.5), (12.0, -3.0)]
)
def test_a_wrong_snr_is_an_error_exactly_if_the_steps_differ(by_snr, esn0_db, bias) -> None:
    point = _point(by_snr, esn0_db, trials=1, snr_error_bias_db=bias)
    sent, taken = TABLE.choose(esn0_db + bias), TABLE.choose(esn0_db)
    assert point.mode_usage == {MODES.names[int(sent)]: 1.0}
    assert (point.mode_error_rate, point.header_error_rate) == (float(sent != taken), None)
    assert point.codeword_error_rate == 1.0 or sent == taken
    # Both ends equally wrong: another mode is used, but none is mistaken.
    shared = _point(by_snr, esn0_db, trials=1, snr_error_bias_db=bias, snr_error_at="both")
    assert (shared.mode_usage, shared.mode_error_rate) == (point.mode_usage, 0)
    # The soft references are given the mode, as in training, so the deployed link alone suffers.
    for name, reference in point.references.items():
        assert reference.accuracy == shared.references[name].accuracy


def test_the_gap_holds_what_mistaken_modes_cost(by_snr) -> None:
    right, wrong = (
        _point(by_snr, 7.0, trials=2, snr_error_bias_db=-3.0, snr_error_at=at)
        for at in ("both", "transmitter")
    )
    assert max(reference.gap for reference in wrong.references.values()) < -0.3
    assert (right.verdict, wrong.verdict) == ("PASS", "FAIL")


def test_jitter_makes_errors_frame_by_frame(by_snr) -> None:
    system, samples = by_snr
    settings = Settings(trials=3, snr_error_jitter_db=1.0)
    tally = simulate_point(system, samples, 5.5, settings)
    estimates = SnrEstimates(5.5, len(samples.labels), system.routing, settings)
    modes = np.array([[TABLE.choose(end) for end in estimates.of_trial(trial)] for trial in range(3)])
    sent, taken = modes[:, 0], modes[:, 1]
    assert tally.deployed.mode_errors == np.count_nonzero(sent != taken) > 0
    assert tally.transmissions == 3
    assert tally.deployed.frames == {(mode, 0): np.count_nonzero(sent == mode) for mode in np.unique(sent)}
    symbols = sum(int(counts.sum()) for counts in tally.histograms.values())
    assert symbols == sum(MODES[int(mode)].symbols for mode in sent.flat)


def test_a_mistaken_mode_does_not_leak(by_snr) -> None:
    """Every bit arrives, and still the receiver knows only what the wrong mode makes of the symbols."""
    system, samples = by_snr
    tally = simulate_point(system, samples, 60.0, Settings(trials=2, snr_error_bias_db=-57.0))
    sent = transmit(system.transmitter, samples.features, 3.0, MODES)
    stream = payload_stream(sent, MODES)
    one = np.ones_like(stream.points)
    arrival = Arrival(stream.points, one, np.full(one.shape, 1e-6), one)
    end = ReceivingEnd(system.routing, MODES, llr_exact, system.llr_clip)
    decided = end.receive_payload(system.receiver, arrival, stream.energy, np.full(len(one), 3))
    right = np.count_nonzero(decided.classes == samples.labels)
    assert set(sent.mode) == {1}
    assert tally.deployed.mode_errors == 2 * len(one)
    assert tally.deployed.correct.sum() == 2 * right < len(one)
    assert tally.codeword_errors == tally.codewords_sent == 2 * sum(MODES[mode].tokens for mode in sent.mode)
    assert (tally.bit_errors, tally.transmissions) == (0, 1)


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
        part = Arrival(*(getattr(arrival, entry.name)[rows] for entry in dataclasses.fields(arrival)))
        decided = end.receive(system.receiver, part, frames.energy, receiver_db[rows])
        return decided.mode, decided.llr, decided.classes, decided.indices

    everything = received(np.arange(count))
    assert np.count_nonzero(everything[0] != frames.mode) > 10
    order = rng.permutation(count)
    pieces = [received(order[start : start + batch]) for start in range(0, count, batch)]
    for whole, parts in zip(everything, zip(*pieces, strict=True), strict=True):
        assert np.array_equal(whole[order], np.concatenate(parts))


def test_a_receiver_that_misplaces_the_payload_only_errs(content) -> None:
    # It takes four symbols for the header where one was sent, and reads beyond the frame.
    point = _point(content, 4.0, trials=3, snr_error_bias_db=2.0)
    assert point.header_symbols_per_sample == 1.0
    assert point.mode_error_rate == 1.0  # also where it guesses the mode, in the wrong place
    assert point.accuracy_hard < 0.45
    assert point.ber < 0.2  # counted where the payload truly stands


def test_the_label_bound_counts_header_and_coherence(content) -> None:
    fading = ("rayleigh", "sample")
    point = _point(content, 2.0, trials=1, channel=fading[0], coherence=fading[1])
    reached = [float(simplex_success(CLASSES, mode.symbols + 4, 2.0, *fading)) for mode in MODES]
    delivered = np.mean([reached[int(wish)] for wish in content[1].features[:, -1]])
    expected = label_accuracy(point.accuracy_noiseless, delivered, CLASSES)
    assert point.label_bound == pytest.approx(expected)


@pytest.mark.parametrize("name", ["16x4qam", "2"])
def test_a_forced_mode_is_known_to_both_ends(content, name) -> None:
    point = _point(content, -4.0, trials=2, mode=name, snr_error_bias_db=3.0, snr_error_jitter_db=2.0)
    assert point.mode_usage == {"16x4qam": 1.0}
    assert (point.mode_error_rate, point.header_error_rate) == (0, None)
    for each in (point, *point.references.values()):
        assert each.symbols_per_sample == MODES[2].symbols


def test_a_forced_mode_that_is_not_there_or_not_kept_to_is_refused(content) -> None:
    system, samples = content
    with pytest.raises(InputError, match="'mode' must be one of 4x4qam, 4x16qam, 16x4qam, 16x16qam, or 0"):
        _point(content, 0.0, trials=1, mode="8x8qam")

    class Deaf:
        def __init__(self, sender) -> None:
            self._sender = sender

        def send(self, features, snr_db, mode=None):
            return self._sender.send(features, snr_db)

    deaf = SoftReference("deaf", "", Deaf(system.references[0].transmitter), system.receiver)
    for parts in ({"transmitter": Deaf(system.transmitter)}, {"references": (deaf,)}):
        altered = dataclasses.replace(system, **parts)
        with pytest.raises(ArtifactError, match="does not keep to the mode 4x16qam"):
            simulate_point(altered, samples, 0.0, Settings(trials=1, mode="1"))


def test_one_mode_has_nothing_to_tell(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle", link=ONE_MODE)
    opened = load_system(folder)[0], load_samples(folder / "eval.npz", (CLASSES + 1,), CLASSES)
    plain = _point(opened, 6.0, trials=3)
    assert plain.mode_usage == {"4x16qam": 1.0}
    assert (plain.header_symbols_per_sample, plain.mode_error_rate) == (0, 0)
    # Nothing to choose, nothing to mistake: every way to run it gives the same figures.
    for settings in ({"header": "ideal"}, {"mode": "0"}, {"snr_error_bias_db": 5.0}):
        assert _point(opened, 6.0, trials=3, **settings) == plain
