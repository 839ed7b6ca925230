"""The page of a report: self-contained, and everything that was measured is on it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tools.fake_report import BASELINES, fake_report
from twophase.sim.report.page import page_figures, page_text
from twophase.sim.results.figures import Point, Report

GRID = (0.0, 8.0, 20.0)


@pytest.fixture(scope="module")
def report() -> Report:
    """All that a report can hold."""
    whole = fake_report(GRID, modes_report=True)
    return replace(whole, task="<tiny> & co", bundle="runs/tiny/a b")


@pytest.fixture(scope="module")
def plain() -> Report:
    """As little as one holds."""
    least = fake_report((4.0,), baselines=(), compare=0, scatter=False)
    return replace(least, settings=replace(least.settings, csi="perfect"))


@pytest.fixture(scope="module")
def figures(report) -> dict:
    return page_figures(report)


@pytest.fixture(scope="module")
def page(report, figures) -> str:
    return page_text(report, figures)


@pytest.fixture(scope="module")
def plain_page(plain) -> str:
    return page_text(plain, page_figures(plain))


def _words(report: Report) -> str:
    """The page with placeholders for all figures that the report holds."""
    figures = dict.fromkeys(("accuracy", "gap", "ber", "usage", "llr", "calibration", "rates"), "<svg></svg>")
    figures |= {name: "<svg></svg>" if getattr(report, name) else "" for name in ("baselines", "compare")}
    figures |= {"modes": [], "confusion": ["<svg></svg>"], "symbols": ""}
    figures["air"] = [{"svg": "", "shown": 1, "outside": 0} for _ in report.scatter]
    return page_text(report, figures)


def _with_points(report: Report, **changes: object) -> Report:
    points: Sequence[Point] = [replace(point, **changes) for point in report.points]
    return replace(report, points=points)


class _Page(HTMLParser):
    """Collects what a page would load, its text, and whether its tags close."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.names: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag, attrs) -> None:
        self._note(attrs)
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs) -> None:
        self._note(attrs)

    def handle_data(self, data) -> None:
        self.text.append(data)

    def _note(self, attrs) -> None:
        self.loaded += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value]
        self.names += [value for name, value in attrs if name == "id"]


@pytest.mark.parametrize("which", ["page", "plain_page"])
def test_the_page_is_self_contained_and_well_formed(which, request) -> None:
    source = request.getfixturevalue(which)
    page = _Page(source)
    assert page.open == []
    # Only references inside the page itself, such as those of figures to their markers; an empty icon.
    inside = [target for target in page.loaded if target != "data:,"]
    assert all(target.startswith("#") for target in inside)
    assert {target[1:] for target in inside} <= set(page.names)
    assert len(page.names) == len(set(page.names))
    assert "<script" not in source
    assert "@import" not in source
    assert not re.search(r"url\((?!#)", source)
    for figure in re.findall(r"<svg.*?</svg>", source, re.DOTALL):
        ElementTree.fromstring(figure)
        assert "var(--ink)" in figure
        assert "#0072b2" not in figure


def test_the_page_says_what_was_measured_and_how(report, page) -> None:
    text = " ".join(_Page(page).text)
    # Verdict before everything else that is measured; names of the outside world escaped.
    assert text.index(report.verdict) < text.index("Results over Es/N0")
    assert "<tiny> & co" in text
    assert "<tiny>" not in page
    for needed in (
        *("learning", "aligned", "two-phase", report.command, report.bundle_sha256),
        *(report.csi_text, "numba kernel", "estimator mmse", "precision 0.005"),
        *(entry.description[1:] for entry in report.baselines),
        *("other-1", "runs/other-1/bundle"),
        *(point.stop_reason for point in report.points),
    ):
        assert needed in text, needed


def test_every_figure_is_there_if_the_report_holds_it(report, figures, page, plain, plain_page) -> None:
    assert all(figures[name] for name in figures if name != "symbols")
    empty = ("baselines", "compare", "symbols", "modes", "air")
    assert [name for name, drawn in page_figures(plain).items() if not drawn] == [*empty]
    assert page.count("<svg") == sum(
        len(drawn) if isinstance(drawn, list) else bool(drawn) for drawn in figures.values()
    )
    # Received symbols beginning with the mode that is used most.
    groups = re.findall(r'aria-label="Received symbols at ([\d.]+) dB, (\w+)"', page)
    for point in report.points:
        shown = [mode for snr, mode in groups if float(snr) == point.esn0_db]
        assert shown == sorted(point.mode_usage, key=lambda mode: -point.mode_usage[mode])
    assert "Codes and baselines" not in plain_page


@pytest.mark.parametrize("count", [1, 7])
def test_any_number_of_points_can_be_drawn(count) -> None:
    report = fake_report(tuple(float(n) for n in range(count)), baselines=(), compare=0, modes_report=True)
    figures = page_figures(report)
    assert len(figures["modes"]) == 1 + min(6, count)
    assert len(figures["confusion"]) == min(2, count)
    assert figures["llr"].count(" dB</text>") == min(3, count)


def test_the_page_says_what_limits_the_figures(plain, plain_page) -> None:
    together, gains = "made for independent bits, are too short", "a receiver that knows the gains, which"
    assert together not in plain_page
    assert gains not in plain_page
    assert together in _words(replace(plain, channel="rayleigh", coherence="sample"))
    estimated = _words(replace(plain, settings=replace(plain.settings, csi="pilot")))
    assert f"{gains} this one estimates" in estimated
    assert "21 LLRs in all" in _words(
        replace(_with_points(fake_report(GRID), llrs_replaced=7), demapper="commpy")
    )
    assert "<b>Remark:</b> a &amp; b.</p>" in _words(replace(plain, remarks=["a & b"]))


def test_the_page_says_when_the_learning_reference_is_absent(report, page) -> None:
    assert "holds no reference of a learning phase" not in page
    points = [replace(point, references={"aligned": point.references["aligned"]}) for point in report.points]
    references = [entry for entry in report.references if entry.name == "aligned"]
    other = _words(replace(report, references=references, points=points))
    assert "holds no reference of a learning phase" in other


def test_the_best_baseline_has_a_tile(report, page) -> None:
    entries = {
        (name, point.esn0_db): entry.difference
        for point in report.points
        for name, entry in point.baselines.items()
    }
    (name, snr), difference = max(entries.items(), key=lambda item: item[1])
    assert name in BASELINES
    assert f"<strong>{100 * difference:+.2f} points</strong>" in page
    assert f"({name}) minus deployed, at {snr:g} dB" in page


def test_a_difference_is_never_minus_nothing(plain) -> None:
    entry = replace(plain.points[0].references["aligned"], gap=-1e-6, gap_ci=(-2e-6, 1e-6))
    page = _words(_with_points(plain, references={"learning": entry, "aligned": entry}))
    assert "+0.00..+0.00" in page
    assert "-0.00" not in page
