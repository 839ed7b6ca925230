"""The files of a report: the page, which needs nothing else, ``report.json``, ``report.csv``, and figures."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from twophase.link.errors import InputError
from twophase.link.escape import visible
from twophase.link.files import followed
from twophase.link.manifest import MANIFEST_NAME, kind_of
from twophase.sim.channel import tdl
from twophase.sim.report.link_plots import (
    AVERAGED_TO,
    calibration_svg,
    confusion_svg,
    constellation_svg,
    llr_svg,
)
from twophase.sim.report.mode_plots import modes_png, modes_svgs
from twophase.sim.report.plots import (
    accuracy_png,
    accuracy_svg,
    baselines_svg,
    ber_svg,
    compare_svg,
    gap_svg,
    rates_svg,
    usage_png,
    usage_svg,
)
from twophase.sim.report.tables import (
    best_fixed_of,
    csv_text,
    front_text,
    gains_taken,
    hangs_together,
    label_text,
    ratio_text,
    samples_word,
    span_text,
    tenth,
)
from twophase.sim.report.text_plots import symbols_png, symbols_svg
from twophase.sim.results.figures import BaselineFigures, Point, Report
from twophase.sim.results.points import verdict_reason
from twophase.sim.results.report_json import json_text

__all__ = ["REPORT_PAGE", "page_figures", "page_text", "render", "require_writable", "write_report"]

_MOST_MODES = 3
"""Panels of received symbols at one SNR."""
_LEAST_USE = 0.03
"""Share of the samples that are sent in a mode from which its received symbols get a panel."""


def page_text(report: Report, figures: dict[str, Any]) -> str:
    """The page, with the figures of :func:`page_figures`."""
    source = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters |= {
        "percent": lambda value: "-" if value is None else f"{100 * value:.2f}",
        "points": _points,
        "percent_interval": lambda ends: f"{100 * ends[0]:.1f}..{100 * ends[1]:.1f}",
        "points_interval": lambda ends: "..".join(map(_points, ends)),
        "db": lambda value: f"{value:g}",
        "sentence": lambda text: f"{text[:1].upper()}{text[1:].rstrip('.')}.",
        "rate": lambda value: "-" if value is None else f"{value:.1e}",
        "hundredth": lambda value: "-" if value is None else f"{value:.2f}",
        "tenth": tenth,
        "number": _number,
    }
    points = report.points
    return environment.from_string(source).render(
        report=report,
        settings=asdict(report.settings),
        channel=report.channel_text,
        reason=verdict_reason(points, report.tolerance),
        worst=min(points, key=lambda point: point.gap),
        tdl=tdl,
        # What training says at length, such as all validation accuracies, stands in report.json.
        training=[
            (name, value)
            for name, value in report.training.items()
            if not isinstance(value, dict) and len(str(value)) < 100
        ],
        names=[entry.name for entry in report.references],
        usage=_mean_usage(points),
        adaptive=_is_adaptive(report),
        closest=min(points, key=lambda point: best_fixed_of(point).difference)
        if report.modes is not None
        else None,
        best_baseline=_best_baseline(report),
        columns={4: 4, 5: 5, 6: 3, 7: 4, 8: 4}[_tiles(report)],
        below_label=label_text(report),
        front=front_text(report.front) if report.front is not None else "",
        ratio=ratio_text(report.text) if report.text is not None else "",
        word=samples_word(report),
        trials=span_text([point.trials for point in points]),
        together=hangs_together(report),
        gains_taken=gains_taken(report),
        coded=any(entry.name in ("conv", "ldpc") for entry in report.baselines),
        averaged_to=f"{AVERAGED_TO:g}",
        limit=f"{0 - 100 * report.tolerance:g}",
        figures=figures,
    )


def page_figures(report: Report) -> dict[str, Any]:
    """SVGs by name; a figure for which the report holds nothing is empty."""
    points = report.points
    ends = [points[0], points[-1]] if len(points) > 1 else points
    return {
        "accuracy": accuracy_svg(report),
        "gap": gap_svg(report),
        "ber": ber_svg(report),
        "rates": rates_svg(report),
        "baselines": baselines_svg(report) if report.baselines else "",
        "compare": compare_svg(report) if report.compare else "",
        "symbols": symbols_svg(report) if report.text is not None else "",
        "usage": usage_svg(report) if _is_adaptive(report) else "",
        "modes": modes_svgs(report) if report.modes is not None else [],
        "air": _air_figures(report),
        "llr": llr_svg(report),
        "calibration": calibration_svg(report),
        "confusion": [confusion_svg(report, point, f"confusion-{place}") for place, point in enumerate(ends)],
    }


def _air_figures(report: Report) -> list[dict[str, Any]]:
    """A panel for each SNR and mode: its SVG, and how many symbols it holds and leaves out."""
    panels = []
    usages = {point.esn0_db: point.mode_usage for point in report.points}
    for place, entry in enumerate(report.scatter):
        # The modes that are used most there; others are so rare that little is to be seen.
        usage = usages.get(entry.esn0_db, {})
        groups = sorted(entry.groups, key=lambda group: -usage.get(group.mode, 0.0))[:_MOST_MODES]
        shown = [group for group in groups if usage.get(group.mode, 0.0) >= _LEAST_USE] or groups[:1]
        for number, group in enumerate(shown):
            svg, outside = constellation_svg(group, entry.esn0_db, f"air-{place}-{number}")
            panels.append({"svg": svg, "outside": outside, "shown": len(group.received) - outside})
    return panels


def _best_baseline(report: Report) -> tuple[str, float, BaselineFigures] | None:
    """The baseline that does best against the deployed link, and at which Es/N0.

    The sentences themselves are left out, which are many times as long.
    """
    entries = [
        (name, point.esn0_db, entry)
        for point in report.points
        for name, entry in point.baselines.items()
        if name != "text"
    ]
    return max(entries, key=lambda entry: entry[2].difference) if entries else None


def _tiles(report: Report) -> int:
    """How many figures stand below the verdict."""
    ends = min(2, len(report.points))
    baseline = _best_baseline(report) is not None
    return 3 + ends + (report.modes is not None) + baseline + (report.text is not None)


def _points(difference: float) -> str:
    """A difference in points, and never ``-0.00``."""
    return f"{round(100 * difference, 2) + 0.0:+.2f}"


def _is_adaptive(report: Report) -> bool:
    """Whether there are several modes to be told apart in this report."""
    return len(report.mode_table) > 1 and report.mode is None


def _number(value: Any) -> Any:
    """A value for reading: six digits, lists without brackets."""
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(_number(entry)) for entry in value) or "none"
    return f"{value:.6g}" if isinstance(value, float) else value


def _mean_usage(points: Sequence[Point]) -> dict[str, float]:
    """Share of each mode over all points."""
    names = dict.fromkeys(name for point in points for name in point.mode_usage)
    return {name: sum(point.mode_usage.get(name, 0.0) for point in points) / len(points) for name in names}


REPORT_PAGE = "report.html"
_SOMETIMES = ("usage.png", "modes.png", "symbols.png")
"""Files that not every report has; one of an earlier report does not stay."""


def render(report: Report) -> dict[str, bytes]:
    """All files of a report, name to content; they depend on the content of ``report.json`` alone."""
    return {
        "accuracy.png": accuracy_png(report),
        **({"usage.png": usage_png(report)} if _is_adaptive(report) else {}),
        **({"modes.png": modes_png(report)} if report.modes is not None else {}),
        **({"symbols.png": symbols_png(report)} if report.text is not None else {}),
        REPORT_PAGE: page_text(report, page_figures(report)).encode(),
        "report.csv": csv_text(report).encode(),
        # Last: who finds report.json finds the rest too.
        "report.json": json_text(report).encode(),
    }


def write_report(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` into ``folder``: all to temporary names first, then renamed.

    Figures of an earlier report that this one does not have are removed; other files of the folder stay.
    InputError if the folder cannot be written.
    """
    with _refused(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".report.", suffix=".tmp", dir=folder))
        try:
            for name, content in files.items():
                (temporary / name).write_bytes(content)
            for name in files:
                (temporary / name).replace(folder / name)
            for name in set(_SOMETIMES) - files.keys():
                (folder / name).unlink(missing_ok=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def require_writable(folder: Path) -> None:
    """InputError, before a long run, if a report could not be written; leaves no file."""
    with _refused(folder):
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(20, "not a folder")
        target = followed(folder, "out")
        if kind_of(target / MANIFEST_NAME) or (target / "config.json").is_file():
            raise InputError("out", "be a folder of its own, no run or bundle", str(folder))
        if kind_of(target.parent / MANIFEST_NAME) == "bundle":
            raise InputError("out", "lie outside of the bundle, whose files are listed", str(folder))
        standing = next(path for path in (target, *target.parents) if path.exists())
        with tempfile.TemporaryFile(dir=standing):
            pass


@contextmanager
def _refused(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError("out", f"be a folder that can be written ({error.strerror})", str(folder)) from error
