"""Tasks by name: what there is to learn, each made in a module of its own that is imported late."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from twophase.link.errors import InputError
from twophase.training.data import Task, TextTask

__all__ = ["TASKS", "load_task"]

FUNCTIONS = {
    "digits": "digits",
    "reviews": "reviews",
    "sst2": "sst2",
    "csv": "csv_texts",
    "npz": "npz_arrays",
}
"""Of each task, in the module of its name, the function that makes it."""
FROM_FILE = ("csv", "npz")
TASKS = tuple(FUNCTIONS)
"""Names that ``--task`` takes, next to ``MODULE:FUNCTION``."""


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
    if name not in FUNCTIONS:
        if not all(name.partition(":")):
            raise InputError("task", f"be one of {', '.join(TASKS)} or MODULE:FUNCTION", name)
        from twophase.training.tasks.own import own_task

        return own_task(name, data)
    if name in FROM_FILE and data is None:
        raise InputError("data", f"name the file of the task '{name}'", None)
    if name not in FROM_FILE and data is not None:
        raise InputError("data", f"not be given with the task '{name}', which takes no file", str(data))
    function = getattr(import_module(f"twophase.training.tasks.{name}"), FUNCTIONS[name])
    task: Task | TextTask = function() if data is None else function(data)
    return task
