"""Sentences as bits: nothing is lost, the shortest code is taken, the field is charged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.tiny_text import huffman_lengths
from twophase.link.errors import InputError
from twophase.sim.baselines.text_source import FIELD_BITS, FIVE_BIT, TextSource, source_of

LENGTHS = huffman_lengths(b"A film that is worth seeing twice, and then once more.")
SOURCE = TextSource(LENGTHS)


@given(st.text(min_size=1, max_size=60))
def test_every_sentence_comes_back(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert SOURCE.decode(SOURCE.encode(text)) == text
    assert SOURCE.decode([*SOURCE.encode(text), 0, 1, 1]) == text


def test_five_bits_serve_lower_case_alone() -> None:
    flat = TextSource(np.full(256, 8))
    assert len(FIVE_BIT) == len(set(FIVE_BIT)) == 32
    assert source_of(flat.encode(FIVE_BIT)) == "five"
    assert len(flat.encode(FIVE_BIT)) == FIELD_BITS + 5 * 32
    assert source_of(flat.encode("Upper")) == "huffman"
    assert len(flat.encode("Upper")) == FIELD_BITS + 8 * 5


def test_huffman_takes_the_bits_that_its_lengths_say() -> None:
    text = "That film is worth more"
    bits = SOURCE.encode(text)
    assert source_of(bits) == "huffman"
    assert len(bits) == FIELD_BITS + int(LENGTHS[list(text.encode())].sum())
    # A complete code: no string of bits is left without a meaning.
    assert sum(2.0 ** -LENGTHS.astype(float)) == 1


def test_what_repeats_is_deflated_and_what_is_long_has_a_longer_field() -> None:
    assert source_of(SOURCE.encode("Again! " * 50)) == "deflate"
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list(FIVE_BIT), 3000))
    flat = TextSource(np.full(256, 8))
    bits = flat.encode(text)
    assert (source_of(bits), len(bits)) == ("five", FIELD_BITS + 24 + 5 * 3000)
    assert flat.decode(bits) == text
    assert [len(flat.encode("a" * n)) - 5 * n for n in (1, 5)] == [FIELD_BITS] * 2


@pytest.mark.parametrize("bits", [[], [0, 1], [1, 1, *[0] * 20], [0, 1, *[0] * 9, 1]])
def test_other_bits_and_no_text_are_refused(bits: list[int]) -> None:
    with pytest.raises(InputError, match="'bits' must be those of a sentence"):
        SOURCE.decode(bits)
    with pytest.raises(InputError, match="'text' must not be empty"):
        SOURCE.encode("")
