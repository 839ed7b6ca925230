"""Figures of samples on the air, of decisions, and of what LLRs promise against what the bits were."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from tools.tiny_report import tiny_report
from twophase.sim.report.link_plots import (
    calibration_svg,
    confusion_svg,
    constellation_svg,
    llr_svg,
    log_odds,
)
from twophase.sim.results.figures import Point, Report, ScatterGroup

QPSK = [[re / 2**0.5, im / 2**0.5] for re in (-1, 1) for im in (-1, 1)]


@pytest.fixture(scope="module")
def report() -> Report:
    return tiny_report(tuple(float(n) for n in range(5)))


def _texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def _constellation(received: list[list[float]]) -> tuple[str, int]:
    return constellation_svg(ScatterGroup("2x4qam", 4, received, QPSK), 7.5, "air")


def test_all_samples_of_plain_noise_are_shown_few_or_none_as_well() -> None:
    rng = np.random.default_rng(0)
    plain = (np.array(QPSK)[rng.integers(0, 4, 300)] + rng.normal(0, 0.3, (300, 2))).tolist()
    for received in (plain, [[0.1, 0.2]], []):
        svg, outside = _constellation(received)
        assert outside == 0
        assert _texts(svg)[-1] == "7.5 dB, 2x4qam"
        assert svg.count("<use ") >= len(received) + 4


def test_samples_that_a_fade_throws_far_out_are_counted_and_left_out() -> None:
    svg, outside = _constellation([*(QPSK * 75), [40.0, 0.0], [0.0, -55.0]])
    assert outside == 2
    # The panel still shows the points at their usual size.
    ticks = [float(text.replace("−", "-")) for text in _texts(svg) if re.fullmatch(r"[−\d.]+", text)]
    assert max(map(abs, ticks)) <= 1


def _confusion(report: Report, counts: list[list[int]], names: list[str]) -> list[str]:
    point = replace(report.points[0], confusion=counts)
    return _texts(confusion_svg(replace(report, classes=names), point, "confusion"))


def test_a_confusion_matrix_tells_none_from_few_and_all_from_nearly_all(report) -> None:
    counts = [[10_000, 0, 0, 0], [1, 9_999, 0, 0], [30, 70, 9_900, 0], [0, 0, 0, 0]]
    cells = [text for text in _confusion(report, counts, list("abcd")) if re.fullmatch(r"[.\d]+|&lt;1", text)]
    assert cells == ["100", "&lt;1", "99", ".3", ".7", "99"]
    # With many classes there is room for a part of their names alone.
    names = [f"a long name {number}" for number in range(60)]
    texts = _confusion(report, np.eye(60, dtype=int).tolist(), names)
    assert "100" not in texts
    assert 0 < len([text for text in texts if text.startswith("a long")]) <= 40


def _binned(point: Point, llr: np.ndarray, ones: np.ndarray, edges: np.ndarray) -> Point:
    return replace(
        point,
        llr_zeros=np.histogram(llr[~ones], edges)[0].tolist(),
        llr_ones=np.histogram(llr[ones], edges)[0].tolist(),
        llr_expected_ones=np.histogram(llr, edges, weights=expit(llr))[0].tolist(),
    )


@pytest.mark.parametrize("factor", [1.0, 0.5, 2.0])
def test_log_odds_tell_calibrated_llrs_from_others(report, factor) -> None:
    """False alarm where the factor is 1, by a share of intervals 5 sigma beyond 5 %: below 1e-5."""
    rng, edges = np.random.default_rng(3), np.linspace(-12, 12, 49)
    true = rng.uniform(-6, 6, 200_000)
    ones = rng.random(true.size) < expit(true)
    promised, seen, low, high = log_odds(edges, _binned(report.points[0], factor * true, ones, edges))
    assert ((low < seen) & (seen < high)).all()
    missed = np.mean((promised < low) | (promised > high))
    assert missed <= 0.05 + 5 * np.sqrt(0.05 * 0.95 / len(seen)) if factor == 1 else missed > 0.5
    assert np.polyfit(promised, seen, 1)[0] == pytest.approx(1 / factor, rel=0.1)


def test_bins_without_errors_are_left_out_and_far_ones_kept(report) -> None:
    edges = np.array([-100.0, -50, -1, 1, 50, 100])
    counts = {"llr_zeros": [50, 9, 10, 1, 2], "llr_ones": [0, 1, 10, 9, 98]}
    point = replace(report.points[0], **counts, llr_expected_ones=[0.0, 1.0, 10.0, 9.0, 100.0])
    promised, seen, low, high = log_odds(edges, point)
    np.testing.assert_allclose(seen, np.log([1 / 9, 1, 9, 49]))
    # The last bin promises certainty: its middle stands for it, and shows how wrong that is.
    np.testing.assert_allclose(promised, [-25.5, np.log(1), 25.5, 75.0])
    assert np.isfinite([low, high]).all()


@pytest.mark.parametrize("figure_of", [llr_svg, calibration_svg])
def test_figures_of_llrs_show_three_points_and_what_is_all_clipped(report, figure_of) -> None:
    assert [text for text in _texts(figure_of(report)) if text.endswith(" dB")] == ["0 dB", "2 dB", "4 dB"]
    # As a hard demapper gives them; and none at all.
    ends, none = np.zeros((2, 3, len(report.llr_edges) - 1))
    ends[:, [0, -1]] = [[900, 100], [100, 900], [0, 1000]]
    for counts in (ends, none):
        named = dict(zip(("llr_zeros", "llr_ones", "llr_expected_ones"), counts.tolist(), strict=True))
        assert figure_of(replace(report, points=[replace(report.points[0], **named)])).startswith("<svg")
