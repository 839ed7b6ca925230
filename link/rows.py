"""Rows of a user's file, read by one rule for training and simulation: tables, labels, what names a row.

Names of columns, labels, classes and parts count without the blanks around them and in Unicode's composed
form (NFC), whatever kind of file they stand in; labels that are whole floats count as whole numbers.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from twophase.link.errors import InputError
from twophase.link.files import read_plain

__all__ = ["Rows", "as_known", "described", "filled", "label_numbers", "plain", "read_table"]


@dataclass(frozen=True)
class Rows:
    """The rows of a user's file, and how to name one of them where it is at fault."""

    path: Path
    unit: str
    """What a row is counted in: ``line``, ``row``."""
    numbers: Sequence[int]
    """Of each row."""

    def fault(self, rule: str, value: object, row: int | None = None) -> InputError:
        """An error that names the file, the place in it and the rule."""
        place = f"'{self.path}'" if row is None else f"'{self.path}', {self.unit} {self.numbers[row]}"
        shown = value[:40] + "..." if isinstance(value, str) and len(value) > 43 else value
        return InputError("data", f"{rule} ({place})", shown)


def plain(name: str) -> str:
    """A name as it counts: NFC, without the blanks around it."""
    return normalize("NFC", name).strip()


def label_numbers(
    rows: Rows, values: NDArray[np.generic], named: NDArray[np.generic] | None = None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The number of each row's class, (n,), and the names of the classes.

    Parameters
    ----------
    values
        Names, or whole numbers, (n,).
    named
        Names of the classes in their order, (classes,), which the numbers count; those that occur if not
        given, in order.

    Raises
    ------
    InputError
        By ``rows``: if an array is of another kind, a name is blank or given twice, or a label is no class.
    """
    if values.ndim != 1 or values.dtype.kind not in "iufU":
        raise rows.fault("have as label whole numbers or strings of shape (n,)", described(values))
    if named is not None and (named.dtype.kind != "U" or named.ndim != 1):
        raise rows.fault("have as classes strings of shape (classes,)", described(named))
    if values.dtype.kind == "f":
        whole = np.isfinite(values) & (values == np.rint(values)) & (np.abs(values) < 2**53)
        if not whole.all():
            row = int(np.argmin(whole))
            raise rows.fault("have as label whole numbers or strings", values[row].item(), row)
        values = values.astype(np.int64)
    if values.dtype.kind == "U":
        values = np.array([plain(name) for name in values.tolist()], dtype=np.str_)
    if named is None:
        found, labels = np.unique(values, return_inverse=True)
        names = tuple(str(name) for name in found.tolist())
    else:
        names = tuple(plain(name) for name in named.tolist())
        known = np.array(names) if values.dtype.kind == "U" else np.arange(len(names))
        strange = ~np.isin(values, known)
        if strange.any():
            row = int(np.argmax(strange))
            raise rows.fault("have only labels of its classes", values[row].item(), row)
        order = np.argsort(known, kind="stable")
        labels = order[np.searchsorted(known, values, sorter=order)]
    if len(set(names)) < len(names) or not all(names):
        raise rows.fault("have classes with different names, none of them blank", names)
    return labels.astype(np.int64), names


def as_known(
    rows: Rows, labels: NDArray[np.int64], names: Sequence[str], classes: Sequence[str]
) -> NDArray[np.int64]:
    """Labels that number ``names``, as numbers of a link's ``classes``.

    A name is that of a class or, where no class is called by a number, a number in 0..classes - 1.
    InputError, by ``rows``, for any other.
    """
    place = {plain(name): number for number, name in enumerate(classes)}
    if not any(name.isascii() and name.isdigit() for name in place):
        place |= {str(number): number for number in range(len(classes))}
    numbers = np.array([place.get(name, -1) for name in names], dtype=np.int64)
    result = numbers[labels]
    if result.size and result.min() < 0:
        row = int(np.argmin(result))
        listed = ", ".join(map(repr, classes[:8])) + (", ..." if len(classes) > 8 else "")
        raise rows.fault(f"have as labels the link's classes: {listed}", names[labels[row]], row)
    return result


def read_table(path: Path) -> tuple[dict[str, list[str]], Rows]:
    """The columns of a CSV file in UTF-8 whose first line names them, and its rows; blank lines are skipped.

    Cells of ``text`` stay as they are, all others count as names do (:func:`plain`).

    Raises
    ------
    InputError
        If it is no UTF-8 or no CSV, or has NUL bytes, a column twice, no row, or a row with other fields.
    ArtifactError
        If the file is missing or unreadable.
    """
    text = _decoded(path)
    columns: dict[str, list[str]] = {}
    numbers: list[int] = []
    rows = Rows(path, "line", numbers)
    for number, fields in _records(path, text):
        if not columns:
            columns = {plain(name): [] for name in fields}
            if len(columns) < len(fields):
                raise rows.fault("name each column once", ",".join(fields)[:80])
            continue
        numbers.append(number)
        if len(fields) != len(columns):
            raise rows.fault(f"have {len(columns)} fields in each row", len(fields), len(numbers) - 1)
        for name, field in zip(columns, fields, strict=True):
            columns[name].append(field if name == "text" else plain(field))
    if not numbers:
        raise rows.fault(
            "have a line of column names and rows below it", ",".join(columns) or "an empty file"
        )
    return columns, rows


def filled(columns: dict[str, list[str]], rows: Rows, *names: str) -> None:
    """InputError, by ``rows``, unless these columns are there and hold something in each row."""
    for name in names:
        if name not in columns:
            raise rows.fault(f"name a column {name} in its first line", ",".join(columns)[:80])
    for row in range(len(rows.numbers)):
        for name in names:
            if not columns[name][row].strip():
                raise rows.fault(f"have a {name} in each row", columns[name][row], row)


def described(values: NDArray[np.generic]) -> str:
    """Type and shape of an array, as errors name them."""
    return f"{values.dtype} of shape {values.shape}"


def _decoded(path: Path) -> str:
    content = read_plain(path)
    try:
        # A byte order mark, as spreadsheets write it, is no part of the first column's name.
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
    """Each record with the number of the line on which it starts."""
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
        csv.field_size_limit(limit)  # of the process, which may read other files
