"""A whole run on sentences: from a CSV file to the programs of a link with a front end."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from twophase.link.command import Terminal
from twophase.link.errors import ArtifactError, InputError, LinkError
from twophase.link.manifest import BACKBONE_PROGRAM, TOKENIZER_FILE, load_manifest, program_file
from twophase.link.text import TextEncoder, unpack_texts
from twophase.training.config import TrainConfig
from twophase.training.data import TextTask
from twophase.training.run import train


@pytest.fixture
def config(tiny_folder: Path, text_task: TextTask, tmp_path: Path) -> TrainConfig:
    data = tmp_path / "mine.csv"
    lines = ["text,label,split"]
    for split in ("train", "validation", "test"):
        part = getattr(text_task, split)
        rows = zip(part.texts, part.labels, strict=True)
        lines += [f"{text},{text_task.classes[label]},{split}" for text, label in rows]
    data.write_text("\n".join(lines), encoding="utf-8")
    return TrainConfig(
        task="csv",
        data=data,
        out=tmp_path / "run",
        backbone=str(tiny_folder),
        tune_epochs=4,
        tune_batch_size=8,
        tune_learning_rate=3e-3,
        max_length=16,
        device="cpu",
        epochs=4,
        alignment_start_epoch=2,
        batch_size=16,
        hidden=16,
        embedding_dim=4,
        codebook_sizes=(4,),
        tokens=(3,),
        qam_orders=(4,),
    )


@pytest.fixture
def without_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs and plots, which one test looks at, take most of the time of a small run."""

    def stub(path: Path, *_: object) -> None:
        path.parent.mkdir(exist_ok=True)
        path.touch()

    monkeypatch.setattr("twophase.training.save._save_program", stub)
    monkeypatch.setattr("twophase.training.run.plot_training", lambda *_: None)


def test_a_run_holds_the_front_end_and_the_head(config: TrainConfig, text_task: TextTask) -> None:
    training = train(config, Terminal(quiet=True))
    assert training is not None
    assert training["backbone"]["tune_layers"] == 2
    assert training["backbone"]["backbone"] == Path(config.backbone).name
    assert training["samples"] == {"train": 96, "validation": 40, "test": 40}
    manifest = load_manifest(config.folder, "run")
    assert manifest.front is not None
    # the folder's name: where it stood is no business of whom the bundle is handed to
    assert (manifest.front.backbone, manifest.front.max_length) == (Path(config.backbone).name, 16)
    assert manifest.task == "csv"

    with np.load(config.folder / "eval.npz") as arrays:
        held = {name: arrays[name] for name in arrays.files}
    texts = unpack_texts(held["text"], held["text_ends"])
    assert texts == text_task.test.texts
    np.testing.assert_array_equal(held["label"], text_task.test.labels)
    for name in ("without_link", "tfidf"):
        assert (held[name] == held["label"]).mean() > 0.7
    assert (2.0 ** -held["huffman_lengths"].astype(float)).sum() == 1
    encoder = TextEncoder(config.folder / TOKENIZER_FILE, 16)
    ids, mask = encoder.encode_all(texts)
    np.testing.assert_array_equal(ids, held["input_ids"])
    np.testing.assert_array_equal(mask, held["attention_mask"])

    backbone = torch.export.load(config.folder / BACKBONE_PROGRAM).module()
    alone = [backbone(*map(torch.from_numpy, encoder.encode(text)))[0].detach() for text in texts]
    np.testing.assert_allclose(torch.stack(alone).numpy(), held["input"], atol=1e-5)
    head = torch.export.load(config.folder / program_file("tx_head.onnx")).module()
    assert head(torch.from_numpy(held["input"]), torch.zeros(len(texts)))[1].shape == (len(texts), 3)


@pytest.mark.usefixtures("without_programs")
def test_the_teacher_counts_and_hidden_states_are_shared(
    config: TrainConfig, text_task: TextTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    cited = replace(text_task, citation="Somebody (2001)")
    monkeypatch.setattr("twophase.training.run.load_task", lambda *_: cited)
    found = []
    for name, share, hidden in (
        ("run", config.distillation, "computed in "),
        ("labels", 0.0, "there already"),
    ):
        output = io.StringIO()
        given = replace(config, distillation=share, out=config.folder.with_name(name))
        found.append(train(given, Terminal(output)))
        lines = output.getvalue().replace("\n  ", " ")  # folded ones
        assert lines.count("cite: Somebody (2001)\n") == 1
        assert f"hidden states: {hidden}" in lines
    taught, untaught = found
    assert taught is not None
    assert untaught is not None
    assert taught["backbone"]["validation_accuracy"] == untaught["backbone"]["validation_accuracy"]
    assert taught["deployed"]["losses"]["task"] != untaught["deployed"]["losses"]["task"]


def test_what_cannot_be_trained_leaves_the_earlier_run_alone(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config.folder.mkdir()
    (config.folder / "config.json").write_text("an earlier run")
    changes: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"backbone": "no/such/model"}, LinkError, "no/such/model"),
        ({"tune_layers": 9}, InputError, "'tune_layers'"),
        ({"max_length": 5000}, InputError, "'max_length'"),
        ({"mixed_precision": "fp16"}, InputError, "'mixed_precision'"),
        ({"tune_batch_size": 97}, InputError, r"'tune_batch_size' must lie in 1..96"),
        ({"batch_size": 97}, InputError, "'batch_size' must be at most 96"),
        ({"data": Path("absent.csv")}, ArtifactError, "absent.csv"),
    ]
    for change, error, message in changes:
        with pytest.raises(error, match=message):
            train(replace(config, **change), Terminal(quiet=True))
        assert [path.name for path in config.folder.iterdir()] == ["config.json"]
        assert not list(config.folder.parent.glob(".run*"))


def test_a_second_process_of_a_launch_has_nothing_to_do_without_a_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert train(TrainConfig(task="digits", out=tmp_path / "run"), Terminal(quiet=True)) is None
    assert not (tmp_path / "run").exists()
