"""A user's own texts, from a CSV file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from twophase.link.rows import filled, label_numbers, read_table
from twophase.training.data import Texts, TextTask
from twophase.training.tasks.split import PARTS, check_ignored, partition

__all__ = ["csv_texts"]

REQUIRED = ("text", "label")
OPTIONAL = "split"


def csv_texts(path: Path, ignored: Collection[str] = ()) -> TextTask:
    """The texts of a CSV file in UTF-8 whose first line names the columns ``text`` and ``label``.

    The classes are the labels in alphabetical order.  A column ``split`` says ``train``, ``validation`` or
    ``test`` for each row; without it the rows are drawn, stratified 80 : 10 : 10, seed 0.  Columns of other
    names must be ``ignored``.  InputError names file, line and rule where one is broken.
    """
    columns, rows = read_table(path)
    check_ignored(rows, columns, (*REQUIRED, OPTIONAL), ignored)
    if not set(REQUIRED) <= columns.keys():
        rule = f"name the columns text and label in its first line, and at most split ({', '.join(PARTS)})"
        raise rows.fault(rule, ",".join(columns)[:80])
    filled(columns, rows, *REQUIRED, *({OPTIONAL} & columns.keys()))
    labels, classes = label_numbers(rows, np.array(columns["label"]))
    members = partition(rows, labels, classes, columns.get(OPTIONAL))
    whole = Texts(tuple(columns["text"]), labels)
    train, validation, test = map(whole.take, members)
    return TextTask("csv", classes, train, validation, test)
