"""A report as text: columns that line up, in no more than a terminal's width, and the CSV."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import fields, replace

import pytest

from tools.tiny_report import tiny_report
from twophase.sim.report.tables import (
    aligned,
    csv_text,
    hangs_together,
    result_table,
    summary,
    tables,
    usage_table,
)
from twophase.sim.results.figures import Report

GRID = (0.0, 8.0, 20.0)


@pytest.fixture(scope="module")
def report() -> Report:
    """One mode at each point, by the SNR; one is not used at all."""
    return tiny_report(GRID, header=False, modes_report=True)


def _cells(table: str, row: int) -> dict[str, str]:
    """Cells of a line by the names above them."""
    lines = table.splitlines()
    spans = [match.span() for match in re.finditer(r"-+", lines[1])]
    assert all(lines[2 + row][end : end + 1] in ("", " ") for _, end in spans)
    return {lines[0][a:b].strip(): lines[2 + row][a:b].strip() for a, b in spans}


def test_columns_line_up_and_hold_what_the_report_says(report) -> None:
    result, baselines, usage, fixed = (table.split("\n\n")[0] for table in tables(report))
    point = report.points[1]
    cells = _cells(result, 1)
    assert (cells["Es/N0"], cells["verdict"]) == ("8", point.verdict)
    assert float(cells["deployed"]) == pytest.approx(100 * point.accuracy_hard, abs=0.005)
    assert float(cells["gap"]) == pytest.approx(100 * point.gap, abs=0.005)
    bounds = [entry.gap_lower_bound for entry in point.references.values()]
    assert float(cells["at least"]) == pytest.approx(100 * min(bounds), abs=0.005)
    ldpc = float(_cells(baselines, 1)["ldpc"])
    assert ldpc == pytest.approx(100 * point.baselines["ldpc"].accuracy, abs=0.005)
    shares = _cells(usage, 1)
    assert (shares["16x4qam"], shares["4x4qam"]) == ("100.0", "-")  # the second is used elsewhere
    assert "4x16qam" not in shares  # used nowhere
    assert point.best_fixed is not None
    assert _cells(fixed, 1)["best fixed"] == point.best_fixed.mode


def test_no_line_is_wider_than_a_terminal() -> None:
    report = tiny_report(tuple(-20.5 + n for n in range(3)), verdict="UNDECIDED", modes_report=True)
    # The longest cells there can be: large negative gaps, and an accuracy of one.
    worst = {
        name: replace(entry, gap=-0.4321, gap_lower_bound=-0.4567)
        for name, entry in report.points[0].references.items()
    }
    point = replace(report.points[0], accuracy_hard=1.0, accuracy_hard_ci=(0.9951, 1.0), references=worst)
    crowded = replace(report, points=[point, *report.points[1:]], coherence="sample")
    assert max(len(line) for table in tables(crowded) for line in table.splitlines()) <= 100
    rows = [[f"{row}", *(f"{row}{column}" * 6 for column in "abcdefghij")] for row in range(2)]
    lines = aligned(rows)
    assert max(map(len, lines)) <= 100
    parts = "\n".join(lines).split("\n\n")
    assert len(parts) == 2
    assert all(part.splitlines()[2].split()[0] == "1" for part in parts)
    assert "".join(parts).split().count("1j" * 6) == 1


@pytest.mark.parametrize(
    ("channel", "coherence", "csi", "together"),
    [
        ("awgn", "symbol", "perfect", False),
        ("rayleigh", 4, "perfect", True),
        ("tdl-c", "symbol", "perfect", True),
        ("awgn", "symbol", "pilot", True),
    ],
)
def test_the_table_says_when_bits_err_together(report, channel, coherence, csi, together) -> None:
    settings = replace(report.settings, csi=csi)
    other = replace(report, channel=channel, coherence=coherence, settings=settings)
    assert hangs_together(other) is together
    assert ("independent bits, is too short" in result_table(other)) is together
    assert ("a receiver that knows the gains" in result_table(other)) is (csi != "perfect")


def test_pilots_take_a_column_where_there_are_any_and_the_summary_names_other_bundles(report) -> None:
    without = [replace(point, pilot_symbols_per_sample=0.0) for point in report.points]
    assert "pilots" in usage_table(report).splitlines()[0]
    assert "pilots" not in usage_table(replace(report, points=without)).splitlines()[0]
    text = "\n".join(summary(report))
    assert f"verdict: {report.verdict} (" in text
    assert "other-1" in text


def test_csv_has_a_column_for_every_number_and_leaves_empty_what_there_is_not(report) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(report))))
    assert [float(row["esn0_db"]) for row in rows] == list(GRID)
    for row, point in zip(rows, report.points, strict=True):
        # Lists and tables within a point stand in the JSON alone.
        assert not {"llr_zeros", "llr_zeros_low", "confusion", "confusion_low"} & row.keys()
        for entry in fields(point):
            value = getattr(point, entry.name)
            if isinstance(value, float | int):
                assert float(row[entry.name]) == value
        assert float(row["gap_ci_low"]) == point.gap_ci[0]
        assert float(row["learning_gap_lower_bound"]) == point.references["learning"].gap_lower_bound
        high = point.baselines["conv"].difference_ci[1]
        assert float(row["companions_conv_difference_ci_high"]) == high
        assert (row["stop_reason"], row["verdict"]) == (point.stop_reason, point.verdict)
        assert None not in row.values()
    assert rows[1]["header_error_rate"] == ""
    # A mode that is not in use has a share, but no accuracy.
    assert (rows[1]["mode_usage_4x4qam"], rows[1]["accuracy_by_mode_4x4qam"]) == ("0", "")
