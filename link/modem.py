"""The modem: what a transmitter sends to frames of I/Q, and received I/Q to LLRs.

A frame is one row: the header's symbols (QPSK of unit energy), right after them the payload's (points of the
mode's constellation, divided by an amplitude), then nothing.  The transmitter does not use all points equally
often, so the amplitude evens out what they have on average: with the root of their mean energy both parts see
the Es/N0 of the axis.  Whoever sends says which amplitude that is: a device takes that of the mode from the
manifest (:attr:`~twophase.link.manifest.Manifest.amplitudes`), a simulation what it measures of its stream.

The channel is ``received = gain * frame + noise``, the noise complex Gaussian of total variance
``noise_var``.  A receiver looks for the payload after the header that it believes in.  Rows are handled mode
by mode, in groups that are made once for a block (:func:`group_by_mode`); no array mixes the bits of two
samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.constellation import qam
from twophase.link.demap import llr_exact
from twophase.link.demap_inputs import as_complex
from twophase.link.errors import ArtifactError, InputError
from twophase.link.files import sha256
from twophase.link.modes import Mode, ModeTable

__all__ = [
    "HEADER_ORDER",
    "Demap",
    "Group",
    "Transmission",
    "after",
    "frames_of",
    "group_by_mode",
    "header_llr",
    "modulate",
    "payload_llr",
    "received_frames",
    "stream_hash",
    "symbol_stream",
]

HEADER_ORDER = 4
"""The header's constellation: QPSK."""

Group = tuple[Mode, NDArray[np.intp]]
"""A mode in use, and the rows that use it."""

Demap = Callable[..., NDArray[np.float64]]
"""As :func:`~twophase.link.demap.llr_exact`: received, constellation, noise_var, gain, clip."""

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Transmission:
    """What the transmitter sends for each sample; integers only, padded to the largest mode.

    Entries after a sample's count are zero (bits, symbols) or -1 (indices, header) and are not sent.
    """

    mode: NDArray[np.int64]
    """Mode number, shape (batch,)."""
    indices: NDArray[np.int64]
    """Codeword indices, shape (batch, max_tokens)."""
    bits: NDArray[np.uint8]
    """Label bits with padding to whole symbols, shape (batch, max_bits)."""
    symbols: NDArray[np.int64]
    """Constellation point numbers, shape (batch, max_symbols)."""
    bit_count: NDArray[np.int64]
    """Channel bits of each sample, shape (batch,)."""
    symbol_count: NDArray[np.int64]
    """Channel uses of each sample's payload, shape (batch,)."""
    header: NDArray[np.int64]
    """QPSK point numbers that name the mode, shape (batch, max_header_symbols); no columns where the routing
    sends no header."""
    header_count: NDArray[np.int64]
    """Channel uses of each sample's header, shape (batch,)."""


def symbol_stream(mode: ArrayLike, symbols: ArrayLike, symbol_count: ArrayLike) -> bytes:
    """What a transmitter sends, as bytes: for each sample its mode, then its symbols, one byte each.

    ``mode`` and ``symbol_count`` are (batch,), ``symbols`` are point numbers, (batch, max_symbols).
    """
    modes: NDArray[np.uint8] = np.asarray(mode).astype(np.uint8)
    points: NDArray[np.uint8] = np.asarray(symbols).astype(np.uint8)
    counts = np.asarray(symbol_count)
    rows = zip(modes, points, counts, strict=True)
    return b"".join(bytes([number]) + row[:count].tobytes() for number, row, count in rows)


def stream_hash(streams: Iterable[bytes]) -> str:
    """SHA-256 of streams one after the other, in hexadecimal digits."""
    digest = sha256()
    for stream in streams:
        digest.update(stream)
    return digest.hexdigest()


def group_by_mode(mode: NDArray[np.int64], modes: ModeTable) -> list[Group]:
    """Each mode in use with the rows that use it, in the order of the modes.

    Raises
    ------
    ArtifactError
        If a mode does not exist.
    """
    groups = []
    for number in np.unique(mode):
        if not 0 <= number < len(modes):
            raise ArtifactError(f"a transmitter of the bundle chooses mode {number} of {len(modes)}")
        groups.append((modes[int(number)], np.flatnonzero(mode == number)))
    return groups


def modulate(symbols: NDArray[np.int64], groups: Sequence[Group]) -> NDArray[np.complex128]:
    """Constellation points of the payload's symbols, same shape; zero after a mode's symbols.

    Raises
    ------
    InputError
        If a symbol is no point of its mode's constellation.
    """
    points = np.zeros(symbols.shape, dtype=np.complex128)
    for mode, rows in groups:
        points[rows, : mode.symbols] = qam(mode.order).modulate(symbols[rows, : mode.symbols])
    return points


def frames_of(
    header: NDArray[np.int64], header_count: NDArray[np.int64], payload: NDArray[np.complex128]
) -> NDArray[np.complex128]:
    """Frames of I/Q, (batch, max_header_symbols + max_symbols): header, right after it payload, then zeros.

    Parameters
    ----------
    header
        QPSK point numbers, shape (batch, max_header_symbols).
    header_count
        How many of them are sent, shape (batch,).
    payload
        Points of unit average energy, zero after a sample's, shape (batch, max_symbols).
    """
    width = payload.shape[1]
    frames = np.zeros((len(payload), header.shape[1] + width), dtype=np.complex128)
    for length in np.unique(header_count):
        rows = np.flatnonzero(header_count == length)
        frames[rows, :length] = qam(HEADER_ORDER).modulate(header[rows, :length])
        frames[rows, length : length + width] = payload[rows]
    return frames


def after(rows: NDArray[Number], header_count: NDArray[np.int64], width: int) -> NDArray[Number]:
    """The ``width`` entries of each row after its header, (batch, n) to (batch, width).

    Whose header is counted is the caller's choice: the transmitter's, or the one that the receiver believes
    in.
    """
    if not header_count.any():
        return rows[:, :width]
    return np.take_along_axis(rows, header_count[:, np.newaxis] + np.arange(width), axis=1)


def header_llr(
    received: NDArray[np.complex128],
    noise_var: NDArray[np.float64],
    gain: NDArray[np.complex128],
    width: int,
    clip: float,
    demap: Demap = llr_exact,
) -> NDArray[np.float64] | None:
    """LLRs of the first ``width`` symbols of each frame as QPSK, (batch, 2 * width); None where that is 0."""
    if not width:
        return None
    first = slice(0, width)
    return demap(received[:, first], qam(HEADER_ORDER), noise_var[:, first], gain[:, first], clip)


def payload_llr(
    received: ArrayLike,
    noise_var: ArrayLike,
    gain: ArrayLike,
    groups: Sequence[Group],
    max_bits: int,
    clip: float,
    demap: Demap = llr_exact,
) -> NDArray[np.float64]:
    """LLRs of payloads cut out at their place, by the constellation of each mode: (batch, max_bits).

    They are zero after a mode's bits.

    Parameters
    ----------
    received
        Complex, shape (batch, n) with n at least the symbols of every mode in ``groups``.
    noise_var
        N0 of each symbol; broadcasts to ``received``.
    gain
        Total gain of each symbol, that of the channel divided by the payload's amplitude; broadcasts to
        ``received``.
    groups
        Modes, of :func:`group_by_mode`.
    max_bits
        Width of the result.
    clip
        Bound on |LLR|.
    demap
        What computes them.
    """
    symbols = np.asarray(received)
    variance = np.broadcast_to(noise_var, symbols.shape)
    gains = np.broadcast_to(gain, symbols.shape)
    llr = np.zeros((len(symbols), max_bits))
    for mode, rows in groups:
        width = mode.symbols
        llr[rows, : mode.channel_bits] = demap(
            symbols[rows, :width], qam(mode.order), variance[rows, :width], gains[rows, :width], clip
        )
    return llr


def received_frames(
    received: ArrayLike, noise_var: ArrayLike, gain: ArrayLike, width: int
) -> tuple[NDArray[np.complex128], NDArray[np.float64], NDArray[np.complex128]]:
    """What a receiver is given, checked, as arrays of (batch, width) each.

    Parameters
    ----------
    received
        Complex, shape (n,) or (batch, n).  Symbols that are missing get the gain zero, which makes their LLRs
        zero; those beyond ``width`` are left out.
    noise_var
        N0: one number, one per frame, or one per symbol.
    gain
        Complex: one number, one per frame, or one per symbol.
    width
        Symbols of the longest frame.

    Raises
    ------
    InputError
        If a shape is wrong, a value is not finite, or a variance is not above zero.
    """
    symbols = np.atleast_2d(as_complex("received", received)).astype(np.complex128)
    if symbols.ndim != 2 or not symbols.shape[0]:
        raise InputError("received", "have shape (n,) or (batch, n)", np.shape(received))
    single = np.ndim(received) < 2
    variance = _per_symbol("noise_var", as_complex("noise_var", noise_var), single, symbols.shape)
    gains = _per_symbol("gain", as_complex("gain", gain), single, symbols.shape)
    if variance.imag.any() or not (variance.real > 0).all():
        raise InputError("noise_var", "be real and above 0", noise_var)
    missing = max(0, width - symbols.shape[1])
    at_end = ((0, 0), (0, missing))
    return (
        np.pad(symbols, at_end)[:, :width],
        np.pad(variance.real, at_end, constant_values=1.0)[:, :width],
        np.pad(gains, at_end)[:, :width],
    )


def _per_symbol(
    name: str, values: NDArray[np.complexfloating], single: bool, shape: tuple[int, ...]
) -> NDArray[np.complex128]:
    """One value for all, one per frame, or one per symbol: shape (batch, n)."""
    given = values.shape
    if values.ndim == 1:
        values = values[np.newaxis] if single else values[:, np.newaxis]
    try:
        return np.broadcast_to(values, shape).astype(np.complex128)
    except ValueError:
        raise InputError(name, f"be one number, one per frame, or one per symbol {shape}", given) from None
