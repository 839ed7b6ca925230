"""How the receiver learns the mode: headers that fail as theory says, estimates that disagree, no leak."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

from tools.tiny_bundle import CLASSES, LINK, ONE_MODE, TABLE, write_tiny_bundle
from twophase.link.bits import symbols_to_bits
from twophase.link.errors import ArtifactError
from twophase.link.modem import Transmission
from twophase.link.modes import LinkConfig
from twophase.link.receiver import Reception
from twophase.link.routing import HeaderStep, Routing, SnrTable
from twophase.link.samples import Samples, load_samples
from twophase.sim.counts import SystemCounts, Tally
from twophase.sim.frames import Frames
from twophase.sim.point import simulate_point
from twophase.sim.receiver import Received, SnrEstimates
from twophase.sim.results.figures import Point
from twophase.sim.results.points import point_results
from twophase.sim.settings import Settings
from twophase.sim.system import System, load_system
from twophase.sim.theory.label_bound import label_accuracy, simplex_success
from twophase.sim.theory.power_gain import power_gain_nodes

MODES = LINK.modes


def _measured(opened: tuple[System, Samples], esn0_db: float, **given) -> tuple[Tally, Point]:
    settings = Settings(**given)
    tally = simulate_point(*opened, esn0_db, settings)
    return tally, point_results([tally], opened[0].modes, CLASSES, settings)[0]


# Six comparisons at 4.5 sigma: a false alarm in 4e-5 of all seeds.
@pytest.mark.parametrize(
    ("code", "esn0_db", "channel", "coherence"),
    [
        ("plain", 7.0, "awgn", "symbol"),
        ("hamming84", 0.0, "awgn", "symbol"),
        ("plain", 10.0, "rayleigh", "symbol"),
        ("plain", 10.0, "rayleigh", "sample"),
        ("hamming84", 3.0, "rayleigh", "symbol"),
        ("hamming84", 3.0, "rayleigh", "sample"),
    ],
)
def test_headers_fail_as_often_as_theory_says(content, code, esn0_db, channel, coherence) -> None:
    """Either code is the mode's two bits by themselves, each repeated: a bit fails with Q(sqrt(G Es/N0))."""
    system, samples = content
    # Two bits in one symbol each share its gain; the second code gives each of them two symbols of its own.
    gains = {"plain": (1.0,), "hamming84": (2.0, 2.0) if coherence == "symbol" else (4.0,)}[code]
    power, weight = (np.array([sum(gains)]), np.ones(1)) if channel == "awgn" else power_gain_nodes(gains)
    right = ndtr(np.sqrt(power * 10 ** (esn0_db / 10)))
    expected = 1 - float((right @ weight) ** 2 if len(gains) > 1 else right**2 @ weight)
    # The tiny transmitter chooses by a feature; the frame's header follows from the routing.
    routing = replace(system.routing, header=(HeaderStep(-10.0, code),))
    settings = Settings(trials=30, channel=channel, coherence=coherence)
    tally = simulate_point(replace(system, routing=routing, references=()), samples, esn0_db, settings)
    sent = tally.deployed.frames.total()
    assert sent * expected > 50
    deviation = math.sqrt(sent * expected * (1 - expected))
    assert abs(tally.deployed.mode_errors - sent * expected) < 4.5 * deviation


@pytest.mark.parametrize(("esn0_db", "header"), [(-5.0, 4), (6.0, 1)])
def test_a_header_costs_what_it_costs_and_figures_go_by_the_mode_that_was_sent(
    content, esn0_db, header
) -> None:
    tally, point = _measured(content, esn0_db, trials=2)
    wishes = content[1].features[:, -1].astype(int)
    payload = np.mean([MODES[wish].symbols for wish in wishes])
    bits = np.mean([MODES[wish].information_bits for wish in wishes])
    assert point.payload_symbols_per_sample == pytest.approx(payload)
    assert point.header_symbols_per_sample == header
    assert point.symbols_per_sample == pytest.approx(payload + header)
    assert (point.bits_per_sample, point.header_bits_per_sample) == (pytest.approx(bits), 2)
    assert point.header_error_rate == point.mode_error_rate > 0
    assert point.ebn0_db == pytest.approx(esn0_db - 10 * np.log10(bits / (payload + header)))
    for number, name in enumerate(MODES.names):
        assert point.mode_usage[name] == pytest.approx(np.mean(wishes == number))
        expected = tally.deployed.correct[wishes == number].mean() / 2
        assert point.accuracy_by_mode[name] == pytest.approx(expected)


def test_an_ideal_header_makes_no_error_and_costs_nothing(content) -> None:
    coded, ideal = (_measured(content, -3.0, trials=4, header=name)[1] for name in ("coded", "ideal"))
    assert coded.mode_error_rate > 0.05
    assert (ideal.mode_error_rate, ideal.header_error_rate) == (0, None)
    assert (ideal.header_symbols_per_sample, ideal.header_bits_per_sample) == (0, 0)
    assert ideal.symbols_per_sample == pytest.approx(coded.payload_symbols_per_sample)
    assert ideal.accuracy_hard > coded.accuracy_hard
    for reference in ideal.references.values():
        assert reference.symbols_per_sample == pytest.approx(ideal.symbols_per_sample)


@pytest.mark.parametrize(("esn0_db", "bias"), [(-1.0, 3.0), (3.0, -3.0), (7.0, 0.5), (12.0, -3.0)])
def test_a_wrong_snr_is_an_error_exactly_if_the_steps_differ(by_snr, esn0_db, bias) -> None:
    tally, point = _measured(by_snr, esn0_db, trials=2, snr_error_bias_db=bias)
    sent, taken = TABLE.choose(esn0_db + bias), TABLE.choose(esn0_db)
    assert point.mode_usage == {MODES.names[int(sent)]: 1.0}
    assert (point.mode_error_rate, point.header_error_rate) == (float(sent != taken), None)
    assert (point.codeword_error_rate == 1.0) == (sent != taken)
    assert tally.transmissions == 1  # estimates that stay the same are sent once
    # Both ends equally wrong, or a receiver that is given the mode: another mode is used, but none mistaken.
    for given in ({"snr_error_at": "both"}, {"header": "ideal"}):
        _, shared = _measured(by_snr, esn0_db, trials=1, snr_error_bias_db=bias, **given)
        assert (shared.mode_usage, shared.mode_error_rate) == (point.mode_usage, 0)


def test_jitter_makes_errors_frame_by_frame(by_snr) -> None:
    settings = {"trials": 3, "snr_error_jitter_db": 1.0}
    tally, point = _measured(by_snr, 5.5, **settings)
    estimates = SnrEstimates(5.5, len(by_snr[1].labels), by_snr[0].routing, Settings(**settings))
    modes = [[TABLE.choose(end) for end in estimates.of_trial(trial)] for trial in range(3)]
    sent, taken = np.concatenate(modes, axis=1)
    assert tally.deployed.mode_errors == np.count_nonzero(sent != taken) > 0
    assert tally.transmissions == 3
    assert tally.deployed.frames == {(n, 0): count for n, count in enumerate(np.bincount(sent)) if count}
    symbols = sum(int(counts.sum()) for counts in tally.histograms.values())
    assert symbols == sum(MODES[int(number)].symbols for number in sent)
    assert sum(point.mode_usage.values()) == pytest.approx(1.0)


def test_the_gap_holds_what_mistaken_modes_cost(by_snr) -> None:
    """The soft references are given the mode, as in training, so the deployed link alone suffers."""
    right, wrong = (
        _measured(by_snr, 7.0, trials=2, snr_error_bias_db=-3.0, snr_error_at=at)[1]
        for at in ("both", "transmitter")
    )
    assert (right.mode_error_rate, wrong.mode_error_rate) == (0.0, 1.0)
    assert right.mode_usage == wrong.mode_usage
    for name, reference in wrong.references.items():
        assert reference.accuracy == right.references[name].accuracy
        assert reference.gap < -0.3
    assert (right.verdict, wrong.verdict) == ("PASS", "FAIL")


def test_a_payload_after_another_header_is_an_error_whatever_the_mode() -> None:
    """Both modes begin with a word of zeros, so a receiver may guess the mode in the wrong place."""
    counts = SystemCounts(np.zeros(3, dtype=np.int64))
    frames = Frames(np.array([0, 0, 1]), np.array([2, 2, 2]), np.zeros((3, 4), dtype=complex), 1.0)
    none = np.zeros(3, dtype=np.int64)
    decided = Received(none, np.zeros((3, 4)), none, none[:, np.newaxis], np.array([2, 4, 2]))
    counts.count(frames, slice(0, 3), decided, none)
    assert counts.mode_errors == 2


class _Keyed:
    """Sends the class as one index that only the mode's own key explains, and receives by such keys.

    Both modes have four codewords in one QPSK symbol.  By the other mode's key one class of four comes out
    right and the other three wrong: chance.
    """

    modes = LinkConfig(codebook_sizes=(4, 4), tokens=(1, 1), qam_orders=(4,), embedding_dim=1).modes
    keys = np.array([[0, 1, 2, 3], [0, 2, 3, 1]])

    def send(self, features, snr_db, mode=None) -> Transmission:
        label, count = features[:, 0].astype(int), len(features)
        chosen = np.asarray(snr_db >= 5.0, dtype=np.int64)
        symbols = self.keys[chosen, label][:, np.newaxis]
        bits = symbols_to_bits(symbols, 2)
        none, one = np.zeros((count, 0), dtype=np.int64), np.ones(count, dtype=np.int64)
        return Transmission(chosen, symbols, bits, symbols, 2 * one, one, none, 0 * one)

    def receive(self, llr, mode) -> Reception:
        index = (llr > 0) @ [[2], [1]]
        return Reception((self.keys[mode] == index).astype(np.float32), index)


def test_a_mistaken_mode_does_not_leak() -> None:
    """Every bit arrives, and still nobody but the holder of the right key knows more than chance."""
    keyed, labels = _Keyed(), np.arange(400) % 4
    routing = Routing("snr", SnrTable((5.0,), (0, 1)), 0.0, ())
    system = System(keyed.modes, routing, 4, 100.0, keyed, keyed, ())
    samples = Samples(labels[:, np.newaxis].astype(np.float32), labels)
    for bias, mistaken in ((0.0, 0), (-26.0, 800)):
        tally = simulate_point(system, samples, 30.0, Settings(trials=2, snr_error_bias_db=bias))
        assert (tally.bit_errors, tally.deployed.mode_errors) == (0, mistaken)
        assert tally.codeword_errors == mistaken
        assert tally.deployed.correct.sum() == (800 // 4 if mistaken else 800)


def test_a_receiver_that_misplaces_the_payload_only_errs(content) -> None:
    # It takes four symbols for the header where one was sent, and reads after the frame.
    _, point = _measured(content, 4.0, trials=3, snr_error_bias_db=2.0)
    assert point.header_symbols_per_sample == 1.0
    assert point.mode_error_rate > 0.5
    assert point.accuracy_hard < 0.45
    assert point.ber < 0.2  # counted where the payload truly stands
    # And the other way round.
    assert _measured(content, 6.0, trials=3, snr_error_bias_db=-2.0)[1].header_symbols_per_sample == 4.0


def test_the_label_bound_counts_header_and_coherence(content) -> None:
    _, point = _measured(content, 2.0, trials=1, channel="rayleigh", coherence="sample")
    lengths = [MODES[wish].symbols + 4 for wish in content[1].features[:, -1].astype(int)]
    delivered = np.mean([simplex_success(CLASSES, length, 2.0, "rayleigh", "sample") for length in lengths])
    expected = label_accuracy(point.accuracy_noiseless, float(delivered), CLASSES)
    assert point.label_bound == pytest.approx(expected)


@pytest.mark.parametrize("name", ["16x4qam", "2"])
def test_a_forced_mode_is_known_to_both_ends(content, name) -> None:
    settings = {"mode": name, "snr_error_bias_db": 3.0, "snr_error_jitter_db": 2.0}
    _, point = _measured(content, -4.0, trials=2, **settings)
    assert point.mode_usage == {"16x4qam": 1.0}
    assert (point.mode_error_rate, point.header_error_rate) == (0, None)
    for figures in (point, *point.references.values()):
        assert figures.symbols_per_sample == MODES[2].symbols


def test_a_transmitter_that_ignores_the_request_is_refused(content) -> None:
    system, samples = content

    class Deaf:
        def send(self, features, snr_db, mode=None):
            return system.transmitter.send(features, snr_db)

    with pytest.raises(ArtifactError, match="does not keep to the mode 4x16qam"):
        simulate_point(replace(system, transmitter=Deaf()), samples, 0.0, Settings(trials=1, mode="1"))


def test_one_mode_has_nothing_to_signal(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle", link=ONE_MODE)
    system, manifest = load_system(folder)
    opened = system, load_samples(folder / "eval.npz", manifest)
    _, plain = _measured(opened, 6.0, trials=3)
    assert plain.mode_usage == {"4x16qam": 1.0}
    assert (plain.header_symbols_per_sample, plain.mode_error_rate) == (0, 0)
    # Nothing to choose, nothing to mistake: every way to run it gives the same figures.
    for settings in ({"header": "ideal"}, {"mode": "0"}, {"snr_error_bias_db": 5.0}):
        assert _measured(opened, 6.0, trials=3, **settings)[1] == plain
