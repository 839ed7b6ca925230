"""What a channel code of this package offers, and which kernels may run it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.demap import available_kernels
from twophase.link.errors import InputError

__all__ = ["BlockCode", "checked_bits", "checked_kernel", "checked_llr"]


class BlockCode(Protocol):
    """A binary code of ``k`` information and ``n`` code bits, rate matching included."""

    @property
    def k(self) -> int:
        """Information bits."""
        ...

    @property
    def n(self) -> int:
        """Code bits that are sent."""
        ...

    def encode(self, bits: ArrayLike) -> NDArray[np.uint8]:
        """Information bits, (..., k), to code bits, (..., n)."""
        ...

    def decode(self, llr: ArrayLike) -> NDArray[np.float32]:
        """Channel LLRs log P1/P0, (..., n), to the decoder's LLRs of the information bits, (..., k)."""
        ...


def checked_kernel(kernel: str) -> str:
    """``kernel`` if it is available here.

    Raises
    ------
    InputError
        If it is neither ``"numpy"`` nor, where numba is installed, ``"numba"``.
    """
    if kernel not in available_kernels():
        raise InputError("kernel", "be " + " or ".join(map(repr, available_kernels())), kernel)
    return kernel


def checked_bits(bits: ArrayLike, width: int) -> NDArray[np.uint8]:
    """Zeros and ones, shape (..., width).

    Raises
    ------
    InputError
        If the shape is wrong or something is neither 0 nor 1.
    """
    values = np.asarray(bits)
    if values.ndim == 0 or values.shape[-1] != width:
        raise InputError("bits", f"have shape (..., {width})", values.shape)
    if values.size and not ((values == 0) | (values == 1)).all():
        raise InputError("bits", "be zeros and ones", f"an array of {values.dtype}")
    return values.astype(np.uint8)


def checked_llr(llr: ArrayLike, width: int) -> NDArray[np.float32]:
    """Finite LLRs in single precision, shape (..., width), held within -:data:`LARGEST`..:data:`LARGEST`.

    Raises
    ------
    InputError
        If the shape is wrong or an LLR is not finite.
    """
    values = np.asarray(llr)
    if values.dtype.kind not in "iuf":
        raise InputError("llr", "be real numbers", f"an array of {values.dtype}")
    if values.ndim == 0 or values.shape[-1] != width:
        raise InputError("llr", f"have shape (..., {width})", values.shape)
    if not np.isfinite(values).all():
        raise InputError("llr", "be finite", "an array with NaN or infinity")
    return np.asarray(np.clip(values, -LARGEST, LARGEST), dtype=np.float32)


LARGEST = 1000.0
"""Bound on |LLR| that decoders work with: far beyond any doubt, and sums of it keep their digits."""
