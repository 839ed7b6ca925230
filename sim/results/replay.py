"""Measure again what a report says and hold everything that it shows against that."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from twophase.link.errors import ArtifactError, InputError, LinkError, first_line
from twophase.link.files import read_json
from twophase.link.noise import esn0_db_to_noise_var
from twophase.sim.channel.radio import check_radio
from twophase.sim.packages import usable_kernel, versions
from twophase.sim.results.figures import as_json
from twophase.sim.results.report_json import make_report
from twophase.sim.settings import Settings, Workers
from twophase.sim.sweep.job import make_job
from twophase.sim.sweep.measure import measure

__all__ = ["replay", "shown"]

_NOT_COMPARED = ("command", "bundle", "data", "versions", "compare", "front")
_SHOWN = 20
_SHOWN_LENGTH = 60
"""Characters of a value in a line."""

_log = logging.getLogger(__name__)


def replay(path: Path, bundle: Path | None, data: Path | None, workers: Workers) -> tuple[list[str], int]:
    """Differences between a report and a new one, made from a new measurement of the same.

    Everything in ``report.json`` is compared, numbers exactly, but for the command, the places of bundle and
    samples (their hashes must agree; ``bundle`` and ``data`` say where they lie now), the versions, ``front``
    (how far the backbone agrees is the machine's) and ``compare``: other bundles that were laid over are not
    measured again.  A note is logged where versions differ or bundles are left out so.

    Gives a line for each place that differs, as ``points[1].bit_errors: 103 in the report, 102 now``, and how
    many values (numbers, texts, truths) were compared.  ArtifactError if the report is none, or bundle or
    samples are not those that it was made from; PackageError if its kernel is not installed.
    """
    report = _read(path)
    try:
        settings, grid = _recorded(report)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, LinkError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else first_line(error)
        raise ArtifactError(f"'{path}' is no report that can be replayed: {why}") from error
    usable_kernel(settings.kernel)
    if bundle is None:
        bundle, data = Path(report["bundle"]), data or Path(report["data"])
        if not bundle.exists():
            raise ArtifactError(f"'{bundle}' is missing; if it was moved, say where with --bundle")
    job = make_job(bundle, data, settings)
    for what, now, then in (
        (job.bundle, job.bundle_sha256, report["bundle_sha256"]),
        (job.data, job.data_sha256, report["data_sha256"]),
    ):
        if now != then:
            raise ArtifactError(f"'{what}' is not what the report was made from: its SHA-256 is another")
    _note_what_is_not_compared(report)
    parts = job.open()
    measured = measure(job, parts, grid, workers, modes_report="modes" in report)
    again = json.loads(json.dumps(as_json(make_report("", job, parts[1], measured))))
    said, found = (
        {name: value for name, value in content.items() if name not in _NOT_COMPARED}
        for content in (report, again)
    )
    return list(_differences("", said, found)), _leaves(found)


def shown(differences: Sequence[str]) -> list[str]:
    """The first 20 lines of what :func:`replay` found, and how many more there are."""
    more = len(differences) - _SHOWN
    return [*differences[:_SHOWN], *([f"... and {more} more"] if more > 0 else [])]


def _recorded(report: dict[str, Any]) -> tuple[Settings, list[float]]:
    """Settings and grid of a report; the types of all that says how it was made are checked."""
    for name in ("bundle", "data", "bundle_sha256", "data_sha256"):
        if not isinstance(report[name], str) or "\0" in report[name]:
            raise InputError(name, "be a text", report[name])
    values = report["settings"]
    settings = Settings(**(values | {name: tuple(values[name]) for name in ("codes", "baselines")}))
    check_radio(settings)
    if "modes" in report and settings.mode is not None:
        raise InputError("modes", "be left out where one mode is used", settings.mode)
    _check_esn0_db("grid", report["grid"])
    _check_esn0_db("points", [point["esn0_db"] for point in report["points"]])
    return settings, [float(value) for value in report["grid"]]


def _check_esn0_db(name: str, values: Any) -> None:
    if not isinstance(values, list) or not values:
        raise InputError(name, "be a list with at least one entry", values)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InputError("esn0_db", "be a finite number", value)
        esn0_db_to_noise_var(value)


def _note_what_is_not_compared(report: dict[str, Any]) -> None:
    then, now = report.get("versions"), versions()
    then = then if isinstance(then, dict) else {}
    differing = [
        f"{name} {then.get(name, 'unknown')} then, {now.get(name, 'unknown')} now"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
    if differing:
        _log.warning("note: versions differ: %s", "; ".join(differing))
    if report.get("compare"):
        _log.warning("note: the bundles laid over ('compare') are not measured again")


def _differences(place: str, then: Any, now: Any) -> Iterator[str]:
    """A line for each place where two JSON values differ; one for a list of another length."""
    if isinstance(then, dict) and isinstance(now, dict):
        for name in sorted(then.keys() | now.keys()):
            inner = f"{place}.{name}" if place else name
            if name not in now:
                yield f"{inner}: {_spelled(then[name])} in the report, absent now"
            elif name not in then:
                yield f"{inner}: absent in the report, {_spelled(now[name])} now"
            else:
                yield from _differences(inner, then[name], now[name])
    elif isinstance(then, list) and isinstance(now, list):
        if len(then) != len(now):
            yield f"{place}: {len(then)} entries in the report, {len(now)} now"
            return
        for number, (old, new) in enumerate(zip(then, now, strict=True)):
            yield from _differences(f"{place}[{number}]", old, new)
    elif then != now or isinstance(then, bool) != isinstance(now, bool):
        yield f"{place}: {_spelled(then)} in the report, {_spelled(now)} now"


def _leaves(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_leaves, value.values()))
    return sum(map(_leaves, value)) if isinstance(value, list) else 1


def _spelled(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}..."


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise ArtifactError(f"'{path}' is no report.json: it holds no object")
    return content
