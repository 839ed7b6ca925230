"""Docstrings as pages: roles such as ``:func:`` become links, doctests become code blocks."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|attr|mod|data|exc):`(~?)([\w.]+)`")
DOCTEST = re.compile(r"(?m)^([ \t]*)>>> (?:.*\n?)(?:^\1\S.*\n?)*")


class Roles(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring is None:
            return
        text = ROLE.sub(self._link, obj.docstring.value)
        text = re.sub(r"[ \t]+# doctest: \+\w+", "", text)
        text = DOCTEST.sub(self._fenced, text)
        obj.docstring.value = re.sub(r"(?m)::$", ":", text)

    @staticmethod
    def _link(match: re.Match[str]) -> str:
        name = match[2].rpartition(".")[2] if match[1] else match[2]
        return f'<autoref identifier="{match[2]}" optional><code>{name}</code></autoref>'

    @staticmethod
    def _fenced(match: re.Match[str]) -> str:
        indent, text = match[1], match[0].rstrip("\n")
        return f"{indent}```pycon\n{text}\n{indent}```\n"
