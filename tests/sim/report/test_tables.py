"""A report as text: columns that line up, in no more than a terminal's width, and the CSV."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest

from tools.fake_report import fake_report
from twophase.sim.report.tables import (
    best_fixed_table,
    companions_table,
    csv_text,
    hangs_together,
    result_table,
    usage_table,
)

GRID = (0.0, 8.0, 20.0)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return fake_report(GRID, modes_report=True)


def _cells(table: str, row: int) -> dict[str, str]:
    """Cells of a line by the names above them."""
    lines = table.splitlines()
    ends = [match.end() for match in re.finditer(r"-+", lines[1])]
    starts = [0, *(end + 2 for end in ends[:-1])]
    spans = list(zip(starts, ends, strict=True))
    line = lines[2 + row]
    assert all(line[end : end + 1] in ("", " ") for end in ends)
    return {lines[0][a:b].strip(): line[a:b].strip() for a, b in spans}


def test_table_columns_line_up(report) -> None:
    table, legend = result_table(report).split("\n\n")
    assert len(table.splitlines()) == 2 + len(GRID)
    for row, point in enumerate(report["points"]):
        cells = _cells(table, row)
        bounds = [entry["gap_lower_bound"] for entry in point["references"].values()]
        assert cells == {
            "Es/N0": f"{point['esn0_db']:g}",
            "Eb/N0": f"{point['ebn0_db']:.1f}",
            "deployed": f"{100 * point['accuracy_hard']:.2f}",
            "95 %": "{:.1f}..{:.1f}".format(*(100 * end for end in point["accuracy_hard_ci"])),
            "learning": f"{100 * point['references']['learning']['accuracy']:.2f}",
            "aligned": f"{100 * point['references']['aligned']['accuracy']:.2f}",
            "gap": f"{100 * point['gap']:+.2f}",
            "shown>=": f"{100 * min(bounds):+.2f}",
            "BER": f"{point['ber']:.1e}",
            "as sent": f"{point['ber_theory_usage']:.1e}",
            "bound": f"{100 * point['label_bound']:.1f}",
            "verdict": point["verdict"],
        }
    for name in ("gap:", "shown>=:", "as sent:", "bound:"):
        assert name in legend


def test_the_table_fits_a_terminal() -> None:
    # The longest cells there can be: large negative gaps, and an accuracy of one.
    report = fake_report(tuple(-20.5 + n for n in range(3)), failing=True)
    point = report["points"][0]
    point["accuracy_hard"], point["accuracy_hard_ci"] = 1.0, [0.9951, 1.0]
    point["gap"] = -0.4321
    point["references"]["learning"]["gap_lower_bound"] = -0.4567
    text = result_table(report | {"coherence": "sample"})
    assert 90 < max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize(
    ("channel", "coherence", "csi", "together"),
    [
        ("awgn", "symbol", "perfect", False),
        ("rician", "symbol", "perfect", False),
        ("rayleigh", "sample", "perfect", True),
        ("rayleigh", 4, "perfect", True),
        ("tdl-c", "symbol", "perfect", True),
        ("awgn", "symbol", "pilot", True),
    ],
)
def test_the_table_says_when_bits_err_together(report, channel, coherence, csi, together) -> None:
    other = report | {"channel": channel, "coherence": coherence, "settings": {"csi": csi}}
    assert hangs_together(other) is together
    assert ("made for independent bits, is too short" in result_table(other)) is together


def test_the_table_says_whom_the_theory_is_for(report) -> None:
    said = "for a receiver that knows the gains"
    for csi, taken in (("pilot", "estimates"), ("none", "takes for one")):
        assert f"{said}, which this one {taken}" in result_table(report | {"settings": {"csi": csi}})
    assert said not in result_table(report | {"settings": {"csi": "perfect"}})
    earlier = {key: value for key, value in report.items() if key != "settings"}
    assert said not in result_table(earlier)
    assert not hangs_together(earlier)


def test_the_companions_stand_beside_the_link(report) -> None:
    table, legend = companions_table(report).split("\n\n")
    line = table.splitlines()[3].split()
    point = report["points"][1]
    assert line[:3] == ["8", f"{100 * point['accuracy_hard']:.2f}", f"{point['symbols_per_sample']:.2f}"]
    for place, entry in enumerate(point["companions"].values()):
        assert line[3 + 3 * place : 6 + 3 * place] == [
            f"{100 * entry['accuracy']:.2f}",
            f"{entry['symbols_per_sample']:.2f}",
            f"{100 * entry['difference']:+.2f}",
        ]
    assert "minus the deployed link" in legend
    assert max(map(len, table.splitlines())) <= 110


def test_the_usage_table_names_each_mode_in_use(report) -> None:
    table, legend = usage_table(report).split("\n\n")
    names = [entry["mode"] for entry in report["mode_table"]]
    point = report["points"][1]
    cells = _cells(table, 1)
    assert [*cells][1:-5] == [
        name for name in names if any(name in p["mode_usage"] for p in report["points"])
    ]
    for name in [*cells][1:-5]:
        share = point["mode_usage"].get(name)
        assert cells[name] == ("-" if share is None else f"{100 * share:.1f}")
    assert cells["payload"] == f"{point['payload_symbols_per_sample']:.2f}"
    assert cells["header"] == f"{point['header_symbols_per_sample']:.2f}"
    assert cells["pilots"] == f"{point['pilot_symbols_per_sample']:.2f}"
    assert cells["symbols"] == f"{point['symbols_per_sample']:.2f}"
    assert "symbols: per sample, the sum with pilots" in legend
    assert cells["mode errors"] == f"{point['mode_error_rate']:.1e}"
    assert "mode errors: frames that the receiver took for another mode's" in legend
    without = [entry | {"pilot_symbols_per_sample": 0.0} for entry in report["points"]]
    assert "pilots" not in usage_table(report | {"points": without}).splitlines()[0]
    # A mode that is used nowhere takes no column.
    only = point | {"mode_usage": {"2x16qam": 1.0}}
    assert "4x16qam" not in usage_table(report | {"points": [only]})


def test_the_table_of_fixed_modes_shows_the_difference(report) -> None:
    table, legend = best_fixed_table(report).split("\n\n")
    for line, point in zip(table.splitlines()[2:], report["points"], strict=True):
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


def test_csv_has_a_column_for_every_number(report) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(report))))
    assert [float(row["esn0_db"]) for row in rows] == list(GRID)
    for row, point in zip(rows, report["points"], strict=True):
        # Lists and tables within a point stand in the JSON alone.
        assert not {"llr_zeros", "llr_zeros_low", "confusion", "confusion_low"} & row.keys()
        for name, value in point.items():
            if isinstance(value, float | int):
                assert float(row[name]) == value
        assert float(row["gap_ci_low"]) == point["gap_ci"][0]
        assert float(row["learning_gap_lower_bound"]) == point["references"]["learning"]["gap_lower_bound"]
        conv = point["companions"]["conv"]
        assert float(row["companions_conv_difference_ci_high"]) == conv["difference_ci"][1]
        assert row["stop_reason"] == point["stop_reason"]
        assert None not in row.values()


def test_csv_leaves_empty_what_there_is_not(report) -> None:
    first, second = (dict(point) for point in report["points"][:2])
    second["mode_usage"], second["accuracy_by_mode"] = {"2x16qam": 1.0}, {"2x16qam": 0.5}
    second["header_error_rate"] = second["ber_theory"] = None
    rows = list(csv.DictReader(io.StringIO(csv_text(report | {"points": [first, second]}))))
    # A mode that is not in use has a share, but no accuracy.
    assert (rows[1]["mode_usage_2x4qam"], rows[1]["accuracy_by_mode_2x4qam"]) == ("0", "")
    assert (rows[1]["header_error_rate"], rows[1]["ber_theory"]) == ("", "")
