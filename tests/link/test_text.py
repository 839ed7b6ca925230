"""Texts to token ids: what the tokenizers library gives, and what is refused or cut."""

import logging
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers

from tools.tiny_text import WORDS, sentences, write_tokenizer
from twophase.link.errors import ArtifactError, InputError, PackageError
from twophase.link.text import TextEncoder, pack_texts, unpack_texts

CUT = 12


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("text") / "tokenizer.json")


@pytest.fixture
def encoder(file):
    return TextEncoder(file, CUT)


def ids_of(*words):
    return [WORDS.index(word) for word in words]


def test_ids_equal_the_librarys_own_whatever_padding_and_truncation_the_file_asks_for(file, tmp_path):
    own = Tokenizer.from_file(str(file))
    own.no_padding()
    texts = [text for text in sentences([0, 1, 2, 3, 4] * 8, np.random.default_rng(0)) if text]
    other = Tokenizer.from_file(str(file))
    other.enable_padding(length=40, pad_id=1, pad_token="[PAD]")
    other.enable_truncation(4)
    other.save(str(tmp_path / "other.json"))
    for path in (file, tmp_path / "other.json"):
        encoder = TextEncoder(path, 64)
        for text, (ids, mask) in zip(texts, encoder.encode_each(texts), strict=True):
            assert ids.tolist() == [own.encode(text).ids]
            assert mask.tolist() == [[1] * ids.size]
            assert (ids.dtype, mask.dtype) == (np.int64, np.int64)
        assert encoder.cut == 0


def test_a_batch_is_filled_with_the_id_for_padding_where_the_mask_is_zero(encoder):
    ids, mask = encoder.encode_all(["a \U0001f3ac", "The PLOT  of\ta story"])
    assert (ids.dtype, mask.dtype) == (np.int32, np.uint8)
    assert ids.tolist() == [
        ids_of("[CLS]", "a", "[UNK]", "[SEP]", *["[PAD]"] * 3),
        ids_of("[CLS]", "the", "plot", "of", "a", "story", "[SEP]"),
    ]
    assert mask.tolist() == [[1] * 4 + [0] * 3, [1] * 7]
    assert [array.shape for array in encoder.encode_all([])] == [(0, 0)] * 2


@pytest.mark.parametrize(
    ("vocabulary", "padding", "expected"),
    [
        ({"a": 0, "b": 1, "[PAD]": 2}, None, 2),
        ({"a": 0, "b": 1, "[PAD]": 2}, 1, 1),
        ({"a": 1, "b": 0}, None, 0),
    ],
)
def test_the_id_for_padding_is_the_files_or_that_of_a_known_token(tmp_path, vocabulary, padding, expected):
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    if padding is not None:
        tokenizer.enable_padding(pad_id=padding, pad_token="b")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert TextEncoder(tmp_path / "tokenizer.json", 8).pad_id == expected


def test_texts_that_are_cut_are_counted_and_logged_once_a_call(encoder, caplog):
    exact, longer = "film " * (CUT - 2), "film " * 10_000
    with caplog.at_level(logging.WARNING):
        encoder.encode(exact)
        assert not caplog.records
        ids, _ = encoder.encode_all([longer, "film", "film " * (CUT - 1), exact])
        encoder.encode(longer)
    assert ids.shape == (4, CUT)
    assert ids[0].tolist() == ids_of("[CLS]", *["film"] * (CUT - 2), "[SEP]")
    logged = [record.getMessage() for record in caplog.records]
    assert logged == [f"2 of 4 texts cut to {CUT} tokens", f"1 of 1 texts cut to {CUT} tokens"]
    assert encoder.cut == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" \t\n\u2003", "'text' must be a non-empty string"),
        (b"film", "'text' must be a non-empty string, not 'bytes'"),
        ("\udc80" * 10_000, r"'text' must be text that UTF-8 can hold, not '(.udc80){37}\.\.\.'"),
    ],
)
def test_what_is_no_text_is_refused_in_one_short_line(encoder, text, message):
    with pytest.raises(InputError, match=f"^{message}") as caught:
        encoder.encode(text)
    said = str(caught.value)
    assert "\n" not in said
    said.encode()  # it can be printed
    for encode in (encoder.encode_each, encoder.encode_all):
        with pytest.raises(InputError, match=r"^'text\[1\]' must be "):
            encode(["film", text])


def test_special_tokens_alone_are_no_text(tmp_path):
    tokenizer = Tokenizer.from_file(str(write_tokenizer(tmp_path / "tokenizer.json")))
    tokenizer.normalizer = normalizers.Replace("\u200b", "")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = TextEncoder(tmp_path / "tokenizer.json", CUT)
    with pytest.raises(InputError, match=r"'text\[1\]' must hold something that the tokenizer knows"):
        encoder.encode_each(["film", "\u200b"])


def test_a_tokenizer_that_fails_or_gives_nothing_is_named(tmp_path):
    path = tmp_path / "tokenizer.json"
    Tokenizer(models.BPE({"a": 0}, [])).save(str(path))
    assert TextEncoder(path, 8).encode("bab")[0].tolist() == [[0]]
    with pytest.raises(InputError, match="'text' must hold something that the tokenizer knows, not 'b'"):
        TextEncoder(path, 8).encode("b")
    Tokenizer(models.WordLevel({"a": 0})).save(str(path))
    with pytest.raises(ArtifactError, match=r"tokenizer\.json' cannot encode 'b': WordLevel error"):
        TextEncoder(path, 8).encode("b")


def test_room_must_be_left_next_to_the_special_tokens(file):
    assert TextEncoder(file, 3).encode("a film")[0].tolist() == [ids_of("[CLS]", "a", "[SEP]")]
    with pytest.raises(InputError, match="'max_length' must be at least 3 for this tokenizer, not 2"):
        TextEncoder(file, 2)


def test_another_file_is_no_tokenizer(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(ArtifactError, match=r"tokenizer\.json' is missing"):
        TextEncoder(path, 8)
    for content in (b"\xff\xfe", b'{"model": 3}'):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"tokenizer\.json' is no tokenizer: ") as caught:
            TextEncoder(path, 8)
        assert "\n" not in str(caught.value)


def test_without_the_package_it_says_what_to_install(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(PackageError, match=r"'tokenizers': pip install '\.\[text\]'"):
        TextEncoder(file, 8)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_texts_in_arrays_come_back(texts):
    content, ends = pack_texts(texts)
    assert (content.dtype, ends.dtype, ends.shape) == (np.uint8, np.int64, (len(texts),))
    assert content.tobytes() == "".join(texts).encode()
    assert unpack_texts(content, ends) == tuple(texts)


@pytest.mark.parametrize(
    ("content", "ends", "message"),
    [
        (np.zeros(3, np.int8), [3], "'text' must be bytes in one row, not 'int8"),
        (np.zeros((1, 3), np.uint8), [3], "'text' must be bytes in one row"),
        (np.zeros(3, np.uint8), [3.0], "'text_ends' must be whole numbers in one row, not 'float64"),
        (np.zeros(3, np.uint8), [[3]], "'text_ends' must be whole numbers in one row"),
        (np.zeros(3, np.uint8), [2, 1, 3], "'text_ends' must rise to 3, the number of bytes"),
        (np.zeros(3, np.uint8), [1, 2], "'text_ends' must rise to 3, the number of bytes, not 2"),
        (np.zeros(3, np.uint8), [-1, 3], "'text_ends' must rise to 3"),
        (np.frombuffer("ü".encode(), np.uint8), [1, 2], "'text' must be UTF-8"),
    ],
)
def test_other_arrays_are_refused(content, ends, message):
    with pytest.raises(InputError, match=message):
        unpack_texts(content, np.array(ends))


def test_a_lone_surrogate_is_not_packed():
    with pytest.raises(InputError, match="'texts' must be text that UTF-8 can hold"):
        pack_texts(["fine", "half \ud83d"])
