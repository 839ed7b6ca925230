"""Which mode at which SNR, once the weights are fixed: read off the router, or measured.

The result is the ``Routing`` that is deployed, and a record of what it was derived from.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from twophase.link.header import plan_header
from twophase.link.modes import ModeTable
from twophase.link.routing import Routing, SnrTable, fixed_routing
from twophase.training.config import TrainConfig
from twophase.training.data import Split, Task
from twophase.training.evaluate import mode_accuracies
from twophase.training.model.network import LinkModel

__all__ = ["Adaptation", "adapt", "measured_table", "router_table"]

FINE_STEP_DB = 2.0**-6
"""Steps in which a router's decisions are read off; float32 holds all of them exactly."""
COARSE_STEP_DB = 0.5
"""Steps at which accuracies are measured."""
REPEATS = 16
MARGIN_DB = 2.0
"""How far the measured SNRs reach beyond those of the training."""


@dataclass(frozen=True)
class Adaptation:
    """What is deployed, and what the manifest's record of the training says of it."""

    routing: Routing
    measured: dict[str, Any]


def adapt(model: LinkModel, config: TrainConfig, task: Task) -> Adaptation:
    """The routing of a trained model; accuracies come from the validation split."""
    if model.router is None:
        return Adaptation(fixed_routing(), {})
    points = torch.arange(
        config.train_snr_low_db - MARGIN_DB, config.train_snr_high_db + MARGIN_DB + 0.01, COARSE_STEP_DB
    )
    accuracies = mode_accuracies(model, task.validation, points, REPEATS)
    routed = router_table(model, task.train, config)
    measured = measured_table(accuracies, points, model.modes, config.table_tolerance)
    table = measured if config.router == "table" else routed
    routing = Routing(
        router=config.router,
        table=table,
        hysteresis_db=config.hysteresis_db if config.router == "table" else 0.0,
        header=plan_header(len(model.modes)) if config.router == "content" else (),
    )
    return Adaptation(
        routing,
        {
            "router_table": asdict(routed),
            "measured_table": asdict(measured),
            "validation_esn0_db": points.tolist(),
            "validation_accuracy_of_modes": [
                [round(value, 5) for value in row] for row in accuracies.tolist()
            ],
        },
    )


def measured_table(accuracies: Tensor, points: Tensor, modes: ModeTable, tolerance: float) -> SnrTable:
    """At each SNR the mode of fewest symbols whose accuracy is within ``tolerance`` of the best.

    A mode may be used from the SNR from which on it stays within the tolerance, so that a lucky point at low
    SNR does not count and the number of symbols never grows with the SNR.

    Parameters
    ----------
    accuracies
        (modes, points), measured under the same noise in all modes.
    points
        (points,): Es/N0 in dB, ascending, of the kind that float32 holds exactly.
    """
    close = accuracies >= accuracies.max(0).values - tolerance
    usable = close.flip(1).cumprod(1).flip(1).bool()
    chosen: list[int] = []
    fewest = 0
    for point in reversed(range(len(points))):
        allowed = usable[:, point].nonzero().flatten().tolist()
        if allowed:
            mode = min(allowed, key=lambda mode: (modes[mode].symbols, -float(accuracies[mode, point])))
        else:
            # At low SNR no mode may be within the tolerance for good; the best that is no shorter serves.
            longer = [number for number, entry in enumerate(modes) if entry.symbols >= fewest]
            mode = max(longer, key=lambda mode: float(accuracies[mode, point]))
        fewest = modes[mode].symbols
        chosen.insert(0, mode)
    return _steps(points, chosen)


@torch.no_grad()
def router_table(model: LinkModel, split: Split, config: TrainConfig) -> SnrTable:
    """The router's decisions over the SNR; of a content router the most frequent one among the samples.

    Beyond the SNRs of the training the router is not asked: the table goes on as it ends there.
    """
    assert model.router is not None
    step = FINE_STEP_DB if not model.router.reads_content else COARSE_STEP_DB
    points = torch.arange(config.train_snr_low_db, config.train_snr_high_db + step / 2, step)
    content = model.content(split.features if model.router.reads_content else split.features[:1])
    chosen = [
        int(model.router.scores(content, level.expand(len(content))).argmax(1).mode().values)
        for level in points
    ]
    return _steps(points, chosen)


def _steps(points: Tensor, chosen: list[int]) -> SnrTable:
    """One step for each run of equal modes; a threshold is the first SNR of the new mode."""
    starts = [0] + [new for old, new in pairwise(range(len(chosen))) if chosen[old] != chosen[new]]
    return SnrTable(
        thresholds_db=tuple(float(points[start]) for start in starts[1:]),
        modes=tuple(chosen[start] for start in starts),
    )
