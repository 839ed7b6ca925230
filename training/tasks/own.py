"""A task from a user's own function."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twophase.link.errors import InputError, LinkError
from twophase.training.data import Task, TextTask, check_parts

__all__ = ["own_task"]


def own_task(name: str, data: Path | None) -> Task | TextTask:
    """What the function of ``MODULE:FUNCTION`` returns.

    The module is looked for in the working folder first, as Python does for a script.  The function takes
    nothing, or an argument ``data``: the file that was given, or None.

    Raises
    ------
    InputError
        If there is no such module or function, if it raises, or if it returns no task; what was raised is the
        cause.  An error of this package that the function raises is passed on.
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
        return importlib.import_module(module_name)
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
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _reason(error: Exception | SystemExit) -> str:
    said = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _type(value: object) -> str:
    return "class that was not called" if isinstance(value, type) else type(value).__name__
