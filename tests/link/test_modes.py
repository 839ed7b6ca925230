import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.link.errors import InputError
from twophase.link.modes import QAM_ORDERS, LinkConfig, Mode, ModeTable, checked_modes

MODES = st.builds(
    Mode,
    codebook=st.just(0),
    codebook_size=st.integers(1, 16).map(lambda bits: 2**bits),
    tokens=st.integers(1, 40),
    order=st.sampled_from(QAM_ORDERS),
)
SETTINGS = settings(deadline=None, max_examples=50, derandomize=True)
VALID = {"codebook_sizes": (64,), "tokens": (4,), "qam_orders": (16,), "embedding_dim": 8}
PLAIN = LinkConfig(codebook_sizes=(16, 64), tokens=(12, 4), qam_orders=(4, 16), embedding_dim=2).modes
TWINS = LinkConfig(codebook_sizes=(64, 64, 16), tokens=(4, 2, 3), qam_orders=(4, 16), embedding_dim=2).modes


@pytest.mark.parametrize(("size", "tokens", "bits"), [(64, 4, (24, 6, 24)), (8, 3, (9, 3, 12))])
def test_bits_fill_whole_symbols(size, tokens, bits):
    mode = Mode(codebook=0, codebook_size=size, tokens=tokens, order=16)
    assert mode.name == f"{size}x16qam"
    assert (mode.information_bits, mode.symbols, mode.channel_bits) == bits


@SETTINGS
@given(MODES)
def test_symbols_hold_the_bits_with_less_than_one_to_spare(mode):
    assert 2**mode.bits_per_index == mode.codebook_size
    assert 2**mode.bits_per_symbol == mode.order
    assert mode.information_bits == mode.tokens * mode.bits_per_index
    assert mode.channel_bits == mode.symbols * mode.bits_per_symbol
    assert 0 <= mode.channel_bits - mode.information_bits < mode.bits_per_symbol


@SETTINGS
@given(st.lists(MODES, min_size=1, max_size=8))
def test_a_table_holds_modes_in_order_finds_each_and_knows_the_largest(modes):
    table = ModeTable(tuple(modes))
    assert list(table) == modes
    assert (len(table), table[len(modes) - 1]) == (len(modes), modes[-1])
    assert table.max_tokens == max(mode.tokens for mode in modes)
    assert table.max_bits == max(mode.channel_bits for mode in modes)
    assert table.max_symbols == max(mode.symbols for mode in modes)
    assert table.max_codebook_size == max(mode.codebook_size for mode in modes)
    assert len(set(table.names)) == len(modes)
    for number, name in enumerate(table.names):
        assert name.startswith(modes[number].name)
        assert table.find(name) == table.find(str(number)) == table.find(f" {name} ") == number


def test_names_are_those_of_the_modes_with_a_number_where_they_repeat():
    assert PLAIN.names == ("16x4qam", "16x16qam", "64x4qam", "64x16qam")
    assert TWINS.names == ("64x4qam#0", "64x16qam#1", "64x4qam#2", "64x16qam#3", "16x4qam", "16x16qam")


@pytest.mark.parametrize("name", ["", "64x64qam", "4", "-1", "1.0", "0x1", "16x4qam#0", "16X4QAM", "\u0661"])
def test_a_mode_that_is_not_there_is_told_with_the_choices(name):
    with pytest.raises(InputError) as caught:
        PLAIN.find(name)
    wanted = "'mode' must be one of 16x4qam, 16x16qam, 64x4qam, 64x16qam, or 0..3, not "
    assert str(caught.value) == wanted + repr(name)
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
        ([True], "be integers"),
        (np.uint64(2**63), r"lie in 0\.\.2, not 9223372036854775808"),
    ],
)
def test_what_is_no_mode_number_is_refused(numbers, message):
    with pytest.raises(InputError, match=f"'mode' must {message}"):
        checked_modes(numbers, 3)


def test_modes_are_the_product_codebook_major():
    link = LinkConfig(codebook_sizes=(16, 256), tokens=(6, 3), qam_orders=(4, 64), embedding_dim=2)
    assert [mode.name for mode in link.modes] == ["16x4qam", "16x64qam", "256x4qam", "256x64qam"]
    assert [mode.codebook for mode in link.modes] == [0, 0, 1, 1]
    assert [mode.tokens for mode in link.modes] == [6, 6, 3, 3]
    for size in (2, 65536):
        assert len(LinkConfig((size,), (1,), QAM_ORDERS, embedding_dim=1).modes) == 4


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("codebook_sizes", (), ()),
        ("codebook_sizes", (1,), 1),
        ("codebook_sizes", (-4,), -4),
        ("codebook_sizes", (48,), 48),
        ("codebook_sizes", (131072,), 131072),
        ("tokens", (), ()),
        ("tokens", (4, 4), (4, 4)),
        ("tokens", (0,), 0),
        ("qam_orders", (), ()),
        ("qam_orders", (8,), 8),
        ("qam_orders", (16, 128), 128),
        ("qam_orders", (16, 4, 16), (16, 4, 16)),
        ("embedding_dim", 0, 0),
    ],
)
def test_impossible_links_are_refused_by_name(name, value, told):
    with pytest.raises(InputError, match=f"'{name}' must") as caught:
        LinkConfig(**(VALID | {name: value}))
    assert caught.value.value == told


def test_a_table_has_modes_and_a_config_cannot_be_changed():
    with pytest.raises(InputError, match="'modes' must hold at least one mode"):
        ModeTable(())
    with pytest.raises(dataclasses.FrozenInstanceError):
        LinkConfig(**VALID).embedding_dim = 3
