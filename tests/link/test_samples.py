"""Samples and sentences of a split, and tables of sentences: what is wrong is named in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools.tiny_bundle import CLASSES, word_features, write_tiny_bundle
from twophase.link.errors import ArtifactError, InputError
from twophase.link.manifest import Manifest, load_manifest
from twophase.link.rows import Rows, as_known, label_numbers
from twophase.link.samples import load_samples
from twophase.link.sentences import read_csv
from twophase.link.text import pack_texts

NAMES = ("a", "b", "c", "d")
SENTENCES = 24
GOOD = {"input": np.zeros((3, 5), np.float32), "label": np.array([0, 1, 3])}


@pytest.fixture(scope="module")
def manifest(split: Path) -> Manifest:
    return load_manifest(split.parent, "bundle")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a text task."""
    folder = write_tiny_bundle(tmp_path_factory.mktemp("text") / "bundle", text=True, samples=SENTENCES)
    return folder / "eval.npz"


@pytest.fixture(scope="module")
def arrays(split: Path) -> dict[str, np.ndarray]:
    with np.load(split) as archive:
        return {name: archive[name] for name in archive.files}


def _refused(
    path: Path, manifest: Manifest, arrays: dict[str, Any], name: str, value: Any, rule: str
) -> None:
    """With another value in place of one array, or without that array."""
    changed = arrays | {name: value}
    np.savez(path, **{key: held for key, held in changed.items() if held is not None})
    with pytest.raises(InputError, match=f"^'{rule}") as caught:
        load_samples(path, manifest)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("input", None, "data' must hold the arrays 'input' and 'label', not 'label"),
        ("input", np.zeros((3, 4)), r"input' must have shape \(samples, 5\), not \(3, 4\)"),
        ("input", np.float32(1), "input' must have shape"),
        ("input", np.zeros((0, 5)), "input' must hold at least one sample"),
        ("input", np.full((3, 5), 1e300), "input' must be finite"),
        ("input", np.zeros((3, 5), complex), "input' must be real numbers, not 'an array of complex128'"),
        ("input", np.zeros((3, 5), np.uint8), "input' must be in the units of the training data"),
        ("label", np.array([0.5, 1.0, 2.0]), "data' must have as label whole numbers .*row 0"),
        ("label", np.array([0, 1]), r"label' must have shape \(3,\)"),
        ("label", np.array([0, 1, 4]), "data' must have as labels the link's classes: 'a', .*row 2"),
    ],
)
def test_bad_samples_are_named(name: str, value: Any, rule: str, manifest: Manifest, tmp_path: Path) -> None:
    _refused(tmp_path / "data.npz", manifest, GOOD, name, value, rule)


@pytest.mark.parametrize("kind", ["text", "array", "pickle", "truncated", "damaged"])
def test_what_is_no_archive_is_named(kind: str, manifest: Manifest, tmp_path: Path) -> None:
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
        load_samples(path, manifest)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [load_samples, lambda path, *_: read_csv(path, NAMES)], ids=["npz", "csv"])
def test_what_cannot_be_read_is_named(read: Callable[..., Any], manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"data' is missing"):
        read(tmp_path / "data", manifest)
    with pytest.raises(ArtifactError, match="cannot be read: Is a directory"):
        read(tmp_path, manifest)


def test_sentences_are_read_with_what_others_decide(
    split: Path, arrays, manifest: Manifest, tmp_path: Path
) -> None:
    samples = load_samples(split, manifest)
    assert samples.sentences is not None
    assert len(samples.sentences.texts) == len(samples.labels) == SENTENCES
    assert pack_texts(samples.sentences.texts)[0].tobytes() == arrays["text"].tobytes()
    assert np.array_equal(samples.sentences.tfidf, arrays["tfidf"])
    assert samples.sentences.without_link.dtype == np.int64
    assert np.array_equal(samples.features, word_features(arrays["input_ids"], arrays["attention_mask"]))
    np.savez(tmp_path / "data.npz", **GOOD)
    assert load_samples(tmp_path / "data.npz", manifest).sentences is None


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
def test_bad_sentences_are_named(
    arrays, name: str, change, rule: str, manifest: Manifest, tmp_path: Path
) -> None:
    _refused(tmp_path / "data.npz", manifest, arrays, name, change(arrays[name]), rule)


def _table(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


def test_a_table_names_classes_or_numbers_them(tmp_path: Path) -> None:
    content = '\ufefflabel,id,text\r\nb,1,"One, two\nand three"\r\n\r\n3,2,café\r\n'
    texts, labels = read_csv(_table(tmp_path / "data.csv", content), NAMES)
    assert texts == ("One, two\nand three", "café")
    assert labels.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("classes", "label", "named", "expected"),
    [
        (NAMES, [0, 3], None, [0, 3]),
        (NAMES, [0.0, 3.0], None, [0, 3]),
        (NAMES, [" d", "a "], None, [3, 0]),
        (NAMES, ["2", "b"], None, [2, 1]),
        (("e\u0301", "b"), ["\u00e9", "b"], None, [0, 1]),
        (("1", "2", "3"), [1, 3], None, [0, 2]),  # a class that is called by a digit is meant by it
        (("1", "2", "3"), [0, 2], ["1", "2", "3"], [0, 2]),  # as an eval.npz has them
        (NAMES, [0, 1], ["d", "a"], [3, 0]),
        (NAMES, [4, 0], None, None),
        (NAMES, ["a", "e"], None, None),
        (("1", "2", "3"), [0, 1], None, None),
        (NAMES, [0.5, 1], None, None),
        (NAMES, [np.nan, 1], None, None),
    ],
)
def test_labels_are_names_or_numbers_by_one_rule(classes, label, named, expected) -> None:
    rows = Rows(Path("mine"), "row", range(2))

    def read() -> list[int]:
        found = label_numbers(rows, np.array(label), None if named is None else np.array(named))
        return as_known(rows, *found, classes).tolist()

    if expected is None:
        with pytest.raises(InputError, match=r"^'data' must have .*label.*mine', row [01]"):
            read()
    else:
        assert read() == expected


def test_of_a_stated_split_the_test_part_is_read(manifest: Manifest, tmp_path: Path) -> None:
    parts = ["train", "test ", "validation"]
    np.savez(tmp_path / "data.npz", **GOOD, split=np.array(parts))
    assert load_samples(tmp_path / "data.npz", manifest).labels.tolist() == [1]
    table = _table(tmp_path / "data.csv", "text,label,split\nx,a,train\ny,b,test\n")
    assert read_csv(table, NAMES)[0] == ("y",)
    np.savez(tmp_path / "data.npz", **GOOD, split=np.array(["train"] * 3))
    with pytest.raises(InputError, match="hold at least one sample"):
        load_samples(tmp_path / "data.npz", manifest)
    with pytest.raises(InputError, match="have rows of the part test"):
        read_csv(_table(tmp_path / "data.csv", "text,label,split\nx,a,train\n"), NAMES)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("text,class\nfine,a\n", r"'data' must name a column label in its first line"),
        ("text,label\nfine,a\n  ,b\n", r"'data' must have a text in each row \(.*data\.csv', line 3\)"),
        ('text,label\n"two\nlines",a\nx,e\n', r"'data' must have as labels .*'d' \(.*line 4\), not 'e'"),
    ],
)
def test_a_bad_table_is_named_with_its_line(content: str, rule: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^{rule}") as caught:
        read_csv(_table(tmp_path / "data.csv", content), NAMES)
    assert "\n" not in str(caught.value)
