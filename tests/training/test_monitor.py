"""Warnings of collapse come when they should, with the guide's remedy, and not otherwise."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from twophase.link.errors import ArtifactError
from twophase.training.config import TrainConfig
from twophase.training.epoch_lines import TABLE_HEAD, reported_lines, table_row
from twophase.training.monitor import (
    EpochRecord,
    MetricsLog,
    collapse_warnings,
    expected_mean_abs_llr,
    read_records,
)

CONFIG = TrainConfig(codebook_sizes=(256,), tokens=(4,), qam_orders=(16,))
REFERENCE = [8.0]
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


@pytest.mark.parametrize(
    ("changes", "kind", "remedy"),
    [
        ({"vq_entropy": [2.4]}, "codeword entropy", "raise --lambda-entropy to 0.05"),
        ({"symbol_entropy": [1.4]}, "symbol entropy", "--entropy-warmup-epochs"),
        ({"mean_abs_llr": [12.1]}, "saturated LLRs", "keep --bridge"),
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
    found = collapse_warnings(record, ALIGNED, CONFIG, REFERENCE)
    assert list(found) == [kind]
    assert remedy in found[kind]


def test_a_healthy_epoch_is_not_warned_of() -> None:
    assert collapse_warnings(HEALTHY, ALIGNED, CONFIG, REFERENCE) == {}
    assert collapse_warnings(LEARNED, [], CONFIG, REFERENCE) == {}


def test_what_has_just_begun_is_not_judged_but_the_end_always_is() -> None:
    bad = replace(HEALTHY, vq_entropy=[0.0], validation_accuracy_soft=0.99)
    assert collapse_warnings(replace(bad, epoch=10), [], CONFIG, REFERENCE) == {}
    early = collapse_warnings(replace(bad, epoch=20), [LEARNED], CONFIG, REFERENCE)
    assert list(early) == ["codeword entropy"]
    short = replace(CONFIG, epochs=5, alignment_start_epoch=3)
    end = collapse_warnings(replace(bad, epoch=5), [LEARNED], short, REFERENCE)
    assert list(end) == ["codeword entropy", "soft and hard differ"]


def test_entropy_thresholds_scale_with_codebook_and_constellation() -> None:
    small = replace(CONFIG, codebook_sizes=(4,), tokens=(12,), qam_orders=(4,))
    even = replace(HEALTHY, vq_entropy=[math.log(4)], symbol_entropy=[math.log(4)])
    assert collapse_warnings(even, ALIGNED, small, REFERENCE) == {}
    low = replace(even, vq_entropy=[0.44 * math.log(4)])
    assert "codeword entropy" in collapse_warnings(low, ALIGNED, small, REFERENCE)


def test_a_soft_baseline_whose_hard_system_fails_is_named() -> None:
    record = replace(LEARNED, validation_accuracy_hard=0.6)
    found = collapse_warnings(record, [], replace(CONFIG, method="single-phase"), REFERENCE)
    assert "use --method two-phase" in found["hard below soft"]


# --- several modes ----------------------------------------------------------------------------------------

SEVERAL = replace(CONFIG, codebook_sizes=(256, 16), tokens=(4, 4), qam_orders=(16, 4), router="snr")
ROUTED = replace(
    HEALTHY,
    vq_entropy=[4.0, 2.5],
    symbol_entropy=[2.5, 1.3, 2.4, 1.2],
    mean_abs_llr=[7.0, 9.0, 7.0, 9.0],
    mode_usage=[0.4, 0.3, 0.2, 0.1],
    router_entropy=0.5,
)
REFERENCES = [8.0, 10.0, 8.0, 10.0]
ROUTED_EARLIER = [replace(ROUTED, epoch=entry.epoch, phase=entry.phase) for entry in ALIGNED]


def warnings_of(**changes: object) -> dict[str, str]:
    record = replace(ROUTED, **changes)  # type: ignore[arg-type]
    return collapse_warnings(record, ROUTED_EARLIER, SEVERAL, REFERENCES)


@pytest.mark.parametrize(
    ("changes", "kind", "parts"),
    [
        ({"vq_entropy": [2.4, 2.5]}, "codeword entropy of codebook 256", ["below 2.50 in codebook 256"]),
        ({"vq_entropy": [4.0, 1.2]}, "codeword entropy of codebook 16", ["below 1.25 in codebook 16"]),
        ({"symbol_entropy": [2.5, 0.7, 2.4, 1.2]}, "symbol entropy of 256x4qam", ["below 0.75 in 256x4qam"]),
        ({"symbol_entropy": [2.5, 1.3, 1.4, 1.2]}, "symbol entropy of 16x16qam", ["below 1.50 in 16x16qam"]),
        ({"mean_abs_llr": [7.0, 9.0, 12.1, 9.0]}, "saturated LLRs of 16x16qam", ["above 12.0 in 16x16qam"]),
        ({"mean_abs_llr": [7.0, 15.1, 7.0, 9.0]}, "saturated LLRs of 256x4qam", ["above 15.0 in 256x4qam"]),
    ],
)  # fmt: skip
def test_a_sign_of_collapse_names_its_codebook_or_mode(
    changes: dict[str, object], kind: str, parts: list[str]
) -> None:
    found = warnings_of(**changes)
    assert list(found) == [kind]
    for part in parts:
        assert part in found[kind]


def test_modes_that_carry_next_to_nothing_are_not_judged() -> None:
    """Nor is a codebook of which no mode carries anything; one that carries something is."""
    signs: dict[str, object] = {
        "vq_entropy": [4.0, 0.1],
        "symbol_entropy": [2.5, 1.3, 0.1, 0.1],
        "mean_abs_llr": [7.0, 9.0, 90.0, 90.0],
    }
    assert warnings_of(**signs, mode_usage=[0.5, 0.5, 0.0, 0.0]) == {}
    assert set(warnings_of(**signs, mode_usage=[0.4, 0.4, 0.0, 0.2])) == {
        "codeword entropy of codebook 16",
        "symbol entropy of 16x4qam",
        "saturated LLRs of 16x4qam",
    }


def test_modes_and_codebooks_of_equal_names_are_told_apart() -> None:
    """Two codebooks of 16 codewords: neither hides the other's warning."""
    twins = replace(CONFIG, codebook_sizes=(16, 16), tokens=(8, 4), qam_orders=(16,))
    record = replace(
        HEALTHY,
        vq_entropy=[0.1, 0.1],
        symbol_entropy=[0.1, 0.1],
        mean_abs_llr=[99.0, 99.0],
        mode_usage=[0.5, 0.5],
        router_entropy=0.3,
    )
    assert len(collapse_warnings(record, ALIGNED, twins, [8.0, 8.0])) == 6


def test_a_router_that_sends_all_in_one_mode_is_named_with_its_remedy() -> None:
    for number, name in enumerate(SEVERAL.link.modes.names):
        usage = [0.005] * 4
        usage[number] = 0.985
        found = warnings_of(mode_usage=usage)
        assert list(found) == ["router collapse"]
        assert f"in mode {name}" in found["router collapse"]
        for remedy in ("raise --lambda-balance", "lower --lambda-rate", "raise --router-noise"):
            assert remedy in found["router collapse"]


def test_an_aligned_router_that_cannot_tell_modes_apart_is_named() -> None:
    nearly = 0.999 * math.log(4)
    found = warnings_of(router_entropy=nearly)
    assert list(found) == ["undecided router"]
    assert "lower --lambda-balance" in found["undecided router"]
    assert warnings_of(router_entropy=0.7) == {}
    learning = replace(ROUTED, phase="learning", epoch=19, router_entropy=nearly)
    assert collapse_warnings(learning, [], SEVERAL, REFERENCES) == {}


def test_a_link_of_one_mode_has_no_router_to_collapse() -> None:
    assert collapse_warnings(replace(HEALTHY, router_entropy=9.0), ALIGNED, CONFIG, REFERENCE) == {}


# --- references, logs, lines ------------------------------------------------------------------------------


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


@pytest.mark.parametrize("content", [None, '{"epoch": 1}\n'])
def test_a_log_without_the_epochs_of_its_checkpoint_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(ArtifactError, match=r"metrics.jsonl' (must hold epochs 1..2|is altered)"):
        MetricsLog(tmp_path, 2)


def test_records_of_several_modes_are_read_back_and_drawn_one_curve_each(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricsLog(tmp_path, 0) as log:
        log.add(replace(ROUTED, epoch=1))
    assert read_records(tmp_path / "metrics.jsonl") == [replace(ROUTED, epoch=1)]
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    drawn = {name: events.Scalars(name)[0].value for name in events.Tags()["scalars"]}
    for number, share in enumerate(ROUTED.mode_usage):
        assert drawn[f"mode_usage/{number}"] == pytest.approx(share)
        assert drawn[f"mean_abs_llr/{number}"] == pytest.approx(ROUTED.mean_abs_llr[number])
    assert drawn["vq_entropy/1"] == pytest.approx(2.5)
    assert drawn["losses/consistency"] == pytest.approx(0.01)
    assert drawn["router_entropy"] == pytest.approx(0.5)


def test_a_router_whose_place_a_table_takes_is_not_judged() -> None:
    collapsed = replace(ROUTED, mode_usage=[1.0, 0.0, 0.0, 0.0])
    table = replace(SEVERAL, router="table")
    assert "router collapse" in collapse_warnings(collapsed, ROUTED_EARLIER, SEVERAL, REFERENCES)
    assert collapse_warnings(collapsed, ROUTED_EARLIER, table, REFERENCES) == {}


def test_an_epoch_is_a_row_under_its_head() -> None:
    assert table_row(HEALTHY).split() == (
        ["25", "alignment", "0.700", "1.0000", "0.9000", "0.9000", "4.00", "2.50", "7.0", "8", "0.1"]
    )
    columns = "2.50..4.00 1.20..2.50 7.0..9.0"
    assert columns in " ".join(table_row(ROUTED).split())
    assert table_row(replace(HEALTHY, hard_forward=0.5)).split()[1] == "hardening"
    wide = replace(
        ROUTED, epoch=12345, mean_abs_llr=[4.0, 60.0, 100.0, 100.0], seconds=999.9, vq_entropy=[0.0, 11.1]
    )
    for record in (HEALTHY, ROUTED, wide):
        assert len(table_row(record)) == len(TABLE_HEAD) <= 100


def test_the_reported_form_names_phase_temperatures_losses_and_accuracies() -> None:
    record = replace(
        HEALTHY, losses={"total": 1.0, "task": 0.5, "consistency": 0.01, "entropy": -4.0, "rate": 3.0}
    )
    assert reported_lines(record) == (
        "[Epoch 25] Phase=ALIGNMENT | vq_T=0.700 sym_T=1.000 | hard_fwd=True",
        "  total=1.0000 task=0.5000 consistency=0.0100 entropy=-4.0000 | val soft=0.9000 hard=0.9000",
    )
    assert reported_lines(LEARNED)[0].endswith("Phase=LEARNING | vq_T=0.700 sym_T=1.000 | hard_fwd=False")
    assert reported_lines(replace(HEALTHY, hard_forward=0.25))[0].endswith("hard_fwd=0.25")
