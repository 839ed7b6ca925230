import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.link.errors import InputError
from twophase.link.modes import LinkConfig, Mode, ModeTable, checked_modes

MODES = st.builds(
    Mode,
    codebook=st.just(0),
    codebook_size=st.integers(1, 16).map(lambda bits: 2**bits),
    tokens=st.integers(1, 40),
    order=st.sampled_from([4, 16, 64, 256]),
)
SETTINGS = settings(deadline=None, max_examples=80, derandomize=True)


def test_24_bits_in_six_symbols():
    mode = Mode(codebook=0, codebook_size=64, tokens=4, order=16)
    assert mode.name == "64x16qam"
    assert (mode.bits_per_index, mode.bits_per_symbol) == (6, 4)
    assert (mode.information_bits, mode.symbols, mode.channel_bits) == (24, 6, 24)


def test_bits_that_do_not_fill_the_last_symbol_are_padded():
    mode = Mode(codebook=0, codebook_size=8, tokens=3, order=16)
    assert (mode.information_bits, mode.symbols, mode.channel_bits) == (9, 3, 12)


@SETTINGS
@given(MODES)
def test_symbols_hold_the_bits_with_less_than_one_to_spare(mode):
    assert 2**mode.bits_per_index == mode.codebook_size
    assert 2**mode.bits_per_symbol == mode.order
    assert mode.information_bits == mode.tokens * mode.bits_per_index
    assert mode.channel_bits == mode.symbols * mode.bits_per_symbol
    assert 0 <= mode.channel_bits - mode.information_bits < mode.bits_per_symbol


@SETTINGS
@given(st.lists(MODES, min_size=1, max_size=6))
def test_widths_are_those_of_the_widest_mode_in_each_respect(modes):
    table = ModeTable(tuple(modes))
    assert list(table) == modes
    assert len(table) == len(modes)
    assert table[len(modes) - 1] == modes[-1]
    for width, each in (
        (table.max_tokens, [mode.tokens for mode in modes]),
        (table.max_bits, [mode.channel_bits for mode in modes]),
        (table.max_symbols, [mode.symbols for mode in modes]),
        (table.max_codebook_size, [mode.codebook_size for mode in modes]),
    ):
        assert width in each
        assert all(width >= value for value in each)


def test_a_table_has_modes():
    with pytest.raises(InputError, match="'modes' must hold at least one mode"):
        ModeTable(())


PLAIN = LinkConfig(codebook_sizes=(16, 64), tokens=(12, 4), qam_orders=(4, 16), embedding_dim=2).modes
TWINS = LinkConfig(codebook_sizes=(64, 64, 16), tokens=(4, 2, 3), qam_orders=(4, 16), embedding_dim=2).modes


def test_names_are_those_of_the_modes_with_a_number_where_they_repeat():
    assert PLAIN.names == ("16x4qam", "16x16qam", "64x4qam", "64x16qam")
    assert TWINS.names == ("64x4qam#0", "64x16qam#1", "64x4qam#2", "64x16qam#3", "16x4qam", "16x16qam")


@SETTINGS
@given(st.lists(MODES, min_size=1, max_size=12))
def test_every_mode_is_found_by_its_name_and_by_its_number(modes):
    table = ModeTable(tuple(modes))
    assert len(set(table.names)) == len(modes)
    for number, name in enumerate(table.names):
        assert name.startswith(modes[number].name)
        assert table.find(name) == table.find(str(number)) == table.find(f" {name} ") == number


@pytest.mark.parametrize(
    "name", ["", "64x64qam", "4", "-1", "1.0", "0x1", "16x4qam#0", "16X4QAM", "\u0661", "16x4qam 64x4qam"]
)
def test_a_mode_that_is_not_there_is_told_with_the_choices(name):
    with pytest.raises(InputError) as caught:
        PLAIN.find(name)
    wanted = "'mode' must be one of 16x4qam, 16x16qam, 64x4qam, 64x16qam, or 0..3, not "
    assert str(caught.value) == wanted + repr(name)


def test_an_ambiguous_name_is_told_with_the_choices():
    with pytest.raises(InputError, match=r"'mode' must be one of 64x4qam#0, 64x16qam#1, .* not '64x4qam'"):
        TWINS.find("64x4qam")


def test_mode_numbers_are_checked_and_keep_their_shape():
    for numbers in (2, [0, 2], np.array([[1], [2]], dtype=np.uint8), np.zeros((0, 3), dtype=np.int32)):
        checked = checked_modes(numbers, 3)
        assert (checked.dtype, checked.shape) == (np.int64, np.shape(numbers))
        np.testing.assert_array_equal(checked, numbers)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (3, r"lie in 0\.\.2, not 3"),
        ([0, -1, 5], r"lie in 0\.\.2, not -1"),
        (1.0, "be integers, not 'an array of float64'"),
        ([True], "be integers, not 'an array of bool'"),
        ("1", "be integers"),
        (np.uint64(2**63), r"lie in 0\.\.2, not 9223372036854775808"),
    ],
)
def test_what_is_no_mode_number_is_refused(numbers, message):
    with pytest.raises(InputError, match=f"'mode' must {message}"):
        checked_modes(numbers, 3)
