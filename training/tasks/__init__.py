"""Tasks by name: what there is to learn, each made in a module of its own that is imported late."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from twophase.link.errors import InputError
from twophase.training.data import Task, TextTask

__all__ = ["TASKS", "load_task"]


def load_task(name: str, data: Path | None = None, samples: int | None = None) -> Task | TextTask:
    """Load a task.

    Parameters
    ----------
    name
        One of ``TASKS``, or ``MODULE:FUNCTION`` for a function of the user's that returns a task.
    data
        File of a task that needs one.
    samples
        Take only so many of its samples; see :func:`twophase.training.tasks.split.subset`.

    Returns
    -------
    Task or TextTask
        The second where the transmitter takes sentences.

    Raises
    ------
    InputError
        If there is no such task, ``data`` is missing or not wanted, or the data break a rule.
    ArtifactError
        If a file is missing or damaged, or a data set cannot be had.
    PackageError
        If a package is missing that the task needs.
    """
    task = _load(name, data)
    if samples is None:
        return task
    from twophase.training.tasks.split import subset

    return subset(task, samples)


def _load(name: str, data: Path | None) -> Task | TextTask:
    if name in _FROM_FILE:
        if data is None:
            raise InputError("data", f"name the file of the task '{name}'", None)
        return _FROM_FILE[name](data)
    if name in _BUILT_IN:
        if data is not None:
            raise InputError("data", f"not be given with the task '{name}', which takes no file", str(data))
        return _BUILT_IN[name]()
    if not all(name.partition(":")):
        raise InputError("task", f"be one of {', '.join(TASKS)} or MODULE:FUNCTION", name)
    from twophase.training.tasks.own import own_task

    return own_task(name, data)


def _digits() -> Task:
    from twophase.training.tasks.digits import digits

    return digits()


def _reviews() -> TextTask:
    from twophase.training.tasks.reviews import reviews

    return reviews()


def _sst2() -> TextTask:
    from twophase.training.tasks.sst2 import sst2

    return sst2()


def _csv(path: Path) -> TextTask:
    from twophase.training.tasks.csv import csv_texts

    return csv_texts(path)


def _npz(path: Path) -> Task:
    from twophase.training.tasks.npz import npz_arrays

    return npz_arrays(path)


_BUILT_IN: Mapping[str, Callable[[], Task | TextTask]] = {
    "digits": _digits,
    "reviews": _reviews,
    "sst2": _sst2,
}
_FROM_FILE: Mapping[str, Callable[[Path], Task | TextTask]] = {"csv": _csv, "npz": _npz}

TASKS = (*_BUILT_IN, *_FROM_FILE)
"""Names that ``--task`` takes, next to ``MODULE:FUNCTION``."""
