import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twophase.link.errors import InputError
from twophase.link.modes import QAM_ORDERS, LinkConfig, Mode, ModeTable

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


@SETTINGS
@given(MODES)
def test_symbols_hold_the_bits_with_less_than_one_to_spare(mode):
    assert mode.name == f"{mode.codebook_size}x{mode.order}qam"
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


def test_modes_are_the_product_codebook_major_and_take_a_number_where_names_repeat():
    assert [(mode.codebook, mode.tokens, mode.order) for mode in PLAIN] == [
        (0, 12, 4),
        (0, 12, 16),
        (1, 4, 4),
        (1, 4, 16),
    ]
    assert TWINS.names == ("64x4qam#0", "64x16qam#1", "64x4qam#2", "64x16qam#3", "16x4qam", "16x16qam")
    for size in (2, 65536):
        assert len(LinkConfig((size,), (1,), QAM_ORDERS, embedding_dim=1).modes) == 4


@pytest.mark.parametrize("name", ["", "64x64qam", "4", "-1", "1.0", "\u0661"])
def test_a_mode_that_is_not_there_is_named_with_the_choices(name):
    with pytest.raises(InputError) as caught:
        PLAIN.find(name)
    wanted = "'mode' must be one of 16x4qam, 16x16qam, 64x4qam, 64x16qam, or 0..3, not "
    assert str(caught.value) == wanted + repr(name)
    with pytest.raises(InputError, match=r"'mode' must be one of 64x4qam#0, 64x16qam#1, .* not '64x4qam'"):
        TWINS.find("64x4qam")


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("codebook_sizes", (), ()),
        ("codebook_sizes", (1,), 1),
        ("codebook_sizes", (48,), 48),
        ("codebook_sizes", (131072,), 131072),
        ("tokens", (4, 4), (4, 4)),
        ("tokens", (0,), 0),
        ("qam_orders", (), ()),
        ("qam_orders", (16, 128), 128),
        ("qam_orders", (16, 4, 16), (16, 4, 16)),
        ("embedding_dim", 0, 0),
    ],
)
def test_impossible_links_are_refused_by_name(name, value, named):
    with pytest.raises(InputError, match=f"'{name}' must") as caught:
        LinkConfig(**(VALID | {name: value}))
    assert caught.value.value == named


def test_a_table_has_modes():
    with pytest.raises(InputError, match="'modes' must hold at least one mode"):
        ModeTable(())
