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
    whole_numbers,
)
from twophase.link.errors import InputError

SETTINGS = settings(deadline=None, max_examples=50, derandomize=True)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def spelled(bits):
    return ["".join(map(str, row)) for row in bits.reshape(-1, bits.shape[-1]).tolist()]


@SETTINGS
@given(st.data(), st.integers(1, MAX_WIDTH), SHAPES)
def test_numbers_round_trip_with_the_most_significant_bit_first(data, width, shape):
    numbers = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 2**width - 1)))
    bits = indices_to_bits(numbers, width)
    assert (bits.shape, bits.dtype) == ((*shape, width), np.uint8)
    assert spelled(bits) == [f"{number:0{width}b}" for number in numbers.ravel()]
    for given_bits in (bits, bits.astype(bool)):
        back = bits_to_indices(given_bits)
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
    assert symbols.ravel().tolist() == [int(word, 2) for word in spelled(padded.reshape(-1, bits_per_symbol))]
    np.testing.assert_array_equal(symbols_to_bits(symbols, bits_per_symbol), padded)


@SETTINGS
@given(st.integers(1, 7).flatmap(lambda width: st.permutations(range(2**width))))
def test_label_table_spells_each_label(labels):
    table = label_bits(labels)
    assert table.shape == (len(labels), len(labels).bit_length() - 1)
    np.testing.assert_array_equal(bits_to_indices(table), labels)


def test_whole_numbers_keep_their_shape_and_others_are_refused():
    for numbers in (2, [0, 2], np.array([[1], [2]], dtype=np.uint8), np.zeros((0, 3), dtype=np.int32), []):
        checked = whole_numbers("x", numbers, 3)
        assert (checked.dtype, checked.shape) == (np.int64, np.shape(numbers))
        np.testing.assert_array_equal(checked, numbers)
    for numbers, message in (
        (3, r"lie in 0\.\.2, not 3"),
        ([0, -1, 5], r"lie in 0\.\.2, not -1"),
        ([True], "be integers, not 'an array of bool'"),
        (np.uint64(2**63), r"lie in 0\.\.2, not 9223372036854775808"),
    ):
        with pytest.raises(InputError, match=f"'x' must {message}"):
            whole_numbers("x", numbers, 3)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: indices_to_bits([4], 2), "indices"),
        (lambda: indices_to_bits([-1], 2), "indices"),
        (lambda: indices_to_bits([0], 0), "width"),
        (lambda: indices_to_bits([0], 63), "width"),
        (lambda: indices_to_bits([0], 2.0), "width"),
        (lambda: indices_to_bits([0], True), "width"),
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
