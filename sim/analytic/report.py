"""Files and table of the expected accuracy: ``semianalytic.json``, ``.csv`` and ``.png``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from twophase.link.files import atomic_path, write_json, write_text
from twophase.link.samples import Samples
from twophase.sim.analytic.expected import ExpectedPoint, Limits, expected_accuracy
from twophase.sim.report.drawing import COLOURS, png, snr_axis
from twophase.sim.report.tables import aligned
from twophase.sim.results.report_json import channel_text
from twophase.sim.settings import Settings
from twophase.sim.system import System
from twophase.sim.theory.statistics import CONFIDENCE

__all__ = ["run_semi_analytic"]

_SIZE = (7.6, 4.4)
_RELEVANT = ("channel", "coherence", "rician_k_db", "known_snr", "header", "mode", "seed")


def run_semi_analytic(
    system: System,
    manifest_name: str,
    samples: Samples,
    grid: Sequence[float],
    settings: Settings,
    out: Path,
    limits: Limits | None = None,
    origin: Mapping[str, Any] | None = None,
) -> str:
    """Compute, write three files into ``out``, each whole, and return the table for the terminal.

    Title and files call the link ``manifest_name``, the manifest's task.  ``origin`` is what the files say of
    where the figures come from: bundle, hashes, command, versions.  Errors are those of
    :func:`~twophase.sim.analytic.expected.expected_accuracy`, and InputError if a file cannot be written.
    """
    points = expected_accuracy(system, samples, grid, settings, limits)
    content = _content(manifest_name, points, settings, limits or Limits()) | dict(origin or {})
    write_json(out / "semianalytic.json", content)
    write_text(out / "semianalytic.csv", _csv(content))
    title = f"{manifest_name}: expected accuracy, hard decisions, {settings.channel}"
    image = png(lambda figure: _draw(figure, points), _SIZE, title)
    with atomic_path(out / "semianalytic.png") as temporary:
        temporary.write_bytes(image)
    air = channel_text(settings.channel, settings.coherence, settings.rician_k_db)
    how = (
        f"channel: {air}; both ends go by the {settings.known_snr} Es/N0",
        "the same with noise: --demapper hard"
        + ("" if settings.coherence != "sample" else f" --known-snr {settings.known_snr}"),
        f"result: {out / 'semianalytic.json'}",
    )
    return "\n".join([_table(points), "", *how])


def _content(
    name: str, points: Sequence[ExpectedPoint], settings: Settings, limits: Limits
) -> dict[str, Any]:
    """What ``semianalytic.json`` holds."""
    chosen = {key: value for key, value in asdict(settings).items() if key in _RELEVANT}
    return {
        "task": name,
        "method": "expected accuracy under hard decisions, from the exact law of the noise",
        "settings": chosen,
        "limits": asdict(limits),
        "confidence": CONFIDENCE,
        "samples": len(points[0].expectation) if points else 0,
        "points": [
            {
                "esn0_db": point.esn0_db,
                "accuracy": point.accuracy,
                "interval": list(point.interval),
                "bounds": list(point.bounds),
                "accuracy_ci": list(point.population),
                "codeword_error_rate": point.codeword_error_rate,
                "unresolved": point.unresolved,
                "methods": point.methods,
                "mode_usage": point.shares,
                "symbols_per_sample": point.symbols_per_sample,
                "energy": point.energy,
                "receiver_runs": point.evaluations,
                "expectation": point.expectation.tolist(),
            }
            for point in points
        ],
    }


def _table(points: Sequence[ExpectedPoint]) -> str:
    """Aligned columns, accuracies in percent, with a legend."""
    rows = [["Es/N0", "accuracy", "+-", "95 % of samples", "CER", "unresolved", "symbols", "method", "modes"]]
    for point in points:
        low, high = point.population
        most = sorted(point.shares, key=lambda name: -point.shares[name])
        more = f" +{len(most) - 1}" if len(most) > 1 else ""
        rows.append(
            [
                f"{point.esn0_db:g}",
                f"{100 * point.accuracy:.3f}",
                f"{100 * point.half_width:.3f}",
                f"{100 * low:.1f}-{100 * high:.1f}",
                f"{point.codeword_error_rate:.1e}",
                f"{point.unresolved:.1e}",
                f"{point.symbols_per_sample:.2f}",
                "+".join(sorted(set(point.methods.values()))),
                most[0] + more,
            ]
        )
    legend = (
        "accuracy: expected under hard decisions, over the noise, of these samples, %",
        "+-: half-width of its interval: 0 where every received word is looked at (exact)",
        "95 % of samples: interval for samples to come; CER: codeword error rate, exact",
        "unresolved: probability of received words that nothing was drawn from; it counts as wrong",
    )
    return "\n".join([*aligned(rows), "", *legend])


def _csv(content: dict[str, Any]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = (
        "esn0_db", "accuracy", "codeword_error_rate", "unresolved", "symbols_per_sample", "energy",
        "receiver_runs",
    )  # fmt: skip
    pairs = ("interval", "bounds", "accuracy_ci")
    writer.writerow([*names, *(f"{pair}_{end}" for pair in pairs for end in ("low", "high")), "methods"])
    for point in content["points"]:
        ends = [end for pair in pairs for end in point[pair]]
        methods = " ".join(f"{mode}:{method}" for mode, method in point["methods"].items())
        writer.writerow([*(point[name] for name in names), *ends, methods])
    return stream.getvalue()


def _draw(figure: Figure, points: Sequence[ExpectedPoint]) -> None:
    axes = figure.subplots()
    esn0_db = [point.esn0_db for point in points]
    low, high = zip(*(point.population for point in points), strict=True)
    axes.fill_between(
        esn0_db, low, high, color=COLOURS["deployed"], alpha=0.15, linewidth=0, label="95 % over samples"
    )
    axes.plot(
        esn0_db,
        [point.accuracy for point in points],
        color=COLOURS["deployed"],
        marker="o",
        label="expected, hard decisions",
    )
    axes.set_ylabel("accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    snr_axis(axes)
    axes.legend(loc="lower right")
