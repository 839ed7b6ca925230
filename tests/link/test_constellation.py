import json
from pathlib import Path

import numpy as np
import pytest

from twophase.link.bits import indices_to_bits
from twophase.link.constellation import qam
from twophase.link.errors import InputError
from twophase.link.modes import QAM_ORDERS

REFERENCE = Path(__file__).parents[1] / "reference" / "qam_points.json"
TABLES = json.loads(REFERENCE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("order", QAM_ORDERS)
def test_points_are_those_of_the_standard_and_axes_spell_them(order):
    constellation, table = qam(order), TABLES[str(order)]
    expected = np.array([complex(re, im) for re, im in table["points"]]) / np.sqrt(table["scale_squared"])
    np.testing.assert_allclose(constellation.points, expected, rtol=1e-15)
    assert 2**constellation.bits_per_symbol == order
    levels = dict(zip(map(bytes, constellation.axis_labels), constellation.axis_levels, strict=True))
    bits = indices_to_bits(np.arange(order), constellation.bits_per_symbol)
    for point, even, odd in zip(constellation.points, bits[:, 0::2], bits[:, 1::2], strict=True):
        assert point == levels[bytes(even)] + 1j * levels[bytes(odd)]
    count = round(np.sqrt(order))
    odds = constellation.axis_levels * np.sqrt(2 * (order - 1) / 3)
    np.testing.assert_allclose(odds, np.arange(-count + 1, count, 2), rtol=1e-14)


def test_modulation_is_a_table_look_up():
    symbols = np.random.default_rng(1).integers(0, 64, (3, 50))
    sent = qam(64).modulate(symbols)
    assert (sent.shape, sent.dtype) == (symbols.shape, np.complex128)
    assert sent.tolist() == [[qam(64).points[symbol] for symbol in row] for row in symbols]
    np.testing.assert_array_equal(qam(64).modulate(symbols.astype(np.uint8)), sent)
    assert qam(64).modulate([]).shape == (0,)


def test_constellations_are_cached_and_cannot_be_changed():
    constellation = qam(16)
    assert qam(16) is constellation
    for array in (constellation.points, constellation.axis_levels, constellation.axis_labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("order", [2, 8, "16", 16.0, True])
def test_other_orders_are_refused(order):
    with pytest.raises(InputError, match="'order' must be 4, 16, 64 or 256"):
        qam(order)


@pytest.mark.parametrize(
    ("symbols", "named"), [([16], 16), ([0, -1], -1), ([0.0], "float64"), ([True], "bool")]
)
def test_numbers_without_a_point_are_refused(symbols, named):
    with pytest.raises(InputError, match=f"'symbols' must .*{named}"):
        qam(16).modulate(symbols)
