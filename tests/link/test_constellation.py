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


def test_points_written_out_in_the_standard():
    # TS 38.211 clause 5.1.4, 16-QAM times sqrt(10)
    points = qam(16).points * np.sqrt(10)
    np.testing.assert_allclose(
        points[[0b0000, 0b0001, 0b0010, 0b1111]], [1 + 1j, 1 + 3j, 3 + 1j, -3 - 3j], rtol=1e-15
    )


@every_order
def test_average_energy_is_one_and_the_mean_is_zero(order):
    points = qam(order).points
    assert np.mean(np.abs(points) ** 2) == pytest.approx(1, abs=1e-15)
    assert abs(points.mean()) < 1e-15


@every_order
def test_points_are_distinct_and_counted(order):
    constellation = qam(order)
    assert constellation.order == order == 2**constellation.bits_per_symbol
    assert len(set(constellation.points.round(9).tolist())) == order


@every_order
def test_labels_are_gray(order):
    """Nearest neighbours differ in one bit."""
    points = qam(order).points
    distance = np.abs(points[:, np.newaxis] - points)
    spacing = distance[distance > 0].min()
    first, second = np.nonzero(np.isclose(distance, spacing))
    assert len(first) == 4 * (order - np.sqrt(order))
    assert all((a ^ b).bit_count() == 1 for a, b in zip(first.tolist(), second.tolist(), strict=True))


@every_order
def test_axes_spell_the_points(order):
    constellation = qam(order)
    levels = {
        bytes(bits): level
        for bits, level in zip(constellation.axis_labels, constellation.axis_levels, strict=True)
    }
    bits = indices_to_bits(np.arange(order), constellation.bits_per_symbol)
    for point, even, odd in zip(constellation.points, bits[:, 0::2], bits[:, 1::2], strict=True):
        assert point == levels[bytes(even)] + 1j * levels[bytes(odd)]


@every_order
def test_axis_levels_ascend_evenly_and_symmetrically(order):
    levels = qam(order).axis_levels * np.sqrt(2 * (order - 1) / 3)
    count = round(np.sqrt(order))
    np.testing.assert_allclose(levels, np.arange(-count + 1, count, 2), rtol=1e-14)


@every_order
def test_modulation_is_a_table_look_up(order):
    constellation = qam(order)
    symbols = np.random.default_rng(1).integers(0, order, (3, 50))
    sent = constellation.modulate(symbols)
    assert sent.shape == symbols.shape
    assert sent.dtype == np.complex128
    assert all(sent[i, j] == constellation.points[symbols[i, j]] for i in range(3) for j in range(50))


def test_narrow_integers_modulate():
    np.testing.assert_array_equal(qam(256).modulate(np.array([255, 0], np.uint8)), qam(256).points[[255, 0]])


def test_constellations_are_cached_and_cannot_be_changed():
    constellation = qam(16)
    assert qam(16) is constellation
    for array in (constellation.points, constellation.axis_levels, constellation.axis_labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("order", [0, 1, 2, 8, 32, 128, 1024, -4, 15, "16", 16.0, None, True])
def test_other_orders_are_refused(order):
    with pytest.raises(InputError, match="'order' must be 4, 16, 64 or 256"):
        qam(order)


@pytest.mark.parametrize("symbols", [[16], [-1], [0.0], [True], [2**40]])
def test_numbers_without_a_point_are_refused(symbols):
    with pytest.raises(InputError, match="'symbols' must"):
        qam(16).modulate(symbols)


def test_nothing_modulates_to_nothing():
    assert qam(16).modulate([]).shape == (0,)
