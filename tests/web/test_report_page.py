"""A report in headless Chromium, opened as a file: no complaint, legible, on a screen, a phone and paper."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.tiny_report import tiny_report
from twophase.sim.report.page import render
from twophase.sim.results.figures import Report

SCREENS = ("light", "dark", "phone", "phoneDark")
FOUR_TO_ONE = 4.5
"""Contrast that WCAG 2.2 asks of text (success criterion 1.4.3)."""

REPORTS: dict[str, Callable[[], Report]] = {
    "whole": lambda: tiny_report(modes_report=True, compare=2),
    "one-point": lambda: tiny_report(
        (5.0,), classes=("the first category", "b", "c"), baselines=(), compare=0, scatter=False
    ),
    "many and failing": lambda: tiny_report(
        tuple(n / 2 for n in range(-10, 51)),
        channel="tdl-a",
        header=False,
        verdict="FAIL",
        classes=tuple(f"class {n}" for n in range(40)),
        baselines=("conv",),
        compare=0,
    ),
}


def _brightness(colour: str) -> int:
    return max(map(int, re.findall(r"\d+", colour)[:3]))


@pytest.mark.parametrize("name", REPORTS)
def test_the_report_in_a_browser(
    visit: Callable[[str, object, str], dict[str, Any]], tmp_path: Path, name: str
) -> None:
    file = tmp_path / "report.html"
    file.write_bytes(render(REPORTS[name]())["report.html"])
    seen = visit("report.mjs", file, f"report-{name}")
    # One file, which asks for nothing else and about which the browser says nothing.
    assert seen["complaints"] == []
    assert seen["requests"] == [file.as_uri()]
    for screen in SCREENS:
        view = seen[screen]
        assert view["figures"] >= 8
        # Letters stay inside their figure, apart from one another, large and clear enough.
        assert view["outside"] == []
        assert view["overlapping"] == []
        assert view["smallest"] >= 8.5
        assert view["lowestContrast"] >= FOUR_TO_ONE
        # The page itself never scrolls sideways; the table of all points fits even a phone.
        assert view["widths"][0] == view["widths"][1] == (390 if screen.startswith("phone") else 1280)
        assert view["widthsOpened"] == view["widths"]
        assert view["pointsFit"] is True
        assert view["broken"] == []
        # Details are folded away until asked for.
        assert view["folded"] == view["opened"] >= 4
        assert (_brightness(view["background"]) < 64) is (screen in ("dark", "phoneDark"))
    # Paper is white, whatever the screen was, and cannot be unfolded.
    paper = seen["paper"]
    assert paper["background"] == "rgb(255, 255, 255)"
    assert len(paper["visible"]) == seen["light"]["folded"]
    assert all(paper["visible"])
    assert 3 <= paper["pages"] <= 30
