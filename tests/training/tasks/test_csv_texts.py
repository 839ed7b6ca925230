"""A CSV file gives its texts, or one line that names file, line and rule."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from twophase.link.errors import ArtifactError, InputError
from twophase.training.data import TextTask
from twophase.training.tasks import load_task

GOOD = [f"sentence {number},{'good' if number % 2 else 'bad'}" for number in range(40)]
SPLIT = [f"{row},{part}" for row, part in zip(GOOD, ["train"] * 30 + ["test", "validation"] * 5, strict=True)]


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


def load(path: Path) -> TextTask:
    task = load_task("csv", path)
    assert isinstance(task, TextTask)
    return task


def test_rows_are_drawn_where_the_file_states_no_split(tmp_path: Path) -> None:
    path = write(tmp_path / "own.csv", "text,label", *GOOD)
    task = load(path)
    assert task.classes == ("bad", "good")
    assert [len(part) for part in (task.train, task.validation, task.test)] == [32, 4, 4]
    said = [*task.train.texts, *task.validation.texts, *task.test.texts]
    assert sorted(said) == sorted(row.partition(",")[0] for row in GOOD)
    for text, label in zip(task.train.texts, task.train.labels.tolist(), strict=True):
        assert label == int(text.split()[1]) % 2
    assert task.test.labels.tolist().count(0) == 2
    assert load(path).test.texts == task.test.texts


def test_a_stated_split_is_taken(tmp_path: Path) -> None:
    task = load(write(tmp_path / "own.csv", "text,label,split", *SPLIT))
    assert task.train.texts == tuple(f"sentence {number}" for number in range(30))
    assert task.test.texts == tuple(f"sentence {number}" for number in range(30, 40, 2))


def test_what_spreadsheets_write_is_read(tmp_path: Path) -> None:
    """A byte order mark, another order of columns, quotes, line breaks, blanks at labels, blank lines."""
    rows = [f'{"yes " if number % 2 else " no"},"line {number},\n ""quoted"" ü "' for number in range(30)]
    path = write(tmp_path / "own.csv", "label,text", "", *rows, "", encoding="utf-8-sig")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    task = load(path)
    assert task.classes == ("no", "yes")
    assert 'line 7,\r\n "quoted" ü ' in {*task.train.texts, *task.validation.texts, *task.test.texts}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], "have a line of column names and rows below it ('PATH'), not 'an empty file'"),
        (["text,label"], "have a line of column names and rows below it ('PATH'), not 'an empty file'"),
        (["text,class", *GOOD], "with them ('PATH'), not 'text,class'"),
        (["text,label,Split", *SPLIT], "with them ('PATH'), not 'text,label,Split'"),
        (["text,label,text", *SPLIT], "with them ('PATH'), not 'text,label,text'"),
        (GOOD, "with them ('PATH'), not 'sentence 0,bad'"),
        (["text,label", *GOOD, "more,good,bad"], "have 2 fields in each row ('PATH', line 42), not 3"),
        (["text,label", "", *GOOD, "less"], "have 2 fields in each row ('PATH', line 43), not 1"),
        (["text,label", *GOOD, " ,good"], "have a text in each row ('PATH', line 42), not ' '"),
        (["text,label", *GOOD, "unlabelled,"], "have a label in each row ('PATH', line 42), not ''"),
        (["text,label", '"a\nb",good', *GOOD, ",bad"], "have a text in each row ('PATH', line 44), not ''"),
        (["text,label", *GOOD[::2]], "have at least 2 classes ('PATH'), not ('bad',)"),
        (["text,label", *GOOD[:25]], None),
        (["text,label", *GOOD[:19]], "have at least 10 rows of each class ('PATH'), not '9 of good'"),
        (
            ["text,label", *GOOD, '"open,good', "x,bad"],
            "be CSV ('PATH', line 42), not 'unexpected end of data'",
        ),
        (["text,label", *GOOD, "a\0b,bad"], "be text without NUL bytes ('PATH', line 42), not '\\x00'"),
        (
            ["text,label,split", *SPLIT, "x,bad,dev"],
            "have train, validation, test as split ('PATH', line 42), not 'dev'",
        ),
        (["text,label,split", *SPLIT, "x,bad,"], "have a split in each row ('PATH', line 42), not ''"),
        (
            ["text,label,split", *SPLIT[:30]],
            "for each of train, validation, test ('PATH'), not 'none for validation'",
        ),
        (
            ["text,label,split", *SPLIT, "x,new,test"],
            "labels that its training rows have, too ('PATH', line 42), not 'new'",
        ),
    ],
)
def test_what_breaks_a_rule_is_named(tmp_path: Path, lines: list[str], message: str | None) -> None:
    path = write(tmp_path / "own.csv", *lines)
    if message is None:
        assert len(load(path).train) == 19
        return
    with pytest.raises(InputError) as caught:
        load(path)
    assert str(caught.value).startswith("'data' must ")
    assert str(caught.value).endswith(message.replace("PATH", str(path)))
    assert "\n" not in str(caught.value)


def test_a_text_may_be_as_long_as_it_likes(tmp_path: Path) -> None:
    book = "word " * 40_000
    task = load(write(tmp_path / "own.csv", "text,label", *GOOD, f"{book},good"))
    assert book in {*task.train.texts, *task.validation.texts, *task.test.texts}
    assert csv.field_size_limit() < len(book)  # of the process, which may read other files


def test_another_encoding_is_named_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "own.csv", "text,label", *GOOD, "schön,good", encoding="latin-1")
    place = path.read_bytes().index("ö".encode("latin-1"))
    with pytest.raises(InputError) as caught:
        load(path)
    assert f"be UTF-8 ('{path}', line 42, byte {place}), not b'\\xf6'" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"own\.csv' is missing"):
        load(tmp_path / "own.csv")
    with pytest.raises(ArtifactError, match="cannot be read"):
        load(tmp_path)
