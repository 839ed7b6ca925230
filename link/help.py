"""``--help`` of a command: the options of its dataclass in titled sections, 60 to 100 columns wide."""

from __future__ import annotations

import ast
import inspect
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from twophase.link.options import option_of

__all__ = ["WIDTH", "help_text"]

WIDTH = 100
"""Columns that the output of a command takes at most."""
NARROWEST = 60
"""Columns that a help takes even on a narrower terminal."""
COLUMN = 30
"""Where the text of an option begins."""
KINDS = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}


def help_text(
    program: str,
    description: str,
    options: type,
    sections: Mapping[str, str],
    values: Mapping[str, Any],
    positional: str | None = None,
) -> str:
    """What ``--help`` prints.

    Parameters
    ----------
    options
        A dataclass; the string under a field is its text.
    sections
        Title of each section, and the field that it begins with.
    values
        Defaults that are not those of the dataclass.
    positional
        The field that may be given without its name.

    Raises
    ------
    ValueError
        If a section begins with no field, or the first field is in none.
    """
    width = max(NARROWEST, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))
    place = f" [{positional.upper()}]" if positional else ""
    lines = [f"usage: {program} [OPTIONS]{place}", "", description.strip()]
    titles = {first: title for title, first in sections.items()} or {fields(options)[0].name: "Options"}
    for number, (name, words, text) in enumerate(_options(options, values)):
        if name in titles:
            lines += ["", f"{titles.pop(name)}:"]
        elif number == 0:
            raise ValueError(f"no section begins with the first option, '{name}'")
        lines += _entry(f"[{name.upper()}], {words}" if name == positional else words, text, width)
    if titles:
        raise ValueError(f"sections must begin with an option: {', '.join(titles)}")
    lines += ["", "Other:", *_entry("--version", "Print the version alone.", width)]
    lines += _entry("-h, --help", "Print this.", width)
    return "\n".join(lines) + "\n"


def _options(kind: type, values: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, words and text of each option."""
    hints, texts = get_type_hints(kind), _texts(kind)
    for item in fields(kind):
        hint, value = hints[item.name], values.get(item.name, _default(item))
        option = option_of(item.name)
        if hint is bool:
            words = f"{option}, --no-{option[2:]}" if value else option
        else:
            words = f"{option} {_metavar(hint)}"
            listed = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            if value is not None and listed:
                texts[item.name] += f" (default: {listed})"
        yield item.name, words, texts[item.name]


def _default(item: Field[Any]) -> Any:
    if item.default_factory is not MISSING:
        return item.default_factory()
    return None if item.default is MISSING else item.default


def _metavar(hint: Any) -> str:
    """What an option takes, as a word: ``INT``, ``{auto,cpu}``, ``INT ...``."""
    inner = [option for option in get_args(hint) if option not in (NoneType, Ellipsis)]
    if get_origin(hint) is Literal:
        return f"{{{','.join(inner)}}}"
    if get_origin(hint) is tuple:
        return f"{_metavar(inner[0])} ..."
    return "|".join(map(_metavar, inner)) if inner else KINDS[hint]


def _texts(kind: type) -> dict[str, str]:
    """The string under each field, as the source has it."""
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__[:-1]):
        module = ast.parse(inspect.getsource(sys.modules[owner.__module__]))
        bodies = [
            node.body
            for node in module.body
            if isinstance(node, ast.ClassDef) and node.name == owner.__name__
        ]
        for field, below in pairwise(bodies[0]):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                found[ast.unparse(field.target)] = " ".join(ast.literal_eval(below.value).split())
    return found


def _entry(words: str, text: str, width: int) -> list[str]:
    column = textwrap.wrap(text, width - COLUMN, break_on_hyphens=False, break_long_words=False)
    first = f"  {words}"
    if len(first) + 2 > COLUMN:
        return [first, *(f"{'':{COLUMN}}{line}" for line in column)]
    return [
        f"{left:{COLUMN}}{line}" for left, line in zip([first] + [""] * len(column), column, strict=False)
    ]
