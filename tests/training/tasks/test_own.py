"""Tasks by name, and a user's own function: what they take, and every mistake in one line."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from twophase.link.errors import ArtifactError, InputError
from twophase.training.config import PRESETS
from twophase.training.data import Task, TextTask
from twophase.training.tasks import TASKS, load_task

EXAMPLES = Path(__file__).parents[3] / "examples"
HEAD = """
import torch
from twophase.link.errors import ArtifactError
from twophase.training.data import Split, Task
part = Split(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))
"""
Write = Callable[[str], None]


@pytest.mark.parametrize(
    ("name", "data", "argument", "rule"),
    [
        ("mnist", None, "task", "be one of digits, reviews, sst2, csv, npz or MODULE:FUNCTION"),
        ("m:", None, "task", "be one of"),
        ("csv", None, "data", "name the file of the task 'csv'"),
        ("digits", Path("own.csv"), "data", "not be given with the task 'digits', which takes no file"),
    ],
)
def test_a_task_takes_what_it_takes(name: str, data: Path | None, argument: str, rule: str) -> None:
    with pytest.raises(InputError) as caught:
        load_task(name, data)
    assert caught.value.name == argument
    assert caught.value.rule.startswith(rule)


def test_each_task_has_settings_of_its_own() -> None:
    assert set(TASKS) == set(PRESETS)


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Write]:
    """Writes ``mine.py`` into the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = sys.path.copy()
    yield lambda body: (tmp_path / "mine.py").write_text(HEAD + dedent(body)) and None
    sys.modules.pop("mine", None)
    assert sys.path == before


def test_a_function_of_the_working_folder_gets_the_file_where_it_takes_one(write: Write) -> None:
    write(
        """
        def of(data): return Task(str(data), ('a', 'b'), part, part, part)
        def maybe(scale=1.0, *, data=None): return of(data)
        def none(): return of(None)
        """
    )
    for name, data in (("of", Path("x.bin")), ("of", None), ("maybe", Path("x.bin")), ("none", None)):
        assert load_task(f"mine:{name}", data).name == str(data)
    with pytest.raises(InputError, match="'data' must not be given where 'mine:none' takes no argument data"):
        load_task("mine:none", Path("x.bin"))


@pytest.mark.parametrize(
    ("body", "name", "said"),
    [
        ("", "no_such_name:f", "is here or installed, as 'import' takes it (no 'no_such_name')"),
        ("import absent_package", "mine:f", "(ModuleNotFoundError: No module named 'absent_package', at /"),
        ("1 / 0", "mine:f", "can be imported (ZeroDivisionError: division by zero, at /"),
        ("raise SystemExit", "mine:f", "can be imported (SystemExit, at /"),
        ("f = 3", "mine:f", "name a function of '"),
        ("def f(data, size): ...", "mine:f", "takes nothing, or data (data, size)"),
        ("def f(): return 3", "mine:f", "returns a Task or a TextTask, no int"),
        ("f = lambda: Task", "mine:f", "no class that was not called"),
        ("def f(): raise ValueError('two\\nlines')", "mine:f", "does not fail (ValueError: two, at /"),
        ("def f(): raise SystemExit(1)", "mine:f", "does not fail (SystemExit: 1, at /"),
    ],
)
def test_every_mistake_is_one_line_with_its_cause(write: Write, body: str, name: str, said: str) -> None:
    write(body)
    with pytest.raises(InputError) as caught:
        load_task(name)
    assert (caught.value.name, caught.value.value) == ("task", name)
    assert said in caught.value.rule
    assert (", at /" in said) == bool(re.search(r"mine\.py:\d+\)$", caught.value.rule))
    assert "\n" not in str(caught.value)


def test_errors_of_this_package_are_passed_on(write: Write) -> None:
    write(
        """
        def missing(): raise ArtifactError("'x.bin' is missing")
        def nan(): return Split(torch.tensor([[float('nan')]]), torch.tensor([0]))
        def three(): return Task('t', ('a', 'b'), part, part, Split(part.features, part.labels + 1))
        """
    )
    for name, kind, message in (
        ("missing", ArtifactError, r"^'x\.bin' is missing$"),
        ("nan", InputError, "'features' must be finite"),
        ("three", InputError, r"'test' must have labels in 0\.\.1"),
    ):
        with pytest.raises(kind, match=message):
            load_task(f"mine:{name}")


@pytest.mark.parametrize(("name", "kind"), [("spirals", Task), ("commands", TextTask)])
def test_the_example_works(monkeypatch: pytest.MonkeyPatch, name: str, kind: type) -> None:
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "own_task", raising=False)
    task = load_task(f"own_task:{name}", None, 90)
    monkeypatch.delitem(sys.modules, "own_task")
    assert isinstance(task, kind)
    assert (task.name, len(task.classes)) == (name, 3)
    assert [len(task.train), len(task.validation), len(task.test)] == [72, 9, 9]
