"""Expected accuracy: against the simulator with noise, exact against stratified; its report."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from tools.tiny_bundle import LINK, MODE_SNR
from twophase.link.errors import InputError
from twophase.link.noise import esn0_db_to_noise_var
from twophase.sim.analytic.expected import ExpectedPoint, Limits, check_semi_analytic, expected_accuracy
from twophase.sim.analytic.laws import codeword_success, word_law
from twophase.sim.analytic.report import run_semi_analytic
from twophase.sim.frames import payload_stream, transmit
from twophase.sim.point import simulate_point
from twophase.sim.settings import Settings

MODES = LINK.modes
SAMPLED = Limits(table_bits=0, evaluations=400)
TRIALS = 150


def _monte_carlo(link, esn0_db: float, settings: Settings) -> np.ndarray:
    """Share of each sample's trials that are right."""
    noisy = dataclasses.replace(settings, demapper="hard", trials=TRIALS)
    return simulate_point(*link, esn0_db, noisy).deployed.correct / TRIALS


def _spread(point: ExpectedPoint) -> float:
    """Deviation of the mean of Bernoulli trials with the expected probabilities."""
    variance = (point.expectation * (1 - point.expectation)).sum() / TRIALS
    return math.sqrt(variance) / len(point.expectation)


@pytest.mark.parametrize("limits", [Limits(), SAMPLED], ids=["exact", "stratified"])
@pytest.mark.parametrize(
    ("settings", "esn0_db"),
    [
        (Settings(), -3.0),
        (Settings(), 7.0),
        (Settings(mode="4x16qam"), 3.0),
        (Settings(channel="rayleigh"), 8.0),
        (Settings(channel="rician", coherence=2, mode="4x4qam"), 0.0),
        (Settings(channel="rayleigh", coherence="sample", mode="16x4qam"), 6.0),
        (Settings(header="ideal"), 3.0),  # all modes in one batch
    ],
)
def test_meets_monte_carlo(by_snr, content, settings, esn0_db, limits) -> None:
    link = content if settings.header == "ideal" else by_snr
    shares = _monte_carlo(link, esn0_db, settings)
    point = expected_accuracy(*link, [esn0_db], settings, limits)[0]
    assert len(point.methods) == (len(MODES) if link is content else 1)
    assert sum(point.shares.values()) == pytest.approx(1)
    assert set(point.methods.values()) == {"exact" if limits.table_bits else "stratified"}
    # Both errors add.  |z| < 4.5: false alarm 7e-6 each.
    error = math.hypot(_spread(point), point.half_width / 1.96)
    assert abs(shares.mean() - point.accuracy) < 4.5 * error
    assert 0.3 < point.accuracy < 0.999
    assert _spread(point) < 0.003  # narrow enough: 0.2 dB moves the accuracy by more than 4.5 of these
    assert point.interval[0] <= point.accuracy <= point.interval[1]
    assert point.bounds[0] - 1e-12 <= point.interval[0] <= point.interval[1] <= point.bounds[1] + 1e-12
    assert point.expectation.mean() == pytest.approx(point.accuracy, abs=1e-12)
    if limits.table_bits:
        # Sample by sample, too, in bins of equal expectation: a chi-square beyond its 1 - 1e-6 quantile is
        # a false alarm.
        values = np.round(point.expectation, 9)
        statistic, freedom = 0.0, 0
        for value in np.unique(values):
            rows = values == value
            if 0 < value < 1 and rows.sum() * TRIALS * value * (1 - value) > 25:
                variance = rows.sum() * value * (1 - value) / TRIALS
                statistic += (shares[rows].sum() - rows.sum() * value) ** 2 / variance
                freedom += 1
        assert freedom >= 1
        assert statistic < chi2.isf(1e-6, freedom)


@pytest.mark.parametrize("esn0_db", [-2.0, 4.0])
def test_stratified_intervals_hold_the_exact_value(by_snr, esn0_db) -> None:
    """Of 30 independent 95 % intervals at least 25 hold it: fewer in 3e-3 of all seeds if coverage is 95 %.

    Seeds are fixed, so the test is deterministic.
    """
    settings = [Settings(mode="4x4qam", seed=seed) for seed in range(30)]
    exact = expected_accuracy(*by_snr, [esn0_db], settings[0])[0]
    runs = [expected_accuracy(*by_snr, [esn0_db], each, Limits(0, 100))[0] for each in settings]
    assert exact.half_width == 0
    assert len({run.accuracy for run in runs}) > 5
    assert max(run.half_width for run in runs) < 0.1
    assert sum(run.interval[0] <= exact.accuracy <= run.interval[1] for run in runs) >= 25
    assert all(run.bounds[0] <= exact.accuracy <= run.bounds[1] for run in runs)


def test_without_noise_it_is_the_noiseless_accuracy(by_snr) -> None:
    settings = Settings(demapper="hard", trials=1)
    right = simulate_point(*by_snr, 60.0, settings).deployed.correct
    for limits in (Limits(), SAMPLED):
        point = expected_accuracy(*by_snr, [60.0], settings, limits)[0]
        np.testing.assert_allclose(point.expectation, right, atol=1e-12)


def test_the_same_seed_gives_the_same_in_any_grid(by_snr) -> None:
    settings = Settings(mode="4x16qam", seed=3)
    alone = expected_accuracy(*by_snr, [5.0], settings, SAMPLED)[0]
    grid = expected_accuracy(*by_snr, [-1.0, 5.0], settings, SAMPLED)[1]
    assert (alone.accuracy, alone.interval) == (grid.accuracy, grid.interval)
    # The receiver is not asked again about words that it has decided.
    assert grid.evaluations < alone.evaluations


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (Settings(channel="tdl-a"), "channel"),
        (Settings(csi="none"), "csi"),
        (Settings(channel="rayleigh", coherence="sample", known_snr="block"), "known_snr"),
        (Settings(snr_error_jitter_db=1.0), "router_snr_error"),
        (Settings(mode="8x8qam"), "mode"),
        (Settings(), "header"),
    ],
)
def test_what_has_no_law_is_refused(content, by_snr, settings, name) -> None:
    system = (content if name == "header" else by_snr)[0]
    with pytest.raises(InputError, match=name):
        check_semi_analytic(system, settings)


@pytest.mark.parametrize(("name", "limit"), [("table_bits", 25), ("evaluations", 10)])
def test_limits_have_bounds(name, limit) -> None:
    with pytest.raises(InputError, match=name):
        Limits(**{name: limit})


def test_ends_that_differ_are_refused_unless_both_err_alike(by_snr) -> None:
    wrong = Settings(snr_error_bias_db=3.0)
    with pytest.raises(InputError, match="router_snr_error"):
        expected_accuracy(*by_snr, [4.0], wrong)
    point = expected_accuracy(*by_snr, [4.0], dataclasses.replace(wrong, snr_error_at="both"))[0]
    assert list(point.shares) == [MODES.names[2]]


def test_the_energy_and_codeword_errors_are_those_of_the_words_sent(by_snr) -> None:
    system, samples = by_snr
    mode, settings = MODES[1], Settings(mode="4x16qam")
    sent = transmit(system.transmitter, samples.features, 3.0, MODES, 1)
    energy = payload_stream(sent, MODES).energy
    assert abs(energy - 1) > 0.01
    law = word_law(mode, float(esn0_db_to_noise_var(3.0)) * energy)
    wrong = 1 - codeword_success(law, mode, sent.symbols[:, : mode.symbols]).mean()
    for limits in (Limits(), SAMPLED):
        point = expected_accuracy(*by_snr, [3.0], settings, limits)[0]
        assert point.energy == pytest.approx(energy, rel=1e-12)
        assert point.codeword_error_rate == pytest.approx(wrong, rel=1e-12)
    points = expected_accuracy(*by_snr, MODE_SNR, Settings())
    assert [list(point.shares) for point in points] == [[name] for name in MODES.names]
    assert [point.symbols_per_sample for point in points] == [mode.symbols for mode in MODES]


@pytest.mark.parametrize("limits", [None, Limits(table_bits=6, evaluations=200)])
def test_files_and_table_hold_the_same(by_snr, tmp_path: Path, limits) -> None:
    system, samples = by_snr
    out, grid, settings = tmp_path / "new" / "sim", [0.0, 4.0, 8.0], Settings(seed=2)
    table = run_semi_analytic(system, "tiny", samples, grid, settings, out, limits)
    points = expected_accuracy(system, samples, grid, settings, limits)
    names = [f"semianalytic.{kind}" for kind in ("csv", "json", "png")]
    assert sorted(path.name for path in out.iterdir()) == names
    content = json.loads((out / names[1]).read_text())
    assert (content["task"], content["settings"]["channel"]) == ("tiny", "awgn")
    with (out / names[0]).open() as stream:
        rows = list(csv.DictReader(stream))
    lines = table.splitlines()
    assert max(map(len, lines)) <= 110
    assert len(points) == len(grid)
    for point, entry, row, line in zip(points, content["points"], rows, lines[2:5], strict=True):
        assert entry["accuracy"] == float(row["accuracy"]) == point.accuracy
        assert entry["expectation"] == point.expectation.tolist()
        assert float(row["interval_high"]) == point.interval[1]
        assert {f"{100 * point.accuracy:.3f}", next(iter(point.methods.values()))} <= set(line.split())
    assert (out / names[2]).read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="path"):
        run_semi_analytic(system, "tiny", samples, grid, settings, tmp_path / "file" / "sim", limits)
