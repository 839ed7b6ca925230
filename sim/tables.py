"""A report as text: tables for the terminal and the CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import Any

__all__ = ["best_fixed_table", "csv_text", "result_table", "tenth", "usage_table"]

Report = dict[str, Any]


def result_table(report: Report) -> str:
    """Aligned columns that look the same on a terminal and in a pipe, accuracies in percent, and a legend."""
    names = [entry["name"] for entry in report["references"]]
    header = ["Es/N0", "Eb/N0", "deployed", "95 %", *names, "lowest gap", "against", "shown >="]
    header += ["BER", "theory", "as sent", "CER", "bound", "verdict"]
    rows = [_row(point, names) for point in report["points"]]
    legend = [*_LEGEND, *([_BLOCK_FADING] if report["coherence"] == "sample" else [])]
    return "\n".join([*_aligned([header, *rows]), "", *legend])


def usage_table(report: Report) -> str:
    """Which mode is sent how often at each SNR, in percent, and what telling it costs; with a legend."""
    points = report["points"]
    used = {name for point in points for name in point["mode_usage"]}
    names = [entry["mode"] for entry in report["mode_table"] if entry["mode"] in used]
    header = ["Es/N0", *names, "payload", "header", "symbols", "mode errors"]
    rows = [
        [
            f"{point['esn0_db']:g}",
            *(_share(point["mode_usage"].get(name, 0.0)) for name in names),
            f"{point['payload_symbols_per_sample']:.2f}",
            f"{point['header_symbols_per_sample']:.2f}",
            f"{point['symbols_per_sample']:.2f}",
            f"{point['mode_error_rate']:.1e}",
        ]
        for point in points
    ]
    legend = (
        "under each mode: % of samples sent in it; payload, header, symbols: per sample, and their sum",
        "mode errors: frames that the receiver took for another mode's",
    )
    return "\n".join([*_aligned([header, *rows]), "", *legend])


def best_fixed_table(report: Report) -> str:
    """The adaptive link beside the best fixed mode at each SNR, accuracies in percent; with a legend."""
    header = ["Es/N0", "adaptive", "symbols", "best fixed", "symbols", "accuracy", "difference", "95 %"]
    rows = []
    for point in report["points"]:
        best = point["best_fixed"]
        rows.append(
            [
                f"{point['esn0_db']:g}",
                f"{100 * point['accuracy_hard']:.2f}",
                f"{point['symbols_per_sample']:.2f}",
                best["mode"],
                str(best["symbols"]),
                f"{100 * best['accuracy']:.2f}",
                f"{100 * best['difference']:+.2f}",
                _interval(best["difference_ci"], "{:+.1f}"),
            ]
        )
    legend = "best fixed: the best mode of at least as many symbols (of all, if none has), known to both ends"
    return "\n".join([*_aligned([header, *rows]), "", legend])


def _aligned(rows: list[list[str]]) -> list[str]:
    """Columns aligned to the right, the first row underlined."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _share(value: float) -> str:
    return f"{100 * value:.1f}" if value else "-"


_LEGEND = (
    "lowest gap: deployed minus soft in points, against the soft reference where it is lowest",
    "shown >=: one-sided 95 % lower bound of the difference to every reference; the verdict goes by it",
    "theory: BER if all points were sent equally often; as sent: if used as this transmitter uses them",
    "CER: codeword errors; bound: an ideal system that sends the label, with this classifier",
)

_BLOCK_FADING = (
    "block fading: bits of a sample err together, so the interval of BER, made for independent bits, is too "
    "short"
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
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    # A mode that is not in use has a share, zero, but no accuracy.
    unused = {column: 0 for column in columns if column.startswith("mode_usage_")}
    writer.writerows(unused | row for row in rows)
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
