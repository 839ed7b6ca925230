"""A text link's report as text: its front end, and the sentences themselves beside it."""

from __future__ import annotations

from typing import Any

from twophase.sim.reporting.tables import aligned

__all__ = ["front_text", "ratio_text", "samples_word", "text_lines", "text_table"]

Report = dict[str, Any]


def samples_word(report: Report) -> str:
    """What the samples are: sentences where the report knows it."""
    return "sentences" if "front" in report else "samples"


def text_table(report: Report) -> str:
    """Symbols of the link and of the sentences themselves at each SNR; with a legend."""
    header = ["Es/N0", "link", "text", "times", "Shannon", "times", "intact", "text sent by"]
    rows = []
    for point in report["points"]:
        entry = point["text"]
        rows.append(
            [
                f"{point['esn0_db']:g}",
                f"{point['symbols_per_sample']:.2f}",
                f"{entry['symbols']:.1f}",
                f"{entry['ratio']:.0f}",
                f"{entry['bound_symbols']:.1f}",
                f"{entry['bound_ratio']:.0f}",
                f"{100 * entry['intact']:.1f}",
                entry["scheme"] or "by each block's gain",
            ]
        )
    legend = (
        "symbols per sentence, all included; times: so many times the link's; intact: % of the sentences",
        f"Shannon: {report['text']['bits_per_sentence']:.0f} bits at log2(1 + Es/N0) bits per symbol, the "
        "least that any code needs for them",
    )
    return "\n".join([*aligned([header, *rows]), "", *legend])


def text_lines(report: Report) -> list[str]:
    """Lines of the summary: front end, ceiling and how long the sentences are; as far as there are any."""
    lines = []
    if "front" in report:
        lines.append(f"front end: {front_text(report)}")
    if "ceiling" in report:
        low, high = report["ceiling"]["accuracy_ci"]
        lines.append(
            f"no channel: {100 * report['ceiling']['accuracy']:.2f} % ({100 * low:.1f}..{100 * high:.1f}), "
            f"{report['ceiling']['description']}"
        )
    if "text" in report:
        lines.append(f"text: {ratio_text(report)}")
    return lines


def front_text(report: Report) -> str:
    """Whether the whole graph gives what is simulated; one sentence without a full stop."""
    front = report["front"]
    count = f"{front['sentences']} sentences through the whole tx.onnx"
    if not front["different_features"]:
        return f"{count} give the simulated features, bit for bit"
    return (
        f"{count}: {front['different_features']} give other features than are simulated, and "
        f"{front['different_indices']} of {front['indices']} codeword indices differ"
    )


def ratio_text(report: Report) -> str:
    """How many times as long the sentences are; one sentence without a full stop."""
    text = report["text"]
    return (
        f"the sentences themselves would take {_span(text['ratio'])} times as many symbols (by an ideal code "
        f"for the same bits {_span(text['bound_ratio'])} times); {_span(text['intact'], 100, 1)} % of them "
        "arrive intact"
    )


def _span(ends: list[float], scale: float = 1, digits: int = 0) -> str:
    low, high = (f"{scale * end:.{digits}f}" for end in ends)
    return low if low == high else f"{low}..{high}"
