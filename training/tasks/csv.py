"""A user's own texts, from a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from twophase.link.errors import InputError
from twophase.link.files import reading
from twophase.training.data import Texts, TextTask
from twophase.training.tasks.split import PARTS, Rows, partition

__all__ = ["csv_texts"]

REQUIRED = ("text", "label")
OPTIONAL = "split"


def csv_texts(path: Path) -> TextTask:
    """The texts of a CSV file in UTF-8 whose first line names the columns ``text`` and ``label``.

    The classes are the labels in alphabetical order; blanks around a label do not count.  A column ``split``
    says ``train``, ``validation`` or ``test`` for each row; without it the rows are drawn, stratified
    80 : 10 : 10, seed 0.  InputError names file, line and rule where one is broken.
    """
    text = _decoded(path)
    columns: dict[str, list[str]] = {}
    numbers: list[int] = []
    rows = Rows(path, "line", numbers)
    for number, fields in _records(path, text):
        if not columns:
            _check_header(path, fields)
            columns = {name: [] for name in fields}
            continue
        numbers.append(number)
        if len(fields) != len(columns):
            raise rows.fault(f"have {len(columns)} fields in each row", len(fields), len(numbers) - 1)
        for name, field in zip(columns, fields, strict=True):
            columns[name].append(field if name == "text" else field.strip())
            if not field.strip():
                raise rows.fault(f"have a {name} in each row", field, len(numbers) - 1)
    if not numbers:
        raise rows.fault("have a line of column names and rows below it", "an empty file")
    classes = tuple(sorted(set(columns["label"])))
    place = {name: number for number, name in enumerate(classes)}
    labels = np.array([place[label] for label in columns["label"]], dtype=np.int64)
    members = partition(rows, labels, classes, columns.get(OPTIONAL))
    whole = Texts(tuple(columns["text"]), labels)
    train, validation, test = map(whole.take, members)
    return TextTask("csv", classes, train, validation, test)


def _decoded(path: Path) -> str:
    with reading(path):
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        rule = f"be UTF-8 ('{path}', line {line}, byte {error.start})"
        raise InputError("data", rule, content[error.start : error.start + 1]) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError("data", f"be text without NUL bytes ('{path}', line {line})", "\0")
    return text


def _records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Each record with the number of the line on which it starts; blank lines are skipped."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    limit = csv.field_size_limit(len(text) + 1)  # a text may be as long as it likes
    try:
        while True:
            start = reader.line_num + 1
            try:
                fields = next(reader, None)
            except csv.Error as error:
                raise InputError("data", f"be CSV ('{path}', line {start})", str(error)) from error
            if fields is None:
                return
            if fields:
                yield start, fields
    finally:
        csv.field_size_limit(limit)


def _check_header(path: Path, names: list[str]) -> None:
    allowed = {*REQUIRED, OPTIONAL}
    if len(set(names)) < len(names) or not set(REQUIRED) <= set(names) <= allowed:
        rule = (
            f"name the columns text and label in its first line, and at most split ({', '.join(PARTS)}) "
            f"with them ('{path}')"
        )
        raise InputError("data", rule, ",".join(names)[:80])
