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
from matplotlib.figure import Figure

from tools.tiny_bundle import CLASSES
from twophase.link.errors import InputError
from twophase.sim.annotate import place_labels
from twophase.sim.cli import SimArguments
from twophase.sim.modes_report import sweep_modes
from twophase.sim.record import report_content
from twophase.sim.report import render, require_writable, write_report
from twophase.sim.settings import Settings
from twophase.sim.sweep import simulate_point
from twophase.sim.system import load_samples, load_system
from twophase.sim.tables import best_fixed_table, csv_text, result_table, usage_table


def _simulated(bundle: Path, modes_report: bool) -> dict[str, Any]:
    system, manifest = load_system(bundle)
    samples = load_samples(bundle / "eval.npz", manifest.input_shape, CLASSES)
    settings = Settings(trials=2)
    grid = [0.0, 8.0, 30.0]
    tallies = [simulate_point(system, samples, snr, settings) for snr in grid]
    fixed = sweep_modes(system, samples, grid, settings) if modes_report else []
    arguments = SimArguments(snr="0:15:30", trials=2, modes_report=modes_report)
    bundle_named = (Path("runs/tiny/a b"), "0" * 64)
    content = report_content(
        arguments, settings, bundle_named, Path("eval.npz"), Path("out"), manifest, tallies, fixed
    )
    training = {"method": "by hand", "rate": 0.123456789}
    named = {"task": "<tiny> & co", "remarks": [], "training": training, "channel": "rayleigh"}
    return content | named


@pytest.fixture(scope="module")
def report(content_bundle: Path) -> dict[str, Any]:
    """All modes at every point, told in a header."""
    return _simulated(content_bundle, modes_report=False)


@pytest.fixture(scope="module")
def modes_report(content_bundle: Path) -> dict[str, Any]:
    return _simulated(content_bundle, modes_report=True)


@pytest.fixture(scope="module")
def files(report) -> dict[str, bytes]:
    return render(report)


@pytest.fixture(scope="module")
def modes_files(modes_report) -> dict[str, bytes]:
    return render(modes_report)


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


def test_the_page_is_self_contained_and_well_formed(report, files) -> None:
    source = files["report.html"].decode()
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
        "tp-sim --bundle 'runs/tiny/a b'",
        "flat Rayleigh fading",
        "by hand",
    ):
        assert needed in text
    assert source.count("<svg") == 4
    for figure in re.findall(r"<svg.*?</svg>", source, re.DOTALL):
        ElementTree.fromstring(figure)
        assert "var(--ink)" in figure
        assert "#0072b2" not in figure


def test_the_page_shows_the_modes(report, files, modes_report, modes_files) -> None:
    page = files["report.html"].decode()
    assert "told in a coded header over QPSK" in page
    assert "Both ends know the Es/N0 exactly." in page
    for name, share in report["points"][0]["mode_usage"].items():
        assert f"<th>{name} %</th>" in page
        assert f"<td>{100 * share:.1f}</td>" in page
    assert "best fixed" not in page
    with_modes = modes_files["report.html"].decode()
    assert with_modes.count("<svg") == 5
    assert "<th>best fixed</th>" in with_modes
    best = modes_report["points"][0]["best_fixed"]
    assert f"<td>{best['mode']}</td><td>{best['symbols']}</td>" in with_modes


def test_figures_of_modes_are_there_where_there_are_modes(report, files, modes_files) -> None:
    assert set(modes_files) - set(files) == {"modes.png"}
    assert files["usage.png"].startswith(b"\x89PNG")
    forced = render(report | {"mode": "4x4qam"})
    one = render(report | {"mode_table": report["mode_table"][:1]})
    for other in (forced, one):
        assert not {"usage.png", "modes.png"} & set(other)
    assert "<h2>Modes</h2>" in forced["report.html"].decode()
    assert "<h2>Modes</h2>" not in one["report.html"].decode()


@pytest.mark.parametrize("points", [[0], [0, 2], [0, 1, 2, 0, 1, 2, 0]])
def test_any_number_of_points_can_be_drawn(modes_report, points) -> None:
    def chosen(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [entries[place] | {"esn0_db": float(n)} for n, place in enumerate(points)]

    modes = [entry | {"points": chosen(entry["points"])} for entry in modes_report["modes"]]
    files = render(modes_report | {"points": chosen(modes_report["points"]), "modes": modes})
    panels = re.findall(r">(\d) dB</text>", files["report.html"].decode())
    assert len(panels) == min(6, len(points))


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
        for x, y, _ in points:
            assert not box.contains(*axes.transData.transform((x, y)))


def test_the_page_says_when_bits_of_a_sample_err_together(report, files) -> None:
    said = "made for independent bits, are too short"
    assert said not in files["report.html"].decode()
    block = report | {"coherence": "sample"}
    page = render(block)["report.html"].decode()
    assert said in page
    assert "Rayleigh block fading" in page
    assert "made for independent bits, is too short" in result_table(block)


def test_the_page_says_when_the_learning_reference_is_absent(report, files) -> None:
    assert "holds no reference of a learning phase" not in files["report.html"].decode()
    references = [entry for entry in report["references"] if entry["name"] == "aligned"]
    points = [
        point | {"references": {"aligned": point["references"]["aligned"]}} for point in report["points"]
    ]
    page = render(report | {"references": references, "points": points})["report.html"].decode()
    assert "holds no reference of a learning phase" in page
    assert "against: aligned only, there is no learning reference" in page


def test_the_page_shows_remarks_below_the_verdict(report, files) -> None:
    assert "Remark:" not in files["report.html"].decode()
    page = render(report | {"remarks": ["soft & hard differ"]})["report.html"].decode()
    assert "<b>Remark:</b> soft &amp; hard differ.</p>" in page
    assert page.index('<div class="verdict') < page.index("Remark:") < page.index('<div class="tiles">')


def test_the_page_counts_replaced_llrs(report) -> None:
    points = [point | {"llrs_replaced": 7} for point in report["points"]]
    page = render(report | {"demapper": "commpy", "points": points})["report.html"].decode()
    assert "21 LLRs in all" in page


def test_rendering_is_reproducible_from_the_json(files) -> None:
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
        for name in (
            "payload_symbols_per_sample",
            "header_symbols_per_sample",
            "header_bits_per_sample",
            "mode_error_rate",
            "header_error_rate",
        ):
            assert float(row[name]) == point[name]
        assert float(row["accuracy_by_mode_16x4qam"]) == point["accuracy_by_mode"]["16x4qam"]


def test_csv_leaves_empty_what_there_is_not(report) -> None:
    first, second = (dict(point) for point in report["points"][:2])
    second["mode_usage"], second["accuracy_by_mode"] = {"4x4qam": 1.0}, {"4x4qam": 0.5}
    second["header_error_rate"] = None
    rows = list(csv.DictReader(io.StringIO(csv_text(report | {"points": [first, second]}))))
    # A mode that is not in use has a share, but no accuracy.
    assert (rows[1]["mode_usage_16x4qam"], rows[1]["accuracy_by_mode_16x4qam"]) == ("0", "")
    assert rows[1]["header_error_rate"] == ""


def test_the_usage_table_names_each_mode_in_use(report) -> None:
    table, legend = usage_table(report).split("\n\n")
    lines = [line.split() for line in table.splitlines()]
    assert lines[0] == [
        *("Es/N0", "4x4qam", "4x16qam", "16x4qam", "16x16qam"),
        *("payload", "header", "symbols", "mode", "errors"),
    ]
    point = report["points"][0]
    shares = [f"{100 * share:.1f}" for share in point["mode_usage"].values()]
    payload, header = point["payload_symbols_per_sample"], point["header_symbols_per_sample"]
    assert lines[2][1:8] == [*shares, f"{payload:.2f}", f"{header:.2f}", f"{payload + header:.2f}"]
    assert lines[2][8] == f"{point['mode_error_rate']:.1e}"
    assert "mode errors: frames that the receiver took for another mode's" in legend
    # A mode that is used nowhere takes no column; one that is used elsewhere shows a dash.
    only = report["points"][1] | {"mode_usage": {"16x4qam": 1.0}}
    assert "4x16qam" not in usage_table(report | {"points": [only]})
    both = usage_table(report | {"points": [report["points"][0], only]}).splitlines()[3]
    assert both.split()[1:5] == ["-", "-", "100.0", "-"]


def test_the_table_of_fixed_modes_shows_the_difference(modes_report) -> None:
    table, legend = best_fixed_table(modes_report).split("\n\n")
    for line, point in zip(table.splitlines()[2:], modes_report["points"], strict=True):
        best = point["best_fixed"]
        assert line.split()[:7] == [
            f"{point['esn0_db']:g}",
            f"{100 * point['accuracy_hard']:.2f}",
            f"{point['symbols_per_sample']:.2f}",
            best["mode"],
            str(best["symbols"]),
            f"{100 * best['accuracy']:.2f}",
            f"{100 * best['difference']:+.2f}",
        ]
    assert "at least as many symbols" in legend


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


def test_figures_of_an_earlier_report_do_not_stay(tmp_path: Path) -> None:
    write_report(tmp_path, {"usage.png": b"1", "modes.png": b"1", "report.json": b"old"})
    write_report(tmp_path, {"usage.png": b"2", "report.json": b"new"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "usage.png": b"2",
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
