"""The files of a report: ``report.json``, ``report.csv``, figures as PNG and a self-contained page."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from twophase.link.errors import InputError
from twophase.sim.report.mode_plots import modes_png
from twophase.sim.report.page import is_adaptive, page_figures, page_text
from twophase.sim.report.plots import accuracy_png, usage_png
from twophase.sim.report.tables import csv_text
from twophase.sim.report.text_plots import symbols_png
from twophase.sim.results.figures import Report
from twophase.sim.results.report_json import json_text

__all__ = ["REPORT_PAGE", "render", "require_writable", "write_report"]

REPORT_PAGE = "report.html"
_SOMETIMES = ("usage.png", "modes.png", "symbols.png")
"""Files that not every report has; one of an earlier report does not stay."""


def render(report: Report) -> dict[str, bytes]:
    """All files of a report, name to content; they depend on the content of ``report.json`` alone."""
    return {
        "accuracy.png": accuracy_png(report),
        **({"usage.png": usage_png(report)} if is_adaptive(report) else {}),
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
    """Try, before a long run, whether a report could be written; leaves no file.

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
