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
ROWS, STATED = ["text,label", *GOOD], ["text,label,split", *SPLIT]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "own.csv"


def load(path: Path, *lines: str, encoding: str = "utf-8") -> TextTask:
    if lines:
        path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return load_task("csv", path)


def all_of(task: TextTask) -> list[str]:
    return [*task.train.texts, *task.validation.texts, *task.test.texts]


def test_rows_are_drawn_where_the_file_states_no_split_and_taken_where_it_does(path: Path) -> None:
    task = load(path, *ROWS)
    assert task.classes == ("bad", "good")
    assert [len(part) for part in (task.train, task.validation, task.test)] == [32, 4, 4]
    assert sorted(all_of(task)) == sorted(row.partition(",")[0] for row in GOOD)
    for text, label in zip(task.train.texts, task.train.labels.tolist(), strict=True):
        assert label == int(text.split()[1]) % 2
    assert task.test.labels.tolist().count(0) == 2
    assert load(path).test.texts == task.test.texts
    stated = load(path, *STATED)
    assert stated.train.texts == tuple(f"sentence {number}" for number in range(30))
    assert stated.test.texts == tuple(f"sentence {number}" for number in range(30, 40, 2))


def test_what_spreadsheets_write_is_read(path: Path) -> None:
    """A byte order mark, another order of columns, quotes, line breaks, blanks at labels, blank lines."""
    rows = [f'{"yes " if number % 2 else " no"},"line {number},\n ""quoted"" ü "' for number in range(30)]
    load(path, "label,text", "", *rows, "", encoding="utf-8-sig")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    task = load(path)
    assert task.classes == ("no", "yes")
    assert 'line 7,\r\n "quoted" ü ' in all_of(task)


def test_a_text_may_be_as_long_as_it_likes_and_a_class_as_small_as_ten(path: Path) -> None:
    book = "word " * 40_000
    assert book in all_of(load(path, *ROWS, f"{book},good"))
    assert csv.field_size_limit() < len(book)  # of the process, which may read other files
    assert len(load(path, *ROWS[:26]).train) == 19


@pytest.mark.parametrize(
    ("lines", "place", "rule", "value"),
    [
        ([""], "", "column names and rows", "an empty file"),
        (["text", *GOOD], ", line 2", "1 fields", 2),
        (["text,class", *GOOD], "", "--ignore class", "class"),
        (["text,label,text", *SPLIT], "", "name each column once", "text,label,text"),
        ([*ROWS, "more,good,bad"], ", line 42", "2 fields", 3),
        (["text,label", "", *GOOD, "less"], ", line 43", "2 fields", 1),
        ([*ROWS, " ,good"], ", line 42", "a text in each row", " "),
        ([*ROWS, "unlabelled,"], ", line 42", "a label in each row", ""),
        (["text,label", '"a\nb",good', *GOOD, ",bad"], ", line 44", "a text in each row", ""),
        ([*ROWS, '"open,good', "x,bad"], ", line 42", "be CSV", "unexpected end of data"),
        ([*ROWS, "a\0b,bad"], ", line 42", "NUL", "\0"),
        ([*STATED, "x,bad,dev"], ", line 42", "train, validation, test", "dev"),
        ([*STATED, "x,bad,"], ", line 42", "a split in each row", ""),
    ],
)
def test_what_breaks_a_rule_is_named(
    path: Path, lines: list[str], place: str, rule: str, value: object
) -> None:
    with pytest.raises(InputError) as caught:
        load(path, *lines)
    assert (caught.value.name, caught.value.value) == ("data", value)
    assert rule in caught.value.rule
    assert caught.value.rule.endswith(f"('{path}'{place})")
    assert "\n" not in str(caught.value)


def test_another_encoding_or_no_file_is_named_with_its_place(path: Path) -> None:
    with pytest.raises(InputError, match="UTF-8") as caught:
        load(path, *ROWS, "schön,good", encoding="latin-1")
    byte = path.read_bytes().index("ö".encode("latin-1"))
    assert f"line 42, byte {byte})" in caught.value.rule
    assert caught.value.value == b"\xf6"
    with pytest.raises(ArtifactError, match="is missing"):
        load(path.with_name("absent.csv"))


def test_columns_may_be_ignored_by_name(path: Path) -> None:
    path.write_text("\n".join(["text,label , id", *(f"{row},{number}" for number, row in enumerate(GOOD))]))
    assert len(load_task("csv", path, ignored=("id",)).train) == 32
    for ignored in ("label", "identity"):
        with pytest.raises(InputError, match=r"^'ignore' must name columns of the data that are not text"):
            load_task("csv", path, ignored=("id", ignored))
    with pytest.raises(InputError, match=r"^'ignore' must be left out with the task 'digits'"):
        load_task("digits", ignored=("id",))
