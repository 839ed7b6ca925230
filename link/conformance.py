"""Conformance vectors: what a runtime must reproduce to send what was trained.

A bundle holds sets of inputs and outputs of its graphs in ONNX's test layout, ``test_data_set_N/input_M.pb``
and ``output_M.pb``, and one hash of all symbols that the transmitter's sets send.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.digest import sha256
from twophase.link.errors import InputError

__all__ = ["Conformance", "VectorSet", "stream_hash", "symbol_stream"]


@dataclass(frozen=True)
class VectorSet:
    """One set of inputs and outputs."""

    folder: str
    """``test_data_set_N``."""
    graph: str
    """``tx.onnx``, ``tx_head.onnx`` or ``rx.onnx``."""
    description: str
    """What the inputs are, in a few words."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"test_data_set_[0-9]+", self.folder):
            raise InputError("folder", "be 'test_data_set_' and a number", self.folder)
        if self.graph not in ("tx.onnx", "tx_head.onnx", "rx.onnx"):
            raise InputError("graph", "be 'tx.onnx', 'tx_head.onnx' or 'rx.onnx'", self.graph)


@dataclass(frozen=True)
class Conformance:
    """The sets of a bundle, in order, and the hash of the symbols of those of the transmitter's head."""

    sets: tuple[VectorSet, ...]
    symbols_sha256: str
    """``stream_hash`` of the sets of ``tx_head.onnx``, or of ``tx.onnx`` where that is the head."""

    def __post_init__(self) -> None:
        folders = [entry.folder for entry in self.sets]
        if len(set(folders)) != len(folders):
            raise InputError("sets", "each have a folder of its own", folders)


def symbol_stream(mode: ArrayLike, symbols: ArrayLike, symbol_count: ArrayLike) -> bytes:
    """What a transmitter sends, as bytes: for each sample its mode, then its symbols, one byte each.

    Parameters
    ----------
    mode
        Shape (batch,).
    symbols
        Constellation point numbers, shape (batch, max_symbols).
    symbol_count
        How many of them are sent, shape (batch,).
    """
    modes: NDArray[np.uint8] = np.asarray(mode).astype(np.uint8)
    points: NDArray[np.uint8] = np.asarray(symbols).astype(np.uint8)
    counts = np.asarray(symbol_count)
    rows = zip(modes, points, counts, strict=True)
    return b"".join(bytes([number]) + row[:count].tobytes() for number, row, count in rows)


def stream_hash(streams: Iterable[bytes]) -> str:
    """SHA-256 of streams one behind the other, in hexadecimal digits."""
    digest = sha256()
    for stream in streams:
        digest.update(stream)
    return digest.hexdigest()
