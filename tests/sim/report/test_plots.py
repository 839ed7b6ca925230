"""Figures over SNR: curves that coincide can be told apart, and nothing stands in their way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tools.tiny_report import tiny_report
from twophase.sim.report import plots
from twophase.sim.report.drawing import (
    COLOURS,
    Look,
    baseline_looks,
    curve,
    legend_above,
    place_labels,
    snr_axis,
    svg,
)
from twophase.sim.results.figures import Report

GRID = (0.0, 5.0, 10.0, 20.0)


@pytest.fixture(scope="module")
def report() -> Report:
    return tiny_report(GRID)


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """Figures that the page's functions draw, with their layout made, in place of SVG."""
    figures: list[Figure] = []

    def draw_only(draw, size, name, title) -> str:
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.draw_without_rendering()
        figures.append(figure)
        return title

    monkeypatch.setattr(plots, "svg", draw_only)
    return figures


def _lines(axes: Axes) -> dict[str, Any]:
    return {str(line.get_label()): line for line in axes.lines}


ALL = [plots.accuracy_svg, plots.gap_svg, plots.ber_svg, plots.rates_svg]
ALL += [plots.baselines_svg, plots.compare_svg]


@pytest.mark.parametrize("figure_of", ALL)
def test_the_legend_covers_no_curve(figure_of, report, drawn) -> None:
    figure_of(report)
    (figure,) = drawn
    (legend,) = figure.legends
    box, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1
    assert box.y1 <= whole.y1
    assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)


def test_curves_that_coincide_are_told_apart(report, drawn) -> None:
    plots.accuracy_svg(report)
    lines = _lines(drawn[0].axes[0])
    level = {"send-the-label bound", "no channel"}
    named = {name: line for name, line in lines.items() if name not in level}
    assert set(named) == {"deployed", "soft: learning", "soft: aligned", "conv", "ldpc", "classify-and-send"}
    for looks in (
        [line.get_color() for line in named.values()],
        [line.get_marker() for line in named.values()],
        [(line.get_linestyle(), str(line._unscaled_dash_pattern)) for line in named.values()],
    ):
        assert len(set(looks)) == len(looks)
    # The deployed curve is the broadest and lies below; the others' marks are hollow rings around its dots.
    deployed = named.pop("deployed")
    assert deployed.get_markerfacecolor() != "none"
    for line in named.values():
        assert line.get_markerfacecolor() == "none"
        assert line.get_zorder() > deployed.get_zorder()
        assert line.get_linewidth() < deployed.get_linewidth()


def test_curves_are_as_in_the_report(report, drawn) -> None:
    points, ldpc = report.points, [point.baselines["ldpc"] for point in report.points]
    for figure_of, panel, line, expected in (
        (plots.accuracy_svg, 0, "ldpc", [100 * entry.accuracy for entry in ldpc]),
        (plots.gap_svg, 0, "deployed - soft: aligned", [100 * p.references["aligned"].gap for p in points]),
        (plots.baselines_svg, 0, 2, [100 * entry.difference for entry in ldpc]),
        (plots.baselines_svg, 1, "ldpc", [entry.symbols_per_sample for entry in ldpc]),
        (plots.compare_svg, 0, 0, [100 * point.accuracy for point in report.compare[0].points]),
        (
            plots.rates_svg,
            0,
            "information bits sent",
            [p.bits_per_sample / p.symbols_per_sample for p in points],
        ),
        (plots.ber_svg, 0, "theory, uniform use", [point.ber_theory for point in points]),
        (plots.ber_svg, 0, "theory, points as used", [point.ber_theory_usage for point in points]),
    ):
        figure_of(report)
        axes = drawn[-1].axes[panel]
        found = axes.lines[line] if isinstance(line, int) else _lines(axes)[line]
        np.testing.assert_allclose(found.get_ydata(), expected)


def test_bundles_on_other_grids_are_drawn_where_they_belong(report, drawn) -> None:
    (other,) = report.compare
    shifted = tuple(replace(point, esn0_db=point.esn0_db + 2.5) for point in other.points[:2])
    plots.compare_svg(replace(report, compare=[replace(other, points=shifted), replace(other, name="third")]))
    lines = _lines(drawn[0].axes[1])
    assert list(lines["other-1"].get_xdata()) == [2.5, 7.5]
    assert list(lines["third"].get_xdata()) == list(GRID)


def test_no_bit_errors_can_be_drawn(report, drawn) -> None:
    nothing = {"bit_errors": 0, "ber": 0.0, "ber_ci": (0.0, 1e-5), "ber_theory": 0.0, "ber_theory_usage": 0.0}
    plots.ber_svg(replace(report, points=[replace(point, **nothing) for point in report.points]))
    low, high = drawn[0].axes[0].get_ylim()
    assert 0 < low < high


def test_a_baseline_that_fails_does_not_flatten_the_others(report, drawn) -> None:
    good = report.points[-1]
    fallen = {
        name: replace(entry, accuracy=0.1, accuracy_ci=(0.08, 0.12)) for name, entry in good.baselines.items()
    }
    for baselines in (good.baselines, fallen):
        point = replace(good, baselines=baselines)
        plots.accuracy_svg(replace(report, points=[point, replace(point, esn0_db=21.0)]))
    lowest = 100 * min(good.accuracy_hard, *(entry.accuracy for entry in good.references.values()))
    usual, limited = (figure.axes[0].get_ylim()[0] for figure in drawn)
    assert lowest - 40 < limited <= usual < lowest


def test_a_known_baseline_always_looks_alike() -> None:
    alone = baseline_looks(["ldpc"])["ldpc"]
    among = baseline_looks(["conv", "ldpc", "classify-and-send", "new"])
    assert among["ldpc"] == alone
    assert len({look.colour for look in among.values()}) == 4
    assert {look.colour for look in among.values()} <= set(COLOURS.values())
    # More than there are looks: drawn all the same.
    assert len(baseline_looks([str(n) for n in range(9)])) == 9


def test_many_points_do_not_drown_in_marks() -> None:
    axes, x = Figure().subplots(), np.arange(101.0)
    curve(axes, x, list(x), None, Look("#000000", "o"), "many")
    assert len(x[:: axes.lines[0].get_markevery()]) <= 33


@pytest.mark.parametrize("snr", [[3.0], [3.0, 4.0], [-5.0, 20.0]])
def test_the_axis_of_snr_shows_every_point(snr) -> None:
    axes = Figure().subplots()
    axes.plot(snr, snr)
    snr_axis(axes)
    low, high = axes.get_xlim()
    assert low < min(snr) <= max(snr) < high
    assert high - low >= 3
    assert axes.get_xlabel() == "Es/N0, dB"


def test_an_svg_is_named_and_takes_the_colours_of_the_page() -> None:
    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=COLOURS["other2"], label="a line")
        legend_above(figure, axes)

    text = svg(draw, (3, 2), "test", 'less < "more"')
    assert text == svg(draw, (3, 2), "test", 'less < "more"')
    for part in (
        'aria-label="less &lt; &quot;more&quot;"',
        "var(--other2, #8a6d00)",
        'stroke-linecap="square"',
    ):
        assert part in text
    for absent in ("style", '<g id="'):
        assert absent not in text


def test_names_in_a_panel_cover_neither_points_nor_one_another() -> None:
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    points = [(2.0, 95.0, "16x4qam"), (2.0, 95.2, "64x16qam"), (2.1, 95.1, "256x64qam"), (4.0, 90.0, "")]
    axes.plot([x for x, _, _ in points], [y for _, y, _ in points], "o", markersize=6)
    axes.set(xlim=(0, 6), ylim=(85, 105))
    figure.draw_without_rendering()
    place_labels(axes, points, figure.dpi)
    figure.draw_without_rendering()
    assert [text.get_text() for text in axes.texts] == ["16x4qam", "64x16qam", "256x64qam"]
    boxes = [text.get_window_extent() for text in axes.texts]
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])
        assert not any(box.contains(*axes.transData.transform((x, y))) for x, y, _ in points)
