"""What the step of the front end measures, and what it does not let pass."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto
from torch import Tensor

from tools.tiny_run import TinyBackbone, export_backbone
from twophase.export.backbone import whole as freezing
from twophase.export.backbone.compare import allowed
from twophase.export.backbone.merge import merge
from twophase.export.backbone.whole import WholeTransmitter, build_whole
from twophase.export.graphs.view import serialize
from twophase.link.errors import ArtifactError
from twophase.link.manifest import BACKBONE_PROGRAM, EVAL_FILE, TOKENIZER_FILE, Manifest, load_manifest
from twophase.link.samples import load_split


@pytest.fixture(scope="module")
def head(text_bundle: Path) -> ModelProto:
    return onnx.load(text_bundle / "tx_head.onnx")


@pytest.fixture(scope="module")
def manifest(text_run: Path) -> Manifest:
    return load_manifest(text_run, "run")


@pytest.fixture
def made(text_run: Path, head: ModelProto, manifest: Manifest) -> Callable[..., WholeTransmitter]:
    """Make the front end, from the features of the run or from others; the backbone may be another."""

    def make(run: Path = text_run, moved: float = 0.0) -> WholeTransmitter:
        path = text_run / EVAL_FILE
        with np.load(path) as split:
            features = split["input"] + np.float32(moved)
        sentences = load_split(path, manifest).sentences
        assert sentences is not None
        return build_whole(run, manifest, head, sentences, features, lambda step: None)

    return make


def other_run(folder: Path, text_run: Path, module: torch.nn.Module) -> Path:
    (folder / "programs").mkdir(parents=True)
    torch.export.save(export_backbone(module), folder / BACKBONE_PROGRAM)
    (folder / TOKENIZER_FILE).write_bytes((text_run / TOKENIZER_FILE).read_bytes())
    return folder


class Blind(TinyBackbone):
    """It does not look at the mask: filled up sentences give other features."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return torch.tanh(self.layer(self.embedding(input_ids))).mean(dim=1) + 0.0 * attention_mask[:, :1]


class Pair(TinyBackbone):
    """It gives two tensors."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        features = super().forward(input_ids, attention_mask)
        return features, features  # type: ignore[return-value]


def test_what_is_shipped_can_be_made_again(
    text_run: Path, text_bundle: Path, head: ModelProto, manifest: Manifest
) -> None:
    _, backbone, _ = freezing.freeze_backbone(text_run, manifest)
    content = serialize(merge(backbone, head, manifest))
    assert content == (text_bundle / "tx.onnx").read_bytes()
    for path in (str(text_run), str(Path(freezing.__file__).parent)):
        assert path.encode() not in content


def test_another_tokenizer_is_noticed(
    made: Callable[..., WholeTransmitter], text_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(text_run, tmp_path / "run"))
    content = json.loads((run / TOKENIZER_FILE).read_text())
    words = content["model"]["vocab"]
    words["the"], words["film"] = words["film"], words["the"]
    (run / TOKENIZER_FILE).write_text(json.dumps(content))
    (problem,) = made(run).problems
    assert problem.startswith("tokenizer.json: it gives other ids than 'input_ids' for ")


def test_features_of_another_backbone_are_noticed(made: Callable[..., WholeTransmitter]) -> None:
    (problem,) = made(moved=0.5).problems
    assert "sentences get other indices" in problem
    assert "those of the run and of tx.onnx" in problem
    assert problem.endswith("; 1 may")


def test_a_sentence_that_depends_on_its_batch_is_noticed(
    made: Callable[..., WholeTransmitter], text_run: Path, tmp_path: Path
) -> None:
    problems = made(other_run(tmp_path, text_run, Blind(12))).problems
    assert any("alone and in a padded batch" in problem for problem in problems), problems


def test_a_program_of_another_shape_is_refused(
    made: Callable[..., WholeTransmitter], text_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match=r"must take 2 and give 1 tensors .*, not 2 and 2"):
        made(other_run(tmp_path, text_run, Pair(12)))


def test_a_backbone_beyond_one_file_is_refused(
    made: Callable[..., WholeTransmitter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "_MOST_BYTES", 100)
    with pytest.raises(ArtifactError, match="an ONNX file at most 2"):
        made()


@pytest.mark.parametrize(("count", "may"), [(40, 1), (199, 1), (200, 2), (1005, 10)])
def test_one_in_a_hundred_sentences_may_get_another_index(count: int, may: int) -> None:
    assert allowed(count) == may
