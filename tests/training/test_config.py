"""Every rule of the training configuration, and its way through JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from twophase.link.errors import InputError
from twophase.link.labelling import LABELLINGS
from twophase.training.config import PRESETS, TrainConfig


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"task": "nothing"}, "MODULE:FUNCTION"),
        ({"tune_layers": -2}, "in -1..1,000"),
        ({"max_length": 7}, "in 8..65,536"),
        ({"distillation": 1.5}, "in 0..1"),
        ({"epochs": 0}, "in 1..1,000,000"),
        ({"alignment_start_epoch": 31}, "2..30"),
        ({"temp_freeze_floor": 0.0}, "above 0"),
        ({"hardening_epochs": 11}, "at most 10"),
        ({"lambda_entropy": -0.1}, "at least 0"),
        ({"learning_rate": 0.0}, "positive"),
        ({"codebook_sizes": (48,)}, "powers of two from 2 to 65536"),
        ({"table_tolerance": 1.0}, "in 0..1"),
        ({"batch_size": 1}, "in 2..1,000,000"),
        ({"train_snr_low_db": 21.0}, "ordered"),
        ({"seed": -1}, "at least 0"),
        ({"seed": 2**63}, "within 64 bits"),
        ({"epochs": 1}, "at least 2"),
        ({"hardening_epochs": 30, "method": "hard-only"}, "at most 29"),
        ({"method": "other"}, "two-phase, single-phase, hard-only"),
        ({"modes_per_step": 1, "qam_orders": (4, 16)}, "at least 2"),
        ({"backbone": ""}, "a name or a folder"),
        ({"embedding_dim": 0}, "in 1..1,024"),
        ({"embedding_dim": 1024}, "at most 346"),
        ({"threads": 10**20}, "within 64 bits"),
        ({"threads": 2000}, "in 1..1,024"),
        ({"tokens": (0,)}, "in 1..65,536"),
        ({"labelling": "other"}, "identity, pca, kdtree, bsa"),
    ],
)
def test_impossible_configurations_are_refused(values: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError) as caught:
        TrainConfig(**values)
    assert caught.value.name.startswith(next(iter(values)))
    assert part in caught.value.rule


def test_floor_and_alignment_do_not_bind_where_they_have_no_meaning() -> None:
    assert TrainConfig(method="hard-only", alignment_start_epoch=99).last_learning_epoch == 0
    assert TrainConfig(method="single-phase", alignment_start_epoch=99).last_learning_epoch == 30


@pytest.mark.parametrize("task", list(PRESETS))
def test_json_round_trip(task: str, tmp_path: Path) -> None:
    config = TrainConfig(task=task, **PRESETS[task], out=tmp_path, bridge=False)
    assert TrainConfig.from_json(config.as_json()) == config


def test_the_command_line_repeats_the_run_and_names_no_path(tmp_path: Path) -> None:
    link = {"codebook_sizes": (32,), "tokens": (5,), "qam_orders": (64,)}
    config = TrainConfig(**{**PRESETS["digits"], **link, "seed": 3, "bridge": False, "out": tmp_path})
    options = "--task digits --seed 3 --no-bridge --codebook-sizes 32 --tokens 5 --qam-orders 64"
    assert config.command_line() == f"tp-train {options}"


def test_all_labellings_can_be_chosen() -> None:
    assert get_args(get_type_hints(TrainConfig)["labelling"]) == LABELLINGS
