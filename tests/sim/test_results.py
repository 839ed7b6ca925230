"""Counts to figures, verdict and texts."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from tools.tiny_bundle import LINK
from twophase.link.errors import VerificationError
from twophase.sim.counts import SystemCounts, Tally
from twophase.sim.results.figures import Ceiling, Point, as_json
from twophase.sim.results.points import advice, point_results, remarks_on, verdict_of, verdict_reason
from twophase.sim.results.quality import quality_of, with_ceiling
from twophase.sim.results.report_json import channel_text, csi_text
from twophase.sim.settings import Settings
from twophase.sim.theory.label_bound import label_accuracy, simplex_success
from twophase.sim.theory.rates import qam_ber
from twophase.sim.theory.statistics import paired_gap

MODES = LINK.modes


def _counts(right: int, samples: int, energy: float) -> SystemCounts:
    """Ten trials of half of the samples in mode 1 and half in mode 2, each right in ``right`` of them."""
    half = samples // 2
    return SystemCounts(
        correct=np.full(samples, right),
        frames=Counter({(1, 0): 10 * half, (2, 0): 10 * half}),
        correct_by_mode=Counter({1: right * half, 2: right * half}),
        energy_sum=energy,
        transmissions=1,
    )


def _tally(esn0_db: float = 6.0, hard: int = 9, samples: int = 400, **soft: int) -> Tally:
    """Every sample right in ``hard`` of 10 trials, and in so many of each soft reference."""
    return Tally(
        esn0_db=esn0_db,
        deployed=_counts(hard, samples, 1.25),
        references={name: _counts(count, samples, 0.5) for name, count in soft.items()},
        noiseless_correct=(np.arange(samples) < samples * 3 // 4).astype(np.int64),
        histograms={1: np.arange(16), 2: np.ones(4, dtype=np.int64)},
        transmissions=1,
        trials=10,
        bit_errors=30,
        bits_sent=1000,
        codeword_errors=5,
        codewords_sent=50,
        abs_llr=2500.0,
        llrs=1000,
        signal_power=500.0,
        signal_count=500,
        noise_power=1000 * 10 ** (-esn0_db / 10),
        noise_count=1000,
    )


def _points(*tallies: Tally, **settings) -> list[Point]:
    return point_results(tallies, MODES, 4, Settings(trials=10, **settings))


def test_figures_of_a_point() -> None:
    tally = _tally(learning=9, aligned=8)
    (point,) = _points(tally)
    content = as_json(point)
    assert [*content][:5] == ["esn0_db", "ebn0_db", "verdict", "accuracy_hard", "accuracy_hard_ci"]
    promised = "gap_reference accuracy_soft gap gap_ci references companions header_error_rate mode_usage"
    assert set(promised.split()) <= content.keys()
    assert content["references"]["learning"]["verdict"] == "PASS"
    assert content["header_error_rate"] is None  # known to be none
    assert not {"best_fixed", "text"} & content.keys()  # not asked for
    # Modes 1 (6 bits in 2 symbols of 16-QAM) and 2 (4 bits in 2 symbols of QPSK), half of the samples each.
    assert (point.bits_per_sample, point.symbols_per_sample) == (5, 2)
    assert point.ebn0_db == pytest.approx(6.0 - 10 * np.log10(2.5))
    assert point.mode_usage == {"4x16qam": 0.5, "16x4qam": 0.5}
    assert (point.ber, point.codeword_error_rate, point.mean_abs_llr) == (0.03, 0.1, 2.5)
    assert (point.samples, point.trials, point.symbol_energy) == (400, 10, 1.25)
    # 120 symbols of 4 bits against 4 symbols of 2 bits.
    expected = (480 * float(qam_ber(16, 6.0)) + 8 * float(qam_ber(4, 6.0))) / 488
    assert point.ber_theory == pytest.approx(expected)
    # Uniform use at unit energy gives the textbook curve.
    tally.histograms, tally.deployed.energy_sum = {2: np.full(4, 7)}, 1.0
    (point,) = _points(tally)
    assert point.ber_theory_usage == pytest.approx(point.ber_theory)


def test_the_label_bound_takes_the_noise_free_accuracy_of_its_own_point() -> None:
    low, high = _tally(0.0, aligned=9), _tally(10.0, aligned=9)
    high.noiseless_correct[:] = 1
    *points, noise = _points(low, high, _tally(-60.0, aligned=9))
    for clean, point in zip((0.75, 1.0), points, strict=True):
        assert point.accuracy_noiseless == clean
        delivered = float(simplex_success(4, 2, point.esn0_db))
        assert point.label_bound == pytest.approx(label_accuracy(clean, delivered, 4))
    # In mere noise nobody does better than chance, nor worse.
    assert noise.label_bound == pytest.approx(0.25, abs=2e-3)


@pytest.mark.parametrize(
    ("altered", "message"),
    [("signal_power", "the symbols sent have 1.5 on average, not 1"), ("noise_power", "noise at 6 dB")],
)
def test_symbols_or_noise_of_another_energy_are_refused(altered: str, message: str) -> None:
    tally = _tally(aligned=9)
    assert _points(tally)[0].measured_esn0_db == pytest.approx(6)
    setattr(tally, altered, 1.5 * getattr(tally, altered))
    with pytest.raises(VerificationError, match=message):
        _points(tally)


@pytest.mark.parametrize("soft", [{"learning": 8, "aligned": 10}, {"learning": 10, "aligned": 8}])
def test_the_worst_reference_decides_and_gives_all_summary_figures(soft) -> None:
    # Better than one reference, 10 points below the other, without spread: only the second fails.
    points = _points(_tally(hard=9, **soft))
    (worst,) = (name for name, right in soft.items() if right == 10)
    (point,), lowest = points, points[0].references[worst]
    assert [name for name, entry in point.references.items() if entry.verdict == "FAIL"] == [worst]
    assert point.gap_reference == worst
    assert point.gap == lowest.gap == pytest.approx(-0.1)
    assert (point.gap_ci, point.accuracy_soft) == (lowest.gap_ci, lowest.accuracy)
    assert point.accuracy_hard - point.accuracy_soft == pytest.approx(point.gap)
    assert point.verdict == verdict_of(points) == "FAIL"
    reason = verdict_reason(points, 0.02)
    assert reason.startswith("deployed more than 2 percentage points below soft at 1 of 1 SNRs (6 dB), shown")
    assert reason.endswith("against: learning" if worst == "learning" else "against: aligned")


def test_the_lowest_gap_is_not_the_lowest_bound() -> None:
    # The learning reference is as good on average but scattered: its bound is lower, its gap is not.
    tally = _tally(hard=5, learning=5, aligned=5)
    tally.references["learning"].correct[:] = np.array([0, 10] * 200)
    tally.references["aligned"].correct[:4] = 6
    (point,) = _points(tally)
    learning, aligned = (point.references[name] for name in ("learning", "aligned"))
    assert learning.gap_lower_bound < aligned.gap_lower_bound
    assert (point.gap_reference, point.gap) == ("aligned", aligned.gap)
    assert point.gap == pytest.approx(-0.001)


@pytest.mark.parametrize(
    ("tallies", "tolerance", "remark"),
    [
        ([_tally(0.0, aligned=9)], 0.02, None),
        # Only the aligned model is the same model; the learning one may well differ.
        ([_tally(learning=5)], 0.02, None),
        ([_tally(0.0, aligned=8), _tally(20.0, aligned=5)], 0.02, "40.0 points (20 dB): .* is not worse"),
        ([_tally(0.0, aligned=8), _tally(20.0, aligned=5)], 0.41, None),
        (
            [_tally(20.0, aligned=5), _tally(7.0, hard=7, aligned=9)],
            0.02,
            "20 dB.* worse by up to 20.0 points (7 dB)",
        ),
        ([_tally(7.0, hard=7, aligned=9)], 0.02, "20.0 points (7 dB): .* and the deployed one is the worse"),
    ],
)
def test_a_surrogate_that_is_not_aligned_is_remarked(tallies, tolerance, remark) -> None:
    found = remarks_on(_points(*tallies), tolerance)
    assert len(found) == (remark is not None)
    if remark is not None:
        places = [found[0].index(part) for part in remark.split(".* ")]
        assert places == sorted(places)


def test_mistaken_modes_are_remarked_and_hide_what_is_not_aligned() -> None:
    tally = _tally(3.0, hard=9, aligned=5)
    tally.deployed.mode_errors = 80  # of 4000 frames
    (remark,) = remarks_on(_points(tally), 0.02)
    assert "mistook the mode of up to 2 % of the frames (3 dB)" in remark


def test_one_failing_point_fails_the_whole() -> None:
    points = _points(_tally(0.0, hard=9, aligned=9), _tally(1.0, hard=8, aligned=9))
    assert [point.verdict for point in points] == ["PASS", "FAIL"]
    assert (verdict_of(points), verdict_of(points[:1])) == ("FAIL", "PASS")
    assert "at 1 of 2 SNRs (1 dB), shown" in verdict_reason(points, 0.02)


def test_too_few_samples_are_undecided_and_how_many_would_do_is_said() -> None:
    # No difference at all: the tolerance must allow what cannot be ruled out.
    limit = -paired_gap(np.zeros(400)).lower_bound
    for tolerance, verdict in ((limit * 1.001, "PASS"), (limit * 0.999, "UNDECIDED")):
        assert verdict_of(_points(_tally(aligned=9), tolerance=tolerance)) == verdict
    points = _points(_tally(samples=20, aligned=9), _tally(7.0, samples=20, aligned=9))
    assert verdict_of(points) == "UNDECIDED"
    reason = verdict_reason(points, 0.02)
    assert reason.startswith(
        "neither shown nor refuted that deployed is at most 2 percentage points below soft"
    )
    assert "at 2 of 2 SNRs (6, 7 dB)" in reason
    said = advice(points, 0.02)
    assert said is not None
    assert said.startswith("about 180 samples")
    wider = float(re.findall(r"--tolerance (\S+) would PASS now", said)[0])
    assert verdict_of(_points(_tally(samples=20, aligned=9), tolerance=wider)) == "PASS"
    assert verdict_of(_points(_tally(samples=180, aligned=9))) == "PASS"
    # What looks worse decides alone, by a number of its own; a gap at the tolerance never does.
    worse = _tally(samples=20, aligned=9)
    worse.references["aligned"].correct[:2] = 10
    open_points = _points(worse, _tally(7.0, samples=20, aligned=9), tolerance=0.005)
    needed = open_points[0].references["aligned"].samples_to_decide
    assert f"about {needed:,} samples" in str(advice(open_points, 0.005))
    (at_limit,) = _points(_tally(samples=20, aligned=9), tolerance=0.0)
    assert "no number of samples" in str(advice([at_limit], 0.0))
    assert advice(_points(_tally(aligned=9)), 0.02) is None


def test_how_good_the_link_is_stands_next_to_the_verdict() -> None:
    tally = _tally(hard=9, aligned=9)
    tally.confusion = np.diag([700, 100, 100, 100])
    points = with_ceiling(_points(tally), Ceiling("no channel", "a classifier", 0.99, (0.98, 1.0)), 4)
    delivered = float(simplex_success(4, 2, 6.0))
    assert points[0].classify_and_send == pytest.approx(label_accuracy(0.99, delivered, 4))
    quality = quality_of(points, Ceiling("no channel", "a classifier", 0.99, (0.98, 1.0)), {})
    assert quality.majority_share == 0.7
    assert quality.below_label == pytest.approx(points[0].classify_and_send - 0.9)
    below, first = quality.warnings
    assert "9.0 percentage points below what its encoder allows" in below
    assert f"{100 * quality.below_label:.1f} percentage points better with as many symbols (6 dB" in first
    # Without a ceiling the label is that of the link itself; no better than the largest class is said alone.
    tally.confusion = np.diag([95, 2, 2, 1])
    quality = quality_of(_points(tally), None, {})
    assert quality.below_label == pytest.approx(points[0].label_bound - 0.9)
    assert "at no SNR is the link better than naming the most frequent class" in quality.warnings[0]


def test_a_missing_learning_reference_is_said() -> None:
    reason = verdict_reason(_points(_tally(aligned=9), _tally(7.0, aligned=9)), 0.02)
    assert "at most 2 percentage points below soft at all 2 SNRs, one-sided 95 % at each" in reason
    assert "against: aligned only" in reason
    both = verdict_reason(_points(_tally(learning=9, aligned=9)), 0.02)
    assert both.endswith("one-sided 95 %; against: learning, aligned")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("awgn", "symbol"), "AWGN"),
        (("rayleigh", "symbol"), "flat Rayleigh fading"),
        (("rician", "sample", 3.0), "Rician (3 dB) block fading"),
        (("rician", 12), "Rician (6 dB) fading in blocks of 12 symbols"),
        (("tdl-c", "symbol"), "TDL-C under OFDM, 300 ns (simulated: 306 ns)"),
    ],
)
def test_a_channel_is_named(arguments, text) -> None:
    assert channel_text(*arguments) == text


BLOCKS = {"channel": "rayleigh", "coherence": 6, "csi": "pilot"}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"csi": "none", "noise_mismatch_db": -3},
            "every gain for 1 and knows the noise variance, taken 3 dB too low",
        ),
        (
            BLOCKS,
            "error from 2 pilot symbols in each block of equal gain, counted as symbols, and knows the noise",
        ),
        (
            {"channel": "tdl-c", "csi": "pilot", "estimator": "ls"},
            "by least squares from 2 .* of 12 subcarriers, ",
        ),
        (BLOCKS | {"coherence": "sample"}, "2 pilot symbols in each frame, .* knows the noise variance$"),
        (BLOCKS | {"noise_estimate": "pilot"}, r"from the pilots \(from the first block of each frame\)$"),
    ],
)
def test_what_the_receiver_knows_is_said(given, text) -> None:
    assert re.search(text, csi_text(Settings(**given)))
