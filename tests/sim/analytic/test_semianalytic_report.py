"""What the semi-analytic mode writes and prints."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tools.tiny_bundle import CLASSES
from twophase.link.errors import InputError
from twophase.link.samples import load_samples
from twophase.sim.analytic.expected import Limits, expected_accuracy
from twophase.sim.analytic.report import run_semi_analytic
from twophase.sim.settings import Settings
from twophase.sim.system import load_system


@pytest.mark.parametrize("limits", [None, Limits(table_bits=6, evaluations=200)])
def test_files_and_table_hold_the_same(bundle: Path, tmp_path: Path, limits) -> None:
    system, _ = load_system(bundle)
    samples = load_samples(bundle / "eval.npz", (CLASSES + 1,), CLASSES)
    out, grid, settings = tmp_path / "new" / "sim", [0.0, 4.0, 8.0], Settings(seed=2)
    table = run_semi_analytic(system, "tiny", samples, grid, settings, out, limits)
    points = expected_accuracy(system, samples, grid, settings, limits)

    assert sorted(path.name for path in out.iterdir()) == [
        "semianalytic.csv", "semianalytic.json", "semianalytic.png"
    ]  # fmt: skip
    content = json.loads((out / "semianalytic.json").read_text())
    assert content["task"] == "tiny"
    assert content["settings"]["channel"] == "awgn"
    assert [entry["accuracy"] for entry in content["points"]] == [point.accuracy for point in points]
    assert content["points"][1]["expectation"] == points[1].expectation.tolist()
    with (out / "semianalytic.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["accuracy"]) for row in rows] == [point.accuracy for point in points]
    assert [float(row["interval_high"]) for row in rows] == [point.interval[1] for point in points]
    assert (out / "semianalytic.png").read_bytes().startswith(b"\x89PNG")

    lines = table.splitlines()
    assert max(map(len, lines)) <= 110
    for point, line in zip(points, lines[2:], strict=False):
        assert f"{100 * point.accuracy:.3f}" in line.split()
        assert next(iter(point.methods.values())) in line.split()


def test_a_folder_that_cannot_be_written_is_named(bundle: Path, tmp_path: Path) -> None:
    system, _ = load_system(bundle)
    samples = load_samples(bundle / "eval.npz", (CLASSES + 1,), CLASSES)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="path"):
        run_semi_analytic(system, "tiny", samples, [4.0], Settings(), tmp_path / "file" / "sim")
