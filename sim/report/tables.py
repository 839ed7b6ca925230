"""A report as text: tables for the terminal and the CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import Any

from twophase.link.escape import csv_cell
from twophase.sim.results.figures import BackboneCheck, BestFixed, Point, Report, TextFigures, as_json
from twophase.sim.results.points import verdict_reason
from twophase.sim.theory.statistics import Interval

__all__ = [
    "aligned",
    "best_fixed_of",
    "csv_text",
    "front_text",
    "gains_taken",
    "hangs_together",
    "quality_lines",
    "ratio_text",
    "samples_word",
    "span_text",
    "summary",
    "tables",
    "tenth",
]


def hangs_together(report: Report) -> bool:
    """Whether bits of a sample share a fade or the error of an estimate, so that they err together."""
    shares_fade = report.coherence != "symbol" or report.channel.startswith("tdl")
    return shares_fade or report.settings.csi == "pilot"


def gains_taken(report: Report) -> str:
    """What the receiver does with the gains, which that of the BER's theory knows; empty if it knows them."""
    return {"perfect": "", "pilot": "estimates", "none": "takes for one"}[report.settings.csi]


def tables(report: Report) -> list[str]:
    """All tables of the terminal."""
    shown = [result_table(report)]
    shown += [baselines_table(report)] if report.baselines else []
    shown += [text_table(report, report.text)] if report.text is not None else []
    shown += [usage_table(report)] if len(report.mode_table) > 1 else []
    return shown + ([best_fixed_table(report)] if report.modes else [])


def quality_lines(report: Report) -> list[str]:
    """How good the link is, whatever the verdict says, and warnings; the first lines of the terminal."""
    quality, ceiling = report.quality, report.ceiling
    said = [f"most frequent class {_percent(quality.majority_share)}"]
    if ceiling is not None:
        low, high = ceiling.accuracy_ci
        said.insert(
            0,
            f"without a channel {_percent(ceiling.accuracy)} ({100 * low:.1f}..{100 * high:.1f}), by "
            f"{ceiling.description}",
        )
    whose = "these decisions" if ceiling is not None else "the link's own decisions"
    lines = [f"quality: {'; '.join(said)}", f"quality: {label_text(report)}, sending {whose}"]
    if quality.train_accuracy is not None and quality.validation_accuracy is not None:
        lines.append(
            f"quality: in training (hard, over its SNRs) {_percent(quality.train_accuracy)} on the training "
            f"samples, {_percent(quality.validation_accuracy)} in validation"
        )
    return lines + [f"warning: {text}" for text in quality.warnings]


def label_text(report: Report) -> str:
    """The link against an ideal system that sends the label in as many symbols; without a full stop."""
    below, at_db = report.quality.below_label, report.quality.below_label_at_db
    if below <= 0:
        return "at no SNR below ideal classify-and-send in as many symbols"
    return (
        f"at most {100 * below:.2f} percentage points below ideal classify-and-send in as many symbols "
        f"({at_db:g} dB)"
    )


def summary(report: Report) -> list[str]:
    """Lines of the terminal below the tables: what was measured, how, and what came out."""
    trials = span_text([point.trials for point in report.points])
    return [
        f"bundle: {report.bundle}; {report.channel_text}, {report.demapper} LLRs, "
        f"{report.samples} {samples_word(report)} x {trials} trials, seed {report.seed}",
        f"receiver: {report.csi_text}",
        f"signalling: {report.signalling}; {report.estimates}",
        *text_lines(report),
        f"verdict: {report.verdict} ({verdict_reason(report.points, report.tolerance)})",
        *([] if report.advice is None else [f"what would decide: {report.advice}"]),
        *(f"remark: {remark}" for remark in report.remarks),
        *(f"compared: {entry.name}, {entry.verdict} ({entry.bundle})" for entry in report.compare),
    ]


def result_table(report: Report) -> str:
    """Aligned columns that look the same on a terminal and in a pipe, accuracies in percent, and a legend.

    The page and the CSV have more.
    """
    names = [entry.name for entry in report.references]
    header = ["Es/N0", "Eb/N0", "deployed", "95 %", *names, "gap", "at least"]
    header += ["BER", "theory", "bound", "verdict"]
    rows = [_row(point, names) for point in report.points]
    legend = list(_LEGEND)
    if taken := gains_taken(report):
        legend.append(f"theory is for a receiver that knows the gains, which this one {taken}")
    if hangs_together(report):
        legend.append(_TOGETHER)
    return "\n".join([*aligned([header, *rows]), "", *legend])


def baselines_table(report: Report) -> str:
    """Other designs on the same air, accuracies in percent, and the symbols that they take; with a legend."""
    names = [entry.name for entry in report.baselines]
    header = ["Es/N0", "deployed", "symbols"]
    for name in names:
        header += [name, "symbols", "diff"]
    rows = []
    for point in report.points:
        row = [f"{point.esn0_db:g}", f"{100 * point.accuracy_hard:.2f}", f"{point.symbols_per_sample:.2f}"]
        for name in names:
            entry = point.baselines[name]
            row += [
                f"{100 * entry.accuracy:.2f}",
                f"{entry.symbols_per_sample:.2f}",
                f"{100 * entry.difference:+.2f}",
            ]
        rows.append(row)
    legend = "symbols: per sample, all included; diff: that system minus the deployed link, in points"
    return "\n".join([*aligned([header, *rows]), "", legend])


def usage_table(report: Report) -> str:
    """Which mode is sent how often at each SNR, in percent, and what telling it costs; with a legend."""
    points = report.points
    used = {name for point in points for name in point.mode_usage}
    names = [entry.mode for entry in report.mode_table if entry.mode in used]
    parts = ["payload", "header"]
    if any(point.pilot_symbols_per_sample > 0 for point in points):
        parts.append("pilot")
    header = ["Es/N0", *names, *("pilots" if part == "pilot" else part for part in parts)]
    header += ["symbols", "mode errors"]
    rows = [
        [
            f"{point.esn0_db:g}",
            *(_share(point.mode_usage.get(name, 0.0)) for name in names),
            *(f"{getattr(point, f'{part}_symbols_per_sample'):.2f}" for part in parts),
            f"{point.symbols_per_sample:.2f}",
            f"{point.mode_error_rate:.1e}",
        ]
        for point in points
    ]
    legend = (
        "under each mode: % of samples sent in it; symbols: per sample, the sum with pilots",
        "mode errors: frames that the receiver took for another mode's",
    )
    return "\n".join([*aligned([header, *rows]), "", *legend])


def best_fixed_table(report: Report) -> str:
    """The adaptive link against the best fixed mode at each SNR, accuracies in percent; with a legend."""
    header = ["Es/N0", "adaptive", "symbols", "best fixed", "symbols", "accuracy", "difference", "95 %"]
    rows = []
    for point in report.points:
        best = best_fixed_of(point)
        rows.append(
            [
                f"{point.esn0_db:g}",
                f"{100 * point.accuracy_hard:.2f}",
                f"{point.symbols_per_sample:.2f}",
                best.mode,
                str(best.symbols),
                f"{100 * best.accuracy:.2f}",
                f"{100 * best.difference:+.2f}",
                _interval(best.difference_ci, "{:+.1f}"),
            ]
        )
    legend = "best fixed: the best mode of at least as many symbols (of all, if none has), known to both ends"
    return "\n".join([*aligned([header, *rows]), "", legend])


def best_fixed_of(point: Point) -> BestFixed:
    """The best mode at a point of a report that has every mode by itself."""
    assert point.best_fixed is not None
    return point.best_fixed


def aligned(rows: list[list[str]], width: int = 100) -> list[str]:
    """Columns aligned to the right, the first row underlined; closer or folded where they are too wide.

    Folded, each part begins with the first column.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    total = sum(widths)
    gap = "  " if total + 2 * (len(widths) - 1) <= width else " "
    if total + len(gap) * (len(widths) - 1) > width and len(widths) > 2:
        fitting = [n for n in range(1, len(widths) - 1) if sum(widths[: n + 1]) + 2 * n <= width]
        cut = max(fitting, default=1) + 1
        rest = [[line[0], *line[cut:]] for line in rows]
        return [*aligned([line[:cut] for line in rows], width), "", *aligned(rest, width)]
    lines = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return [
        gap.join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def span_text(counts: list[int]) -> str:
    """One number, or the least and the most."""
    return f"{min(counts)}" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _share(value: float) -> str:
    return f"{100 * value:.1f}" if value else "-"


_LEGEND = (
    "gap: deployed minus soft in percentage points, against the soft reference where it is lowest",
    "at least: one-sided 95 % lower bound of the gap to every reference; PASS goes by it",
    "BER: of channel bits decided one by one by the nearest point, as the receiver does not do: it weighs",
    "  all LLRs of a sample together, and can be right where many of these bits are wrong",
    "theory: of the BER, for the constellation points as often as this transmitter sends each",
    "bound: an ideal system that sends the label, with this classifier",
)

_TOGETHER = (
    "a sample's bits share a fade or an estimate: BER's interval, made for independent bits, is too short"
)


def _row(point: Point, names: list[str]) -> list[str]:
    return [
        f"{point.esn0_db:g}",
        tenth(point.ebn0_db),
        f"{100 * point.accuracy_hard:.2f}",
        _interval(point.accuracy_hard_ci, "{:.1f}"),
        *(f"{100 * point.references[name].accuracy:.2f}" for name in names),
        f"{round(100 * point.gap, 2) + 0.0:+.2f}",
        f"{100 * min(entry.gap_lower_bound for entry in point.references.values()):+.2f}",
        f"{point.ber:.1e}",
        f"{point.ber_theory_usage:.1e}",
        f"{100 * point.label_bound:.1f}",
        point.verdict,
    ]


def tenth(value: float) -> str:
    """One decimal, and never ``-0.0``."""
    return f"{round(value, 1) + 0.0:.1f}"


def _interval(interval: Interval, form: str) -> str:
    return "..".join(form.format(100 * end) for end in interval)


_TABLES = ("llr_zeros", "llr_ones", "llr_expected_ones", "confusion", "counts")
"""Tables within a point: they stand in report.json alone."""


def csv_text(report: Report) -> str:
    """One line per SNR point; intervals, references, baselines and modes each get columns of their own."""
    # The same in every row: of the link, not of the point.
    quality: dict[str, Any] = {
        name: value
        for name, value in as_json(report.quality).items()
        if name in ("majority_share", "train_accuracy", "validation_accuracy")
    }
    if report.ceiling is not None:
        accuracy, interval = report.ceiling.accuracy, report.ceiling.accuracy_ci
        quality |= {"accuracy_no_channel": accuracy, "accuracy_no_channel_ci": interval}
    rows = [
        _flat({key: value for key, value in as_json(point).items() if key not in _TABLES} | quality)
        for point in report.points
    ]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writerow({column: csv_cell(column) for column in columns})
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
            flat[column] = csv_cell(entry) if isinstance(entry, str) else entry
    return flat


def samples_word(report: Report) -> str:
    """What the samples are: sentences where the report knows it."""
    return "sentences" if report.front is not None else "samples"


def text_table(report: Report, text: TextFigures) -> str:
    """Symbols of the link and of the sentences themselves at each SNR; with a legend."""
    header = ["Es/N0", "link", "text", "times", "Shannon", "times", "intact", "text sent by"]
    rows = []
    for point in report.points:
        entry = point.text
        assert entry is not None
        rows.append(
            [
                f"{point.esn0_db:g}",
                f"{point.symbols_per_sample:.2f}",
                f"{entry.symbols:.1f}",
                f"{entry.ratio:.0f}",
                f"{entry.bound_symbols:.1f}",
                f"{entry.bound_ratio:.0f}",
                f"{100 * entry.intact:.1f}",
                entry.scheme or "by each block's gain",
            ]
        )
    legend = (
        "symbols per sentence, all included; times: so many times the link's; intact: % of the sentences",
        f"Shannon: {text.bits_per_sentence:.0f} bits at log2(1 + Es/N0) bits per symbol, the "
        "least that any code needs for them",
    )
    return "\n".join([*aligned([header, *rows]), "", *legend])


def text_lines(report: Report) -> list[str]:
    """Lines of the summary: front end and how long the sentences are; as far as there are any."""
    lines = []
    if report.front is not None:
        lines.append(f"front end: {front_text(report.front)}")
    if report.text is not None:
        lines.append(f"text: {ratio_text(report.text)}")
    return lines


def front_text(front: BackboneCheck) -> str:
    """Whether the whole graph gives what is simulated; one sentence without a full stop."""
    count = f"{front.sentences} sentences through the whole tx.onnx"
    if not front.different_features:
        return f"{count} give the simulated features, bit for bit"
    return (
        f"{count}: {front.different_features} give other features than are simulated, and "
        f"{front.different_indices} of {front.indices} codeword indices differ"
    )


def ratio_text(text: TextFigures) -> str:
    """How many times as long the sentences are; one sentence without a full stop."""
    return (
        f"the sentences themselves would take {_span(text.ratio)} times as many symbols (by an ideal code "
        f"for the same bits {_span(text.bound_ratio)} times); {_span(text.intact, 100, 1)} % of them "
        "arrive intact"
    )


def _span(ends: Interval, scale: float = 1, digits: int = 0) -> str:
    low, high = (f"{scale * end:.{digits}f}" for end in ends)
    return low if low == high else f"{low}..{high}"
