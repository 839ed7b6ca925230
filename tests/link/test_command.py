"""What the commands share: help in sections, options and a positional one, lines and a bar on stderr."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from twophase.link.command import Terminal, require, run_command
from twophase.link.errors import InputError, PackageError
from twophase.link.help import help_text
from twophase.link.typed import at_least, check_fields


@dataclass(frozen=True)
class Options:
    """One option of every form."""

    folder: Path | None = None
    """Where it lies."""
    count: Annotated[int, at_least(1)] = 3
    """How
    many."""
    sizes: tuple[int, ...] = (4, 8)
    """Of each."""
    kind: Literal["a", "b"] | int = "a"
    """Of what kind."""
    quick: bool = False
    """Leave things out."""
    bridge: bool = True
    """Keep it."""

    def __post_init__(self) -> None:
        check_fields(self)


SECTIONS = {"What": "folder", "How": "kind", "Flags": "quick"}


def test_help_has_every_option_in_its_section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = help_text("tp-x", "Does x.", Options, SECTIONS, {"count": 5}, "folder")
    assert text == (
        "usage: tp-x [OPTIONS] [FOLDER]\n\nDoes x.\n\n"
        "What:\n"
        "  [FOLDER], --folder PATH     Where it lies.\n"
        "  --count INT                 How many. (default: 5)\n"
        "  --sizes INT ...             Of each. (default: 4 8)\n\n"
        "How:\n"
        "  --kind {a,b}|INT            Of what kind. (default: a)\n\n"
        "Flags:\n"
        "  --quick                     Leave things out.\n"
        "  --bridge, --no-bridge       Keep it.\n\n"
        "Other:\n"
        "  --version                   Print the version alone.\n"
        "  -h, --help                  Print this.\n"
    )


def test_a_help_keeps_sixty_columns_on_a_narrower_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    for columns in ("60", "3"):
        monkeypatch.setenv("COLUMNS", columns)
        texts.append(help_text("tp-x", "Does x.", Options, SECTIONS, {}))
    assert texts[0] == texts[1]
    assert max(map(len, texts[0].splitlines())) <= 60


def test_sections_must_begin_with_options() -> None:
    with pytest.raises(ValueError, match="sections must begin with an option: absent"):
        help_text("tp-x", "", Options, {"What": "folder", "Flags": "absent"}, {})
    with pytest.raises(ValueError, match="no section begins with the first option, 'folder'"):
        help_text("tp-x", "", Options, {"How": "kind"}, {})


@pytest.mark.parametrize(
    ("argv", "folder", "quick"),
    [
        (["--quick", "here"], "here", True),
        (["--count", "4", "--no-bridge", "here", "--quick"], "here", True),
        (["--count=4", "here"], "here", False),
        (["--folder", "there"], "there", False),
        (["--sizes", "-1", "2", "--no_bridge", "--quick", "a=b"], "a=b", True),
    ],
)
def test_the_positional_option_is_found_among_the_others(argv: list[str], folder: str, quick: bool) -> None:
    given: list[Options] = []
    assert (
        run_command(
            "tp-x", Options, lambda options: given.append(options) or 3, "", argv, positional="folder"
        )
        == 3
    )
    assert (given[0].folder, given[0].quick) == (Path(folder), quick)


def test_a_second_positional_value_is_one_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["a", "b"], ["--folder", "a", "b"]):
        assert run_command("tp-x", Options, lambda _: 0, "", argv, positional="folder") == 2
        assert "'b' is one too many: the folder is given already" in capsys.readouterr().err


def test_the_usual_values_stand_where_nothing_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    given: list[Options] = []

    def body(options: Options) -> int:
        given.append(options)
        return 1

    def run(argv: list[str]) -> int:
        return run_command("tp-x", Options, body, "", argv, usual=lambda _: {"count": 7})

    assert run(["--sizes", "1"]) == 1
    assert (given[0].count, given[0].sizes) == (7, (1,))
    with pytest.raises(SystemExit) as stop:
        run(["--help"])
    assert stop.value.code == 0
    assert "(default: 7)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "error", "status", "message"),
    [
        (["--count", "many"], None, 2, "'--count' must be a whole number, not 'many'"),
        (["--count", "0"], None, 2, "'--count' must be at least 1, not 0"),
        (["--count", "9" * 20], None, 2, f"'--count' must lie within 64 bits, not {'9' * 20}"),
        (["--kind", "c"], None, 2, "'--kind' must be one of a, b or be a whole number, not 'c'"),
        (["--count", "2", "--count=3"], None, 2, "'--count' is given twice (see tp-x --help)"),
        (["--cuont", "2"], None, 2, "'--cuont' is no option: did you mean --count? (see tp-x --help)"),
        (["--quic"], None, 2, "'--quic' is no option: did you mean --quick? (see tp-x --help)"),
        (["--absent"], None, 2, "'--absent' is no option (see tp-x --help)"),
        (["--count", "--quick"], None, 2, "'--count' needs a value after it (see tp-x --help)"),
        (
            ["--count", "1", "2"],
            None,
            2,
            "'2' belongs to no option: --count takes one value (see tp-x --help)",
        ),
        (["--quick", "2"], None, 2, "'2' belongs to no option (see tp-x --help)"),
        (["--quick=yes"], None, 2, "'--quick' takes no value, and 'yes' is given (see tp-x --help)"),
        (["--version", "--quick"], None, 2, "'--version' stands alone (see tp-x --help)"),
        ([], InputError("count and bridge", "agree", 1), 2, "'--count and --bridge' must agree, not 1"),
        ([], InputError("x", "be y", 1), 2, "error: 'x' must be y, not 1"),
        ([], FileNotFoundError(2, "No such file", "there"), 2, "error: 'there': No such file"),
        ([], KeyboardInterrupt(), 130, "interrupted; nothing half-written is left"),
    ],
)
def test_what_goes_wrong_is_one_line_and_has_its_exit_status(
    argv: list[str],
    error: BaseException | None,
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def body(_: Options) -> int:
        assert error is not None
        raise error

    assert run_command("tp-x", Options, body, "", argv) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tp-x: " if status == 130 else "tp-x: error: ")
    assert line.endswith(message)


@pytest.mark.parametrize("word", ["--folder=out/r\udce9sultat", "\udcff"])
def test_a_path_that_is_not_utf8_is_refused_before_any_work(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(_: Options) -> int:
        raise AssertionError

    assert run_command("tp-x", Options, body, "", [word]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tp-x: error: 'argument' must be text in UTF-8, not '")


def test_a_missing_package_is_named_with_its_remedy() -> None:
    assert require("json", "train", "x").loads("1") == 1
    with pytest.raises(PackageError, match=r"x needs absent_one, which .* \(No module .*\): pip install '"):
        require("absent_one.part", "train", "x")


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_lines_are_folded_at_100_columns_and_a_bar_is_drawn_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    plain, terminal = io.StringIO(), Tty()
    for stream in (plain, terminal):
        shown = Terminal(stream)
        with shown.progress("work", 4, 1) as progress:
            shown.say("word " * 30)
            progress.show("more", done=3)
            progress.show(done=4, total=5)
        shown.say("[bold]end")
    lines = plain.getvalue().splitlines()
    assert [len(line) for line in lines] == [99, 51, 9]
    assert lines[2] == "[bold]end"
    for part in ("work", "1/4", "more", "4/5", "[bold]end"):
        assert part in terminal.getvalue()
    with Terminal(terminal, quiet=True).progress("nothing") as progress:
        progress.show("nothing")
    assert "nothing" not in terminal.getvalue()
