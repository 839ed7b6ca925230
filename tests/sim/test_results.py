"""Counts to figures, verdict and words."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tools.tiny_bundle import LINK
from twophase.sim.counts import SystemCounts, Tally
from twophase.sim.results.figures import as_json
from twophase.sim.results.points import point_results
from twophase.sim.results.report_json import channel_text, csi_text
from twophase.sim.results.verdict import remarks_on, verdict_of, verdict_reason
from twophase.sim.settings import Settings
from twophase.sim.theory.label_bound import label_accuracy, simplex_success
from twophase.sim.theory.rates import qam_ber
from twophase.sim.theory.statistics import paired_gap

MODES = LINK.modes
SETTINGS = Settings(trials=10)


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
    right = np.zeros(samples, dtype=np.int64)
    right[: samples * 3 // 4] = 1
    return Tally(
        esn0_db=esn0_db,
        deployed=_counts(hard, samples, 1.25),
        references={name: _counts(count, samples, 0.5) for name, count in soft.items()},
        noiseless_correct=right,
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


def test_figures_of_a_point() -> None:
    point = point_results([_tally(learning=9, aligned=8)], MODES, 4, SETTINGS)[0]
    content = as_json(point)
    assert [*content][:5] == ["esn0_db", "ebn0_db", "verdict", "accuracy_hard", "accuracy_hard_ci"]
    promised = "gap_reference accuracy_soft gap gap_ci references companions header_error_rate mode_usage"
    assert set(promised.split()) <= content.keys()
    assert content["references"]["learning"]["pass"] is True
    assert content["header_error_rate"] is None  # known to be none
    assert not {"best_fixed", "text"} & content.keys()  # not asked for
    # Modes 1 (6 bits in 2 symbols of 16-QAM) and 2 (4 bits in 2 symbols of QPSK), half of the samples each.
    assert point.bits_per_sample == 5
    assert point.symbols_per_sample == 2
    assert point.ebn0_db == pytest.approx(6.0 - 10 * np.log10(2.5))
    assert point.mode_usage == {"4x16qam": 0.5, "16x4qam": 0.5}
    assert (point.ber, point.codeword_error_rate, point.mean_abs_llr) == (0.03, 0.1, 2.5)
    assert (point.samples, point.trials, point.symbol_energy) == (400, 10, 1.25)
    # 120 symbols of 4 bits against 4 symbols of 2 bits.
    expected = (480 * float(qam_ber(16, 6.0)) + 8 * float(qam_ber(4, 6.0))) / 488
    assert point.ber_theory == pytest.approx(expected)


def test_uniform_use_at_unit_energy_gives_the_textbook_curve() -> None:
    tally = _tally(aligned=9)
    tally.histograms = {2: np.full(4, 7)}
    tally.deployed.energy_sum = 1.0
    point = point_results([tally], MODES, 4, SETTINGS)[0]
    assert point.ber_theory_usage == pytest.approx(point.ber_theory)


def test_label_bound_takes_the_noise_free_accuracy_of_its_own_point() -> None:
    low, high = _tally(0.0, aligned=9), _tally(10.0, aligned=9)
    high.noiseless_correct[:] = 1
    points = point_results([low, high], MODES, 4, SETTINGS)
    assert [point.accuracy_noiseless for point in points] == [0.75, 1.0]
    for clean, point in zip((0.75, 1.0), points, strict=True):
        delivered = float(simplex_success(4, 2, point.esn0_db))
        assert point.label_bound == pytest.approx(label_accuracy(clean, delivered, 4))
    # In mere noise nobody does better than chance, nor worse.
    noise = point_results([_tally(-60.0, aligned=9)], MODES, 4, SETTINGS)[0]
    assert noise.label_bound == pytest.approx(0.25, abs=2e-3)


def test_the_worst_reference_decides() -> None:
    # Equal to one reference, 10 points below the other, without spread: only the second fails.
    points = point_results([_tally(hard=9, learning=10, aligned=9)], MODES, 4, SETTINGS)
    references = points[0].references
    assert references["aligned"].passes is True
    assert references["learning"].passes is False
    assert points[0].gap == pytest.approx(-0.1)
    assert points[0].gap_ci == references["learning"].gap_ci
    assert points[0].verdict == verdict_of(points) == "FAIL"
    reason = verdict_reason(points, 0.02)
    assert "is not shown at 1 of 1 points (6 dB)" in reason
    assert reason.endswith("against: learning")


@pytest.mark.parametrize("soft", [{"learning": 8, "aligned": 10}, {"learning": 10, "aligned": 8}])
def test_one_reference_gives_all_summary_figures(soft) -> None:
    point = point_results([_tally(hard=9, **soft)], MODES, 4, SETTINGS)[0]
    lowest = point.references[point.gap_reference]
    assert soft[point.gap_reference] == 10
    assert point.gap == lowest.gap == min(entry.gap for entry in point.references.values())
    assert (point.gap_ci, point.accuracy_soft) == (lowest.gap_ci, lowest.accuracy)
    assert point.accuracy_hard - point.accuracy_soft == pytest.approx(point.gap)


def test_the_lowest_gap_is_not_the_lowest_bound() -> None:
    # The learning reference is as good on average but scattered: its bound is lower, its gap is not.
    tally = _tally(hard=5, learning=5, aligned=5)
    tally.references["learning"].correct[:] = np.array([0, 10] * 200)
    tally.references["aligned"].correct[:4] = 6
    point = point_results([tally], MODES, 4, SETTINGS)[0]
    learning, aligned = (point.references[name] for name in ("learning", "aligned"))
    assert learning.gap_lower_bound < aligned.gap_lower_bound
    assert point.gap_reference == "aligned"
    assert point.gap == aligned.gap == pytest.approx(-0.001)


def test_a_surrogate_that_is_not_aligned_is_remarked() -> None:
    tallies = [_tally(0.0, hard=9, aligned=8), _tally(20.0, hard=9, learning=9, aligned=5)]
    points = point_results(tallies, MODES, 4, SETTINGS)
    assert verdict_of(points) == "PASS"
    (remark,) = remarks_on(points, 0.02)
    assert "up to 40.0 points (20 dB)" in remark
    assert "not worse" in remark
    assert remarks_on(points, 0.41) == []
    worse = [*tallies, _tally(7.0, hard=7, aligned=9)]
    (remark,) = remarks_on(point_results(worse, MODES, 4, SETTINGS), 0.02)
    assert "up to 40.0 points (20 dB)" in remark
    assert remark.endswith("and the deployed one is worse by up to 20.0 points (7 dB)")
    # Only the aligned model is the same model; the learning one may well differ.
    assert remarks_on(point_results([_tally(hard=9, learning=5)], MODES, 4, SETTINGS), 0.02) == []
    assert remarks_on(point_results([_tally(hard=9, aligned=9)], MODES, 4, SETTINGS), 0.02) == []


def test_mistaken_modes_are_remarked_and_hide_what_is_not_aligned() -> None:
    tally = _tally(3.0, hard=9, aligned=5)
    tally.deployed.mode_errors = 80  # of 4000 frames
    (remark,) = remarks_on(point_results([tally], MODES, 4, SETTINGS), 0.02)
    assert "mistook the mode of up to 2 % of the frames (3 dB)" in remark


def test_one_failing_point_fails_the_whole() -> None:
    tallies = [_tally(0.0, hard=9, aligned=9), _tally(1.0, hard=8, aligned=9)]
    points = point_results(tallies, MODES, 4, SETTINGS)
    assert [point.verdict for point in points] == ["PASS", "FAIL"]
    assert verdict_of(points) == "FAIL"
    assert verdict_of(points[:1]) == "PASS"
    assert "at 1 of 2 points (1 dB)" in verdict_reason(points, 0.02)


def test_the_tolerance_is_a_bound_on_the_bound() -> None:
    # No difference at all: the tolerance must allow what cannot be ruled out.
    tally = _tally(hard=9, aligned=9)
    limit = -paired_gap(np.zeros(400)).lower_bound
    for tolerance, verdict in ((limit * 1.001, "PASS"), (limit * 0.999, "FAIL")):
        points = point_results([tally], MODES, 4, Settings(trials=10, tolerance=tolerance))
        assert verdict_of(points) == verdict
    # Twenty samples cannot show two points, whatever they show.
    assert verdict_of(point_results([_tally(samples=20, aligned=9)], MODES, 4, SETTINGS)) == "FAIL"


def test_a_missing_learning_reference_is_said() -> None:
    points = point_results([_tally(aligned=9), _tally(7.0, aligned=9)], MODES, 4, SETTINGS)
    reason = verdict_reason(points, 0.02)
    assert ">= -2 points at all 2 points" in reason
    assert "against: aligned only" in reason
    both = point_results([_tally(learning=9, aligned=9)], MODES, 4, SETTINGS)
    assert verdict_reason(both, 0.02).endswith("at 6 dB, one-sided 95 %; against: learning, aligned")
    # Where only the aligned one fails, the other was there all the same.
    worse = point_results([_tally(hard=8, learning=8, aligned=9)], MODES, 4, SETTINGS)
    assert verdict_reason(worse, 0.0).startswith("deployed - soft >= 0 points is not shown at 1 of 1 points")
    assert verdict_reason(worse, 0.02).endswith("against: aligned")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("awgn", "symbol"), "AWGN"),
        (("rayleigh", "symbol"), "flat Rayleigh fading"),
        (("rician", "sample", 3.0), "Rician (3 dB) block fading"),
        (("rician", 12), "Rician (6 dB) fading in blocks of 12 symbols"),
        (("tdl-c", "symbol"), "TDL-C under OFDM, 300 ns (simulated: 306 ns)"),
        (("tdl-a", "symbol", 6.0, 50.0), "TDL-A under OFDM, 50 ns (simulated: 66 ns)"),
        (("tdl-c", "symbol", 6.0, 1.5), "TDL-C under OFDM, 1.5 ns (simulated: 0 ns)"),
    ],
)
def test_a_channel_is_named(arguments, text) -> None:
    assert channel_text(*arguments) == text


@pytest.mark.parametrize("coherence", [6, "sample"])
def test_an_estimated_noise_variance_is_said_to_come_from_the_first_block(coherence) -> None:
    settings = Settings(channel="rayleigh", coherence=coherence, csi="pilot", noise_estimate="pilot")
    assert csi_text(settings).endswith(
        "a noise variance estimated from the pilots (from the first block of each frame)"
    )
    assert "first block" not in csi_text(Settings(channel="rayleigh", coherence=coherence, csi="pilot"))
