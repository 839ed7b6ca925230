"""The page of a report: self-contained, and everything that was measured is on it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from typing import Any

import pytest

from tools.fake_report import COMPANIONS, fake_report
from twophase.sim.report.page import page_figures, page_text

GRID = (0.0, 8.0, 20.0)
LATER = ("settings", "kernel", "csi_text", "companions", "llr_edges", "compare", "scatter")
"""Keys that a report of an earlier version does not have."""
LATER_IN_POINT = (
    *("stop_reason", "measured_esn0_db", "pilot_symbols_per_sample", "companions", "capacity", "cm_mi"),
    *("bicm_mi", "llr_zeros", "llr_ones", "llr_expected_ones", "confusion"),
)


def _without(content: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in keys}


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """All that a report can hold."""
    return fake_report(GRID, modes_report=True) | {"task": "<tiny> & co", "bundle": "runs/tiny/a b"}


@pytest.fixture(scope="module")
def plain(report) -> dict[str, Any]:
    """The same as an earlier version would have written it, without fixed modes."""
    points = [_without(point, (*LATER_IN_POINT, "best_fixed")) for point in report["points"]]
    return _without(report, (*LATER, "modes")) | {"points": points}


@pytest.fixture(scope="module")
def page(report) -> str:
    return page_text(report, page_figures(report))


@pytest.fixture(scope="module")
def plain_page(plain) -> str:
    return page_text(plain, page_figures(plain))


def _words(report: dict[str, Any]) -> str:
    """The page with placeholders for all figures that the report holds."""
    figures: dict[str, Any] = dict.fromkeys(
        ("accuracy", "gap", "ber", "usage", "llr", "calibration"), "<svg></svg>"
    )
    figures["rates"] = "<svg></svg>" if report["points"][0].get("capacity") is not None else ""
    figures |= {name: "<svg></svg>" if report.get(name) else "" for name in ("companions", "compare")}
    figures |= {"modes": [], "confusion": ["<svg></svg>"]}
    figures["air"] = [{"svg": "", "shown": 1, "outside": 0} for _ in report.get("scatter", [])]
    return page_text(report, figures)


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
    assert text.index(report["verdict"]) < text.index("Results over Es/N0")
    assert "<tiny> & co" in text
    assert "<tiny>" not in page
    for needed in (
        *("learning", "aligned", "two-phase", report["command"], report["bundle_sha256"]),
        *(report["csi_text"], "numba kernel", "estimator mmse", "precision 0.005"),
        *(entry["description"][1:] for entry in report["companions"]),
        *("other-1", "runs/other-1/bundle"),
        *(point["stop_reason"] for point in report["points"]),
    ):
        assert needed in text, needed


def _figures(page: str) -> list[str]:
    return re.findall(r'aria-label="([^"]*)"', page.replace('aria-label="Sections"', ""))


def test_every_figure_is_there_if_the_report_holds_it(report, page, plain_page) -> None:
    always = [
        *("Accuracy over Es/N0", "Deployed minus soft accuracy over Es/N0", "Bit error rate over Es/N0"),
        "Share of each mode, and symbols per sample, over Es/N0",
    ]
    assert _figures(plain_page) == always
    panels = [f"Accuracy against symbols per sample at {snr:g} dB" for snr in GRID]
    # Beginning with the mode that is used most.
    usage = {point["esn0_db"]: point["mode_usage"] for point in report["points"]}
    groups = [
        f"Received symbols at {snr:g} dB, {mode}"
        for snr, shares in usage.items()
        for mode in sorted(shares, key=lambda mode: -shares[mode])
    ]
    assert len(groups) > len(GRID)
    assert _figures(page) == [
        *always[:3],
        "Bits per symbol over Es/N0",
        "Each companion minus deployed, and symbols per sample",
        "Accuracy and symbols per sample of several bundles",
        always[3],
        "Marks of the modes",
        *panels,
        *groups,
        "Histogram of the LLRs by the bit that was sent",
        "Share of ones among the bits of an LLR",
        *(f"Confusion matrix at {snr:g} dB, percent of the true class" for snr in (0, 20)),
    ]


@pytest.mark.parametrize(
    ("left_out", "heading"),
    [
        ({"companions": []}, "Codes and baselines beside it"),
        ({"compare": []}, "Beside other bundles"),
        ({"scatter": []}, "Received symbols, divided"),
    ],
)
def test_what_is_empty_takes_no_room(report, page, left_out, heading) -> None:
    points = [point | {"companions": {}} for point in report["points"]] if "companions" in left_out else None
    other = _words(report | left_out | ({"points": points} if points else {}))
    assert heading in page
    assert heading not in other


def test_the_page_shows_the_modes(report, page) -> None:
    assert "Both ends know the Es/N0 exactly." in page
    point = report["points"][1]
    for name, share in point["mode_usage"].items():
        assert f"{name}: {100 * share:.1f}, {100 * point['accuracy_by_mode'][name]:.2f}" in page
    best = point["best_fixed"]
    assert f"<td>{best['mode']}</td><td>{best['symbols']}</td>" in page
    assert "best fixed" not in _words(_without(report, ("modes",)))


@pytest.mark.parametrize("count", [1, 7])
def test_any_number_of_points_can_be_drawn(count) -> None:
    report = fake_report(
        tuple(float(n) for n in range(count)), companions=(), compare=0, scatter=False, modes_report=True
    )
    figures = page_figures(report)
    assert len(figures["modes"]) == 1 + min(6, count)
    assert len(figures["confusion"]) == min(2, count)
    assert figures["llr"].count(" dB</text>") == min(3, count)
    assert (
        page_text(report, figures).count("<svg") == 8 + len(figures["modes"]) + len(figures["confusion"]) - 1
    )


def test_the_page_says_when_bits_of_a_sample_err_together(plain, plain_page) -> None:
    said = "made for independent bits, are too short"
    assert said not in plain_page
    block = _words(plain | {"channel": "rayleigh", "coherence": "sample"})
    assert said in block
    assert "Rayleigh block fading" in block


def test_the_page_says_whom_the_theory_is_for(report) -> None:
    said = "both at a receiver that knows the gains, which this one estimates"
    assert report["settings"]["csi"] == "pilot"
    estimated = _words(report)
    perfect = _words(report | {"settings": report["settings"] | {"csi": "perfect"}})
    assert (estimated.count(said), perfect.count(said)) == (2, 0)
    assert "<th>as sent, gains known</th>" in estimated
    assert "<th>as sent</th>" in perfect


def test_the_page_does_not_blame_the_receiver_for_the_transmitter(page, plain_page) -> None:
    assert "The LLRs take all points for equally likely" in page
    assert "LLRs are computed as if all points were equally likely" in page
    assert "beyond &plusmn;14 the middle of the bin" in page
    assert "equally likely" not in plain_page


def test_the_page_says_how_many_bits_a_code_is_given(report, page) -> None:
    said = "a code around fewer index bits can do better"
    assert said in page
    label = [entry for entry in report["companions"] if entry["name"] == "classify-and-send"]
    assert said not in _words(report | {"companions": label})


def test_what_no_formula_gives_is_a_dash() -> None:
    """In a report of an earlier version."""
    page = _words(fake_report(GRID, channel="tdl-a", closed_forms=False, modes_report=True))
    assert "send-the-label bound 9" not in page
    assert "Bits per symbol over Es/N0" not in page
    row = re.search(r"<summary>Bits, codewords and LLRs.*?<tbody>\s*<tr>(.*?)</tr>", page, re.DOTALL)
    assert row is not None
    cells = re.findall(r"<td>(.*?)</td>", row[1])
    assert (cells[2], cells[3], cells[7]) == ("-", "-", "-")


def test_the_page_says_when_the_learning_reference_is_absent(report, page) -> None:
    assert "holds no reference of a learning phase" not in page
    references = [entry for entry in report["references"] if entry["name"] == "aligned"]
    points = [
        point | {"references": {"aligned": point["references"]["aligned"]}} for point in report["points"]
    ]
    other = _words(report | {"references": references, "points": points})
    assert "holds no reference of a learning phase" in other
    assert "against: aligned only, there is no learning reference" in other


def test_the_page_shows_remarks_below_the_verdict(plain, plain_page) -> None:
    assert "Remark:" not in plain_page
    page = _words(plain | {"remarks": ["soft & hard differ"]})
    assert "<b>Remark:</b> soft &amp; hard differ.</p>" in page
    assert page.index('<div class="verdict') < page.index("Remark:") < page.index('<div class="tiles"')


def test_the_best_companion_has_a_tile(report, page) -> None:
    entries = {
        (name, point["esn0_db"]): entry["difference"]
        for point in report["points"]
        for name, entry in point["companions"].items()
    }
    (name, snr), difference = max(entries.items(), key=lambda item: item[1])
    assert name in COMPANIONS
    assert f"<strong>{100 * difference:+.2f} points</strong>" in page
    assert f"({name}) minus deployed, at {snr:g} dB" in page


def test_a_difference_is_never_minus_nothing(plain) -> None:
    points = [point | {"gap": -1e-6, "gap_ci": [-2e-6, 1e-6]} for point in plain["points"]]
    page = _words(plain | {"points": points})
    assert "+0.00..+0.00" in page
    assert "-0.00" not in page


def test_the_page_counts_replaced_llrs(plain) -> None:
    points = [point | {"llrs_replaced": 7} for point in plain["points"]]
    assert "21 LLRs in all" in _words(plain | {"demapper": "commpy", "points": points})
