"""Numbers to bits and back, MSB first, and packing of bits into whole symbols.

Bits are ``uint8`` zeros and ones on the last axis; leading axes are free.  A ``symbol`` is the number of a
constellation point: its binary digits, MSB first, are the bits that it carries.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import InputError

__all__ = [
    "as_array",
    "bits_to_indices",
    "bits_to_symbols",
    "indices_to_bits",
    "label_bits",
    "pad_bits",
    "symbols_to_bits",
    "whole_numbers",
]

MAX_WIDTH = 62
"""Widest number that fits into int64 with its sign."""


def indices_to_bits(indices: ArrayLike, width: int) -> NDArray[np.uint8]:
    """Binary digits of each number, MSB first, shape (..., width).

    Parameters
    ----------
    indices
        Integers of 0..2**width - 1, shape (...,).
    width
        Bits per number, 1..62.

    Raises
    ------
    InputError
        If a number is no integer or does not fit.

    Examples
    --------
    >>> indices_to_bits([6, 1], 3).tolist()
    [[1, 1, 0], [0, 0, 1]]
    """
    _check_width("width", width)
    numbers = whole_numbers("indices", indices, 1 << width)
    shifts = np.arange(width - 1, -1, -1, dtype=np.int64)
    return ((numbers[..., np.newaxis] >> shifts) & 1).astype(np.uint8)


def bits_to_indices(bits: ArrayLike) -> NDArray[np.int64]:
    """Numbers, (...,), whose binary digits are on the last axis of ``bits``; undoes :func:`indices_to_bits`.

    Parameters
    ----------
    bits
        Zeros and ones, shape (..., width) with a width of 1..62.

    Raises
    ------
    InputError
        If something is neither 0 nor 1 or the width is out of range.
    """
    digits = _binary(bits)
    width = digits.shape[-1]
    _check_width("bits", width)
    return digits.astype(np.int64) @ (np.int64(1) << np.arange(width - 1, -1, -1, dtype=np.int64))


def pad_bits(bits: ArrayLike, bits_per_symbol: int) -> NDArray[np.uint8]:
    """Append zeros until the bits fill whole symbols; (..., n) to (..., ceil(n / b) * b).

    Raises
    ------
    InputError
        If something is neither 0 nor 1 or ``bits_per_symbol`` is out of range.
    """
    _check_width("bits_per_symbol", bits_per_symbol)
    digits = _binary(bits)
    missing = -digits.shape[-1] % bits_per_symbol
    return np.pad(digits, [(0, 0)] * (digits.ndim - 1) + [(0, missing)])


def bits_to_symbols(bits: ArrayLike, bits_per_symbol: int) -> NDArray[np.int64]:
    """Point numbers that carry the bits: (..., n * bits_per_symbol) to (..., n).

    Raises
    ------
    InputError
        If the bits do not fill whole symbols (see :func:`pad_bits`) or are no bits.
    """
    _check_width("bits_per_symbol", bits_per_symbol)
    digits = _binary(bits)
    if digits.shape[-1] % bits_per_symbol:
        raise InputError(
            "bits", f"fill whole symbols of {bits_per_symbol} bits", f"{digits.shape[-1]} bits per row"
        )
    count = digits.shape[-1] // bits_per_symbol
    return bits_to_indices(digits.reshape(*digits.shape[:-1], count, bits_per_symbol))


def symbols_to_bits(symbols: ArrayLike, bits_per_symbol: int) -> NDArray[np.uint8]:
    """Bits that point numbers carry: (..., n) to (..., n * bits_per_symbol).

    Raises
    ------
    InputError
        If a number is no integer of 0..2**bits_per_symbol - 1 or ``symbols`` is a scalar.
    """
    digits = indices_to_bits(symbols, bits_per_symbol)
    if digits.ndim < 2:
        raise InputError("symbols", "have at least one axis", np.asarray(symbols).item())
    return digits.reshape(*digits.shape[:-2], digits.shape[-2] * bits_per_symbol)


def label_bits(labels: ArrayLike) -> NDArray[np.uint8]:
    """Table of the bits of each codeword's label, shape (K, log2 K).

    Parameters
    ----------
    labels
        A permutation of 0..K-1, K a power of two from 2; ``labels[k]`` is the label of codeword k.

    Raises
    ------
    InputError
        If ``labels`` is no such permutation.
    """
    numbers = whole_numbers("labels", labels)
    size = numbers.size
    if numbers.ndim != 1 or size < 2 or size & (size - 1):
        raise InputError("labels", "hold a power of two of numbers", f"shape {numbers.shape}")
    if not np.array_equal(np.sort(numbers), np.arange(size)):
        raise InputError("labels", f"be a permutation of 0..{size - 1}", numbers.tolist())
    return indices_to_bits(numbers, size.bit_length() - 1)


def _check_width(name: str, width: int) -> None:
    if isinstance(width, bool) or not isinstance(width, (int, np.integer)) or not 1 <= width <= MAX_WIDTH:
        raise InputError(name, f"be 1..{MAX_WIDTH} bits wide", width)


def as_array(name: str, values: ArrayLike) -> NDArray[np.generic]:
    """``values`` as an array; :class:`InputError` for rows of unequal length."""
    try:
        return np.asarray(values)
    except ValueError:
        raise InputError(name, "be an array", "rows of unequal length") from None


def whole_numbers(name: str, values: ArrayLike, count: int | None = None) -> NDArray[np.int64]:
    """``values`` as int64, same shape; :class:`InputError` unless they are integers, of 0..``count`` - 1."""
    array = as_array(name, values)
    if array.size and array.dtype.kind not in "iu":
        raise InputError(name, "be integers", f"an array of {array.dtype}")
    if count is None and array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise InputError(name, "fit into int64", int(array.max()))
    if count is not None and array.size and (array.min() < 0 or array.max() >= count):
        outlier = int(array.min() if array.min() < 0 else array.max())
        raise InputError(name, f"lie in 0..{count - 1}", outlier)
    return array.astype(np.int64)


def _binary(bits: ArrayLike) -> NDArray[np.uint8]:
    array = np.asarray(bits)
    if array.ndim == 0:
        raise InputError("bits", "have at least one axis", array.item())
    if array.size and (array.dtype.kind not in "iub" or not ((array == 0) | (array == 1)).all()):
        raise InputError("bits", "be integers 0 and 1", f"an array of {array.dtype} with other values")
    return array.astype(np.uint8)
