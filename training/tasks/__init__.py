"""Tasks by name: what there is to learn, each made in a module that is imported late, a user's own too."""

from __future__ import annotations

import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any

from twophase.link.errors import InputError, LinkError
from twophase.training.data import Task, TextTask, check_parts

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


def load_task(
    name: str, data: Path | None = None, samples: int | None = None, ignored: tuple[str, ...] = ()
) -> Task | TextTask:
    """Load a task, a :class:`TextTask` where the transmitter takes sentences.

    Parameters
    ----------
    name
        One of ``TASKS``, or ``MODULE:FUNCTION`` for a function of the user's that returns a task.
    data
        File of a task that needs one.
    samples
        Take only so many of its samples; see :func:`twophase.training.tasks.split.subset`.
    ignored
        Columns or arrays of the file that are left out.

    Raises
    ------
    InputError
        If there is no such task, ``data`` is missing or not wanted, or the data break a rule.
    ArtifactError, PackageError
        If a file is missing or damaged, a data set cannot be had, or a package is missing.
    """
    task = _load(name, data, ignored)
    if samples is None:
        return task
    from twophase.training.tasks.split import subset

    return subset(task, samples)


def _load(name: str, data: Path | None, ignored: tuple[str, ...]) -> Task | TextTask:
    if ignored and name not in FROM_FILE:
        raise InputError("ignore", f"be left out with the task '{name}', which has no columns", ignored)
    if name not in FUNCTIONS:
        if not all(name.partition(":")):
            raise InputError("task", f"be one of {', '.join(TASKS)} or MODULE:FUNCTION", name)
        return _own_task(name, data)
    if name in FROM_FILE and data is None:
        raise InputError("data", f"name the file of the task '{name}'", None)
    if name not in FROM_FILE and data is not None:
        raise InputError("data", f"not be given with the task '{name}', which takes no file", str(data))
    function = getattr(import_module(f"twophase.training.tasks.{name}"), FUNCTIONS[name])
    task: Task | TextTask = function() if data is None else function(data, ignored)
    return task


def _own_task(name: str, data: Path | None) -> Task | TextTask:
    """What the function of ``MODULE:FUNCTION`` returns.

    The module is looked for in the working folder first, as Python does for a script.  The function takes
    nothing, or an argument ``data``: the file that was given, or None.  An error of this package that it
    raises is passed on.
    """
    module_name, _, function_name = name.partition(":")
    with _working_folder_first():
        function = _function(name, _module(name, module_name), function_name)
        arguments = _arguments(name, function, data)
        try:
            task = function(**arguments)
        except LinkError:
            raise
        except (Exception, SystemExit) as error:
            raise InputError(
                "task", f"name a function that does not fail ({_reason(error)})", name
            ) from error
    if not isinstance(task, Task | TextTask):
        raise InputError("task", f"name a function that returns a Task or a TextTask, no {_type(task)}", name)
    check_parts(task)
    return task


def _module(name: str, module_name: str) -> Any:
    try:
        return import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            rule = f"name a module that is here or installed, as 'import' takes it (no '{error.name}')"
            raise InputError("task", rule, name) from error
        raise InputError("task", f"name a module that can be imported ({_reason(error)})", name) from error
    except (Exception, SystemExit) as error:
        raise InputError("task", f"name a module that can be imported ({_reason(error)})", name) from error


def _function(name: str, module: Any, function_name: str) -> Callable[..., object]:
    function = getattr(module, function_name, None)
    if not callable(function):
        where = getattr(module, "__file__", None) or module.__name__
        raise InputError("task", f"name a function of '{where}'", name)
    found: Callable[..., object] = function
    return found


def _arguments(name: str, function: Callable[..., object], data: Path | None) -> dict[str, Path | None]:
    try:
        parameters = inspect.signature(function).parameters
    except ValueError as error:
        raise InputError("task", "name a function written in Python", name) from error
    needed = [
        parameter.name
        for parameter in parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if set(needed) - {"data"}:
        raise InputError("task", f"name a function that takes nothing, or data ({', '.join(needed)})", name)
    if "data" in parameters:
        return {"data": data}
    if data is not None:
        raise InputError("data", f"not be given where '{name}' takes no argument data", str(data))
    return {}


@contextmanager
def _working_folder_first() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    invalidate_caches()
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _reason(error: Exception | SystemExit) -> str:
    said = str(error).strip().partition("\n")[0]
    frames = traceback.extract_tb(error.__traceback__)
    library = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "<frozen", __file__)
    own = [f"{frame.filename}:{frame.lineno}" for frame in frames if not frame.filename.startswith(library)]
    named = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return f"{named}, at {own[-1]}" if own else named


def _type(value: object) -> str:
    return "class that was not called" if isinstance(value, type) else type(value).__name__
