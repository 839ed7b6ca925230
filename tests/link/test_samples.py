"""Samples and sentences of a split, and tables of sentences: what is wrong is named in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools.tiny_bundle import CLASSES, word_features, write_tiny_bundle
from twophase.link.errors import ArtifactError, InputError, LinkError
from twophase.link.samples import load_samples
from twophase.link.sentences import read_csv
from twophase.link.text import pack_texts

SHAPE = (CLASSES + 1,)
NAMES = ("a", "b", "c", "d")
SENTENCES = 24
GOOD = {"input": np.zeros((3, 5), np.float32), "label": np.array([0, 1, 3])}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a text task."""
    folder = write_tiny_bundle(tmp_path_factory.mktemp("text") / "bundle", text=True, samples=SENTENCES)
    return folder / "eval.npz"


@pytest.fixture(scope="module")
def arrays(split: Path) -> dict[str, np.ndarray]:
    with np.load(split) as archive:
        return {name: archive[name] for name in archive.files}


def _refused(path: Path, arrays: dict[str, Any], name: str, value: Any, rule: str) -> None:
    """With another value in place of one array, or without that array."""
    changed = arrays | {name: value}
    np.savez(path, **{key: held for key, held in changed.items() if held is not None})
    with pytest.raises(InputError, match=f"^'{rule}") as caught:
        load_samples(path, SHAPE, CLASSES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("input", None, "data' must hold the arrays 'input' and 'label', not 'label"),
        ("input", np.zeros((3, 4)), r"input' must have shape \(samples, 5\), not \(3, 4\)"),
        ("input", np.float32(1), "input' must have shape"),
        ("input", np.zeros((0, 5)), "input' must hold at least one sample"),
        ("input", np.full((3, 5), 1e300), "input' must be finite, not .*sample 0"),
        ("input", np.zeros((3, 5), complex), "input' must be numbers, not 'complex128'"),
        ("label", np.array([0.0, 1.0, 2.0]), "label' must be integers, not 'float64'"),
        ("label", np.array([0, 1]), r"label' must have shape \(3,\)"),
        ("label", np.array([0, 1, 4]), r"label' must lie in 0\.\.3, not 4"),
        ("label", np.array([0, -1, 2]), r"label' must lie in 0\.\.3, not -1"),
    ],
)
def test_bad_samples_are_named(name: str, value: Any, rule: str, tmp_path: Path) -> None:
    _refused(tmp_path / "data.npz", GOOD, name, value, rule)


@pytest.mark.parametrize("kind", ["text", "array", "pickle", "truncated", "damaged"])
def test_what_is_no_archive_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, input=np.random.default_rng(0).random((300, 5)), label=np.zeros(300, int))
    content = path.read_bytes()
    if kind == "array":
        with path.open("wb") as stream:
            np.save(stream, GOOD["input"])
    elif kind == "pickle":
        np.savez(path, input=np.array([{}], dtype=object), label=GOOD["label"])
    else:
        altered = {"truncated": content[:-60], "damaged": content[:200] + bytes(60) + content[260:]}
        path.write_bytes(altered.get(kind, b"one,two\n"))
    with pytest.raises(ArtifactError, match=r"data\.npz' is no readable \.npz archive") as caught:
        load_samples(path, SHAPE, CLASSES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [load_samples, lambda path, *_: read_csv(path, NAMES)], ids=["npz", "csv"])
def test_what_cannot_be_read_is_named(read: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"data' is missing"):
        read(tmp_path / "data", SHAPE, CLASSES)
    with pytest.raises(ArtifactError, match="cannot be read: Is a directory"):
        read(tmp_path, SHAPE, CLASSES)


def test_sentences_are_read_with_what_others_decide(split: Path, arrays, tmp_path: Path) -> None:
    samples = load_samples(split, SHAPE, CLASSES)
    assert samples.sentences is not None
    assert len(samples.sentences.texts) == len(samples.labels) == SENTENCES
    assert pack_texts(samples.sentences.texts)[0].tobytes() == arrays["text"].tobytes()
    assert np.array_equal(samples.sentences.tfidf, arrays["tfidf"])
    assert samples.sentences.without_link.dtype == np.int64
    assert np.array_equal(samples.features, word_features(arrays["input_ids"], arrays["attention_mask"]))
    np.savez(tmp_path / "data.npz", **GOOD)
    assert load_samples(tmp_path / "data.npz", SHAPE, CLASSES).sentences is None


def _mask_with_a_hole(mask: np.ndarray) -> np.ndarray:
    holed = mask.copy()
    holed[0, 1] = 0
    return holed


@pytest.mark.parametrize(
    ("name", "change", "rule"),
    [
        ("tfidf", lambda a: None, "data' must hold 'tfidf' beside 'input_ids'"),
        ("input_ids", lambda a: None, "data' must hold 'input_ids' beside 'attention_mask'"),
        ("without_link", lambda a: a + CLASSES, r"without_link' must lie in 0\.\.3, not"),
        ("without_link", lambda a: a - CLASSES, r"without_link' must lie in 0\.\.3, not"),
        ("tfidf", lambda a: a.astype(float), "tfidf' must be integers"),
        ("tfidf", lambda a: a[:-1], rf"tfidf' must have shape \({SENTENCES},\)"),
        ("input_ids", lambda a: a[:-1], rf"input_ids' must have shape \({SENTENCES}, tokens\)"),
        ("input_ids", lambda a: -a, "input_ids' must be at least 0"),
        ("input_ids", lambda a: a.astype(float), "input_ids' must be integers"),
        ("attention_mask", lambda a: a[:, :-1], "attention_mask' must have shape"),
        ("attention_mask", _mask_with_a_hole, "attention_mask' must be ones, then zeros"),
        ("attention_mask", lambda a: 2 * a, "attention_mask' must be ones, then zeros"),
        ("text", lambda a: np.full_like(a, 0xFF), "text' must be UTF-8"),
        ("text", lambda a: np.full_like(a, 0x20), r"text' must hold no empty sentence, not '.*sentence 0"),
        ("text_ends", lambda a: a[:-1], rf"text_ends' must have shape \({SENTENCES},\)"),
        ("huffman_lengths", lambda a: a[:-1], r"huffman_lengths' must be integers, shape \(256,\)"),
        ("huffman_lengths", lambda a: a * 0, r"huffman_lengths' must lie in 1\.\.64, not 0"),
        ("huffman_lengths", lambda a: a * 0 + 65, r"huffman_lengths' must lie in 1\.\.64, not 65"),
        ("huffman_lengths", lambda a: a * 0 + 7, "huffman_lengths' must satisfy Kraft's.*not 2.0"),
    ],
)
def test_bad_sentences_are_named(arrays, name: str, change, rule: str, tmp_path: Path) -> None:
    _refused(tmp_path / "data.npz", arrays, name, change(arrays[name]), rule)


def _table(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_table_names_classes_or_numbers_them(tmp_path: Path) -> None:
    content = '\ufefflabel,id,text\r\nb,1,"One, two\nand three"\r\n\r\n3,2,café\r\n'
    texts, labels = read_csv(_table(tmp_path / "data.csv", content), NAMES)
    assert texts == ("One, two\nand three", "café")
    assert labels.tolist() == [1, 3]
    # A class that is called by a digit is meant by it.
    _, labels = read_csv(_table(tmp_path / "data.csv", "text,label\nx,1\n"), ("1", "0"))
    assert labels.tolist() == [0]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("", r"'data' must have one column 'text' \(line 1\), not ''"),
        ("text,class\nfine,a\n", r"'data' must have one column 'label' \(line 1\)"),
        ("text,text,label\nx,y,a\n", r"'data' must have one column 'text' \(line 1\)"),
        ("text,label\n", "'data' must hold at least one sentence"),
        ("text,label\nfine,a\n  ,b\n", r"'text' must not be empty \(line 3\)"),
        ('text,label\n"two\nlines",a\nx,e\n', r"'label' must be 'a', .* in 0\.\.3 \(line 4\), not 'e'"),
        ("text,label\nx,4\n", r"'label' must be .* in 0\.\.3 \(line 2\), not '4'"),
        ("text,label\nx,-1\n", r"'label' must be .*\(line 2\), not '-1'"),
        ("text,label\nx\n", r"'data' must have 2 fields in line 2, not 1"),
        ('text,label\n"x,a\n', "'data' must be a table of comma-separated values"),
        (b"text,label\ncaf\xe9,a\n", r"'.*data\.csv' must be in UTF-8; line 2 is not"),
    ],
)
def test_a_bad_table_is_named_with_its_line(content: str | bytes, rule: str, tmp_path: Path) -> None:
    with pytest.raises(LinkError, match=f"^{rule}") as caught:
        read_csv(_table(tmp_path / "data.csv", content), NAMES)
    assert "\n" not in str(caught.value)
