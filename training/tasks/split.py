"""Which samples train, which validate and which test: drawn by a fixed seed, or as the data say."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twophase.link.command import require
from twophase.link.errors import InputError
from twophase.link.rows import Rows
from twophase.training.data import Task, TextTask

__all__ = [
    "MIN_PER_CLASS",
    "MIN_ROWS",
    "PARTS",
    "Partition",
    "check_ignored",
    "held_out",
    "partition",
    "stratified",
    "subset",
]


PARTS = ("train", "validation", "test")
MIN_ROWS = 10
"""Of each class, so that each part has some."""


class Partition(NamedTuple):
    """Numbers of the samples of each part; no number is in two."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def check_ignored(rows: Rows, held: Collection[str], known: Sequence[str], ignored: Collection[str]) -> None:
    """InputError unless a user's file has no columns but the known and the ignored ones, which are there."""
    for name in ignored:
        if name not in held or name in known:
            rule = f"name columns of the data that are not {', '.join(known)}"
            raise InputError("ignore", rule, name)
    if strange := [name for name in held if name not in known and name not in ignored]:
        rule = f"hold nothing but {', '.join(known)} (leave others out with --ignore {strange[0]})"
        raise rows.fault(rule, ", ".join(strange)[:80])


def stratified(labels: NDArray[np.int64], *, test: float = 0.1, validation: float = 1 / 9) -> Partition:
    """Draw a partition in which each class has about the same share of every part; always the same one.

    ``test`` is a share of all samples, ``validation`` one of the others; the defaults make it 80 : 10 : 10.
    """
    rest, last = held_out(labels, test)
    train, middle = held_out(labels[rest], validation)
    return Partition(rest[train], rest[middle], last)


def held_out(labels: NDArray[np.int64], size: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw a share, or a whole number, of the samples, the same share of each class; always the same ones.

    Returns the numbers of the other samples and of those that were drawn.
    """
    split = require("sklearn.model_selection", "train", "splitting a data set").train_test_split
    others, drawn = split(np.arange(len(labels)), test_size=size, stratify=labels, random_state=0)
    return others, drawn


def partition(
    rows: Rows, labels: NDArray[np.int64], classes: Sequence[str], parts: Sequence[str] | None
) -> Partition:
    """The partition that a user's file states, or one of 80 : 10 : 10 if it states none.

    ``labels`` are the numbers of the rows' classes, (n,).  InputError where there are too few rows or
    classes, a part is unknown or empty, or a label occurs in it that training does not see.
    """
    if len(classes) < 2:
        raise rows.fault("have at least 2 classes", tuple(classes))
    members = None if parts is None else _stated(rows, labels, classes, parts)
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < MIN_ROWS:
        scarce = f"{counts.min()} of {classes[int(counts.argmin())]}"
        raise rows.fault(f"have at least {MIN_ROWS} rows of each class", scarce)
    return stratified(labels) if members is None else members


def _stated(rows: Rows, labels: NDArray[np.int64], classes: Sequence[str], parts: Sequence[str]) -> Partition:
    for row, part in enumerate(parts):
        if part not in PARTS:
            raise rows.fault(f"have {', '.join(PARTS)} as split", part, row)
    named = np.array(parts)
    members = Partition(*(np.flatnonzero(named == part) for part in PARTS))
    for part, found in zip(PARTS, members, strict=True):
        if not len(found):
            raise rows.fault(f"have rows for each of {', '.join(PARTS)}", f"none for {part}")
    trained = set(labels[members.train].tolist())
    for row, label in enumerate(labels.tolist()):
        if label not in trained:
            raise rows.fault("have only labels that its training rows have, too", classes[label], row)
    return members


MIN_PER_CLASS = 20

_SEED = 0


def subset(task: Task | TextTask, samples: int) -> Task | TextTask:
    """Only so many samples, each class and each part of the data with its share; always the same ones.

    What the whole task tests with, the small one tests with, too, and never trains with; of a class that a
    part of the whole has, at least one sample stays in that part.  InputError for fewer than
    ``MIN_PER_CLASS`` of each class or more than there are.
    """
    parts = {name: getattr(task, name) for name in PARTS}
    least, total = MIN_PER_CLASS * len(task.classes), sum(map(len, parts.values()))
    if not least <= samples <= total:
        rule = f"be {least} ({MIN_PER_CLASS} for each class) to {total} (all) for the task '{task.name}'"
        raise InputError("samples", rule, samples)
    strata = [
        (name, np.flatnonzero(np.asarray(part.labels) == label))
        for name, part in parts.items()
        for label in range(len(task.classes))
    ]
    quotas = _quotas(np.array([len(members) for _, members in strata]), samples)
    rng = np.random.default_rng(_SEED)
    drawn: dict[str, list[NDArray[np.int64]]] = {name: [] for name in PARTS}
    for (name, members), quota in zip(strata, quotas, strict=True):
        drawn[name].append(rng.permutation(members)[:quota])
    taken = {name: parts[name].take(np.sort(np.concatenate(drawn[name]))) for name in PARTS}
    return replace(task, **taken)


def _quotas(counts: NDArray[np.int64], samples: int) -> NDArray[np.int64]:
    """How many to take of each stratum: its share, rounded, but at least one where there are any."""
    shares = counts * (samples / counts.sum())
    quotas: NDArray[np.int64] = np.maximum(np.floor(shares), counts > 0).astype(np.int64)
    while quotas.sum() < samples:
        quotas[np.argmax(np.where(quotas < counts, shares - quotas, -np.inf))] += 1
    while quotas.sum() > samples:
        quotas[np.argmax(np.where(quotas > 1, quotas - shares, -np.inf))] -= 1
    return quotas
