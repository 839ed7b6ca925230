"""The sentences of a test split: read, checked, and held against the tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tools.tiny_bundle import write_tiny_bundle
from twophase.export.backbone.sentences import (
    Sentences,
    load_sentences,
    problems_of_tokenizer,
    write_split,
)
from twophase.link.errors import ArtifactError
from twophase.link.manifest import EVAL_FILE, TOKENIZER_FILE, Manifest, load_manifest
from twophase.link.text import TextEncoder

Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("text") / "bundle", text=True, samples=20)


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> Manifest:
    return load_manifest(bundle, "bundle")


@pytest.fixture
def arrays(bundle: Path) -> Arrays:
    with np.load(bundle / EVAL_FILE) as split:
        return dict(split)


@pytest.fixture(scope="module")
def sentences(bundle: Path, manifest: Manifest) -> Sentences:
    return load_sentences(bundle / EVAL_FILE, manifest)


def test_a_sentence_by_itself_is_what_a_device_encodes(
    bundle: Path, manifest: Manifest, sentences: Sentences
) -> None:
    assert manifest.front is not None
    encoder = TextEncoder(bundle / TOKENIZER_FILE, manifest.front.max_length)
    assert len(sentences) == 20
    for row, text in enumerate(sentences.texts):
        ids, mask = encoder.encode(text)
        alone = sentences.alone(row)
        np.testing.assert_array_equal(alone["input_ids"], ids)
        np.testing.assert_array_equal(alone["attention_mask"], mask)
        assert alone["input_ids"].dtype == alone["attention_mask"].dtype == np.int64
    assert problems_of_tokenizer(bundle / TOKENIZER_FILE, sentences, manifest) == []


def test_a_padded_batch_is_as_wide_as_its_longest(sentences: Sentences) -> None:
    rows = np.argsort(sentences.lengths)[:5]
    padded = sentences.padded(rows)
    assert padded["input_ids"].shape == (5, sentences.lengths[rows].max())
    np.testing.assert_array_equal(padded["attention_mask"].sum(axis=1), sentences.lengths[rows])
    first = sentences.first(3)
    assert (len(first), first.texts) == (3, sentences.texts[:3])


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"text": None}, "no test split of sentences"),
        ({"input_ids": np.zeros((20, 5), dtype=np.int64)}, "'input_ids' must be int32"),
        ({"input_ids": np.zeros((20, 17), dtype=np.int32)}, "'input_ids' must have shape (20, 1 to 16)"),
        ({"input_ids": np.full((20, 5), -1, dtype=np.int32)}, "'input_ids' must be at least 0"),
        ({"attention_mask": np.ones((20, 3), dtype=np.uint8)}, "'attention_mask' must be 1 at every token"),
        ({"attention_mask": np.zeros((20, 10), dtype=np.uint8)}, "'attention_mask' must be 1 at every token"),
        ({"text_ends": np.arange(20, dtype=np.int64)}, "'text_ends' must rise to"),
        ({"input": np.zeros((19, 5), dtype=np.float32)}, "(19, 1 to 16)"),
    ],
)
def test_a_split_that_does_not_fit_is_refused(
    changed: Arrays, rule: str, arrays: Arrays, manifest: Manifest, tmp_path: Path
) -> None:
    kept = {name: value for name, value in (arrays | changed).items() if value is not None}
    np.savez(tmp_path / EVAL_FILE, **kept)
    with pytest.raises(ArtifactError) as refused:
        load_sentences(tmp_path / EVAL_FILE, manifest)
    assert rule in str(refused.value)


def test_a_text_too_few_is_refused(arrays: Arrays, manifest: Manifest, tmp_path: Path) -> None:
    ends = arrays["text_ends"]
    np.savez(tmp_path / EVAL_FILE, **(arrays | {"text_ends": ends[1:]}))
    with pytest.raises(ArtifactError, match="a text for each of 20 samples, not 19"):
        load_sentences(tmp_path / EVAL_FILE, manifest)


def test_another_tokenizer_is_noticed(
    bundle: Path, manifest: Manifest, sentences: Sentences, tmp_path: Path
) -> None:
    content = json.loads((bundle / TOKENIZER_FILE).read_text())
    words = content["model"]["vocab"]
    words["the"], words["a"] = words["a"], words["the"]
    (tmp_path / TOKENIZER_FILE).write_text(json.dumps(content))
    (problem,) = problems_of_tokenizer(tmp_path / TOKENIZER_FILE, sentences, manifest)
    assert "of 20 sentences, first for number" in problem


def test_a_split_with_other_features_keeps_the_rest(bundle: Path, arrays: Arrays, tmp_path: Path) -> None:
    features = arrays["input"] + np.float32(1.0)
    for name in ("one.npz", "two.npz"):
        write_split(bundle / EVAL_FILE, tmp_path / name, features)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz") as written:
        assert list(written) == list(arrays)
        for name, value in (arrays | {"input": features}).items():
            np.testing.assert_array_equal(written[name], value)
