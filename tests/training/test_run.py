"""A whole run on a small task: what is deployed, what it is compared with, what is left in the folder."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tools.small_link import blob_task, blobs, small_config
from twophase.link.command import Terminal
from twophase.link.routing import Routing, SnrTable, fixed_routing
from twophase.training import routing_table
from twophase.training import run as module
from twophase.training.config import TrainConfig
from twophase.training.data import Task
from twophase.training.evaluate import Evaluation
from twophase.training.monitor import TABLE_HEAD, read_records, table_row
from twophase.training.run import train
from twophase.training.trainer import VALIDATION_REPEATS

SEVERAL: dict[str, Any] = {"codebook_sizes": (4, 8), "tokens": (3, 1), "qam_orders": (4, 16)}


@pytest.fixture(autouse=True)
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    """A small task under the name of the real one; accuracies of the modes are measured in no time."""
    small = blob_task(test=blobs(20, 3))
    monkeypatch.setattr(module, "load_task", lambda *_: small)
    monkeypatch.setattr(routing_table, "REPEATS", 1)
    return small


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a run hands over to be saved, instead of the slow saving; no plot either."""
    handed: dict[str, Any] = {}
    monkeypatch.setattr(module, "save_programs", lambda *_, **values: handed.update(values))
    monkeypatch.setattr(module, "plot_training", lambda *_: None)
    return handed


def validation_accuracies(monkeypatch: pytest.MonkeyPatch, soft: list[float], hard: list[float]) -> None:
    """Let epoch after epoch of a run find these on the validation split."""
    for name, values in (("evaluate_soft", soft), ("evaluate_hard", hard)):
        remaining = iter(values)

        def pretend(_model: Any, _split: Any, _config: Any, repeats: int, *_: Any,
                    remaining: Any = remaining) -> Evaluation:  # fmt: skip
            return Evaluation(next(remaining) if repeats == VALIDATION_REPEATS else 0.5, 1.0, (1.0,))

        monkeypatch.setattr(f"twophase.training.trainer.{name}", pretend)


def shown(config: TrainConfig) -> tuple[dict[str, Any], list[str]]:
    """What a run returns, and the lines that it prints."""
    output = io.StringIO()
    training = train(config, Terminal(output))
    assert training is not None
    return training, output.getvalue().splitlines()


@pytest.mark.parametrize(("learned_in", "temperature"), [(1, 1.0), (2, 0.97)])
def test_deployed_and_learning_reference_are_the_checkpoints_asked_for(
    learned_in: int,
    temperature: float,
    tmp_path: Path,
    left: dict[str, Any],
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The best one, and of the finished run, which trains no more, the last one, too."""
    soft = [0.1, 0.2, 0.9, 0.8]
    soft[learned_in - 1] = 0.4
    validation_accuracies(monkeypatch, soft, [0.1, 0.1, 0.6, 0.5])
    config = small_config(tmp_path / "run")
    for deploy, epoch in (("best", 3), ("last", 4)):
        training, lines = shown(replace(config, deploy=deploy, resume=deploy == "last"))
        assert ("nothing is trained" in " ".join(lines)) == (deploy == "last")
        assert (training["deployed"]["checkpoint"], training["deployed"]["epoch"]) == (deploy, epoch)
        assert (training["learning"]["epoch"], training["epochs"]) == (learned_in, 4)
        stored = module.Trainer(config, task).stored
        for (model, heat), name, expected in (
            (left["deployed"], deploy, config.temp_freeze_floor),
            (left["learned"], "learning", temperature),
        ):
            assert heat == pytest.approx(expected)
            words = {name: stored(name)[0].codebooks[0].codewords for name in ("best", "last", "learning")}
            found = model.codebooks[0].codewords
            assert [each for each, value in words.items() if torch.equal(value, found)] == [name]
        assert left["training"] == training


def test_the_baselines_deploy_their_best_epoch(
    tmp_path: Path, left: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The single-phase one by soft accuracy; hard-only training has no learning reference."""
    with monkeypatch.context() as patch:
        validation_accuracies(patch, [0.5, 0.8, 0.6], [0.5, 0.3, 0.9])
        config = small_config(tmp_path / "soft", method="single-phase", epochs=3, search="float")
        training, _ = shown(config)
    assert training["deployed"]["epoch"] == 2
    assert training["alignment_start_epoch"] is None
    assert left["deployed"][1] == pytest.approx(math.sqrt(0.1))
    training, _ = shown(small_config(tmp_path / "hard", method="hard-only", epochs=2))
    assert left["learned"] is training["learning"] is None
    assert training["deployed"]["phase"] == "alignment"


def test_the_training_entry_is_made_of_the_records(tmp_path: Path, left: dict[str, Any]) -> None:
    config = small_config(tmp_path / "run", seed=2, train_snr_low_db=-3.0, train_snr_high_db=9.0)
    training, lines = shown(config)
    records = read_records(config.folder / "metrics.jsonl")
    assert (training["method"], training["surrogate"], training["seed"]) == ("two-phase", "product", 2)
    assert training["alignment_start_epoch"] == 3
    assert training["train_snr_db"] == [-3.0, 9.0]
    for name in ("deployed", "learning"):
        record = records[training[name]["epoch"] - 1]
        assert training[name]["validation_accuracy_hard"] == record.validation_accuracy_hard
        assert training[name]["losses"] == record.losses
    deployed = records[training["deployed"]["epoch"] - 1]
    assert training["perplexity"] == [pytest.approx(math.exp(deployed.vq_entropy[0]))]
    # The ceiling: blobs are told apart without a channel, and its decisions go with the test split.
    assert training["majority_share"] == pytest.approx(12 / 30, abs=0.1)
    assert training["ceiling"]["validation_accuracy"] > training["majority_share"] + 0.2
    assert training["ceiling"]["train_accuracy"] > 0.7
    assert left["without_link"].shape == (20,)
    assert (left["without_link"] == blobs(20, 3).labels.numpy()).mean() > 0.6
    assert left["routing"] == fixed_routing()
    assert "validation_accuracy_of_modes" not in training
    json.dumps(training, allow_nan=False)
    rows = [table_row(record) for record in records]
    assert lines[0] == TABLE_HEAD
    assert [line for line in lines if line in rows] == rows
    assert max(map(len, lines)) <= 100


@pytest.mark.usefixtures("left")
def test_each_warning_is_printed_when_it_first_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([{"a": "first"}, {"a": "still", "b": "second"}, {"b": "later"}, {"a": "back"}])
    monkeypatch.setattr(module, "collapse_warnings", lambda *_: next(found, {"a": "end"}))
    training, lines = shown(small_config(tmp_path / "run", log="reported"))
    assert [line.split(" |")[0] for line in lines if line.startswith("[Epoch ")] == [
        f"[Epoch {epoch}] Phase={'LEARNING' if epoch < 3 else 'ALIGNMENT'}" for epoch in range(1, 5)
    ]
    warned = [line for line in lines if line.startswith("warning: ")]
    assert warned == ["warning: first", "warning: second", "warning: back"]
    assert training["warnings_at_the_end"] == ["a"]


# --- several modes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("router", ["content", "snr", "table"])
def test_the_routing_is_that_of_the_deployed_model(
    router: str, tmp_path: Path, left: dict[str, Any], task: Task
) -> None:
    config = small_config(tmp_path / "run", router=router, **SEVERAL)
    training, _ = shown(config)
    expected = routing_table.adapt(left["deployed"][0], config, task)
    assert left["routing"] == expected.routing
    assert {name: training[name] for name in expected.measured} == expected.measured
    assert len(training["perplexity"]) == 2


@pytest.mark.usefixtures("left")
@pytest.mark.parametrize(("modes", "warned"), [((2,), True), ((2, 1), False)])
def test_a_table_of_one_step_is_warned_of(
    modes: tuple[int, ...], warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    routing = Routing("table", SnrTable((3.0,)[: len(modes) - 1], modes), hysteresis_db=1.0, header=())
    monkeypatch.setattr(module, "adapt", lambda *_: routing_table.Adaptation(routing, {}))
    training, lines = shown(small_config(tmp_path / "run", epochs=2, alignment_start_epoch=2, **SEVERAL))
    assert ("table of one step" in training["warnings_at_the_end"]) == warned
    assert any("--table-tolerance" in line for line in lines) == warned


def test_an_interrupted_run_is_resumed_to_the_same_end(
    tmp_path: Path, left: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {"input_noise": 0.1, **SEVERAL}
    whole, _ = shown(small_config(tmp_path / "whole", **values))
    routing, weights = left["routing"], left["deployed"][0].state_dict()
    epoch_of = module.Trainer.epoch

    def interrupted(self: module.Trainer, number: int) -> Any:
        if number == 3:
            raise KeyboardInterrupt
        return epoch_of(self, number)

    config = small_config(tmp_path / "run", **values)
    with monkeypatch.context() as patch:
        patch.setattr(module.Trainer, "epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config, Terminal(quiet=True))
    assert len(read_records(tmp_path / "run" / "metrics.jsonl")) == 2
    left.clear()
    assert train(replace(config, resume=True), Terminal(quiet=True)) == whole
    assert left["routing"] == routing
    torch.testing.assert_close(left["deployed"][0].state_dict(), weights, atol=0, rtol=0)
    first, second = (
        [replace(record, seconds=0) for record in read_records(tmp_path / name / "metrics.jsonl")]
        for name in ("whole", "run")
    )
    assert first == second


def test_of_several_processes_one_trains_what_has_no_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert train(small_config(tmp_path / "run"), Terminal(quiet=True)) is None
    assert not (tmp_path / "run").exists()
