"""A whole run on sentences, to the programs of a link with a front end."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tools.small_link import small_config
from twophase.link.command import Terminal
from twophase.link.errors import ArtifactError, InputError, LinkError
from twophase.link.manifest import BACKBONE_PROGRAM, TOKENIZER_FILE, load_manifest, program_file
from twophase.link.text import TextEncoder, unpack_texts
from twophase.training import run as module
from twophase.training.config import TrainConfig
from twophase.training.data import TextTask
from twophase.training.run import train


@pytest.fixture
def config(tiny_folder: Path, tmp_path: Path) -> TrainConfig:
    tuning: dict[str, Any] = {"tune_epochs": 4, "tune_batch_size": 8, "tune_learning_rate": 3e-3}
    values = tuning | {"backbone": str(tiny_folder), "max_length": 16, "device": "cpu"}
    return small_config(tmp_path / "run", task="csv", data=Path("absent.csv"), **values)


def test_a_run_holds_the_front_end_and_the_head(
    config: TrainConfig, text_task: TextTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    cited = replace(text_task, citation="Somebody (2001)")
    monkeypatch.setattr(module, "load_task", lambda *_: cited)
    output = io.StringIO()
    training = train(config, Terminal(output))
    assert output.getvalue().count("cite: Somebody (2001)\n") == 1
    assert "hidden states: computed in " in output.getvalue()
    assert (training["backbone"]["tune_layers"], training["backbone"]["distillation"]) == (2, 1.0)
    assert training["samples"] == {"train": 96, "validation": 40, "test": 40}
    manifest = load_manifest(config.folder, "run")
    assert manifest.task == "words"
    # the folder's name: where it stood is no business of whom the bundle is handed to
    named = Path(config.backbone).name
    assert (manifest.front.backbone, manifest.front.max_length) == (named, 16)
    assert training["backbone"]["backbone"] == named

    with np.load(config.folder / "eval.npz") as arrays:
        held = {name: arrays[name] for name in arrays.files}
    texts = unpack_texts(held["text"], held["text_ends"])
    assert texts == text_task.test.texts
    np.testing.assert_array_equal(held["label"], text_task.test.labels)
    for name in ("without_link", "tfidf"):
        assert (held[name] == held["label"]).mean() > 0.7
    assert (2.0 ** -held["huffman_lengths"].astype(float)).sum() == 1
    encoder = TextEncoder(config.folder / TOKENIZER_FILE, 16)
    for found, name in zip(encoder.encode_all(texts), ("input_ids", "attention_mask"), strict=True):
        np.testing.assert_array_equal(found, held[name])

    backbone = torch.export.load(config.folder / BACKBONE_PROGRAM).module()
    alone = [backbone(*map(torch.from_numpy, encoder.encode(text)))[0].detach() for text in texts]
    np.testing.assert_allclose(torch.stack(alone).numpy(), held["input"], atol=1e-5)
    head = torch.export.load(config.folder / program_file("tx_head.onnx")).module()
    assert head(torch.from_numpy(held["input"]), torch.zeros(len(texts)))[1].shape == (len(texts), 2)


def test_what_cannot_be_trained_leaves_the_earlier_run_alone(
    config: TrainConfig, text_task: TextTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ArtifactError, match=r"absent\.csv"):
        train(config, Terminal(quiet=True))
    monkeypatch.setattr(module, "load_task", lambda *_: text_task)
    config.folder.mkdir()
    (config.folder / "config.json").write_text("an earlier run")
    changes: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"backbone": "no/such/model"}, LinkError, "no/such/model"),
        ({"tune_layers": 9}, InputError, "'tune_layers'"),
        ({"max_length": 5000}, InputError, "'max_length'"),
        ({"mixed_precision": "fp16"}, InputError, "'mixed_precision'"),
        ({"tune_batch_size": 97}, InputError, r"'tune_batch_size' must lie in 1..96"),
        ({"batch_size": 97}, InputError, "'batch_size' must be at most 96"),
    ]
    for change, error, message in changes:
        with pytest.raises(error, match=message):
            train(replace(config, **change), Terminal(quiet=True))
        assert [path.name for path in config.folder.iterdir()] == ["config.json"]
        assert not list(config.folder.parent.glob(".run*"))
