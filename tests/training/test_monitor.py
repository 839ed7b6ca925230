"""Warnings of collapse come when they should, with the guide's remedy, and not otherwise."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from twophase.link.modes import Mode
from twophase.training.config import TrainConfig
from twophase.training.monitor import (
    EpochRecord,
    MetricsLog,
    collapse_warnings,
    expected_mean_abs_llr,
    read_records,
)

MODE = Mode(codebook=0, codebook_size=256, tokens=4, order=16)
CONFIG = TrainConfig()
HEALTHY = EpochRecord(
    epoch=25,
    phase="alignment",
    vq_temperature=0.7,
    symbol_temperature=1.0,
    hard_forward=1.0,
    learning_rate=1e-3,
    losses={"total": 1.0, "consistency": 0.01},
    train_accuracy_forward=0.9,
    train_accuracy_hard=0.9,
    train_accuracy_soft=0.9,
    validation_accuracy_hard=0.9,
    validation_accuracy_soft=0.9,
    validation_loss_hard=0.2,
    validation_loss_soft=0.2,
    vq_entropy=4.0,
    symbol_entropy=2.5,
    mean_abs_llr=7.0,
    revived=0,
    bits_per_sample=32,
    symbols_per_sample=8,
    seconds=0.1,
)
LEARNED = replace(HEALTHY, epoch=19, phase="learning", hard_forward=0.0)
ALIGNED = [LEARNED] + [replace(HEALTHY, epoch=20 + n) for n in range(10)]


@pytest.mark.parametrize(
    ("changes", "kind", "remedy"),
    [
        ({"vq_entropy": 2.4}, "codeword entropy", "raise --lambda-entropy to 0.05"),
        ({"symbol_entropy": 1.4}, "symbol entropy", "--entropy-warmup-epochs"),
        ({"mean_abs_llr": 12.1}, "saturated LLRs", "keep --bridge"),
        (
            {"validation_accuracy_hard": 0.87, "validation_accuracy_soft": 0.87},
            "drop at alignment",
            "floor to 0.8, lower --lambda-consistency to 0.3, raise --alignment-start-epoch",
        ),
        ({"validation_accuracy_soft": 0.93}, "soft and hard differ", "raise --lambda-consistency"),
        ({"losses": {"consistency": 0.06}}, "inconsistent", "make the alignment phase longer"),
    ],
)
def test_each_sign_of_collapse_has_its_remedy(changes: dict[str, object], kind: str, remedy: str) -> None:
    record = replace(HEALTHY, **changes)  # type: ignore[arg-type]
    found = collapse_warnings(record, ALIGNED, CONFIG, MODE, llr_reference=8.0)
    assert list(found) == [kind]
    assert remedy in found[kind]


def test_a_healthy_epoch_is_not_warned_of() -> None:
    assert collapse_warnings(HEALTHY, ALIGNED, CONFIG, MODE, llr_reference=8.0) == {}
    assert collapse_warnings(LEARNED, [], CONFIG, MODE, llr_reference=8.0) == {}


def test_what_has_just_begun_is_not_judged_but_the_end_always_is() -> None:
    bad = replace(HEALTHY, vq_entropy=0.0, validation_accuracy_soft=0.99)
    assert collapse_warnings(replace(bad, epoch=10), [], CONFIG, MODE, llr_reference=8.0) == {}
    early = collapse_warnings(replace(bad, epoch=20), [LEARNED], CONFIG, MODE, llr_reference=8.0)
    assert list(early) == ["codeword entropy"]
    short = replace(CONFIG, epochs=5, alignment_start_epoch=3)
    end = collapse_warnings(replace(bad, epoch=5), [LEARNED], short, MODE, llr_reference=8.0)
    assert list(end) == ["codeword entropy", "soft and hard differ"]


def test_entropy_thresholds_scale_with_codebook_and_constellation() -> None:
    small = Mode(codebook=0, codebook_size=4, tokens=12, order=4)
    even = replace(HEALTHY, vq_entropy=math.log(4), symbol_entropy=math.log(4))
    assert collapse_warnings(even, ALIGNED, CONFIG, small, llr_reference=8.0) == {}
    low = replace(even, vq_entropy=0.44 * math.log(4))
    assert "codeword entropy" in collapse_warnings(low, ALIGNED, CONFIG, small, llr_reference=8.0)


def test_a_soft_baseline_whose_hard_system_fails_is_named() -> None:
    record = replace(LEARNED, validation_accuracy_hard=0.6)
    found = collapse_warnings(record, [], TrainConfig(method="single-phase"), MODE, llr_reference=8.0)
    assert "use --method two-phase" in found["hard below soft"]


def test_the_llr_reference_grows_with_snr() -> None:
    values = [expected_mean_abs_llr(16, 0, high) for high in (5, 10, 20)]
    assert values == sorted(values)
    # QPSK at one SNR: LLR = 4 y / N0 has mean 2/N0 * (1/sqrt 2)^2 * 2 = 2 Es/N0, where errors are rare.
    assert expected_mean_abs_llr(4, 15, 15) == pytest.approx(2 * 10**1.5, rel=0.01)


def test_log_survives_a_cut_line_and_forgets_epochs_after_the_checkpoint(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0) as log:
        for epoch in (1, 2, 3):
            log.add(replace(HEALTHY, epoch=epoch))
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps({"epoch": 4})[:5])
    assert [record.epoch for record in read_records(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    with MetricsLog(tmp_path, 2) as log:
        assert [record.epoch for record in log.records] == [1, 2]
        log.add(replace(HEALTHY, epoch=3, revived=9))
    assert [record.revived for record in read_records(tmp_path / "metrics.jsonl")] == [0, 0, 9]
    assert list((tmp_path / "tensorboard").iterdir())


def test_the_terminal_line_names_what_the_contract_asks_for() -> None:
    for part in (
        "alignment",
        "vq_T 0.700",
        "sym_T 1.000",
        "hard_fwd 1.00",
        "consistency 0.0100",
        "val hard 0.9000",
    ):
        assert part in HEALTHY.line()
    for part in ("H_vq 4.000", "H_sym 2.500", "mean|LLR| 7.00", "32 bits 8 symbols"):
        assert part in HEALTHY.line()
