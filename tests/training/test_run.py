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
from torch import Tensor

from tools.blobs import blobs
from twophase.link.command import Terminal
from twophase.link.manifest import load_manifest
from twophase.link.routing import fixed_routing
from twophase.training import routing_table
from twophase.training import run as module
from twophase.training.config import TrainConfig
from twophase.training.data import Task
from twophase.training.evaluate import Evaluation
from twophase.training.monitor import TABLE_HEAD, read_records, table_row
from twophase.training.run import train
from twophase.training.trainer import VALIDATION_REPEATS


@pytest.fixture(autouse=True)
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    """A small task under the name of the real one."""
    small = Task("blobs", ("a", "b", "c"), blobs(64, 1), blobs(30, 2), blobs(20, 3))
    monkeypatch.setattr(module, "load_task", lambda *_: small)
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


def make_config(out: Path, **values: Any) -> TrainConfig:
    small: dict[str, Any] = {
        "epochs": 5,
        "alignment_start_epoch": 4,
        "codebook_sizes": (4,),
        "tokens": (3,),
        "qam_orders": (4,),
        "embedding_dim": 3,
        "hidden": 12,
        "batch_size": 16,
    }
    return TrainConfig(out=out, **(small | values))


def shown(config: TrainConfig) -> tuple[dict[str, Any], list[str]]:
    """What a run returns, and the lines that it prints."""
    output = io.StringIO()
    training = train(config, Terminal(output))
    assert training is not None
    return training, output.getvalue().splitlines()


def checkpoint_words(config: TrainConfig, name: str, task: Task) -> Tensor:
    """Codewords of a checkpoint."""
    return module.Trainer(config, task).stored(name)[0].codebooks[0].codewords.detach()


@pytest.mark.parametrize(("deploy", "epoch"), [("best", 4), ("last", 6)])
@pytest.mark.parametrize(("learned_in", "temperature"), [(1, 1.0), (2, 0.97)])
def test_deployed_and_learning_reference_are_the_checkpoints_asked_for(
    deploy: str,
    epoch: int,
    learned_in: int,
    temperature: float,
    tmp_path: Path,
    left: dict[str, Any],
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    soft = [0.1, 0.2, 0.1, 0.9, 0.8, 0.7]
    soft[learned_in - 1] = 0.4
    validation_accuracies(monkeypatch, soft, [0.1, 0.1, 0.1, 0.6, 0.5, 0.4])
    config = make_config(tmp_path / "run", deploy=deploy, epochs=6)
    training = train(config, Terminal(quiet=True))
    assert training is not None
    assert (training["deployed"]["checkpoint"], training["deployed"]["epoch"]) == (deploy, epoch)
    assert (training["learning"]["epoch"], training["epochs"]) == (learned_in, 6)
    words = {name: checkpoint_words(config, name, task) for name in ("best", "last", "learning")}
    for (model, heat), name, expected in (
        (left["deployed"], deploy, config.temp_freeze_floor),
        (left["learned"], "learning", temperature),
    ):
        assert heat == pytest.approx(expected)
        found = model.codebooks[0].codewords
        assert [each for each, value in words.items() if torch.equal(value, found)] == [name]
    assert left["training"] == training


def test_the_baselines_deploy_their_best_epoch(
    tmp_path: Path, left: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The single-phase one by soft accuracy; hard-only training has no learning reference."""
    with monkeypatch.context() as patch:
        validation_accuracies(patch, [0.5, 0.8, 0.6], [0.5, 0.3, 0.9])
        config = make_config(tmp_path / "soft", method="single-phase", epochs=3, search="float")
        training = train(config, Terminal(quiet=True))
    assert training is not None
    assert training["deployed"]["epoch"] == 2
    assert training["alignment_start_epoch"] is None
    assert left["deployed"][1] == pytest.approx(math.sqrt(0.1))
    training = train(make_config(tmp_path / "hard", method="hard-only", epochs=2), Terminal(quiet=True))
    assert training is not None
    assert left["learned"] is training["learning"] is None
    assert training["deployed"]["phase"] == "alignment"


def test_the_training_entry_is_made_of_the_records(tmp_path: Path, left: dict[str, Any]) -> None:
    config = make_config(tmp_path / "run", seed=2, train_snr_low_db=-3.0, train_snr_high_db=9.0)
    training, lines = shown(config)
    records = read_records(config.folder / "metrics.jsonl")
    assert [record.epoch for record in records] == [1, 2, 3, 4, 5]
    assert (training["method"], training["surrogate"], training["seed"]) == ("two-phase", "product", 2)
    assert training["alignment_start_epoch"] == 4
    assert training["train_snr_db"] == [-3.0, 9.0]
    for name in ("deployed", "learning"):
        record = records[training[name]["epoch"] - 1]
        assert training[name]["validation_accuracy_hard"] == record.validation_accuracy_hard
        assert training[name]["losses"] == record.losses
    deployed = records[training["deployed"]["epoch"] - 1]
    assert training["perplexity"] == [pytest.approx(math.exp(deployed.vq_entropy[0]))]
    assert left["routing"] == fixed_routing()
    assert "validation_accuracy_of_modes" not in training
    json.dumps(training, allow_nan=False)
    rows = [table_row(record) for record in records]
    assert lines[0] == TABLE_HEAD
    assert [line for line in lines if line in rows] == rows
    assert max(map(len, lines)) <= 100


def test_each_warning_is_printed_when_it_first_holds(
    tmp_path: Path, left: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([{}, {"a": "first"}, {"a": "still", "b": "second"}, {"b": "later"}, {"a": "back"}])
    last: dict[str, str] = {"a": "end"}
    monkeypatch.setattr(module, "collapse_warnings", lambda *_: next(found, last))
    training, lines = shown(make_config(tmp_path / "run", log="reported"))
    assert [line.split(" |")[0] for line in lines if line.startswith("[Epoch ")] == [
        f"[Epoch {epoch}] Phase={'LEARNING' if epoch < 4 else 'ALIGNMENT'}" for epoch in range(1, 6)
    ]
    warned = [line for line in lines if line.startswith("warning: ")]
    assert warned == ["warning: first", "warning: second", "warning: back"]
    assert training["warnings_at_the_end"] == ["a"]


def test_another_checkpoint_of_a_finished_run_can_be_chosen(
    tmp_path: Path, left: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    validation_accuracies(monkeypatch, [0.5] * 5, [0.5, 0.5, 0.5, 0.9, 0.1])
    config = make_config(tmp_path / "run")
    assert train(config, Terminal(quiet=True))["deployed"]["epoch"] == 4
    again, lines = shown(replace(config, resume=True, deploy="last"))
    assert not lines
    assert (again["deployed"]["checkpoint"], again["deployed"]["epoch"]) == ("last", 5)
    assert left["training"] == again


# --- several modes ----------------------------------------------------------------------------------------


def make_adaptive(out: Path, **values: Any) -> TrainConfig:
    several = {"codebook_sizes": (4, 8), "tokens": (3, 1), "qam_orders": (4, 16), "modes_per_step": 2}
    return make_config(out, **(several | values))


@pytest.fixture
def few_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracies of the modes are measured in no time."""
    monkeypatch.setattr(routing_table, "REPEATS", 1)


@pytest.mark.usefixtures("few_repeats")
@pytest.mark.parametrize("router", ["content", "snr", "table"])
def test_the_routing_is_that_of_the_deployed_model(
    router: str, tmp_path: Path, left: dict[str, Any], task: Task
) -> None:
    config = make_adaptive(tmp_path / "run", router=router)
    training = train(config, Terminal(quiet=True))
    model = left["deployed"][0]
    expected = routing_table.adapt(model, config, task)
    assert left["routing"] == expected.routing
    assert left["routing"].router == router
    assert {name: training[name] for name in expected.measured} == expected.measured
    assert len(training["perplexity"]) == 2


@pytest.mark.usefixtures("few_repeats", "left")
@pytest.mark.parametrize(("tolerance", "warned"), [(0.999, True), (0.0, False)])
def test_a_table_of_one_step_is_warned_of(tolerance: float, warned: bool, tmp_path: Path) -> None:
    training, lines = shown(make_adaptive(tmp_path / "run", router="table", table_tolerance=tolerance))
    assert (len(training["measured_table"]["modes"]) == 1) == warned
    assert ("table of one step" in training["warnings_at_the_end"]) == warned
    assert any("--table-tolerance" in line for line in lines) == warned


@pytest.mark.usefixtures("few_repeats")
def test_an_interrupted_run_of_several_modes_is_resumed_to_the_same_end(
    tmp_path: Path, left: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {"router": "table", "input_noise": 0.1}
    whole = train(make_adaptive(tmp_path / "whole", **values), Terminal(quiet=True))
    routing, weights = left["routing"], left["deployed"][0].state_dict()
    epoch_of = module.Trainer.epoch

    def interrupted(self: module.Trainer, number: int) -> Any:
        if number == 4:
            raise KeyboardInterrupt
        return epoch_of(self, number)

    config = make_adaptive(tmp_path / "run", **values)
    with monkeypatch.context() as patch:
        patch.setattr(module.Trainer, "epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config, Terminal(quiet=True))
    left.clear()
    assert train(replace(config, resume=True), Terminal(quiet=True)) == whole
    assert left["routing"] == routing
    for name, value in left["deployed"][0].state_dict().items():
        assert torch.equal(value, weights[name]), name
    lines = [
        [replace(record, seconds=0) for record in read_records(tmp_path / name / "metrics.jsonl")]
        for name in ("whole", "run")
    ]
    assert lines[0] == lines[1]


@pytest.mark.usefixtures("few_repeats")
def test_a_finished_run_of_several_modes_leaves_a_run_folder(tmp_path: Path) -> None:
    """The whole way, nothing replaced, to a manifest whose routing fits its modes."""
    config = make_adaptive(tmp_path / "run", router="content", epochs=3, alignment_start_epoch=3)
    training = train(config, Terminal(quiet=True))
    manifest = load_manifest(config.folder, "run")
    assert manifest.link.modes.names == ("4x4qam", "4x16qam", "8x4qam", "8x16qam")
    assert manifest.routing.router == "content"
    assert manifest.routing.tells_mode
    manifest.routing.check(manifest.link.modes)
    assert manifest.training == json.loads(json.dumps(training))
    assert (len(manifest.codebooks), len(manifest.labels), len(manifest.usage)) == (2, 2, 2)
    assert (config.folder / "plots" / "training.png").stat().st_size > 1000
    assert manifest.provenance["command"] == config.command_line()
    temperatures = {entry.name: entry.temperature for entry in manifest.references}
    assert temperatures == {"learning": training["learning"]["vq_temperature"], "aligned": 0.7}
    assert temperatures["learning"] > 0.9
