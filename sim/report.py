"""The files of a report: ``report.json``, ``report.csv``, figures as PNG and a self-contained page."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2

from twophase.link.errors import InputError
from twophase.sim.mode_plots import modes_png, modes_svg, usage_png, usage_svg
from twophase.sim.plots import accuracy_png, accuracy_svg, ber_svg, gap_svg
from twophase.sim.tables import csv_text, tenth
from twophase.sim.verdict import verdict_reason
from twophase.sim.words import channel_text

__all__ = ["REPORT_PAGE", "render", "require_writable", "write_report"]

REPORT_PAGE = "report.html"
_SOMETIMES = ("usage.png", "modes.png")
"""Files that not every report has; one of an earlier report does not stay."""

Report = dict[str, Any]


def render(report: Report) -> dict[str, bytes]:
    """All files of a report, name to content; they depend on the content of ``report.json`` alone."""
    return {
        "accuracy.png": accuracy_png(report),
        **({"usage.png": usage_png(report)} if _is_adaptive(report) else {}),
        **({"modes.png": modes_png(report)} if "modes" in report else {}),
        REPORT_PAGE: _page(report).encode(),
        "report.csv": csv_text(report).encode(),
        # Last: who finds report.json finds the rest too.
        "report.json": (json.dumps(report, indent=2, allow_nan=False) + "\n").encode(),
    }


def write_report(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` into ``folder``: all to temporary names first, then renamed.

    Figures of an earlier report that this one does not have are removed; other files of the folder stay.

    Raises
    ------
    InputError
        If the folder cannot be written.
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
    """Try, before a long run, whether a report could be written; leaves nothing behind.

    Raises
    ------
    InputError
        If it could not.
    """
    with _refused(folder):
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(20, "not a folder")
        standing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=standing):
            pass


@contextmanager
def _refused(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError("out", f"be a folder that can be written ({error.strerror})", str(folder)) from error


def _page(report: Report) -> str:
    source = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {
        "percent": lambda value: f"{100 * value:.2f}",
        "points": lambda value: f"{100 * value:+.2f}",
        "percent_interval": lambda ends: f"{100 * ends[0]:.1f}..{100 * ends[1]:.1f}",
        "points_interval": lambda ends: f"{100 * ends[0]:+.2f}..{100 * ends[1]:+.2f}",
        "db": lambda value: f"{value:g}",
        "tenth": tenth,
        "number": _number,
    }
    points = report["points"]
    return environment.from_string(source).render(
        report=report,
        channel=channel_text(report["channel"], report["coherence"]),
        reason=verdict_reason(points, report["tolerance"]),
        worst=min(points, key=lambda point: point["gap"]),
        # What training says at length, such as the record of the deployed epoch, stands in report.json.
        training=[item for item in report["training"].items() if not isinstance(item[1], dict)],
        names=[entry["name"] for entry in report["references"]],
        usage=_mean_usage(points),
        adaptive=_is_adaptive(report),
        closest=min(points, key=lambda point: point["best_fixed"]["difference"])
        if "modes" in report
        else None,
        limit=f"{0 - 100 * report['tolerance']:g}",
        accuracy_svg=accuracy_svg(report),
        gap_svg=gap_svg(report),
        ber_svg=ber_svg(report),
        usage_svg=usage_svg(report) if _is_adaptive(report) else "",
        modes_svg=modes_svg(report) if "modes" in report else "",
    )


def _is_adaptive(report: Report) -> bool:
    """Whether there are several modes to be told apart in this report."""
    return len(report["mode_table"]) > 1 and report["mode"] is None


def _number(value: Any) -> Any:
    """A value for reading: six digits, lists without brackets."""
    if isinstance(value, list):
        return ", ".join(str(_number(entry)) for entry in value) or "none"
    return f"{value:.6g}" if isinstance(value, float) else value


def _mean_usage(points: list[dict[str, Any]]) -> dict[str, float]:
    """Share of each mode over all points."""
    names = dict.fromkeys(name for point in points for name in point["mode_usage"])
    return {name: sum(point["mode_usage"].get(name, 0.0) for point in points) / len(points) for name in names}
