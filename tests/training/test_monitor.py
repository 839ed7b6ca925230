"""Warnings of collapse come when they should, with the guide's remedy, and not otherwise."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from twophase.link.errors import ArtifactError
from twophase.training.config import TrainConfig
from twophase.training.monitor import (
    TABLE_HEAD,
    EpochRecord,
    MetricsLog,
    collapse_warnings,
    expected_mean_abs_llr,
    read_records,
    reported_lines,
    table_row,
)

CONFIG = TrainConfig(codebook_sizes=(256,), tokens=(4,), qam_orders=(16,))
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
    vq_entropy=[4.0],
    symbol_entropy=[2.5],
    mean_abs_llr=[7.0],
    revived=0,
    mode_usage=[1.0],
    router_entropy=0.0,
    bits_per_sample=32,
    symbols_per_sample=8,
    seconds=0.1,
)
LEARNED = replace(HEALTHY, epoch=19, phase="learning", hard_forward=0.0)
ALIGNED = [LEARNED] + [replace(HEALTHY, epoch=20 + n) for n in range(10)]
BOTH_LOW = {"validation_accuracy_hard": 0.87, "validation_accuracy_soft": 0.87}

SEVERAL = replace(CONFIG, codebook_sizes=(256, 16), tokens=(4, 4), qam_orders=(16, 4), router="snr")
ROUTED = replace(
    HEALTHY,
    vq_entropy=[4.0, 2.5],
    symbol_entropy=[2.5, 1.3, 2.4, 1.2],
    mean_abs_llr=[7.0, 9.0, 7.0, 9.0],
    mode_usage=[0.4, 0.3, 0.2, 0.1],
    router_entropy=0.5,
)
COLLAPSED = [0.005, 0.985, 0.005, 0.005]


def warnings_of(
    record: EpochRecord, earlier: list[EpochRecord] = ALIGNED, config: TrainConfig | None = None
) -> dict[str, str]:
    modes = len(record.mode_usage)
    config = config or (CONFIG if modes == 1 else SEVERAL)
    return collapse_warnings(record, earlier, config, [8.0, 10.0, 8.0, 10.0][:modes])


@pytest.mark.parametrize(
    ("base", "changes", "kind", "remedy"),
    [
        (HEALTHY, {"vq_entropy": [2.4]}, "codeword entropy", "--lambda-entropy"),
        (HEALTHY, {"symbol_entropy": [1.4]}, "symbol entropy", "--entropy-warmup-epochs"),
        (HEALTHY, {"mean_abs_llr": [12.1]}, "saturated LLRs", "keep --bridge"),
        (HEALTHY, BOTH_LOW, "drop at alignment", "--alignment-start-epoch"),
        (HEALTHY, {"validation_accuracy_soft": 0.93}, "soft and hard differ", "--lambda-consistency"),
        (HEALTHY, {"losses": {"consistency": 0.06}}, "inconsistent", "alignment phase longer"),
        (ROUTED, {"vq_entropy": [2.4, 2.5]}, "codeword entropy of codebook 256", "2.50"),
        (ROUTED, {"symbol_entropy": [2.5, 0.7, 2.4, 1.2]}, "symbol entropy of 256x4qam", "0.75"),
        (ROUTED, {"mean_abs_llr": [7.0, 15.1, 7.0, 9.0]}, "saturated LLRs of 256x4qam", "15.0"),
        (ROUTED, {"mode_usage": COLLAPSED}, "router collapse", "in mode 256x4qam: raise --lambda-balance"),
        (ROUTED, {"router_entropy": 0.999 * math.log(4)}, "undecided router", "lower --lambda-balance"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_sign_of_collapse_has_its_place_and_remedy(
    base: EpochRecord, changes: dict[str, Any], kind: str, remedy: str
) -> None:
    found = warnings_of(replace(base, **changes))
    assert list(found) == [kind]
    assert remedy in found[kind]


def test_what_is_no_sign_of_collapse_is_not_warned_of() -> None:
    assert not warnings_of(HEALTHY)
    assert not warnings_of(LEARNED, [])
    begun = replace(HEALTHY, epoch=10, vq_entropy=[0.0])
    assert not warnings_of(begun, [])
    one_mode_has_no_router = replace(HEALTHY, router_entropy=9.0)
    assert not warnings_of(one_mode_has_no_router)
    assert not warnings_of(replace(ROUTED, router_entropy=0.7))
    assert not warnings_of(replace(ROUTED, phase="learning", epoch=19, router_entropy=1.385), [])
    assert not warnings_of(replace(ROUTED, mode_usage=COLLAPSED), config=replace(SEVERAL, router="table"))
    quaternary = replace(CONFIG, codebook_sizes=(4,), tokens=(12,), qam_orders=(4,))
    as_even_as_can_be = replace(HEALTHY, vq_entropy=[math.log(4)], symbol_entropy=[math.log(4)])
    assert not warnings_of(as_even_as_can_be, config=quaternary)


def test_the_alignment_is_judged_after_a_while_and_the_end_always() -> None:
    bad = replace(HEALTHY, epoch=20, vq_entropy=[0.0], validation_accuracy_soft=0.99)
    assert list(warnings_of(bad, [LEARNED])) == ["codeword entropy"]
    short = replace(CONFIG, epochs=5, alignment_start_epoch=3)
    end = warnings_of(replace(bad, epoch=5), [LEARNED], short)
    assert list(end) == ["codeword entropy", "soft and hard differ"]
    soft = replace(LEARNED, validation_accuracy_hard=0.6)
    found = warnings_of(soft, [], replace(CONFIG, method="single-phase"))
    assert "--method two-phase" in found["hard below soft"]


def test_modes_that_carry_next_to_nothing_are_not_judged() -> None:
    """Nor is a codebook of which no mode carries anything; one that carries something is."""
    signs: dict[str, Any] = {
        "vq_entropy": [4.0, 0.1],
        "symbol_entropy": [2.5, 1.3, 0.1, 0.1],
        "mean_abs_llr": [7.0, 9.0, 90.0, 90.0],
    }
    assert warnings_of(replace(ROUTED, **signs, mode_usage=[0.5, 0.5, 0.0, 0.0])) == {}
    assert set(warnings_of(replace(ROUTED, **signs, mode_usage=[0.4, 0.4, 0.0, 0.2]))) == {
        "codeword entropy of codebook 16",
        "symbol entropy of 16x4qam",
        "saturated LLRs of 16x4qam",
    }


def test_modes_and_codebooks_of_equal_names_are_told_apart() -> None:
    twins = replace(CONFIG, codebook_sizes=(16, 16), tokens=(8, 4), qam_orders=(16,))
    low: dict[str, Any] = {name: [0.1, 0.1] for name in ("vq_entropy", "symbol_entropy")}
    record = replace(HEALTHY, **low, mean_abs_llr=[99.0, 99.0], mode_usage=[0.5, 0.5], router_entropy=0.3)
    assert len(warnings_of(record, config=twins)) == 6


# --- references, logs, lines ------------------------------------------------------------------------------


def test_the_llr_reference_grows_with_snr() -> None:
    assert expected_mean_abs_llr(16, 0, 5) < expected_mean_abs_llr(16, 0, 20)
    # QPSK at one SNR: LLR = 4 y / N0 has mean 2/N0 * (1/sqrt 2)^2 * 2 = 2 Es/N0, where errors are rare.
    assert expected_mean_abs_llr(4, 15, 15) == pytest.approx(2 * 10**1.5, rel=0.01)


def test_a_log_survives_a_cut_line_and_forgets_epochs_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(tmp_path, 0) as log:
        for epoch in (1, 2, 3):
            log.add(replace(HEALTHY, epoch=epoch))
    with path.open("a") as stream:
        stream.write('{"epo')
    assert [record.epoch for record in read_records(path)] == [1, 2, 3]
    with MetricsLog(tmp_path, 2) as log:
        log.add(replace(LEARNED, epoch=3))
    assert [record.phase for record in read_records(path)] == ["alignment", "alignment", "learning"]
    with pytest.raises(ArtifactError, match=r"metrics.jsonl' must hold epochs 1..4"):
        MetricsLog(tmp_path, 4)
    path.write_text('{"epoch": 1}\n')
    with pytest.raises(ArtifactError, match=r"metrics.jsonl' is altered"):
        MetricsLog(tmp_path, 1)


def test_records_of_several_modes_are_read_back_and_drawn_one_curve_each(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricsLog(tmp_path, 0) as log:
        log.add(replace(ROUTED, epoch=1))
    assert read_records(tmp_path / "metrics.jsonl") == [replace(ROUTED, epoch=1)]
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    drawn = {name: events.Scalars(name)[0].value for name in events.Tags()["scalars"]}
    expected = {"mode_usage/1": 0.3, "vq_entropy/1": 2.5, "losses/consistency": 0.01, "router_entropy": 0.5}
    assert {name: drawn[name] for name in expected} == pytest.approx(expected)


def test_an_epoch_is_a_row_under_its_head_or_two_reported_lines() -> None:
    row = ["25", "alignment", "0.700", "1.0000", "0.9000", "0.9000", "4.00", "2.50", "7.0", "8", "0.1"]
    assert table_row(HEALTHY).split() == row
    assert table_row(ROUTED).split()[6:9] == ["2.50..4.00", "1.20..2.50", "7.0..9.0"]
    assert table_row(replace(HEALTHY, hard_forward=0.5)).split()[1] == "hardening"
    wide = replace(ROUTED, epoch=12345, mean_abs_llr=[4.0, 60.0, 100.0, 100.0], seconds=999.9)
    assert {len(table_row(record)) for record in (HEALTHY, ROUTED, wide)} == {len(TABLE_HEAD)}
    assert len(TABLE_HEAD) <= 100
    first, second = reported_lines(HEALTHY)
    assert first == "[Epoch 25] Phase=ALIGNMENT | vq_T=0.700 sym_T=1.000 | hard_fwd=True"
    assert second == "  total=1.0000 consistency=0.0100 | val soft=0.9000 hard=0.9000"
    for record, hard in ((LEARNED, "False"), (replace(HEALTHY, hard_forward=0.25), "0.25")):
        assert reported_lines(record)[0].endswith(f"hard_fwd={hard}")
