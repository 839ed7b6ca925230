"""The words of a command line as the dataclass of its options.

``--name VALUE`` or ``--name=VALUE``; ``--name`` and ``--no-name`` of what is true or false; of a tuple all
words up to the next option.  A field's hint says what its words must be; underscores in a name may stand for
its hyphens.  :mod:`help` prints the same dataclass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from twophase.link.errors import InputError, LinkError

__all__ = ["named_as_options", "option_of", "parse"]

Arguments = TypeVar("Arguments")

_VALUE = re.compile(r"[^-].*|-|-[0-9.].*|", re.DOTALL)
"""A word that is no option: -5:5 is a value."""


def option_of(name: str) -> str:
    """The option of a field: ``train_snr_low_db`` is ``--train-snr-low-db``."""
    return f"--{name.replace('_', '-')}"


def parse(
    kind: type[Arguments],
    argv: Sequence[str],
    usual: Mapping[str, Any],
    positional: str | None = None,
) -> Arguments:
    """The options that ``argv`` gives, over ``usual`` values, over the defaults of ``kind``.

    ``positional`` is the field whose value may be given without its name.

    Raises
    ------
    InputError
        If a value is of another kind than its field's hint; whatever ``kind`` raises.
    LinkError
        If an option is unknown or lacks its value, or a word belongs to none.
    """
    hints = get_type_hints(kind)
    takes = {option_of(item.name): item.name for item in fields(kind)}  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    rest = list(argv)
    before = ""
    while rest:
        word = rest.pop(0)
        if _VALUE.fullmatch(word):
            if positional is None or positional in given:
                raise LinkError(_stray(word, before, hints, takes, positional))
            given[positional] = _value(hints[positional], option_of(positional), word)
            continue
        name, assigned, value = word.partition("=")
        before = option = name.replace("_", "-")
        if option.startswith("--no-") and hints.get(takes.get(f"--{option[5:]}", "")) is bool:
            field, wanted = takes[f"--{option[5:]}"], False
        elif option in takes:
            field, wanted = takes[option], True
        else:
            raise LinkError(_unknown(name, takes))
        if field in given and field != positional:
            raise LinkError(f"'{option}' is given twice")
        if hints[field] is bool:
            if assigned:
                raise LinkError(f"'{option}' takes no value, and '{value}' is given")
            given[field] = wanted
            continue
        words = [value] if assigned else []
        while rest and _VALUE.fullmatch(rest[0]) and not (words and not _is_several(hints[field])):
            words.append(rest.pop(0))
        if not words:
            raise LinkError(f"'{option}' needs a value after it")
        if _is_several(hints[field]):
            inner = get_args(hints[field])[0]
            given[field] = tuple(_value(inner, option, entry) for entry in words)
        else:
            given[field] = _value(hints[field], option, words[0])
    return kind(**{**usual, **given})


def named_as_options(error: InputError, kind: type) -> InputError:
    """The same error, which names the options of ``kind`` if it names its fields."""
    names = {item.name for item in fields(kind)}
    words = (word.replace("-", "_") for word in error.name.split(" and "))
    told = [option_of(word) if word in names else None for word in words]
    if None in told:
        return error
    return InputError(" and ".join(filter(None, told)), error.rule, error.value)


def _is_several(hint: Any) -> bool:
    return get_origin(hint) is tuple


def _value(hint: Any, option: str, word: str) -> Any:
    """A word as what the hint asks for."""
    rules = []
    for choice in _choices(hint):
        rule, read = _READ.get(choice, (f"be one of {', '.join(map(str, get_args(choice)))}", str))
        try:
            value = read(word)
        except ValueError:
            rules.append(rule)
            continue
        if get_origin(choice) is not Literal or value in get_args(choice):
            return value
        rules.append(rule)
    raise InputError(option, " or ".join(rules), word if len(word) <= 60 else f"{word[:57]}...")


def _choices(hint: Any) -> list[Any]:
    """Literals before what any word may be; None is given by leaving the option out."""
    if hint in _READ or get_origin(hint) is Literal:
        return [hint]
    inner = [choice for choice in get_args(hint) if choice is not NoneType]
    literals = tuple(word for choice in inner if get_origin(choice) is Literal for word in get_args(choice))
    others = [choice for choice in inner if get_origin(choice) is not Literal]
    return [Literal[literals], *others] if literals else others


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError
    return value


_READ: dict[Any, tuple[str, Callable[[str], Any]]] = {
    int: ("be a whole number", int),
    float: ("be a finite number", _finite),
    str: ("be a text", str),
    Path: ("be a path", Path),
}


def _unknown(name: str, takes: Mapping[str, str]) -> str:
    from difflib import get_close_matches

    wanted = name.replace("_", "-")
    known = [*takes, "--help", "--version"]
    inside = [option for option in known if len(wanted) > 3 and option.startswith(wanted)]
    close = inside or get_close_matches(wanted, known, n=1)
    if name in ("--version", "--help"):
        return f"'{name}' stands alone"
    if not close:
        return f"'{name}' is no option"
    return f"'{name}' is no option: did you mean {' or '.join(close[:3])}?"


def _stray(
    word: str, before: str, hints: Mapping[str, Any], takes: Mapping[str, str], positional: str | None
) -> str:
    if positional is not None:
        return f"'{word}' is one too many: the {positional} is given already"
    if before in takes and hints[takes[before]] is not bool:
        return f"'{word}' belongs to no option: {before} takes one value"
    return f"'{word}' belongs to no option"
