"""Texts as arrays, as a test split holds them: the UTF-8 of all, and where each ends."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from twophase.link.errors import InputError

__all__ = ["pack_texts", "unpack_texts"]


def pack_texts(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Bytes of all texts, shape (total,), and the offset at which each ends, shape (texts,).

    Raises
    ------
    InputError
        If a text cannot be written in UTF-8.

    Examples
    --------
    >>> content, ends = pack_texts(["ab", "ü"])
    >>> content.tolist(), ends.tolist()
    ([97, 98, 195, 188], [2, 4])
    """
    try:
        written = [text.encode() for text in texts]
    except UnicodeEncodeError as error:
        raise InputError("texts", "be text that UTF-8 can hold", error.object[error.start]) from None
    ends = np.cumsum([len(entry) for entry in written], dtype=np.int64)
    return np.frombuffer(b"".join(written), dtype=np.uint8), ends


def unpack_texts(content: NDArray[np.generic], ends: NDArray[np.generic]) -> tuple[str, ...]:
    """The texts; inverse of :func:`pack_texts`.

    Raises
    ------
    InputError
        If the arrays are no such pair.
    """
    if content.dtype != np.uint8 or content.ndim != 1:
        raise InputError("text", "be bytes in one row", f"{content.dtype} of shape {content.shape}")
    if ends.dtype.kind not in "iu" or ends.ndim != 1:
        raise InputError("text_ends", "be whole numbers in one row", f"{ends.dtype} of shape {ends.shape}")
    places = [0, *ends.tolist()]
    if places != sorted(places) or places[-1] != content.size:
        raise InputError("text_ends", f"rise to {content.size}, the number of bytes", places[-1])
    whole = content.tobytes()
    try:
        return tuple(whole[start:end].decode() for start, end in pairwise(places))
    except UnicodeDecodeError as error:
        raise InputError("text", "be UTF-8", error.object[error.start : error.end]) from None
