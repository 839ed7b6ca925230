"""What a report shows and what is measured again: every altered place is found, nonsense is one line."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from twophase.link.errors import ArtifactError
from twophase.sim.results.figures import as_json
from twophase.sim.results.replay import replay, shown
from twophase.sim.results.report_json import make_report
from twophase.sim.settings import Settings, Workers
from twophase.sim.sweep.job import make_job
from twophase.sim.sweep.measure import measure

Report = dict[str, Any]


@pytest.fixture(scope="module")
def report(bundle: Path) -> Report:
    job = make_job(bundle, None, Settings(trials=1, seed=3, codes=("conv",)))
    parts = job.open()
    measured = measure(job, parts, [4.0, 12.0], Workers(), modes_report=True)
    return json.loads(json.dumps(as_json(make_report("tp-sim", job, parts[1], measured))))


def _replayed(report: Report, folder: Path) -> tuple[list[str], int]:
    path = folder / "report.json"
    path.write_text(json.dumps(report))
    return replay(path, None, None, Workers())


def _leaves(value: Any) -> int:
    if isinstance(value, dict | list):
        return sum(map(_leaves, value.values() if isinstance(value, dict) else value))
    return 1


def test_a_report_is_what_is_measured_again_and_what_is_left_out_is_said(
    report: Report, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = report["versions"]["numpy"]
    versions = {**report["versions"], "numpy": "1.0"}
    altered = report | {"command": "rm", "versions": versions, "compare": [{"name": "other"}]}
    left_out = {"command", "bundle", "data", "versions", "compare"}
    compared = _leaves({name: value for name, value in report.items() if name not in left_out})
    assert _replayed(altered, tmp_path) == ([], compared)
    assert f"numpy 1.0 then, {own} now" in caplog.text
    assert "('compare') are not measured again" in caplog.text


ALTERED: list[tuple[str, tuple[str | int, ...], Any]] = [
    ("verdict: ", ("verdict",), "BEST"),
    ("trials: 2 in the report, 1 now", ("trials",), 2),
    ("points[1].accuracy_hard: ", ("points", 1, "accuracy_hard"), lambda was: was + 1e-15),
    ("points[0].confusion[1][2]: ", ("points", 0, "confusion", 1, 2), lambda was: was + 1),
    ("points[0].references.aligned.verdict: ", ("points", 0, "references", "aligned", "verdict"), str.lower),
    ("points[0].companions.conv.accuracy: ", ("points", 0, "companions", "conv", "accuracy"), 0.99),
    ("points[0].counts.bit_errors: ", ("points", 0, "counts", "bit_errors"), 0),
    ("scatter[0].groups[0].received[0][0]: ", ("scatter", 0, "groups", 0, "received", 0, 0), 9.0),
    ('praise: "good" in the report, absent now', ("praise",), "good"),
    ("settings.tolerance: absent in the report, 0.02 now", ("settings", "tolerance"), None),
    ("modes: 3 entries in the report, 4 now", ("modes",), lambda was: was[:-1]),
]
"""The line that must be found; where the report is altered and how, None for an entry that is taken out."""


def test_whatever_was_altered_is_found(report: Report, tmp_path: Path) -> None:
    altered = copy.deepcopy(report)
    for _, (*places, last), value in ALTERED:
        inner: Any = altered
        for name in places:
            inner = inner[name]
        if value is None:
            del inner[last]
        else:
            inner[last] = value(inner[last]) if callable(value) else value
    differences, _ = _replayed(altered, tmp_path)
    # And nothing but that.
    for found, line in zip(sorted(differences), sorted(entry[0] for entry in ALTERED), strict=True):
        assert found.startswith(line)


def test_few_of_many_differences_are_shown() -> None:
    lines = [str(number) for number in range(23)]
    assert shown(lines[:20]) == lines[:20]
    assert shown(lines) == [*lines[:20], "... and 3 more"]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("settings", None, "'settings' is missing"),
        ("settings", [], ""),
        ("settings.codes", 5, ""),
        ("settings.trials", "20", "'trials' must"),
        ("settings.frequency", 5, "frequency"),
        ("settings.mode", "4x4qam", "'modes' must be left out"),
        ("settings.noise_estimate", "pilot", "'noise_estimate' must"),
        ("grid", [], "'grid' must be a list with at least one entry"),
        ("grid", [True], "'esn0_db' must be a finite number, not True"),
        ("grid", [4.0, 10**400], ""),
        ("grid", [float("nan")], "'esn0_db' must be a finite number"),
        ("grid", [1e300], "'esn0_db' must"),
        ("points", {"a": 1}, ""),
        ("points", [{"esn0_db": "4"}], "'esn0_db' must be a finite number, not '4'"),
        ("bundle", 5, "'bundle' must be a text"),
    ],
)
def test_a_crafted_report_is_one_line(name, value, why, report: Report, tmp_path: Path) -> None:
    outer, _, inner = name.partition(".")
    crafted = report | {outer: report[outer] | {inner: value} if inner else value}
    if value is None:
        del crafted[name]
    with pytest.raises(ArtifactError, match=r"^.* is no report that can be replayed: [^\n]*$") as caught:
        _replayed(crafted, tmp_path)
    assert why in str(caught.value)


def test_a_file_that_is_none_is_said(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(ArtifactError, match="is missing"):
        replay(path, None, None, Workers())
    for text in ("[1]", "{", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(ArtifactError, match=r"is no report\.json|is not JSON"):
            replay(path, None, None, Workers())


def test_another_bundle_is_refused_and_one_that_was_moved_is_asked_for(report, bundle, tmp_path) -> None:
    with pytest.raises(ArtifactError, match="is not what the report was made from"):
        _replayed(report | {"bundle_sha256": "0" * 64}, tmp_path)
    moved = report | {"bundle": str(tmp_path / "gone"), "data": str(tmp_path / "gone" / "eval.npz")}
    with pytest.raises(ArtifactError, match=r"gone' is missing; if it was moved, say where with --bundle"):
        _replayed(moved, tmp_path)
    assert replay(tmp_path / "report.json", bundle, None, Workers())[0] == []
