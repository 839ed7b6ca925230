"""The frame of a sample: header symbols, payload symbols, then nothing; one row of the air for each sample.

The header is QPSK and has unit energy as it is; the payload's stream is scaled to unit average energy by
itself (:mod:`twophase.sim.streams`).  So both see the Es/N0 of the axis, and that of the whole is the same.
Every row is as wide as the longest frame, so that gains and noise are drawn alike whatever is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from twophase.link.constellation import qam
from twophase.link.header import Header
from twophase.sim.air.radio import Arrival
from twophase.sim.streams import Stream

__all__ = ["HEADER_ORDER", "Frames", "arrival_behind", "behind", "framed", "shifted", "widened"]

HEADER_ORDER = 4
"""The header's constellation: QPSK."""

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Frames:
    """What one system puts on the air for all samples."""

    mode: NDArray[np.int64]
    """Shape (samples,)."""
    header_count: NDArray[np.int64]
    """Header symbols of each sample, shape (samples,)."""
    points: NDArray[np.complex128]
    """Shape (samples, widest header + max_symbols); zero behind a sample's frame."""
    energy: float
    """E, average energy per payload symbol before scaling."""


def framed(stream: Stream, header: Header, snr_db: NDArray[np.float32]) -> Frames:
    """Put in front of each payload the header that tells its mode, coded for the transmitter's SNR.

    Parameters
    ----------
    stream
        Modes and scaled payload points of all samples.
    header
        The headers of the link; of no symbols if the receiver need not be told.
    snr_db
        Es/N0 in dB that the transmitter acts on, shape (samples,).
    """
    symbols, count = header.encode(stream.mode, snr_db)
    payload_width = stream.points.shape[1]
    points = np.zeros((len(stream.mode), header.max_symbols + payload_width), dtype=np.complex128)
    for length in np.unique(count):
        rows = np.flatnonzero(count == length)
        points[rows, :length] = qam(HEADER_ORDER).modulate(symbols[rows, :length])
        points[rows, length : length + payload_width] = stream.points[rows]
    return Frames(stream.mode, count, points, stream.energy)


def behind(row: NDArray[Number], header_count: NDArray[np.int64], width: int) -> NDArray[Number]:
    """The ``width`` entries of each row behind its header, (samples, n) to (samples, width).

    Whose header is counted is the caller's: the transmitter's, or the one that the receiver believes in.
    """
    if not header_count.any():
        return row[:, :width]
    return np.take_along_axis(row, header_count[:, np.newaxis] + np.arange(width), axis=1)


def arrival_behind(arrival: Arrival, header_count: NDArray[np.int64], width: int) -> Arrival:
    """What arrived behind the header, with what the receiver knows of it; arguments of :func:`behind`."""
    return Arrival(
        behind(arrival.received, header_count, width),
        behind(arrival.gains, header_count, width),
        behind(arrival.noise_var, header_count, width),
        behind(arrival.true_gains, header_count, width),
    )


def widened(points: NDArray[np.complex128], width: int) -> NDArray[np.complex128]:
    """Rows of zeros behind, (samples, n) to (samples, width) with n <= width."""
    return points if points.shape[1] == width else np.pad(points, [(0, 0), (0, width - points.shape[1])])


def shifted(
    points: NDArray[np.complex128], header_count: NDArray[np.int64], width: int
) -> NDArray[np.complex128]:
    """Each row behind so many zeros as its header has symbols, (samples, n) to (samples, width)."""
    row = np.zeros((len(points), width), dtype=np.complex128)
    place = header_count[:, np.newaxis] + np.arange(points.shape[1])
    np.put_along_axis(row, place, points, axis=1)
    return row
