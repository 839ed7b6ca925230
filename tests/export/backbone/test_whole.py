"""What the step of the backbone measures, and what it does not let pass."""

from __future__ import annotations

import json
from dataclasses import replace
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
from twophase.export.backbone.whole import build_whole, freeze_backbone
from twophase.link.errors import ArtifactError
from twophase.link.manifest import BACKBONE_PROGRAM, EVAL_FILE, TOKENIZER_FILE, Manifest, load_manifest
from twophase.link.samples import load_split


@pytest.fixture(scope="module")
def manifest(text_run: Path) -> Manifest:
    return load_manifest(text_run, "run")


@pytest.fixture(scope="module")
def head(text_bundle: Path) -> ModelProto:
    return onnx.load(text_bundle / "tx_head.onnx")


class Blind(TinyBackbone):
    """It does not look at the mask: filled up sentences give other features."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return torch.tanh(self.layer(self.embedding(input_ids))).mean(dim=1) + 0.0 * attention_mask[:, :1]


class Pair(TinyBackbone):
    """It gives two tensors."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        features = super().forward(input_ids, attention_mask)
        return features, features  # type: ignore[return-value]


def run_of(folder: Path, backbone: TinyBackbone) -> Path:
    (folder / "programs").mkdir()
    torch.export.save(export_backbone(backbone), folder / BACKBONE_PROGRAM)
    return folder


def test_another_tokenizer_other_features_and_a_sentence_that_depends_on_its_batch_are_noticed(
    text_run: Path, head: ModelProto, manifest: Manifest, tmp_path: Path
) -> None:
    run, unsigned = run_of(tmp_path, Blind(12)), replace(manifest, files={})
    content = json.loads((text_run / TOKENIZER_FILE).read_text())
    words = content["model"]["vocab"]
    words["the"], words["film"] = words["film"], words["the"]
    (run / TOKENIZER_FILE).write_text(json.dumps(content))
    split = load_split(text_run / EVAL_FILE, manifest)
    assert split.sentences is not None
    steps: list[str] = []
    moved = split.features + np.float32(0.5)
    tokenizer, padded, trained = build_whole(
        run, unsigned, head, split.sentences, moved, steps.append
    ).problems
    assert tokenizer.startswith("tokenizer.json: it gives other ids than 'input_ids' for ")
    assert "those of a sentence alone and in a padded batch" in padded
    assert "sentences get other indices from two sets of features, those of the run and of tx.onnx" in trained
    assert trained.endswith("; 1 may")
    assert "tx.onnx: sentence 20 of 40" in steps


def test_a_program_of_another_shape_or_beyond_one_file_is_refused(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, unsigned = run_of(tmp_path, Pair(12)), replace(manifest, files={})
    with pytest.raises(ArtifactError, match=r"must take 2 and give 1 tensors .*, not 2 and 2"):
        freeze_backbone(run, unsigned)
    monkeypatch.setattr(freezing, "_MOST_BYTES", 100)
    with pytest.raises(ArtifactError, match="an ONNX file at most 2"):
        freeze_backbone(run, unsigned)


@pytest.mark.parametrize(("count", "may"), [(40, 1), (199, 1), (200, 2), (1005, 10)])
def test_one_in_a_hundred_sentences_may_get_another_index(count: int, may: int) -> None:
    assert allowed(count) == may
