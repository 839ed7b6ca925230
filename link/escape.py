"""Text of users as text, in each medium: a name is never markup, a formula or a control sequence there.

``visible`` suits terminals and logs; the other functions contain it.
"""

from __future__ import annotations

import re
from html import escape

__all__ = ["csv_cell", "figure", "html", "markdown", "markdown_code", "visible"]

_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
"""Control characters, separators of lines, marks that turn the direction of writing, and lone surrogates."""

_MARKUP = re.compile(r"[\\`*_\[\]|~$]|^[#+-](?=[\s#+-]|$)|(?<=^\d)[.)](?=\s|$)|(?<=^\d\d)[.)](?=\s|$)")
_LINK = re.compile(r"(?i)(?<=[a-z])(?::(?=\S)|@)|(?<=www)\.")


def visible(text: str, keep: str = "") -> str:
    r"""``text`` in one line that shows what cannot be seen by its number: ``\x1b``, ``\u202e``.

    Parameters
    ----------
    keep
        Characters that stay, such as the newlines of a text of ours.
    """
    return _UNSEEN.sub(lambda found: found[0] if found[0] in keep else _number(ord(found[0])), text)


def figure(text: str) -> str:
    """For matplotlib, which takes what stands between two dollars for a formula."""
    return visible(text).replace("$", r"\$")


def html(text: str) -> str:
    """For the text and the quoted attributes of a page."""
    return escape(visible(text))


def markdown(text: str) -> str:
    """For a line, a table or a list of Markdown: no markup, link, tag or formula."""
    shown = _MARKUP.sub(lambda found: _entity(found[0]), visible(text).replace("&", "&amp;"))
    return _LINK.sub(lambda found: _entity(found[0]), shown.replace("<", "&lt;").replace(">", "&gt;"))


def markdown_code(text: str) -> str:
    """For a line, a table or a list of Markdown, as code."""
    shown = visible(text).replace("|", "\\x7c")  # which ends a cell even there
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{fence}{shown}{fence}" if len(fence) == 1 else f"{fence} {shown} {fence}"


def csv_cell(text: str) -> str:
    """For a cell: what a spreadsheet would take for a formula begins with an apostrophe."""
    shown = visible(text)
    return f"'{shown}" if shown.lstrip()[:1] in tuple("=+-@") else shown


def _entity(found: str) -> str:
    """A backslash, which Markdown takes away and a reader of the file overlooks, where one will do."""
    return f"\\{found}" if found in tuple("\\`*_[]|~$#+-") else f"&#{ord(found)};"


def _number(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
