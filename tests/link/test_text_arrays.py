"""Texts in arrays and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twophase.link.errors import InputError
from twophase.link.text import pack_texts, unpack_texts

UTF8 = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(UTF8))
def test_round_trip(texts):
    content, ends = pack_texts(texts)
    assert (content.dtype, ends.dtype, ends.shape) == (np.uint8, np.int64, (len(texts),))
    assert content.tobytes() == "".join(texts).encode()
    assert unpack_texts(content, ends) == tuple(texts)


def test_a_lone_surrogate_is_no_text():
    with pytest.raises(InputError, match="'texts' must be text that UTF-8 can hold"):
        pack_texts(["fine", "half \ud83d"])


@pytest.mark.parametrize(
    ("content", "ends", "message"),
    [
        (np.zeros(3, np.int8), [3], "'text' must be bytes in one row, not 'int8"),
        (np.zeros((1, 3), np.uint8), [3], "'text' must be bytes in one row"),
        (np.zeros(3, np.uint8), [3.0], "'text_ends' must be whole numbers in one row, not 'float64"),
        (np.zeros(3, np.uint8), [[3]], "'text_ends' must be whole numbers in one row"),
        (np.zeros(3, np.uint8), [2, 1, 3], "'text_ends' must rise to 3, the number of bytes"),
        (np.zeros(3, np.uint8), [1, 2], "'text_ends' must rise to 3, the number of bytes, not 2"),
        (np.zeros(3, np.uint8), [-1, 3], "'text_ends' must rise to 3"),
        (np.frombuffer("ü".encode(), np.uint8), [1, 2], "'text' must be UTF-8"),
    ],
)
def test_other_arrays_are_refused(content, ends, message):
    with pytest.raises(InputError, match=message):
        unpack_texts(content, np.array(ends))
