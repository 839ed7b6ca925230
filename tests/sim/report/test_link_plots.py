"""Figures of samples on the air, of decisions, and of what LLRs promise against what the bits were."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from tools.fake_report import fake_report
from twophase.sim.report.link_plots import (
    calibration_svg,
    confusion_svg,
    constellation_svg,
    llr_svg,
    log_odds,
)
from twophase.sim.results.figures import Point, ScatterGroup

QPSK = [[re / 2**0.5, im / 2**0.5] for re in (-1, 1) for im in (-1, 1)]


def _texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def _marks(svg: str) -> int:
    """Marks of all kinds, ticks of both axes included."""
    return svg.count("<use ")


def _group(received: list[list[float]]) -> ScatterGroup:
    return ScatterGroup("2x4qam", 4, received, QPSK)


def test_all_samples_of_plain_noise_are_shown() -> None:
    rng = np.random.default_rng(0)
    sent = np.array(QPSK)[rng.integers(0, 4, 300)]
    received = sent + rng.normal(0, 0.3, sent.shape)
    svg, outside = constellation_svg(_group(received.tolist()), 7.5, "air")
    assert outside == 0
    assert _texts(svg)[-1] == "7.5 dB, 2x4qam"
    assert _marks(svg) >= 300 + 4


def test_samples_that_a_fade_throws_far_out_are_counted_and_left_out() -> None:
    received = [*(QPSK * 75), [40.0, 0.0], [0.0, -55.0]]
    svg, outside = constellation_svg(_group(received), 10.0, "air")
    assert outside == 2
    # The panel still shows the points at their usual size.
    ticks = [float(text.replace("−", "-")) for text in _texts(svg) if re.fullmatch(r"[−\d.]+", text)]
    assert max(map(abs, ticks)) <= 1


def test_few_samples_or_none_can_be_drawn() -> None:
    for received in ([], [[0.1, 0.2]]):
        svg, outside = constellation_svg(_group(received), 0.0, "air")
        assert outside == 0
        assert svg.startswith("<svg")


def _confusion(counts: list[list[int]], names: list[str]) -> list[str]:
    report = replace(fake_report((3.0,)), classes=names)
    point = replace(report.points[0], confusion=counts)
    return _texts(confusion_svg(report, point, "confusion"))


def test_a_confusion_matrix_tells_none_from_few_and_all_from_nearly_all() -> None:
    texts = _confusion([[10_000, 0, 0], [1, 9_999, 0], [30, 70, 9_900]], ["a", "b", "c"])
    cells = [text for text in texts if re.fullmatch(r"[<.\d]+|&lt;1", text)]
    assert cells == ["100", "&lt;1", "99", ".3", ".7", "99"]


def test_a_class_without_samples_and_many_classes_can_be_drawn() -> None:
    assert "0" not in _confusion([[5, 0], [0, 0]], ["a", "b"])
    names = [f"a long name {number}" for number in range(60)]
    texts = _confusion(np.eye(60, dtype=int).tolist(), names)
    assert "100" not in texts
    assert 0 < len([text for text in texts if text.startswith("a long")]) <= 40


def _binned(llr: np.ndarray, ones: np.ndarray, edges: np.ndarray) -> Point:
    return replace(
        fake_report((0.0,)).points[0],
        llr_zeros=np.histogram(llr[~ones], edges)[0].tolist(),
        llr_ones=np.histogram(llr[ones], edges)[0].tolist(),
        llr_expected_ones=np.histogram(llr, edges, weights=expit(llr))[0].tolist(),
    )


@pytest.mark.parametrize("factor", [1.0, 0.5, 2.0])
def test_log_odds_tell_calibrated_llrs_from_others(factor) -> None:
    """False alarm where the factor is 1, by a share of intervals 5 sigma beyond 5 %: below 1e-5."""
    rng = np.random.default_rng(3)
    edges = np.linspace(-12, 12, 49)
    true = rng.uniform(-6, 6, 200_000)
    ones = rng.random(true.size) < expit(true)
    promised, seen, low, high = log_odds(edges, _binned(factor * true, ones, edges))
    assert (low < seen).all()
    assert (seen < high).all()
    missed = np.mean((promised < low) | (promised > high))
    if factor == 1:
        assert missed <= 0.05 + 5 * np.sqrt(0.05 * 0.95 / len(seen))
    else:
        assert missed > 0.5
    slope = np.polyfit(promised, seen, 1)[0]
    assert slope == pytest.approx(1 / factor, rel=0.1)


def test_bins_without_errors_are_left_out_and_far_ones_kept() -> None:
    edges = np.array([-100.0, -50, -1, 1, 50, 100])
    point = replace(
        fake_report((0.0,)).points[0],
        llr_zeros=[50, 9, 10, 1, 2],
        llr_ones=[0, 1, 10, 9, 98],
        llr_expected_ones=[0.0, 1.0, 10.0, 9.0, 100.0],
    )
    promised, seen, low, high = log_odds(edges, point)
    np.testing.assert_allclose(seen, np.log([1 / 9, 1, 9, 49]))
    # The last bin promises certainty: its middle stands for it, and shows how wrong that is.
    np.testing.assert_allclose(promised, [-25.5, np.log(1), 25.5, 75.0])
    assert np.isfinite([low, high]).all()


def test_figures_of_llrs_show_three_points() -> None:
    report = fake_report(tuple(float(n) for n in range(5)))
    shown = [text for text in _texts(llr_svg(report)) if text.endswith(" dB")]
    assert shown == ["0 dB", "2 dB", "4 dB"]
    assert [text for text in _texts(calibration_svg(report)) if text.endswith(" dB")] == shown


def test_llrs_that_are_all_clipped_can_be_drawn() -> None:
    """What a hard demapper gives."""
    report = fake_report((10.0,))
    bins = len(report.llr_edges) - 1
    zeros, ones, expected = np.zeros(bins), np.zeros(bins), np.zeros(bins)
    zeros[0], zeros[-1], ones[0], ones[-1], expected[-1] = 900, 100, 100, 900, 1000
    clipped = {"llr_zeros": zeros, "llr_ones": ones, "llr_expected_ones": expected}
    for counts in (clipped, {name: np.zeros(bins) for name in clipped}):
        point = replace(report.points[0], **{name: values.tolist() for name, values in counts.items()})
        for figure_of in (llr_svg, calibration_svg):
            assert figure_of(replace(report, points=[point])).startswith("<svg")
