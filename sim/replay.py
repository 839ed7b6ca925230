"""Measure again what a report says and hold every count against it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twophase.link.demap import available_kernels
from twophase.link.errors import ArtifactError, LinkError, PackageError, first_line
from twophase.sim.job import make_job
from twophase.sim.measure import measure
from twophase.sim.results import point_results
from twophase.sim.settings import Settings, Workers

__all__ = ["replay"]


def replay(path: Path, bundle: Path | None, data: Path | None, workers: Workers) -> tuple[list[str], int]:
    """Differences between a report and a new measurement of the same.

    Parameters
    ----------
    path
        A ``report.json``.
    bundle, data
        Where bundle and samples lie now; where the report says, if None.
    workers
        Who does the work.

    Returns
    -------
    tuple
        A line for each number that differs, and how many were compared: counts and the digest over all
        counts, of each point.

    Raises
    ------
    ArtifactError
        If the report is none, or bundle or samples are not those that it was made from.
    PackageError
        If its kernel is not installed.
    """
    report = _read(path)
    try:
        settings = _settings(report["settings"])
        named = Path(report["bundle"]), Path(report["data"])
        hashes = report["bundle_sha256"], report["data_sha256"]
        points = {point["esn0_db"]: point for point in report["points"]}
        expected = {
            esn0_db: point["counts"] | {"counts_sha256": point["counts_sha256"]}
            for esn0_db, point in points.items()
        }
    except (KeyError, TypeError, AttributeError, LinkError) as error:
        raise ArtifactError(f"'{path}' is no report that can be replayed: {first_line(error)}") from error
    if settings.kernel not in available_kernels():
        raise PackageError(
            f"the package '{settings.kernel}' must be installed, for the report was made with its kernel"
        )
    job = make_job(bundle or named[0], data or (named[1] if bundle is None else None), settings)
    for what, now, then in (
        (job.bundle, job.bundle_sha256, hashes[0]),
        (job.data, job.data_sha256, hashes[1]),
    ):
        if now != then:
            raise ArtifactError(f"'{what}' is not what the report was made from: its SHA-256 is another")
    parts = job.open()
    measured = measure(job, parts, list(expected), workers)
    manifest = parts[1]
    again = point_results(measured.link, manifest.modes, len(manifest.classes), settings, measured.reasons)
    differences, compared = [], 0
    for esn0_db, point in zip(expected, again, strict=True):
        counts = point["counts"] | {"counts_sha256": point["counts_sha256"]}
        for name in sorted(expected[esn0_db].keys() | counts.keys()):
            compared += 1
            then, now = expected[esn0_db].get(name), counts.get(name)
            if then != now:
                differences.append(f"{esn0_db:g} dB: {name} was {then} and is {now}")
    return differences, compared


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"'{path}' is missing") from error
    except OSError as error:
        raise ArtifactError(f"'{path}' cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ArtifactError(f"'{path}' is no report.json: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"'{path}' is no report.json: it holds no object")
    return content


def _settings(values: dict[str, Any]) -> Settings:
    lists = {name: tuple(values[name]) for name in ("codes", "baselines")}
    return Settings(**(values | lists))
