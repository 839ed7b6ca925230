"""What a report shows and what is measured again: every altered place is found, nonsense is one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
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


def test_a_report_is_what_is_measured_again(
    report: Report, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left_out = {"command", "bundle", "data", "versions", "compare"}
    values = {name: value for name, value in report.items() if name not in left_out}
    assert _replayed(report, tmp_path) == ([], _leaves(values))
    assert caplog.text == ""


def test_what_is_not_compared_is_told(
    report: Report, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = report["versions"]["numpy"]
    versions = {**report["versions"], "numpy": "1.0"}
    altered = report | {"command": "rm", "versions": versions, "compare": [{"name": "other"}]}
    assert _replayed(altered, tmp_path)[0] == []
    assert f"versions differ: numpy 1.0 then, {own} now" in caplog.text
    assert "('compare') are not measured again" in caplog.text


def _alterations() -> dict[str, Callable[[Report], Any]]:
    """By the line that must be found: what is done to the report."""

    def put(*place: str | int, value: Any) -> Callable[[Report], None]:
        def altered(report: Report) -> None:
            inner: Any = report
            for name in place[:-1]:
                inner = inner[name]
            inner[place[-1]] = value(inner[place[-1]]) if callable(value) else value

        return altered

    return {
        "verdict: ": put("verdict", value="BEST"),
        "trials: 2 in the report, 1 now": put("trials", value=2),
        "settings.tolerance: absent in the report, 0.02 now": lambda report: report["settings"].pop(
            "tolerance"
        ),
        "points[1].accuracy_hard: ": put("points", 1, "accuracy_hard", value=lambda was: was + 1e-15),
        "points[0].gap: ": put("points", 0, "gap", value=0.5),
        "points[0].confusion[1][2]: ": put("points", 0, "confusion", 1, 2, value=lambda was: was + 1),
        "points[1].llr_ones[3]: ": put("points", 1, "llr_ones", 3, value=-1),
        "points[1].mode_usage.16x16qam: ": put("points", 1, "mode_usage", "16x16qam", value=0.123),
        "points[0].references.aligned.pass: ": put(
            "points", 0, "references", "aligned", "pass", value=lambda was: int(was)
        ),
        "points[0].companions.conv.accuracy: ": put(
            "points", 0, "companions", "conv", "accuracy", value=0.99
        ),
        "points[0].counts.bit_errors: ": put("points", 0, "counts", "bit_errors", value=0),
        "points[0].best_fixed": lambda report: report["points"][0].pop("best_fixed"),
        "modes[0]": lambda report: report["modes"][0].clear(),
        "scatter[0].groups[0].received[0][0]: ": put("scatter", 0, "groups", 0, "received", 0, 0, value=9.0),
        'praise: "good" in the report, absent now': lambda report: report.update(praise="good"),
    }


def test_whatever_was_altered_is_found(report: Report, tmp_path: Path) -> None:
    altered = copy.deepcopy(report)
    for alter in _alterations().values():
        alter(altered)
    differences, _ = _replayed(altered, tmp_path)
    for line in _alterations():
        assert any(found.startswith(line) for found in differences), line
    # Nothing but that: the entries of the mode that was emptied come on top.
    assert (
        len([found for found in differences if not found.startswith("modes[0]")]) == len(_alterations()) - 1
    )


def test_an_entry_that_is_missing_is_one_difference(report: Report, tmp_path: Path) -> None:
    shorter = copy.deepcopy(report)
    shorter["points"].pop()
    assert _replayed(shorter, tmp_path)[0] == ["points: 1 entries in the report, 2 now"]


def test_few_of_many_differences_are_shown() -> None:
    lines = [str(number) for number in range(23)]
    assert shown(lines[:20]) == lines[:20]
    assert shown(lines) == [*lines[:20], "... and 3 more"]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("grid", None, "'grid' is missing"),
        ("settings", None, "'settings' is missing"),
        ("settings", [], ""),
        ("grid", [], "'grid' must be a list with at least one entry"),
        ("grid", "4", "'grid' must be a list"),
        ("grid", [True], "'esn0_db' must be a finite number, not True"),
        ("grid", [4.0, 10**400], ""),
        ("grid", [float("nan")], "'esn0_db' must be a finite number"),
        ("grid", [1e300], "'esn0_db' must"),
        ("points", [], "'points' must be a list with at least one entry"),
        ("points", [{"esn0_db": "4"}], "'esn0_db' must be a finite number, not '4'"),
        ("points", [3], ""),
        ("points", {"a": 1}, ""),
        ("bundle", 5, "'bundle' must be a text"),
        ("data_sha256", None, "'data_sha256' is missing"),
    ],
)
def test_a_crafted_report_is_one_line(
    name: str, value: Any, why: str, report: Report, tmp_path: Path
) -> None:
    crafted = report | {name: value}
    if value is None:
        del crafted[name]
    with pytest.raises(ArtifactError, match="no report that can be replayed: ") as caught:
        _replayed(crafted, tmp_path)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1),
        ("seed", 1.5),
        ("codes", 5),
        ("trials", "20"),
        ("channel", ["awgn"]),
        ("frequency", 5),
        ("mode", "4x4qam"),
        ("noise_estimate", "pilot"),
    ],
)
def test_crafted_settings_are_one_line(name: str, value: Any, report: Report, tmp_path: Path) -> None:
    crafted = report | {"settings": report["settings"] | {name: value}}
    with pytest.raises(ArtifactError, match=r"^.* is no report that can be replayed: [^\n]*$"):
        _replayed(crafted, tmp_path)


def test_a_file_that_is_none_is_said(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(ArtifactError, match="is missing"):
        replay(path, None, None, Workers())
    for text in ("[1]", "{", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(ArtifactError, match=r"is no report\.json"):
            replay(path, None, None, Workers())


def test_another_bundle_is_refused(report: Report, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not what the report was made from"):
        _replayed(report | {"bundle_sha256": "0" * 64}, tmp_path)


def test_a_bundle_that_was_moved_is_found_by_name(report: Report, bundle: Path, tmp_path: Path) -> None:
    moved = report | {"bundle": str(tmp_path / "gone"), "data": str(tmp_path / "gone" / "eval.npz")}
    with pytest.raises(ArtifactError, match=r"gone' is missing; if it was moved, say where with --bundle"):
        _replayed(moved, tmp_path)
    assert replay(tmp_path / "report.json", bundle, None, Workers())[0] == []
