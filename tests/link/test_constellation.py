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

every_order = pytest.mark.parametrize("order", QAM_ORDERS)


@every_order
def test_points_are_those_of_the_standard(order):
    table = TABLES[str(order)]
    expected = np.array([complex(re, im) for re, im in table["points"]]) / np.sqrt(table["scale_squared"])
    np.testing.assert_allclose(qam(order).points, expected, rtol=1e-15)
    assert len(set(qam(order).points.round(9).tolist())) == order == 2 ** qam(order).bits_per_symbol
    assert np.mean(np.abs(qam(order).points) ** 2) == pytest.approx(1, abs=1e-15)


@every_order
def test_axes_spell_the_points_and_their_levels_ascend_evenly(order):
    constellation = qam(order)
    levels = {
        bytes(bits): level
        for bits, level in zip(constellation.axis_labels, constellation.axis_levels, strict=True)
    }
    bits = indices_to_bits(np.arange(order), constellation.bits_per_symbol)
    for point, even, odd in zip(constellation.points, bits[:, 0::2], bits[:, 1::2], strict=True):
        assert point == levels[bytes(even)] + 1j * levels[bytes(odd)]
    count = round(np.sqrt(order))
    odds = constellation.axis_levels * np.sqrt(2 * (order - 1) / 3)
    np.testing.assert_allclose(odds, np.arange(-count + 1, count, 2), rtol=1e-14)


@every_order
def test_modulation_is_a_table_look_up(order):
    symbols = np.random.default_rng(1).integers(0, order, (3, 50))
    sent = qam(order).modulate(symbols)
    assert (sent.shape, sent.dtype) == (symbols.shape, np.complex128)
    assert sent.tolist() == [[qam(order).points[symbol] for symbol in row] for row in symbols]
    np.testing.assert_array_equal(qam(order).modulate(symbols.astype(np.uint8)), sent)
    assert qam(order).modulate([]).shape == (0,)


def test_constellations_are_cached_and_cannot_be_changed():
    constellation = qam(16)
    assert qam(16) is constellation
    for array in (constellation.points, constellation.axis_levels, constellation.axis_labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("order", [0, 2, 8, 128, 1024, -4, "16", 16.0, None, True])
def test_other_orders_are_refused(order):
    with pytest.raises(InputError, match="'order' must be 4, 16, 64 or 256"):
        qam(order)


@pytest.mark.parametrize(
    ("symbols", "told"), [([16], 16), ([0, -1], -1), ([0.0], "float64"), ([True], "bool")]
)
def test_numbers_without_a_point_are_refused(symbols, told):
    with pytest.raises(InputError, match=f"'symbols' must .*{told}"):
        qam(16).modulate(symbols)
