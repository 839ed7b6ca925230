"""The deployed rule: read off the router, or off measured accuracies."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tools import small_link
from tools.small_link import blobs
from twophase.link.header import plan_header
from twophase.link.modes import LinkConfig
from twophase.link.routing import fixed_routing
from twophase.training import routing_table as module
from twophase.training.config import TrainConfig
from twophase.training.data import Split
from twophase.training.evaluate import mode_accuracies
from twophase.training.model.network import LinkModel
from twophase.training.routing_table import Adaptation, adapt, measured_table, router_table

# 12, 6, 6 and 3 symbols: codebooks of 24 and 12 bits over QPSK and 16-QAM.
MODES = LinkConfig((4, 16), (12, 3), (4, 16), 2).modes
SYMBOLS = [mode.symbols for mode in MODES]


# --- measured ---------------------------------------------------------------------------------------------


def obvious(rows: list[list[int]], tolerance: int) -> list[int]:
    """The mode at each point, from the highest SNR down."""
    chosen: list[int] = []
    for place in reversed(range(len(rows[0]))):
        good = {
            mode
            for mode in range(4)
            if all(rows[mode][later] >= max(column) - tolerance
                   for later, column in enumerate(zip(*rows, strict=True)) if later >= place)
        }  # fmt: skip
        fewest = min((SYMBOLS[mode] for mode in good), default=None)
        allowed = [mode for mode in range(4) if mode in good and SYMBOLS[mode] == fewest]
        if not good:
            allowed = [mode for mode in range(4) if not chosen or SYMBOLS[mode] >= SYMBOLS[chosen[0]]]
        chosen.insert(0, max(allowed, key=lambda mode: rows[mode][place]))
    return chosen


ACCURACIES = st.integers(1, 9).flatmap(
    lambda points: st.lists(
        st.lists(st.integers(0, 16), min_size=points, max_size=points), min_size=4, max_size=4
    )
)


@given(rows=ACCURACIES, tolerance=st.integers(0, 4), start=st.sampled_from([-7.25, 0.1]))
@settings(deadline=None, max_examples=300, derandomize=True)
@example(
    rows=[[8, 8, 12, 12, 16], [0] * 5, [0] * 5, [0, 8, 4, 12, 16]], tolerance=1, start=0.1
)  # a lucky point
@example(rows=[[0], [12], [12], [0]], tolerance=1, start=0.1)  # the first of equals
def test_the_shortest_mode_that_stays_within_the_tolerance_serves(
    rows: list[list[int]], tolerance: int, start: float
) -> None:
    """Against the obvious loop, in whole sixteenths; thresholds are float32's own values of the points."""
    points = start + 0.5 * torch.arange(len(rows[0]))
    table = measured_table(torch.tensor(rows) / 16, points, MODES, tolerance / 16)
    chosen = obvious(rows, tolerance)
    assert table.choose(points.numpy()).tolist() == chosen
    assert set(table.thresholds_db) <= set(points.tolist())
    assert len(table.thresholds_db) == sum(old != new for old, new in pairwise(chosen))
    assert all(SYMBOLS[later] <= SYMBOLS[now] for now, later in pairwise(chosen))


# --- read off ---------------------------------------------------------------------------------------------

CONFIG = TrainConfig(
    codebook_sizes=(8, 4),
    tokens=(2, 8),
    qam_orders=(4, 16),
    embedding_dim=3,
    hidden=12,
    train_snr_low_db=-5.0,
    train_snr_high_db=12.0,
)


def make_model(content: bool = False) -> LinkModel:
    """A model whose untrained router changes its mind several times over the training range."""
    model = small_link.make_model(CONFIG.link, 8, 3, CONFIG.hidden, content=content)
    small_link.give_opinions(model, blobs(200, 5).features, -5.0, 12.0, 6)
    return model.eval()


@torch.no_grad()
def decisions(model: LinkModel, split: Split, esn0_db: Tensor) -> Tensor:
    """What the router says of each sample at each Es/N0: (points, samples)."""
    content = model.content(split.features)
    return torch.stack([model.router.scores(content, x.expand(len(content))).argmax(1) for x in esn0_db])


@pytest.mark.parametrize("low", [-5.0, -4.3])
def test_a_table_says_what_the_snr_router_says_between_the_training_snrs(low: float) -> None:
    model, split = make_model(), blobs(5, 1)
    config = replace(CONFIG, train_snr_low_db=low)
    table = router_table(model, split, config)
    assert len(table.modes) > 2
    points = torch.arange(low, config.train_snr_high_db + 0.001, module.FINE_STEP_DB)
    said = decisions(model, split, points)
    assert (said == said[:, :1]).all()
    np.testing.assert_array_equal(table.choose(points.numpy()), said[:, 0])
    # Between the points it is late by less than their distance.
    finer = torch.arange(low, config.train_snr_high_db, module.FINE_STEP_DB / 5)
    wrong = table.choose(finer.numpy()) != decisions(model, split, finer)[:, 0].numpy()
    distance = np.abs(finer.numpy()[:, None] - np.array(table.thresholds_db)).min(1)
    assert (distance[wrong] < module.FINE_STEP_DB).all()
    assert wrong.mean() < 0.01


@pytest.mark.parametrize("content", [False, True])
def test_beyond_the_training_snrs_the_table_goes_on_as_it_ends(content: bool) -> None:
    table = router_table(make_model(content), blobs(20, 1), CONFIG)
    low, high = table.choose([-5.0, 12.0]).tolist()
    assert table.choose([-300.0, -5.5, 12.5, 300.0]).tolist() == [low, low, high, high]
    assert all(-5.0 < level <= 12.0 for level in table.thresholds_db)


def test_of_a_content_router_the_table_holds_the_most_frequent_mode() -> None:
    model, split = make_model(content=True), blobs(40, 1)
    table = router_table(model, split, CONFIG)
    points = torch.arange(CONFIG.train_snr_low_db, CONFIG.train_snr_high_db + 0.01, module.COARSE_STEP_DB)
    counts = torch.stack([torch.bincount(row, minlength=4) for row in decisions(model, split, points)])
    assert ((counts > 0).sum(1) > 1).any()
    assert len(table.modes) > 1
    for row, mode in zip(counts, table.choose(points.numpy()).tolist(), strict=True):
        assert row[mode] == row.max()


# --- what is deployed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("router", ["content", "snr", "table"])
def test_each_router_becomes_a_valid_routing(router: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPEATS", 2)
    task, model = small_link.blob_task(), make_model(router == "content")
    config = replace(CONFIG, router=router, hysteresis_db=0.75)
    found = adapt(model, config, task)
    routing = found.routing
    routing.check(model.modes)
    assert routing.router == router
    assert routing.hysteresis_db == (0.75 if router == "table" else 0.0)
    assert routing.header == (plan_header(4) if router == "content" else ())
    assert routing.tells_mode == (router == "content")

    points = torch.tensor(found.measured["validation_esn0_db"])
    assert points[0] < CONFIG.train_snr_low_db
    assert points[-1] > CONFIG.train_snr_high_db
    assert (points.diff() == module.COARSE_STEP_DB).all()
    accuracies = mode_accuracies(model, task.validation, points, 2)
    stored = torch.tensor(found.measured["validation_accuracy_of_modes"], dtype=torch.float64)
    torch.testing.assert_close(stored, accuracies, atol=1e-5, rtol=0)
    json.dumps(found.measured, allow_nan=False)
    if router == "table":
        assert routing.table == measured_table(accuracies, points, model.modes, config.table_tolerance)
        (shortest,) = adapt(model, replace(config, table_tolerance=0.999), task).routing.table.modes
        assert model.modes[shortest].symbols == min(mode.symbols for mode in model.modes)
    else:
        assert routing.table == router_table(model, task.train, config)


def test_a_link_of_one_mode_has_a_fixed_routing_and_measures_nothing() -> None:
    model = small_link.make_model(LinkConfig((8,), (2,), (4,), 3))
    assert adapt(model, CONFIG, small_link.Sealed()) == Adaptation(fixed_routing(), {})
