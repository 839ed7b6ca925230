"""A report as text: the table for the terminal and the CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import Any

__all__ = ["csv_text", "result_table", "tenth"]

Report = dict[str, Any]


def result_table(report: Report) -> str:
    """Aligned columns that look the same on a terminal and in a pipe, accuracies in percent, and a legend."""
    names = [entry["name"] for entry in report["references"]]
    header = ["Es/N0", "Eb/N0", "deployed", "95 %", *names, "lowest gap", "against", "shown >="]
    header += ["BER", "theory", "as sent", "CER", "bound", "verdict"]
    rows = [_row(point, names) for point in report["points"]]
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (header, ["-" * width for width in widths], *rows)
    ]
    return "\n".join([*lines, "", *_LEGEND])


_LEGEND = (
    "lowest gap: deployed minus soft in points, against the soft reference where it is lowest",
    "shown >=: one-sided 95 % lower bound of the difference to every reference; the verdict goes by it",
    "theory: BER if all points were sent equally often; as sent: if used as this transmitter uses them",
    "CER: codeword errors; bound: an ideal system that sends the label, with this classifier",
)


def _row(point: dict[str, Any], names: list[str]) -> list[str]:
    return [
        f"{point['esn0_db']:g}",
        tenth(point["ebn0_db"]),
        f"{100 * point['accuracy_hard']:.2f}",
        _interval(point["accuracy_hard_ci"], "{:.1f}"),
        *(f"{100 * point['references'][name]['accuracy']:.2f}" for name in names),
        f"{100 * point['gap']:+.2f}",
        point["gap_reference"],
        f"{100 * min(entry['gap_lower_bound'] for entry in point['references'].values()):+.2f}",
        f"{point['ber']:.1e}",
        f"{point['ber_theory']:.1e}",
        f"{point['ber_theory_usage']:.1e}",
        f"{point['codeword_error_rate']:.1e}",
        f"{100 * point['label_bound']:.1f}",
        point["verdict"],
    ]


def tenth(value: float) -> str:
    """One decimal, and never ``-0.0``."""
    return f"{round(value, 1) + 0.0:.1f}"


def _interval(interval: tuple[float, float], form: str) -> str:
    return "..".join(form.format(100 * end) for end in interval)


def csv_text(report: Report) -> str:
    """One line per SNR point; intervals, references and mode shares each get columns of their own."""
    rows = [_flat(point) for point in report["points"]]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval=0, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, entry in value.items():
        # The references' columns need no "references_" in front: their names tell.
        column = f"{prefix}{name}"
        if isinstance(entry, dict):
            flat |= _flat(entry, "" if name == "references" else f"{column}_")
        elif isinstance(entry, (tuple, list)):
            flat[f"{column}_low"], flat[f"{column}_high"] = entry
        else:
            flat[column] = entry
    return flat
