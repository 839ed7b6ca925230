"""Names of users are text in each medium."""

from __future__ import annotations

import csv
import io
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twophase.link.escape import csv_cell, html, markdown, markdown_code, visible

TEXTS = st.text(st.characters(codec=None, categories=None), max_size=30)


@given(TEXTS)
def test_nothing_unseen_is_left_in_any_medium(text: str) -> None:
    for escaped in (visible(text), html(text), markdown(text), markdown_code(text), csv_cell(text)):
        escaped.encode()  # UTF-8 has it all
        assert len((escaped + ".").splitlines()) == 1
        assert not {"Cc", "Zl", "Zp"} & set(map(unicodedata.category, escaped))


@given(TEXTS)
def test_a_page_and_a_table_give_back_what_is_seen(text: str) -> None:
    read: list[str] = []
    parser = HTMLParser(convert_charrefs=True)
    parser.handle_data = read.append  # type: ignore[method-assign]
    parser.feed(f"<p>{html(text)}</p>")
    parser.close()
    assert "".join(read) == visible(text)
    stream = io.StringIO()
    csv.writer(stream).writerow([csv_cell(text)])
    (row,) = csv.reader(io.StringIO(stream.getvalue()))
    assert row[0].removeprefix("'") == visible(text).removeprefix("'")
    assert row[0].lstrip()[:1] not in tuple("=+-@")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat", "cat"),
        ("16x64qam, 2.5 dB", "16x64qam, 2.5 dB"),
        ("well-known (a)", "well-known (a)"),
        ("<script>&amp;", "&lt;script&gt;&amp;amp;"),
        ("[x](javascript:f)", "\\[x\\](javascript&#58;f)"),
        ("a|b`c`", "a\\|b\\`c\\`"),
        ("$x^{2$ **b** __c__ ~~d~~", "\\$x^{2\\$ \\*\\*b\\*\\* \\_\\_c\\_\\_ \\~\\~d\\~\\~"),
        ("# a", "\\# a"),
        ("-5 dB", "-5 dB"),
        ("- a", "\\- a"),
        ("1. a", "1&#46; a"),
        ("a\r\n\n## b", "a\\\\x0d\\\\x0a\\\\x0a## b"),
        ("https://x.y www.x.y a@b.c", "https&#58;//x.y www&#46;x.y a&#64;b.c"),
        ("\x1b]0;x\x07\u202e\ud800", "\\\\x1b\\]0;x\\\\x07\\\\u202e\\\\ud800"),
    ],
)
def test_markdown_is_the_text_and_no_markup(text: str, shown: str) -> None:
    assert markdown(text) == shown


def test_code_in_markdown_outlasts_its_own_fences() -> None:
    assert markdown_code("tp-train") == "`tp-train`"
    assert markdown_code("a``b`<i>|\n") == "``` a``b`<i>\\x7c\\x0a ```"


def test_what_is_ours_is_kept() -> None:
    assert visible("a\n\x1b\n", "\n") == "a\n\\x1b\n"
