"""Every rule of the training configuration, and its way through JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from twophase.link.errors import InputError
from twophase.link.labelling import LABELLINGS
from twophase.training.config import PRESETS, TrainConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task": "nothing"}, "'task' must be one of digits, reviews, .* or MODULE:FUNCTION, not 'nothing'"),
        ({"tune_layers": -2}, "'tune_layers' must be at least -1, not -2"),
        ({"max_length": 7}, "'max_length' must be at least 8, not 7"),
        ({"distillation": 1.5}, "'distillation' must lie in 0..1, not 1.5"),
        ({"epochs": 0}, "'epochs' must be at least 1, not 0"),
        (
            {"alignment_start_epoch": 31},
            r"must lie in 2..30 \(epochs; set both together\), not 31",
        ),
        ({"temp_freeze_floor": 0.0}, "'temp_freeze_floor' must lie above 0"),
        ({"hardening_epochs": 11}, "'hardening_epochs' must leave a fully hard epoch: at most 10, not 11"),
        ({"lambda_entropy": -0.1}, "'lambda_entropy' must be at least 0"),
        ({"learning_rate": 0.0}, "'learning_rate' must be positive"),
        ({"train_snr_low_db": 21.0}, "'train_snr_low_db and train_snr_high_db' must be ordered"),
        ({"tokens": (0,)}, "'tokens' must be at least 1, not 0"),
        ({"codebook_sizes": (48,)}, "'codebook_sizes' must be powers of two from 2 to 65536, not 48"),
        ({"qam_orders": (8,)}, "'qam_orders' must be 4, 16, 64 or 256"),
        ({"codebook_sizes": (16, 64), "tokens": (4,)}, "'tokens' must hold 2 numbers, one per codebook"),
        ({"router_focus": -0.1}, "'router_focus' must lie in 0..1, not -0.1"),
        ({"table_tolerance": 1.0}, "'table_tolerance' must lie in 0..1 .*, not 1.0"),
        ({"batch_size": 1}, "'batch_size' must be at least 2"),
        ({"seed": -1}, "'seed' must be at least 0"),
        ({"seed": 2**63}, r"'seed' must be below 2\*\*63"),
        ({"epochs": 1}, "'epochs' must be at least 2 for two phases"),
        (
            {"method": "hard-only", "hardening_epochs": 30},
            "leave .* at most 29, not 30",
        ),
        ({"method": "other"}, "'method' must be one of two-phase, single-phase, hard-only, not 'other'"),
        (
            {"modes_per_step": 1, "qam_orders": (4, 16)},
            "'modes_per_step' must be at least 2: a router",
        ),
        ({"backbone": ""}, "'backbone' must be a name or a folder, not ''"),
        ({"embedding_dim": 4096}, "embedding_dim"),
        ({"labelling": "other"}, "'labelling' must be one of identity, pca, kdtree, bsa"),
    ],
)
def test_impossible_configurations_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig(**values)


def test_floor_and_alignment_do_not_bind_where_they_have_no_meaning() -> None:
    assert TrainConfig(method="hard-only", alignment_start_epoch=99).last_learning_epoch == 0
    assert TrainConfig(method="single-phase", alignment_start_epoch=99).last_learning_epoch == 30


@pytest.mark.parametrize("task", list(PRESETS))
def test_json_round_trip(task: str, tmp_path: Path) -> None:
    config = TrainConfig(task=task, **PRESETS[task], out=tmp_path, bridge=False)
    assert TrainConfig.from_json(config.as_json()) == config


ADAPTIVE: dict[str, Any] = {
    "codebook_sizes": (32, 8),
    "tokens": (5, 7),
    "qam_orders": (4, 64),
    "router": "content",
    "lambda_rate": 0.0123,
    "lambda_balance": 0.0234,
    "router_temperature": 0.345,
    "router_noise": 0.456,
    "router_focus": 0.567,
    "modes_per_step": 11,
    "table_tolerance": 0.0567,
    "hysteresis_db": 0.678,
}


def test_command_line_repeats_the_run_and_names_no_path(tmp_path: Path) -> None:
    preset = PRESETS["digits"]
    one_link = {"codebook_sizes": (32,), "tokens": (5,), "qam_orders": (64,)}
    config = TrainConfig(**{**preset, **one_link, "seed": 3, "bridge": False, "out": tmp_path})
    assert (
        config.command_line()
        == "tp-train --task digits --seed 3 --no-bridge --codebook-sizes 32 --tokens 5 --qam-orders 64"
    )


def test_contract_arguments_keep_their_names_and_defaults() -> None:
    config = TrainConfig()
    assert (config.epochs, config.alignment_start_epoch, config.temp_freeze_floor) == (30, 20, 0.7)
    assert (config.lambda_entropy, config.lambda_consistency) == (0.01, 0.5)


def test_the_labellings_are_those_of_the_link() -> None:
    assert get_args(get_type_hints(TrainConfig)["labelling"]) == LABELLINGS
