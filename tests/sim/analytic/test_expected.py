"""Expected accuracy: against noise drawn through the same graphs, exact against stratified; its report."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from tools.tiny_bundle import CLASSES, LINK, MODE_SNR, write_tiny_bundle
from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import qam
from twophase.link.demap import hard_decisions
from twophase.link.errors import InputError
from twophase.link.modem import group_by_mode
from twophase.link.noise import esn0_db_to_noise_var
from twophase.link.samples import Samples, load_samples
from twophase.sim.analytic.expected import Limits, check_semi_analytic, expected_accuracy
from twophase.sim.analytic.laws import codeword_success, word_law
from twophase.sim.analytic.report import run_semi_analytic
from twophase.sim.frames import payload_stream, transmit
from twophase.sim.settings import Settings
from twophase.sim.system import System, load_system

MODES = LINK.modes
SAMPLED = Limits(table_bits=0, evaluations=400)


@pytest.fixture(scope="module")
def system(bundle: Path) -> System:
    return load_system(bundle)[0]


@pytest.fixture(scope="module")
def samples(bundle: Path) -> Samples:
    return load_samples(bundle / "eval.npz", (CLASSES + 1,), CLASSES)


def _monte_carlo(system, samples, esn0_db, settings, trials, seed=0) -> np.ndarray:
    """Share of each sample's trials that are right: noise is drawn, received, decided bit by bit."""
    rng = np.random.default_rng(seed)
    forced = None if settings.mode is None else MODES.find(settings.mode)
    sent = transmit(system.transmitter, samples.features, esn0_db, MODES, forced)
    stream = payload_stream(sent, MODES)
    noise_var = float(esn0_db_to_noise_var(esn0_db))
    count, width = stream.points.shape
    right = np.zeros(count)
    k = 0.0 if settings.channel == "rayleigh" else 10 ** (settings.rician_k_db / 10)
    for _ in range(trials):
        noise = math.sqrt(noise_var / 2) * (rng.standard_normal((2, count, width)).T @ [1, 1j]).T
        gain = np.ones((count, width), dtype=complex)
        if settings.channel != "awgn":
            span = {"symbol": 1, "sample": width}.get(settings.coherence, settings.coherence)
            scattered = (rng.standard_normal((2, count, -(-width // span))).T @ [1, 1j]).T
            blocks = math.sqrt(k / (1 + k)) + scattered * math.sqrt(0.5 / (1 + k))
            gain = np.repeat(blocks, span, axis=1)[:, :width]
        received = gain * stream.points + noise
        llr = np.zeros((count, MODES.max_bits))
        for mode, rows in group_by_mode(sent.mode, MODES):
            part = np.ix_(rows, np.arange(mode.symbols))
            decided = hard_decisions(received[part], qam(mode.order), gain[part] / math.sqrt(stream.energy))
            bits = symbols_to_bits(decided, mode.bits_per_symbol)
            llr[rows, : mode.channel_bits] = system.llr_clip * (2.0 * bits - 1)
        for _, rows in group_by_mode(sent.mode, MODES):
            classes = system.receiver.receive(llr[rows], sent.mode[rows]).classes
            right[rows] += classes == samples.labels[rows]
    return right / trials


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
    ],
    ids=lambda value: None if isinstance(value, float) else f"{value.channel}-{value.coherence}-{value.mode}",
)
def test_meets_monte_carlo(system, samples, settings, esn0_db, limits) -> None:
    trials = 150
    shares = _monte_carlo(system, samples, esn0_db, settings, trials)
    point = expected_accuracy(system, samples, [esn0_db], settings, limits)[0]
    assert set(point.methods.values()) == {"exact" if limits.table_bits else "stratified"}
    # Bernoulli trials with the expected probabilities; both errors add.  |z| < 4.5: false alarm 7e-6 each.
    spread = math.sqrt((point.expectation * (1 - point.expectation)).sum() / trials) / len(shares)
    error = math.hypot(spread, point.half_width / 1.96)
    assert abs(shares.mean() - point.accuracy) < 4.5 * error
    assert 0.3 < point.accuracy < 0.999
    assert spread < 0.003  # narrow enough to tell: 0.2 dB moves the accuracy by more than 4.5 of these
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
            if 0 < value < 1 and rows.sum() * trials * value * (1 - value) > 25:
                variance = rows.sum() * value * (1 - value) / trials
                statistic += (shares[rows].sum() - rows.sum() * value) ** 2 / variance
                freedom += 1
        assert freedom >= 1
        assert statistic < chi2.isf(1e-6, freedom)


def test_stratified_intervals_hold_the_exact_value(system, samples) -> None:
    """Of 60 independent 95 % intervals at least 50 hold it: fewer in 1.4e-3 of all seeds if coverage is 95 %.

    Seeds are fixed, so the test is deterministic.
    """
    for esn0_db in (-2.0, 4.0):

        def point(seed: int, limits: Limits | None = None, esn0_db: float = esn0_db):
            return expected_accuracy(system, samples, [esn0_db], Settings(mode="4x4qam", seed=seed), limits)[
                0
            ]

        exact, runs = point(0), [point(seed, Limits(0, 100)) for seed in range(30)]
        assert exact.half_width == 0
        assert len({run.accuracy for run in runs}) > 5
        assert max(run.half_width for run in runs) < 0.1
        assert sum(run.interval[0] <= exact.accuracy <= run.interval[1] for run in runs) >= 25
        assert all(run.bounds[0] <= exact.accuracy <= run.bounds[1] for run in runs)


def test_without_noise_it_is_the_noiseless_accuracy(system, samples) -> None:
    sent = transmit(system.transmitter, samples.features, 60.0, MODES)
    llr = np.zeros((len(sent.mode), MODES.max_bits))
    used = np.arange(MODES.max_bits) < sent.bit_count[:, np.newaxis]
    llr[used] = system.llr_clip * (2.0 * sent.bits[used] - 1)
    right = system.receiver.receive(llr, sent.mode).classes == samples.labels
    for limits in (Limits(), SAMPLED):
        point = expected_accuracy(system, samples, [60.0], Settings(), limits)[0]
        np.testing.assert_allclose(point.expectation, right, atol=1e-12)


def test_all_modes_in_one_batch_with_an_ideal_header(content_bundle: Path) -> None:
    system = load_system(content_bundle)[0]
    samples = load_samples(content_bundle / "eval.npz", (CLASSES + 1,), CLASSES)
    settings = Settings(header="ideal")
    point = expected_accuracy(system, samples, [3.0], settings)[0]
    assert len(point.methods) == len(MODES) == 4
    assert sum(point.shares.values()) == pytest.approx(1)
    shares = _monte_carlo(system, samples, 3.0, settings, 100)
    spread = math.sqrt((point.expectation * (1 - point.expectation)).sum() / 100) / len(shares)
    assert abs(shares.mean() - point.accuracy) < 4.5 * spread  # false alarm 7e-6
    # A sample's expectation is its own: the energy is that of all, and nothing else is shared.
    mixed = expected_accuracy(system, samples, [3.0], settings, SAMPLED)[0]
    assert abs(mixed.accuracy - point.accuracy) < 2.3 * mixed.half_width  # 4.5 standard errors
    with pytest.raises(InputError, match="header"):
        expected_accuracy(system, samples, [3.0], Settings())


def test_the_same_seed_gives_the_same_in_any_grid(system, samples) -> None:
    settings = Settings(mode="4x16qam", seed=3)
    alone = expected_accuracy(system, samples, [5.0], settings, SAMPLED)[0]
    grid = expected_accuracy(system, samples, [-1.0, 5.0], settings, SAMPLED)[1]
    assert alone.accuracy == grid.accuracy
    assert alone.interval == grid.interval
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
    ],
)
def test_what_has_no_law_is_refused(system, settings, name) -> None:
    with pytest.raises(InputError, match=name):
        check_semi_analytic(system, settings)
    for name, limit in (("table_bits", 25), ("evaluations", 10)):
        with pytest.raises(InputError, match=name):
            Limits(**{name: limit})


def test_ends_that_differ_are_refused_unless_both_err_alike(system, samples) -> None:
    wrong = Settings(snr_error_bias_db=3.0)
    with pytest.raises(InputError, match="router_snr_error"):
        expected_accuracy(system, samples, [4.0], wrong)
    shared = dataclasses.replace(wrong, snr_error_at="both")
    point = expected_accuracy(system, samples, [4.0], shared)[0]
    assert list(point.shares) == [MODES.names[2]]
    assert not np.isclose(point.accuracy, expected_accuracy(system, samples, [4.0], Settings())[0].accuracy)


def test_the_energy_and_codeword_errors_are_those_of_the_words_sent(system, samples) -> None:
    # Another Es/N0 gives another accuracy, by more than Monte Carlo's error: the stated energy matters.
    point, near = expected_accuracy(system, samples, [3.0, 3.2], Settings(mode="4x16qam"))
    assert near.accuracy - point.accuracy > 0.005
    assert abs(point.energy - 1) > 0.01
    sent = transmit(system.transmitter, samples.features, 3.0, MODES, 1)
    assert point.energy == pytest.approx(payload_stream(sent, MODES).energy, rel=1e-12)
    mode = MODES[1]
    law = word_law(mode, float(esn0_db_to_noise_var(3.0)) * point.energy)
    right = codeword_success(law, mode, sent.symbols[:, : mode.symbols])
    assert point.codeword_error_rate == pytest.approx(1 - right.mean(), rel=1e-12)
    sampled = expected_accuracy(system, samples, [3.0], Settings(mode="4x16qam"), SAMPLED)[0]
    assert sampled.codeword_error_rate == pytest.approx(point.codeword_error_rate, rel=1e-12)
    points = expected_accuracy(system, samples, MODE_SNR, Settings())
    assert [list(point.shares) for point in points] == [[name] for name in MODES.names]
    assert [point.symbols_per_sample for point in points] == [mode.symbols for mode in MODES]


def test_a_wrong_receiver_shows(tmp_path: Path, samples) -> None:
    broken = load_system(write_tiny_bundle(tmp_path / "bundle", wrong_receiver=True))[0]
    point = expected_accuracy(broken, samples, [10.0], Settings())[0]
    swapped = (samples.labels == 0) | (samples.labels == 1)
    assert point.expectation[swapped].mean() < 0.05
    assert point.expectation[~swapped].mean() > 0.9


@pytest.mark.parametrize("limits", [None, Limits(table_bits=6, evaluations=200)])
def test_files_and_table_hold_the_same(system, samples, tmp_path: Path, limits) -> None:
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
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="path"):
        run_semi_analytic(system, "tiny", samples, grid, settings, tmp_path / "file" / "sim", limits)
