"""One point in blocks of trials: the same counts however they are cut, and all that is counted."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import chi2

from tools.tiny_bundle import CLASSES, LINK
from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import qam
from twophase.link.demap import llr_exact
from twophase.link.errors import VerificationError
from twophase.link.modem import Transmission, group_by_mode
from twophase.link.receiver import Reception
from twophase.sim.counting import count_llrs
from twophase.sim.counts import LLR_EDGES, SystemCounts, Tally, tally_digest
from twophase.sim.point import PointSimulator, simulate_point
from twophase.sim.receiver import Received
from twophase.sim.results.points import point_results
from twophase.sim.settings import Settings
from twophase.sim.sweep.measure import scatter_of

MODES = LINK.modes


@pytest.mark.parametrize(
    "settings",
    [
        Settings(trials=6, codes=("conv",), baselines=("classify-and-send",)),
        Settings(trials=6, channel="rayleigh", coherence=6, csi="pilot", snr_error_jitter_db=2.0),
        Settings(trials=6, channel="rician", coherence="sample", noise_mismatch_db=-1.0),
        Settings(trials=6, channel="tdl-a", csi="pilot", pilots=3, estimator="ls", noise_estimate="pilot"),
    ],
)
def test_blocks_add_up_to_the_whole(content, settings) -> None:
    whole = simulate_point(*content, 6.0, settings)
    simulator = PointSimulator(*content, 6.0, settings)
    # Out of order, and by another simulator that has transmitted nothing yet.
    last = PointSimulator(*content, 6.0, settings).run(range(4, 6))
    first = simulator.run(range(1))
    first.merge(simulator.run(range(1, 4)))
    first.merge(last)
    # Sums of real numbers are put together in another way here; everything else is equal.
    for name in ("abs_llr", "noise_power", "signal_power"):
        assert getattr(first, name) == pytest.approx(getattr(whole, name), rel=1e-12)
        setattr(first, name, getattr(whole, name))
    np.testing.assert_allclose(first.llr_expected, whole.llr_expected, rtol=1e-12)
    first.llr_expected = whole.llr_expected
    for counts, other in ((first.deployed, whole.deployed), *_pairs(first, whole)):
        assert counts.energy_sum == pytest.approx(other.energy_sum, rel=1e-12)
        counts.energy_sum = other.energy_sum
    assert tally_digest(first) == tally_digest(whole)


def _pairs(first: Tally, whole: Tally) -> list[tuple]:
    return [
        (getattr(first, kind)[name], getattr(whole, kind)[name])
        for kind in ("references", "baselines")
        for name in getattr(whole, kind)
    ]


def test_baselines_change_nothing_but_the_noise_of_a_wider_row(by_snr) -> None:
    alone = simulate_point(*by_snr, 6.0, Settings(trials=2))
    beside = simulate_point(*by_snr, 6.0, Settings(trials=2, codes=("conv",)))
    # At 6 dB the coded payload is no longer than the widest mode: the row, and so the noise, is the same.
    assert np.array_equal(alone.deployed.correct, beside.deployed.correct)
    assert alone.bit_errors == beside.bit_errors


def test_a_baseline_stands_after_the_header_of_its_sample(content) -> None:
    """Undisturbed it errs no more than the link: were it cut out elsewhere, it would receive mere zeros."""
    settings = Settings(trials=1, codes=("conv", "ldpc"), baselines=("classify-and-send",))
    tally = simulate_point(*content, 60.0, settings)
    transmitted = tally.noiseless_correct
    assert (tally.bit_errors, tally.codeword_errors, tally.deployed.mode_errors) == (0, 0, 0)
    assert np.array_equal(tally.deployed.correct, transmitted)
    for name, counts in tally.baselines.items():
        assert np.array_equal(counts.correct, transmitted), name
        assert counts.sent == len(transmitted)
    frames = tally.deployed.frames
    total = sum(count * (MODES[mode].symbols + header) for (mode, header), count in frames.items())
    assert tally.baselines["classify-and-send"].symbols == total


def test_pilots_of_all_frames_are_counted(content) -> None:
    settings = Settings(trials=2, channel="rayleigh", coherence=6, csi="pilot", pilots=2)
    tally = simulate_point(*content, 8.0, settings)
    expected = sum(
        count * 2 * math.ceil((MODES[mode].symbols + header) / 4)
        for (mode, header), count in tally.deployed.frames.items()
    )
    assert tally.pilots == expected
    point = point_results([tally], MODES, CLASSES, settings)[0]
    assert point.pilot_symbols_per_sample == expected / tally.deployed.frames.total()


def _counted_llrs(mismatch: float) -> Tally:
    """LLRs of 120,000 16-QAM symbols, points equally often, by a receiver that takes N0 wrong.

    A learned transmitter does not use all points equally often, and LLRs know nothing of that.
    """
    number = MODES.names.index("4x16qam")
    mode, rows = MODES[number], 120_000 // MODES[number].symbols
    rng = np.random.default_rng(3)
    symbols = rng.integers(0, 16, (rows, mode.symbols))
    noise_var = 0.4
    noise = rng.standard_normal((2, *symbols.shape)) * math.sqrt(noise_var / 2)
    received = qam(16).modulate(symbols) + noise[0] + 1j * noise[1]
    chosen = np.full(rows, number)
    bits = np.zeros((rows, MODES.max_bits), dtype=np.uint8)
    bits[:, : mode.channel_bits] = symbols_to_bits(symbols, 4)
    llr = np.zeros((rows, MODES.max_bits))
    llr[:, : mode.channel_bits] = llr_exact(received, qam(16), noise_var * mismatch)
    none = np.zeros((rows, 0), dtype=np.int64)
    count = np.full(rows, mode.symbols)
    sent = Transmission(chosen, none, bits, symbols, count * 4, count, none, 0 * count)
    tally = Tally(0.0, SystemCounts(0 * chosen), {}, 0 * chosen)
    # A frame whose mode was mistaken is left out: half of them, with LLRs that would show.
    believed = np.where(np.arange(rows) % 2, chosen, (chosen + 1) % len(MODES))
    llr[::2] = 99.0
    count_llrs(
        tally,
        sent,
        slice(0, rows),
        group_by_mode(sent.mode, MODES),
        Received(believed, llr, chosen, none, None),
    )
    return tally


def test_llrs_keep_what_they_promise() -> None:
    """Of LLRs in a bin, as many belong to ones as their sigmoids say; false alarm below 1e-4."""

    def chi_squared(tally: Tally) -> tuple[float, int]:
        total = tally.llr_zeros + tally.llr_ones
        rate = tally.llr_expected / np.maximum(total, 1)
        usable = np.minimum(rate, 1 - rate) * total > 10
        # Within a narrow bin the variance of a count is nearly that of equal probabilities.
        excess = (tally.llr_ones - tally.llr_expected) ** 2 / np.maximum(total * rate * (1 - rate), 1e-9)
        return float(excess[usable].sum()), int(np.count_nonzero(usable))

    tally = _counted_llrs(1.0)
    value, bins = chi_squared(tally)
    assert bins > 15
    assert chi2.sf(value, bins) > 1e-4
    assert (tally.llr_zeros + tally.llr_ones).sum() == 4 * 60_000
    assert LLR_EDGES.size == tally.llr_ones.size + 1
    # A receiver that takes the noise for half of what it is promises too much, and it shows.
    value, bins = chi_squared(_counted_llrs(0.5))
    assert chi2.sf(value, bins) < 1e-100


def test_confusion_counts_every_decision(content) -> None:
    system, samples = content
    tally = simulate_point(system, samples, 0.0, Settings(trials=3))
    assert tally.confusion.sum(axis=1).tolist() == (3 * np.bincount(samples.labels)).tolist()
    assert np.trace(tally.confusion) == tally.deployed.correct.sum()


def test_a_decision_stands_in_its_own_row_and_column(by_snr) -> None:
    class Stubborn:
        """Says class 2, whatever it hears."""

        def receive(self, llr, mode) -> Reception:
            rows = len(np.asarray(llr))
            return Reception(
                np.tile(np.eye(CLASSES, dtype=np.float32)[2], (rows, 1)), np.zeros((rows, 1), int)
            )

    system, samples = by_snr
    stubborn = dataclasses.replace(system, receiver=Stubborn(), references=())
    expected = np.zeros((CLASSES, CLASSES), dtype=int)
    expected[:, 2] = np.bincount(samples.labels)
    mode = MODES.names[0]
    tally = simulate_point(stubborn, samples, 20.0, Settings(trials=1, mode=mode))
    assert tally.confusion.tolist() == expected.tolist()


def test_noise_of_another_variance_is_refused(content) -> None:
    tally = simulate_point(*content, 6.0, Settings(trials=2))
    assert point_results([tally], MODES, CLASSES, Settings())[0].measured_esn0_db == pytest.approx(6, abs=0.2)
    sent = tally.signal_power
    tally.signal_power *= 2
    with pytest.raises(VerificationError, match="the symbols sent have 2 on average, not 1"):
        point_results([tally], MODES, CLASSES, Settings())
    tally.signal_power = sent
    tally.noise_power *= 1.5
    with pytest.raises(VerificationError, match="noise at 6 dB"):
        point_results([tally], MODES, CLASSES, Settings())


def test_received_symbols_lie_around_their_points(by_snr) -> None:
    settings = Settings(channel="rayleigh", coherence="sample")
    entries = scatter_of(*by_snr, [0.0, 20.0, 40.0, 50.0], settings)
    assert [entry.esn0_db for entry in entries] == [0.0, 40.0, 50.0]
    for group in entries[-1].groups:
        received = np.array(group.received) @ [1, 1j]
        reference = np.array(group.reference) @ [1, 1j]
        assert group.order == len(reference) == MODES[MODES.find(group.mode)].order
        assert 0 < len(received) <= 400
        distance = np.abs(received[:, np.newaxis] - reference).min(axis=1)
        assert np.median(distance) < 0.02
    assert np.std(np.array(entries[0].groups[0].received)) > 0.5
