"""A user's own function: found beside him, asked with what it takes, and every mistake in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from twophase.link.errors import ArtifactError, InputError
from twophase.training.data import Task, TextTask
from twophase.training.tasks import load_task

EXAMPLES = Path(__file__).parents[3] / "examples"

HEAD = """
import torch
from twophase.link.errors import ArtifactError
from twophase.training.data import Split, Task
part = Split(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))
"""


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Writes ``mine.py`` into the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = sys.path.copy()
    yield lambda body: (tmp_path / "mine.py").write_text(HEAD + dedent(body)) and None
    sys.modules.pop("mine", None)
    assert sys.path == before


def test_a_function_of_the_working_folder_is_called(write: Callable[[str], None]) -> None:
    write("def blobs(): return Task('blobs', ('a', 'b'), part, part, part)")
    task = load_task("mine:blobs")
    assert isinstance(task, Task)
    assert task.name == "blobs"


def test_the_file_is_handed_on_where_it_is_wanted(write: Callable[[str], None]) -> None:
    write(
        """
        def of(data): return Task(str(data), ('a', 'b'), part, part, part)
        def maybe(scale=1.0, *, data=None): return of(data)
        def none(): return of(None)
        """
    )
    assert load_task("mine:of", Path("x.bin")).name == "x.bin"
    assert load_task("mine:of").name == "None"
    assert load_task("mine:maybe", Path("x.bin")).name == "x.bin"
    with pytest.raises(InputError, match="'data' must not be given where 'mine:none' takes no argument data"):
        load_task("mine:none", Path("x.bin"))


@pytest.mark.parametrize(
    ("body", "name", "said"),
    [
        (
            "",
            "nothing_of_this_name:f",
            "is here or installed, as 'import' takes it (no 'nothing_of_this_name')",
        ),
        ("", "mine.sub:f", "as 'import' takes it (no 'mine.sub')"),
        (
            "import absent_package",
            "mine:f",
            "can be imported (ModuleNotFoundError: No module named 'absent_package')",
        ),
        ("1 / 0", "mine:f", "can be imported (ZeroDivisionError: division by zero)"),
        ("def f(:", "mine:f", "can be imported (SyntaxError: "),
        ("raise SystemExit", "mine:f", "can be imported (SystemExit)"),
        ("", "mine:f", "name a function of '"),
        ("f = 3", "mine:f", "name a function of '"),
        ("def f(data, size): ...", "mine:f", "name a function that takes nothing, or data (data, size)"),
        ("def f(): return 3", "mine:f", "name a function that returns a Task or a TextTask, no int"),
        ("f = lambda: Task", "mine:f", "no class that was not called"),
        ("def f(): raise KeyError('x')", "mine:f", "does not fail (KeyError: 'x')"),
        ("def f(): raise ValueError('two\\nlines')", "mine:f", "does not fail (ValueError: two)"),
        ("def f(): raise SystemExit(1)", "mine:f", "does not fail (SystemExit: 1)"),
    ],
)
def test_every_mistake_is_one_line(write: Callable[[str], None], body: str, name: str, said: str) -> None:
    write(body)
    with pytest.raises(InputError) as caught:
        load_task(name)
    assert said in str(caught.value)
    assert str(caught.value).startswith("'task' must name a ")
    assert str(caught.value).endswith(f", not '{name}'")
    assert "\n" not in str(caught.value)


def test_what_was_raised_is_the_cause(write: Callable[[str], None]) -> None:
    write("def f(): return 1 / 0")
    with pytest.raises(InputError) as caught:
        load_task("mine:f")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_errors_of_this_package_are_passed_on(write: Callable[[str], None]) -> None:
    write(
        """
        def missing(): raise ArtifactError("'x.bin' is missing")
        def nan(): return Split(torch.tensor([[float('nan')]]), torch.tensor([0]))
        def three(): return Task('t', ('a', 'b'), part, part, Split(part.features, part.labels + 1))
        """
    )
    with pytest.raises(ArtifactError, match=r"^'x\.bin' is missing$"):
        load_task("mine:missing")
    with pytest.raises(InputError, match="'features' must be finite"):
        load_task("mine:nan")
    with pytest.raises(InputError, match=r"'test' must have labels in 0\.\.1"):
        load_task("mine:three")


@pytest.mark.parametrize("name", ["spirals", "commands"])
def test_the_example_works(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "own_task", raising=False)
    task = load_task(f"own_task:{name}", None, 90)
    monkeypatch.delitem(sys.modules, "own_task")
    assert task.name == name
    assert len(task.classes) == 3
    assert isinstance(task, TextTask if name == "commands" else Task)
    assert [len(task.train), len(task.validation), len(task.test)] == [72, 9, 9]
