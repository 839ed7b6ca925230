import dataclasses

import pytest

from twophase.link.errors import InputError
from twophase.link.modes import QAM_ORDERS, LinkConfig

VALID = {"codebook_sizes": (64,), "tokens": (4,), "qam_orders": (16,), "embedding_dim": 8}


def test_one_codebook_over_one_constellation_is_one_mode():
    (mode,) = LinkConfig(**VALID).modes
    assert (mode.codebook, mode.codebook_size, mode.tokens, mode.order) == (0, 64, 4, 16)


def test_modes_are_the_product_codebook_major():
    link = LinkConfig(codebook_sizes=(16, 256), tokens=(6, 3), qam_orders=(4, 64), embedding_dim=2)
    assert [mode.name for mode in link.modes] == ["16x4qam", "16x64qam", "256x4qam", "256x64qam"]
    assert [mode.codebook for mode in link.modes] == [0, 0, 1, 1]
    assert [mode.tokens for mode in link.modes] == [6, 6, 3, 3]


@pytest.mark.parametrize("order", QAM_ORDERS)
@pytest.mark.parametrize("size", [2, 65536])
def test_limits_are_allowed(order, size):
    assert len(LinkConfig(**(VALID | {"codebook_sizes": (size,), "qam_orders": (order,)})).modes) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("codebook_sizes", ()),
        ("codebook_sizes", (0,)),
        ("codebook_sizes", (1,)),
        ("codebook_sizes", (-4,)),
        ("codebook_sizes", (48,)),
        ("codebook_sizes", (131072,)),
        ("tokens", ()),
        ("tokens", (4, 4)),
        ("tokens", (0,)),
        ("tokens", (-1,)),
        ("qam_orders", ()),
        ("qam_orders", (2,)),
        ("qam_orders", (8,)),
        ("qam_orders", (32,)),
        ("qam_orders", (16, 128)),
        ("qam_orders", (1024,)),
        ("embedding_dim", 0),
        ("embedding_dim", -3),
    ],
)
def test_impossible_links_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"'{name}' must"):
        LinkConfig(**(VALID | {name: value}))


def test_an_odd_number_of_bits_per_symbol_is_called_that():
    with pytest.raises(InputError, match=r"an even number of bits.*not 8"):
        LinkConfig(**(VALID | {"qam_orders": (8,)}))


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LinkConfig(**VALID).embedding_dim = 3
