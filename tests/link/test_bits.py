import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from twophase.link.bits import (
    MAX_WIDTH,
    bits_to_indices,
    bits_to_symbols,
    indices_to_bits,
    label_bits,
    pad_bits,
    symbols_to_bits,
)
from twophase.link.errors import InputError

SETTINGS = settings(deadline=None, max_examples=50, derandomize=True)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@SETTINGS
@given(st.data(), st.integers(1, MAX_WIDTH), SHAPES)
def test_numbers_round_trip_with_the_most_significant_bit_first(data, width, shape):
    numbers = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 2**width - 1)))
    bits = indices_to_bits(numbers, width)
    assert (bits.shape, bits.dtype) == ((*shape, width), np.uint8)
    spelled = ["".join(map(str, row)) for row in bits.reshape(-1, width).tolist()]
    assert spelled == [f"{number:0{width}b}" for number in numbers.ravel()]
    back = bits_to_indices(bits)
    assert back.dtype == np.int64
    np.testing.assert_array_equal(back, numbers)


@SETTINGS
@given(st.data(), st.sampled_from([2, 4, 6, 8]), st.integers(0, 40))
def test_bits_travel_in_whole_symbols(data, bits_per_symbol, count):
    bits = data.draw(hnp.arrays(np.uint8, (3, count), elements=st.integers(0, 1)))
    padded = pad_bits(bits, bits_per_symbol)
    assert padded.shape[-1] % bits_per_symbol == 0
    assert 0 <= padded.shape[-1] - count < bits_per_symbol
    np.testing.assert_array_equal(padded[:, :count], bits)
    assert not padded[:, count:].any()
    symbols = bits_to_symbols(padded, bits_per_symbol)
    assert symbols.shape == (3, padded.shape[-1] // bits_per_symbol)
    np.testing.assert_array_equal(symbols_to_bits(symbols, bits_per_symbol), padded)


def test_symbols_take_their_bits_in_order_and_booleans_are_bits():
    assert bits_to_symbols([1, 0, 0, 1, 0, 1, 1, 1], 4).tolist() == [0b1001, 0b0111]
    assert symbols_to_bits([[2], [1]], 2).tolist() == [[1, 0], [0, 1]]
    assert bits_to_indices(np.array([True, False, True])) == 5


@SETTINGS
@given(st.integers(1, 7).flatmap(lambda width: st.permutations(range(2**width))))
def test_label_table_spells_each_label(labels):
    table = label_bits(labels)
    assert table.shape == (len(labels), len(labels).bit_length() - 1)
    np.testing.assert_array_equal(bits_to_indices(table), labels)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: indices_to_bits([4], 2), "indices"),
        (lambda: indices_to_bits([-1], 2), "indices"),
        (lambda: indices_to_bits([0.5], 2), "indices"),
        (lambda: indices_to_bits([True], 2), "indices"),
        (lambda: indices_to_bits(np.array([2**63], dtype=np.uint64), 62), "indices"),
        (lambda: indices_to_bits([0], 0), "width"),
        (lambda: indices_to_bits([0], 63), "width"),
        (lambda: indices_to_bits([0], 2.0), "width"),
        (lambda: bits_to_indices([0, 2]), "bits"),
        (lambda: bits_to_indices([0.0, 1.0]), "bits"),
        (lambda: bits_to_indices(1), "bits"),
        (lambda: bits_to_indices(np.zeros(63, np.uint8)), "bits"),
        (lambda: bits_to_symbols([0, 1, 1], 2), "bits"),
        (lambda: pad_bits([0, 1], 0), "bits_per_symbol"),
        (lambda: symbols_to_bits(3, 2), "symbols"),
        (lambda: label_bits([0, 1, 2]), "labels"),
        (lambda: label_bits([0]), "labels"),
        (lambda: label_bits([[0, 1]]), "labels"),
        (lambda: label_bits([1, 2]), "labels"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(InputError, match=f"'{name}' must"):
        call()


def test_empty_arrays_keep_their_shape():
    assert indices_to_bits(np.zeros((0, 3), np.int64), 4).shape == (0, 3, 4)
    assert pad_bits(np.zeros((2, 0), np.uint8), 4).shape == (2, 0)
    assert bits_to_symbols(np.zeros((2, 0), np.uint8), 4).shape == (2, 0)
    assert symbols_to_bits(np.zeros((2, 0), np.int64), 4).shape == (2, 0)
