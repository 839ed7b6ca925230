"""The files of a report: complete, self-contained, written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tools.tiny_bundle import CLASSES, mixed_modes
from twophase.link.errors import InputError
from twophase.sim.report import render, require_writable, write_report
from twophase.sim.results import point_results, verdict_of
from twophase.sim.settings import Settings
from twophase.sim.sweep import simulate_point
from twophase.sim.system import load_samples, load_system
from twophase.sim.tables import csv_text, result_table


@pytest.fixture(scope="module")
def report(bundle: Path) -> dict[str, Any]:
    system, manifest = load_system(bundle)
    system = mixed_modes(system)
    samples = load_samples(bundle / "eval.npz", manifest.input_shape, CLASSES)
    settings = Settings(trials=2)
    tallies = [simulate_point(system, samples, snr, settings) for snr in (0.0, 8.0, 30.0)]
    points = point_results(tallies, manifest.modes, CLASSES, settings)
    return {
        "verdict": verdict_of(points),
        "remarks": [],
        "task": "<tiny> & co",
        "command": "tp-sim --bundle 'a b'",
        "versions": {"python": "3"},
        "seed": 0,
        "bundle": "runs/tiny/bundle",
        "bundle_sha256": "0" * 64,
        "data": "eval.npz",
        "channel": "rayleigh",
        "demapper": "exact",
        "trials": 2,
        "samples": 240,
        "tolerance": 0.02,
        "classes": list("abcd"),
        "references": [
            {"name": entry.name, "description": entry.description, "temperature": 0.7, "soft": "s", "rx": "r"}
            for entry in manifest.references
        ],
        "training": {"method": "by hand", "rate": 0.123456789},
        "points": points,
    }


class _Page(HTMLParser):
    """Collects what a page would load, and whether its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.loaded += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value]
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs) -> None:
        self.loaded += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value]

    def handle_data(self, data) -> None:
        self.text.append(data)


def test_the_page_is_self_contained_and_well_formed(report) -> None:
    source = render(report)["report.html"].decode()
    page = _Page()
    page.feed(source)
    assert page.open == []
    # Only references inside the page itself: figures refer to their own markers.
    assert all(target.startswith("#") for target in page.loaded)
    assert "@import" not in source
    assert not re.search(r"url\((?!#)", source)
    text = " ".join(page.text)
    # Verdict before everything else that is measured; names of the outside world escaped.
    assert text.index(report["verdict"]) < text.index("Results over Es/N0")
    assert "<tiny> & co" in text
    assert "<tiny>" not in source
    for needed in (
        "learning",
        "aligned",
        "0" * 64,
        "tp-sim --bundle 'a b'",
        "flat Rayleigh fading",
        "by hand",
    ):
        assert needed in text
    assert source.count("<svg") == 3
    for figure in re.findall(r"<svg.*?</svg>", source, re.DOTALL):
        ElementTree.fromstring(figure)
        assert "var(--deployed)" in figure or "var(--aligned)" in figure
        assert "#0072b2" not in figure


def test_the_page_says_when_the_learning_reference_is_absent(report) -> None:
    assert "holds no reference of a learning phase" not in render(report)["report.html"].decode()
    references = [entry for entry in report["references"] if entry["name"] == "aligned"]
    points = [
        point | {"references": {"aligned": point["references"]["aligned"]}} for point in report["points"]
    ]
    page = render(report | {"references": references, "points": points})["report.html"].decode()
    assert "holds no reference of a learning phase" in page
    assert "against: aligned only, there is no learning reference" in page


def test_the_page_shows_remarks_below_the_verdict(report) -> None:
    assert "Remark:" not in render(report)["report.html"].decode()
    page = render(report | {"remarks": ["soft & hard differ"]})["report.html"].decode()
    assert "<b>Remark:</b> soft &amp; hard differ.</p>" in page
    assert page.index('<div class="verdict') < page.index("Remark:") < page.index('<div class="tiles">')


def test_the_page_counts_replaced_llrs(report) -> None:
    points = [point | {"llrs_replaced": 7} for point in report["points"]]
    page = render(report | {"demapper": "commpy", "points": points})["report.html"].decode()
    assert "21 LLRs in all" in page


def test_rendering_is_reproducible_from_the_json(report) -> None:
    files = render(report)
    assert files == render(json.loads(files["report.json"]))
    assert files["accuracy.png"].startswith(b"\x89PNG")
    assert list(files)[-1] == "report.json"


def test_a_single_point_and_no_errors_can_be_drawn(report) -> None:
    files = render(report | {"points": report["points"][-1:]})
    assert report["points"][-1]["bit_errors"] == 0
    assert b"30 dB" in files["report.html"]


def test_csv_has_a_column_for_every_number(report) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(report))))
    assert [float(row["esn0_db"]) for row in rows] == [0.0, 8.0, 30.0]
    for row, point in zip(rows, report["points"], strict=True):
        assert float(row["accuracy_hard"]) == point["accuracy_hard"]
        assert float(row["gap_ci_low"]) == point["gap_ci"][0]
        assert float(row["learning_gap_lower_bound"]) == point["references"]["learning"]["gap_lower_bound"]
        assert float(row["mode_usage_4x16qam"]) == point["mode_usage"]["4x16qam"]
        assert None not in row.values()


def test_table_columns_line_up(report) -> None:
    table, legend = result_table(report).split("\n\n")
    lines = table.splitlines()
    assert len(lines) == 2 + 3
    ends = [match.end() for match in re.finditer(r"-+", lines[1])]
    for line in lines[2:]:
        assert [line[end - 1] != " " and line[end : end + 1] in ("", " ") for end in ends] == [True] * len(
            ends
        )
    starts = [0, *(end + 2 for end in ends[:-1])]
    header = [lines[0][start:end].strip() for start, end in zip(starts, ends, strict=True)]
    assert header[:3] == ["Es/N0", "Eb/N0", "deployed"]
    point = report["points"][1]
    cells = dict(zip(header, (lines[3][a:b].strip() for a, b in zip(starts, ends, strict=True)), strict=True))
    # The same names as in the page, for the same figures.
    assert cells["theory"] == f"{point['ber_theory']:.1e}"
    assert cells["as sent"] == f"{point['ber_theory_usage']:.1e}"
    assert cells["lowest gap"] == f"{100 * point['gap']:+.2f}"
    assert cells["against"] == point["gap_reference"]
    bounds = [entry["gap_lower_bound"] for entry in point["references"].values()]
    assert cells["shown >="] == f"{100 * min(bounds):+.2f}"
    for name in ("lowest gap:", "shown >=:", "theory:", "as sent:", "CER:", "bound:"):
        assert name in legend


def test_files_are_written_whole_and_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "sim"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    (folder / "report.json").write_text("old")
    write_report(folder, {"report.html": b"page", "report.json": b"new"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "notes.txt": b"mine",
        "report.html": b"page",
        "report.json": b"new",
    }


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "sim"
    write_report(folder, {"report.html": b"old", "report.json": b"old"})
    original = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name == "report.json":
            raise OSError(28, "No space left on device")
        return original(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"'out' must be a folder that can be written \(No space left"):
        write_report(folder, {"report.html": b"new", "report.json": b"new"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "report.html": b"old",
        "report.json": b"old",
    }


def test_a_folder_that_cannot_be_written_is_named_before_the_run(tmp_path: Path, monkeypatch) -> None:
    require_writable(tmp_path / "new" / "sim")
    assert list(tmp_path.iterdir()) == []
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "sim"):
        with pytest.raises(InputError, match="'out' must be a folder that can be written"):
            require_writable(folder)

    def refused(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    with pytest.raises(InputError, match=r"\(Permission denied\), not '.*sim'"):
        require_writable(tmp_path / "sim")
