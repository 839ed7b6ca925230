"""The page of a report: self-contained, and everything that was measured is on it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from types import CodeType
from typing import ClassVar, get_args

import jinja2
import pytest
from jinja2 import nodes

from tools.fake_report import BASELINES, fake_report, with_sentences
from twophase.sim.report import page as page_module
from twophase.sim.report.page import page_figures, page_text
from twophase.sim.results.figures import Report
from twophase.sim.settings import ChannelName

GRID = (0.0, 8.0, 20.0)


@pytest.fixture(scope="module")
def report() -> Report:
    """All that a report of features can hold."""
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
def plain_figures(plain) -> dict:
    return page_figures(plain)


@pytest.fixture(scope="module")
def plain_page(plain, plain_figures) -> str:
    return page_text(plain, plain_figures)


def _words(report: Report, outside: int = 0) -> str:
    """The page with placeholders for all figures that the report holds."""
    figures = dict.fromkeys(("accuracy", "gap", "ber", "llr", "calibration", "rates"), "<svg></svg>")
    shown = {"baselines": report.baselines, "compare": report.compare, "symbols": report.text}
    shown["usage"] = len(report.mode_table) > 1 and report.mode is None
    figures |= {name: "<svg></svg>" if held else "" for name, held in shown.items()}
    figures |= {"modes": ["<svg></svg>"] * 2 if report.modes else [], "confusion": ["<svg></svg>"] * 2}
    figures["air"] = [{"svg": "", "shown": 1, "outside": outside} for _ in report.scatter]
    return page_text(report, figures)


def _with_points(report: Report, **changes: object) -> Report:
    return replace(report, points=[replace(point, **changes) for point in report.points])


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


class _Noting(jinja2.Environment):
    """Notes which conditions of the template there are, and how each comes out."""

    code: ClassVar[CodeType | None] = None
    conditions: ClassVar[set[str]] = set()
    outcomes: ClassVar[set[tuple[str, bool]]] = set()

    def from_string(self, source, globals=None, template_class=None) -> jinja2.Template:
        self.filters["noted"] = self._noted
        if _Noting.code is None:
            tree = self.parse(source)
            for number, node in enumerate(tree.find_all((nodes.If, nodes.CondExpr))):
                place = f"{number}, line {node.lineno}"
                self.conditions.add(place)
                node.test = nodes.Filter(node.test, "noted", [nodes.Const(place)], [], None, None)
            _Noting.code = self.compile(tree)
        return jinja2.Template.from_code(self, _Noting.code, self.make_globals(globals))

    def _noted(self, value: object, place: str) -> object:
        self.outcomes.add((place, bool(value)))
        return value


def _all_kinds(report: Report, plain: Report) -> Iterator[str]:
    """Pages that go through every branch of the template: an undefined name would be an error."""
    yield _words(with_sentences(report))
    yield _words(replace(with_sentences(report, table="rayleigh"), ceiling=None))
    yield _words(plain)
    for channel in get_args(ChannelName):
        coherence = "sample" if channel in ("rayleigh", "rician") else "symbol"
        yield _words(replace(fake_report(GRID, channel=channel), coherence=coherence))
    yield _words(replace(report, settings=replace(report.settings, csi="none")), outside=3)
    yield _words(fake_report(GRID, header=False, baselines=("classify-and-send",)))
    yield _words(_with_points(replace(report, demapper="commpy"), pilot_symbols_per_sample=0.0))
    yield _words(replace(plain, remarks=["a & b"], mode="2x4qam", mode_table=plain.mode_table[:1]))
    yield _words(replace(report, mode="2x4qam", modes=None))
    yield _words(_without_learning(report))


def _without_learning(report: Report) -> Report:
    references = [entry for entry in report.references if entry.name == "aligned"]
    points = [replace(point, references={"aligned": point.references["aligned"]}) for point in report.points]
    return replace(report, references=references, points=points)


def test_every_branch_of_the_template_can_be_rendered(report, plain, monkeypatch) -> None:
    monkeypatch.setattr(page_module.jinja2, "Environment", _Noting)
    for source in _all_kinds(report, plain):
        assert _Page(source).open == []
    every = {(place, outcome) for place in _Noting.conditions for outcome in (True, False)}
    assert sorted(every - _Noting.outcomes) == []


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


def test_every_figure_is_there_if_the_report_holds_it(report, figures, page, plain_figures) -> None:
    assert all(figures[name] for name in figures if name != "symbols")
    empty = ("baselines", "compare", "symbols", "modes", "air")
    assert [name for name, drawn in plain_figures.items() if not drawn] == [*empty]
    assert page.count("<svg") == sum(
        len(drawn) if isinstance(drawn, list) else bool(drawn) for drawn in figures.values()
    )
    # Received symbols beginning with the mode that is used most.
    groups = re.findall(r'aria-label="Received symbols at ([\d.]+) dB, (\w+)"', page)
    for point in report.points:
        shown = [mode for snr, mode in groups if float(snr) == point.esn0_db]
        assert shown == sorted(point.mode_usage, key=lambda mode: -point.mode_usage[mode])
    # Of many points, some: six panels of modes with their key, the ends' decisions, LLRs of three.
    many = page_figures(
        fake_report(
            tuple(float(n) for n in range(7)), baselines=(), compare=0, scatter=False, modes_report=True
        )
    )
    for drawn, count in ((plain_figures, 1), (many, 7)):
        assert len(drawn["modes"]) == (1 + 6 if count > 1 else 0)
        assert len(drawn["confusion"]) == min(2, count)
        assert drawn["llr"].count(" dB</text>") == min(3, count)


def test_the_page_says_what_limits_the_figures(report, plain, page, plain_page) -> None:
    together, gains = "made for independent bits, are too short", "a receiver that knows the gains, which"
    assert together not in plain_page
    assert gains not in plain_page
    assert "Codes and baselines" not in plain_page
    assert together in _words(replace(plain, channel="rayleigh", coherence="sample"))
    assert f"{gains} this one estimates" in page
    commpy = _with_points(replace(report, demapper="commpy"), llrs_replaced=7)
    assert "21 LLRs in all" in _words(commpy)
    assert "<b>Remark:</b> a &amp; b.</p>" in _words(replace(plain, remarks=["a & b"]))
    absent = "holds no reference of a learning phase"
    assert absent not in page
    assert absent in _words(_without_learning(report))


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
