"""A few samples of a task, for a quick try."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from twophase.link.errors import InputError
from twophase.training.data import Task, TextTask
from twophase.training.tasks.partition import PARTS

__all__ = ["MIN_PER_CLASS", "subset"]

MIN_PER_CLASS = 20

_SEED = 0


def subset(task: Task | TextTask, samples: int) -> Task | TextTask:
    """Only so many samples, each class and each part of the data with its share; always the same ones.

    What the whole task tests with, the small one tests with, too, and never trains with; of a class that a
    part of the whole has, at least one sample stays in that part.

    Raises
    ------
    InputError
        If that is fewer than ``MIN_PER_CLASS`` of each class or more than there are.
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
