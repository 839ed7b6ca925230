import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.link.errors import InputError
from twophase.link.modes import Mode, ModeTable

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
