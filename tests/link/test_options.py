"""Every option of every command: a whole number has bounds on both sides, and the help names its kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from twophase.export.cli import ExportArguments
from twophase.export.verify.cli import VerifyArguments
from twophase.link.errors import InputError, LinkError
from twophase.link.options import option_of, parse
from twophase.sim.cli import SimArguments
from twophase.training.config import TrainConfig


def _whole(hint: Any) -> bool:
    """Whether a word may be taken for a whole number."""
    return hint is int or any(map(_whole, get_args(hint)))


def _numbers() -> Iterator[tuple[type, str]]:
    for kind in (TrainConfig, ExportArguments, SimArguments, VerifyArguments):
        hints = get_type_hints(kind)
        yield from ((kind, item.name) for item in fields(kind) if _whole(hints[item.name]))


@pytest.mark.parametrize(("kind", "name"), list(_numbers()))
@pytest.mark.parametrize("value", ["99999999999999999999", "-99999999999999999999", "9" * 5000])
def test_no_whole_number_is_without_bounds(kind: type, name: str, value: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(kind, [option_of(name), value], {})
    assert caught.value.name in (name, option_of(name))


@pytest.mark.parametrize("kind", [TrainConfig, ExportArguments, SimArguments, VerifyArguments])
def test_an_option_cut_short_answers_with_the_whole_one(kind: type) -> None:
    hints = get_type_hints(kind)
    assert all(get_origin(hint) is not dict for hint in hints.values())
    known = {option_of(item.name) for item in fields(kind)}
    for option in known:
        cut = option[:-1]
        if len(option) > 6 and cut not in known:
            with pytest.raises(LinkError, match=f"'{cut}' is no option: did you mean .*{option}"):
                parse(kind, [cut, "1"], {})
