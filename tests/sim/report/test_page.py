"""The page of a report: self-contained, and everything that was measured is on it."""

from __future__ import annotations

import csv
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from types import CodeType
from typing import ClassVar, get_args

import jinja2
import matplotlib as mpl
import numpy as np
import pytest
from jinja2 import nodes

from tools.tiny_report import tiny_report
from twophase.link.escape import visible
from twophase.sim.report import page as page_module
from twophase.sim.report.link_plots import confusion_svg
from twophase.sim.report.page import page_figures, page_text
from twophase.sim.report.plots import accuracy_png, accuracy_svg
from twophase.sim.report.tables import csv_text
from twophase.sim.results.figures import Report
from twophase.sim.settings import ChannelName

GRID = (0.0, 8.0, 20.0)


@pytest.fixture(scope="module")
def report() -> Report:
    """All that a report of features can hold."""
    return replace(tiny_report(GRID, modes_report=True), task="<tiny> & co", bundle="runs/tiny/a b")


@pytest.fixture(scope="module")
def plain() -> Report:
    """As little as one holds."""
    least = tiny_report((4.0,), baselines=(), compare=0, scatter=False)
    quality = replace(least.quality, train_accuracy=None, validation_accuracy=None)
    return replace(least, settings=replace(least.settings, csi="perfect"), ceiling=None, quality=quality)


@pytest.fixture(scope="module")
def figures(report) -> dict:
    return page_figures(report)


@pytest.fixture(scope="module")
def page(report, figures) -> str:
    return page_text(report, figures)


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


def _without_learning(report: Report) -> Report:
    references = [entry for entry in report.references if entry.name == "aligned"]
    points = [replace(point, references={"aligned": point.references["aligned"]}) for point in report.points]
    return replace(report, references=references, points=points)


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
        self.handle_startendtag(tag, attrs)
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs) -> None:
        self.loaded += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value]
        self.names += [value for name, value in attrs if name == "id"]

    def handle_data(self, data) -> None:
        self.text.append(data)


class _Noting(jinja2.Environment):
    """Notes which conditions of the template there are, and how each comes out."""

    code: ClassVar[CodeType | None] = None
    missed: ClassVar[set[tuple[str, bool]]] = set()

    def from_string(self, source, globals=None, template_class=None) -> jinja2.Template:
        self.filters["noted"] = self._noted
        if _Noting.code is None:
            tree = self.parse(source)
            for number, node in enumerate(tree.find_all((nodes.If, nodes.CondExpr))):
                place = f"{number}, line {node.lineno}"
                self.missed.update({(place, True), (place, False)})
                node.test = nodes.Filter(node.test, "noted", [nodes.Const(place)], [], None, None)
            _Noting.code = self.compile(tree)
        return jinja2.Template.from_code(self, _Noting.code, self.make_globals(globals))

    def _noted(self, value: object, place: str) -> object:
        self.missed.discard((place, bool(value)))
        return value


def _all_kinds(report: Report, plain: Report) -> Iterator[str]:
    """Pages that go through every branch of the template: an undefined name would be an error."""
    of_text = tiny_report(GRID, text=True)
    yield _words(of_text)
    other = replace(of_text.text, table="rayleigh", sources={"deflate": 40, "huffman": 200})
    yield _words(replace(of_text, text=other, ceiling=None))
    yield _words(plain)
    for channel in get_args(ChannelName):
        coherence = "sample" if channel in ("rayleigh", "rician") else "symbol"
        yield _words(replace(plain, channel=channel, coherence=coherence))
    yield _words(replace(report, settings=replace(report.settings, csi="none")), outside=3)
    yield _words(tiny_report(GRID, header=False, baselines=("classify-and-send",)))
    yield _words(_with_points(replace(report, demapper="commpy"), pilot_symbols_per_sample=0.0))
    yield _words(replace(plain, remarks=["a & b"], mode="4x4qam", mode_table=plain.mode_table[:1]))
    yield _words(replace(report, mode="4x4qam", modes=None))
    yield _words(_without_learning(report))
    yield _words(tiny_report((4.0,), verdict="UNDECIDED"))


def test_every_branch_of_the_template_can_be_rendered(report, plain, monkeypatch) -> None:
    monkeypatch.setattr(page_module.jinja2, "Environment", _Noting)
    for source in _all_kinds(report, plain):
        assert _Page(source).open == []
    assert sorted(_Noting.missed) == []


def test_the_page_is_self_contained_and_well_formed(page) -> None:
    parsed = _Page(page)
    assert parsed.open == []
    # Only references inside the page itself, such as those of figures to their markers; an empty icon.
    inside = [target for target in parsed.loaded if target != "data:,"]
    assert all(target.startswith("#") for target in inside)
    assert {target[1:] for target in inside} <= set(parsed.names)
    assert len(parsed.names) == len(set(parsed.names))
    assert not re.search(r"url\((?!#)|<script|@import", page)
    assert not re.search(r"<[^>]*\sstyle=", page), "a strict policy lets none through"
    assert page.count("<style") == 1
    for figure in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(figure)
        assert "var(--ink, #1a1a1b)" in figure
        # Colours of the page, and themselves where its style sheet is not let through.
        assert not re.search(r'[=:]\s*"?#0072b2', figure)


def test_the_page_says_what_was_measured_and_how(report, page) -> None:
    text = " ".join(_Page(page).text)
    # Verdict before everything else that is measured; names of the outside world escaped.
    assert text.index(report.verdict) < text.index("Results over Es/N0")
    assert "<tiny> & co" in text
    assert "<tiny>" not in page
    for needed in (
        *("learning", "aligned", "method by hand", report.command, report.bundle_sha256),
        *(report.csi_text, f"{report.kernel} kernel", "estimator mmse", "precision 0.005"),
        *(entry.description[1:] for entry in report.baselines),
        *("other-1", "runs/other-1/bundle"),
        *(point.stop_reason for point in report.points),
    ):
        assert needed in text, needed


NAMES = ["$x^{2$ and $5_$10", "<b>\x1b[2J", "\ud800", 'style="a: b" #0072b2']


def test_names_of_users_are_text_in_every_file(report, figures) -> None:
    shown = list(map(visible, NAMES))
    names = [f"={name}" for name in NAMES[: len(report.references)]]
    spoilt = replace(
        report,
        task=NAMES[0],
        classes=NAMES,
        references=[
            replace(entry, name=name, description=NAMES[1])
            for name, entry in zip(names, report.references, strict=True)
        ],
        points=[
            replace(each, references=dict(zip(names, each.references.values(), strict=True)))
            for each in report.points
        ],
    )
    drawn = accuracy_svg(spoilt)
    drawn += confusion_svg(spoilt, replace(spoilt.points[0], confusion=np.eye(4, dtype=int).tolist()), "x")
    text = " ".join(_Page(page_text(spoilt, figures | {"accuracy": drawn})).text)
    for name in (*shown[:3], f"soft: ={shown[0]}", shown[3][:11] + "…"):
        assert name in text
    header, *_ = csv.reader(csv_text(spoilt).splitlines())
    assert any(cell.startswith(f"'={NAMES[0]}_accuracy") for cell in header)
    assert accuracy_png(spoilt)


def test_settings_of_the_user_do_not_reach_the_figures(report) -> None:
    def drawn() -> tuple[str, bytes]:
        return accuracy_svg(report), accuracy_png(report)

    expected = drawn()
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 30, "axes.grid": False, "savefig.dpi": 20}):
        assert drawn() == expected


def test_every_figure_is_there_if_the_report_holds_it(report, plain, figures, page) -> None:
    assert [name for name, drawn in figures.items() if not drawn] == ["symbols"]
    least = page_figures(plain)
    empty = ["baselines", "compare", "symbols", "modes", "air"]
    assert [name for name, drawn in least.items() if not drawn] == empty
    drawn = [len(each) if isinstance(each, list) else bool(each) for each in figures.values()]
    assert page.count("<svg") == sum(drawn)
    # Received symbols of the three modes that are used most, beginning with the first of them.
    groups = re.findall(r'aria-label="Received symbols at ([\d.]+) dB, (\w+)"', page)
    for point in report.points:
        shown = [mode for snr, mode in groups if float(snr) == point.esn0_db]
        assert shown == sorted(point.mode_usage, key=lambda mode: -point.mode_usage[mode])[:3]
    # Of many points, some: six panels of modes with their key, the ends' decisions, LLRs of three.
    many = page_figures(tiny_report(tuple(map(float, range(7))), modes_report=True))
    for drawn, modes, count in ((least, 0, 1), (many, 1 + 6, 7)):
        assert len(drawn["modes"]) == modes
        assert len(drawn["confusion"]) == min(2, count)
        assert drawn["llr"].count(" dB</text>") == min(3, count)


def test_the_page_says_what_limits_the_figures(report, plain, page) -> None:
    together, gains = "made for independent bits, are too short", "a receiver that knows the gains, which"
    absent = "holds no reference of a learning phase"
    least = _words(plain)
    for text in (together, gains, absent, "Codes and baselines"):
        assert text not in least
    assert together in _words(replace(plain, channel="rayleigh", coherence="sample"))
    assert f"{gains} this one estimates" in page
    assert "21 LLRs in all" in _words(_with_points(replace(report, demapper="commpy"), llrs_replaced=7))
    assert "<b>Remark:</b> a &amp; b.</p>" in _words(replace(plain, remarks=["a & b"]))
    assert absent in _words(_without_learning(report))


def test_the_best_baseline_has_a_tile_and_a_difference_is_never_minus_nothing(report, plain, page) -> None:
    entries = {
        (name, point.esn0_db): entry.difference
        for point in report.points
        for name, entry in point.baselines.items()
    }
    (name, snr), difference = max(entries.items(), key=lambda item: item[1])
    assert f"<strong>{100 * difference:+.2f} points</strong>" in page
    assert f"({name}) minus deployed, at {snr:g} dB" in page
    entry = replace(plain.points[0].references["aligned"], gap=-1e-6, gap_ci=(-2e-6, 1e-6))
    least = _words(_with_points(plain, references={"learning": entry, "aligned": entry}))
    assert "+0.00..+0.00" in least
    assert "-0.00" not in least
