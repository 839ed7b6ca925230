"""Sentences beside the features of a text link, and tables of sentences: what is wrong is named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from tools.tiny_bundle import CLASSES, word_features
from twophase.link.errors import ArtifactError, InputError
from twophase.link.manifest import load_manifest
from twophase.link.samples import load_samples
from twophase.link.sentences import read_csv
from twophase.link.text import pack_texts
from twophase.sim.baselines.text_source import messages_of
from twophase.sim.front import csv_samples

SHAPE = (CLASSES + 1,)
NAMES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def arrays(text_bundle: Path) -> dict[str, np.ndarray]:
    with np.load(text_bundle / "eval.npz") as archive:
        return {name: archive[name] for name in archive.files}


def test_the_sentences_are_read_with_what_others_decide(text_bundle: Path, arrays) -> None:
    samples = load_samples(text_bundle / "eval.npz", SHAPE, CLASSES)
    assert samples.sentences is not None
    assert len(samples.sentences.texts) == len(samples.labels) == 240
    assert pack_texts(samples.sentences.texts)[0].tobytes() == arrays["text"].tobytes()
    assert np.array_equal(samples.sentences.tfidf, arrays["tfidf"])
    assert samples.sentences.without_link.dtype == np.int64
    assert len(messages_of(samples.sentences)) == 240
    assert np.array_equal(samples.features, word_features(arrays["input_ids"], arrays["attention_mask"]))


def test_features_alone_have_no_sentences(arrays, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", input=arrays["input"], label=arrays["label"])
    assert load_samples(tmp_path / "data.npz", SHAPE, CLASSES).sentences is None


def _mask_with_a_hole(mask: np.ndarray) -> np.ndarray:
    holed = mask.copy()
    holed[0, 1] = 0
    return holed


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tfidf", None, "'data' must hold 'tfidf' beside 'input_ids'"),
        ("input_ids", None, "'data' must hold 'input_ids' beside 'attention_mask'"),
        ("without_link", lambda a: a + CLASSES, r"'without_link' must lie in 0\.\.3, not"),
        ("tfidf", lambda a: a.astype(float), "'tfidf' must be integers, not 'float64'"),
        ("tfidf", lambda a: a[:-1], r"'tfidf' must have shape \(240,\), one per sample, not \(239,\)"),
        ("input_ids", lambda a: a[:-1], r"'input_ids' must have shape \(240, tokens\)"),
        ("input_ids", lambda a: -a, "'input_ids' must be at least 0"),
        ("input_ids", lambda a: a.astype(float), "'input_ids' must be integers"),
        ("attention_mask", lambda a: a[:, :-1], "'attention_mask' must have shape .*, as 'input_ids'"),
        ("attention_mask", _mask_with_a_hole, "'attention_mask' must be ones, then zeros, in each row"),
        ("attention_mask", lambda a: 2 * a, "'attention_mask' must be ones, then zeros, in each row"),
        ("text", lambda a: a.astype(np.int64), "'text' must be bytes"),
        ("text", lambda a: a[:-1], "'text_ends' must rise to"),
        ("text", lambda a: np.full_like(a, 0xFF), "'text' must be UTF-8"),
        (
            "text",
            lambda a: np.full_like(a, 0x20),
            r"'text' must hold no empty sentence, not 'one \(sentence 0",
        ),
        ("text_ends", lambda a: a[:-1], r"'text_ends' must have shape \(240,\)"),
        ("huffman_lengths", lambda a: a[:-1], r"'huffman_lengths' must be integers, shape \(256,\)"),
        ("huffman_lengths", lambda a: a * 0, r"'huffman_lengths' must lie in 1\.\.64, not 0"),
        (
            "huffman_lengths",
            lambda a: a * 0 + 7,
            "'huffman_lengths' must satisfy Kraft's inequality.*not 2.0",
        ),
    ],
)
def test_bad_arrays_are_named(arrays, name: str, change, message: str, tmp_path: Path) -> None:
    changed = dict(arrays)
    if change is None:
        del changed[name]
    else:
        changed[name] = change(arrays[name])
    np.savez(tmp_path / "data.npz", **changed)
    with pytest.raises(InputError, match=message) as caught:
        load_samples(tmp_path / "data.npz", SHAPE, CLASSES)
    assert "\n" not in str(caught.value)


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
    ("content", "message"),
    [
        ("", r"'data' must have one column 'text' \(line 1\), not ''"),
        ("text,class\nfine,a\n", r"'data' must have one column 'label' \(line 1\), not 'text,class'"),
        ("text,text,label\nx,y,a\n", r"'data' must have one column 'text' \(line 1\)"),
        ("text,label\n", "'data' must hold at least one sentence"),
        ("text,label\nfine,a\n  ,b\n", r"'text' must not be empty \(line 3\), not '  '"),
        ('text,label\n"two\nlines",a\nx,e\n', r"'label' must be 'a', .* in 0\.\.3 \(line 4\), not 'e'"),
        (
            "text,label\nx,4\n",
            r"'label' must be 'a', 'b', 'c', 'd' or a number in 0\.\.3 \(line 2\), not '4'",
        ),
        ("text,label\nx,-1\n", r"\(line 2\), not '-1'"),
        ("text,label\nx\n", r"'data' must have 2 fields in line 2, not 1"),
        ('text,label\n"x,a\n', "'data' must be a table of comma-separated values"),
    ],
)
def test_a_bad_table_is_named_with_its_line(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_csv(_table(tmp_path / "data.csv", content), NAMES)
    assert "\n" not in str(caught.value)


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"data\.csv' is missing"):
        read_csv(tmp_path / "data.csv", NAMES)
    with pytest.raises(ArtifactError, match=r"data\.csv' must be in UTF-8; line 2 is not"):
        read_csv(_table(tmp_path / "data.csv", b"text,label\ncaf\xe9,a\n"), NAMES)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ArtifactError, match=r"folder\.csv' cannot be read: Is a directory"):
        read_csv(tmp_path / "folder.csv", NAMES)


def test_sentences_of_a_table_go_through_the_whole_graph(
    text_bundle: Path, arrays, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = load_manifest(text_bundle, "bundle")
    samples = load_samples(text_bundle / "eval.npz", SHAPE, CLASSES)
    assert samples.sentences is not None
    long = "film " * 10_000
    rows = [f'"{samples.sentences.texts[n]}",{NAMES[samples.labels[n]]}' for n in range(5)]
    path = _table(tmp_path / "mine.csv", "\n".join(["text,label", *rows, f"{long},a"]))
    read = load_samples(path, SHAPE, CLASSES, csv_samples(text_bundle, manifest, path))
    assert np.array_equal(read.features[:5], samples.features[:5])
    assert np.array_equal(read.labels[:5], samples.labels[:5])
    assert np.isfinite(read.features).all()
    assert read.sentences is None
    assert "1 of 1 texts cut to 16 tokens" in caplog.text


def test_a_link_of_features_takes_no_table(bundle: Path, tmp_path: Path) -> None:
    path = _table(tmp_path / "mine.csv", "text,label\nfine,a\n")
    with pytest.raises(InputError, match=r"'data' must be an \.npz of features: this link takes no text"):
        csv_samples(bundle, load_manifest(bundle, "bundle"), path)


def test_what_a_table_becomes_is_an_archive_in_memory(text_bundle: Path, tmp_path: Path) -> None:
    path = _table(tmp_path / "mine.csv", "text,label\na superb film,d\n")
    content = csv_samples(text_bundle, load_manifest(text_bundle, "bundle"), path)
    with np.load(io.BytesIO(content)) as archive:
        assert sorted(archive.files) == ["input", "label"]
