"""What systems put on the air: payloads of unit average energy, in frames of one row for each sample.

The average energy E of the stream that a system transmits is measured over all samples and the stream is
divided by sqrt(E), so that noise of variance 10^(-Es/N0 / 10) gives the true Es/N0.  The header has unit
energy as it is, so both parts of a frame (:mod:`twophase.link.modem`) see the Es/N0 of the axis.  Every row
is as wide as the longest frame, so that gains and noise are drawn alike whatever is sent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.bits import symbols_to_bits
from twophase.link.constellation import qam
from twophase.link.errors import ArtifactError
from twophase.link.header import Header
from twophase.link.modem import Transmission, after, frames_of, group_by_mode, modulate
from twophase.link.modes import ModeTable
from twophase.link.transmitter import FeatureTransmitter, SoftTransmitter
from twophase.sim.channel.commpy import modem
from twophase.sim.channel.radio import Arrival

__all__ = [
    "BLOCK",
    "Frames",
    "Stream",
    "arrival_after",
    "blocks",
    "framed",
    "payload_stream",
    "shifted",
    "soft_stream",
    "transmit",
    "widened",
]


BLOCK = 2048
"""Samples that are handled at once; bounds memory.  The noise depends on it, so it is no option."""


@dataclass(frozen=True)
class Stream:
    """Payloads that one system transmits for all samples, scaled to unit average energy."""

    mode: NDArray[np.int64]
    """Shape (samples,)."""
    points: NDArray[np.complex128]
    """Shape (samples, max_symbols); zero after a sample's symbols."""
    energy: float
    """E, average energy per symbol before scaling."""


def transmit(
    transmitter: FeatureTransmitter,
    features: NDArray[np.float32],
    snr_db: ArrayLike,
    modes: ModeTable,
    forced: int | None = None,
) -> Transmission:
    """Send all samples, (samples, *input_shape), block by block.

    The transmitter acts on ``snr_db``, Es/N0 in dB, one or one per sample; ``forced`` is the mode of every
    sample, None leaves it to the router.  ArtifactError if something is sent that its mode does not allow.
    """
    snr = np.broadcast_to(snr_db, len(features))
    parts = [transmitter.send(features[rows], snr[rows], forced) for _, rows in blocks(len(features))]
    sent = Transmission(
        **{
            entry.name: np.concatenate([getattr(part, entry.name) for part in parts])
            for entry in fields(Transmission)
        }
    )
    _check_forced(sent.mode, forced, modes)
    for mode, rows in group_by_mode(sent.mode, modes):
        constellation = qam(mode.order)
        symbols = sent.symbols[rows, : mode.symbols]
        indices = sent.indices[rows, : mode.tokens]
        counted = (sent.symbol_count[rows] == mode.symbols) & (sent.bit_count[rows] == mode.channel_bits)
        if not counted.all():
            raise ArtifactError(f"'tx.onnx' sends another number of bits or symbols than {mode.name} has")
        if symbols.min() < 0 or symbols.max() >= mode.order:
            raise ArtifactError(f"'tx.onnx' sends symbols outside 0..{mode.order - 1} in mode {mode.name}")
        if indices.min() < 0 or indices.max() >= mode.codebook_size:
            raise ArtifactError(f"'tx.onnx' sends indices outside 0..{mode.codebook_size - 1} in {mode.name}")
        spelled = symbols_to_bits(symbols, constellation.bits_per_symbol)
        if not np.array_equal(spelled, sent.bits[rows, : mode.channel_bits]):
            raise ArtifactError(f"'tx.onnx' sends symbols that do not spell its bits in mode {mode.name}")
    return sent


def payload_stream(sent: Transmission, modes: ModeTable) -> Stream:
    """Constellation points of all samples, scaled to unit average energy."""
    groups = group_by_mode(sent.mode, modes)
    for mode, _ in groups:
        modem(qam(mode.order))  # proves, once, that commpy's modem maps like the table
    return _scaled(sent.mode, modulate(sent.symbols, groups), modes)


def soft_stream(
    transmitter: SoftTransmitter,
    features: NDArray[np.float32],
    snr_db: ArrayLike,
    modes: ModeTable,
    forced: int | None = None,
) -> Stream:
    """Soft symbols of all samples, scaled to unit average energy; arguments and errors of :func:`transmit`.

    ArtifactError, too, if one is not finite.
    """
    snr = np.broadcast_to(snr_db, len(features))
    parts = [transmitter.send(features[rows], snr[rows], forced) for _, rows in blocks(len(features))]
    mode = np.concatenate([part[0] for part in parts])
    symbols = np.concatenate([part[1] for part in parts])
    _check_forced(mode, forced, modes)
    if not np.isfinite(symbols).all():
        raise ArtifactError("a soft transmitter of the bundle sends symbols that are not finite")
    points = np.zeros_like(symbols)
    for entry, rows in group_by_mode(mode, modes):
        points[rows, : entry.symbols] = symbols[rows, : entry.symbols]
    return _scaled(mode, points, modes)


def blocks(count: int) -> Iterator[tuple[int, slice]]:
    """Numbered slices of at most :data:`BLOCK` samples."""
    for number, start in enumerate(range(0, count, BLOCK)):
        yield number, slice(start, min(start + BLOCK, count))


def _check_forced(mode: NDArray[np.int64], forced: int | None, modes: ModeTable) -> None:
    if forced is not None and not np.array_equal(mode, np.full(len(mode), forced)):
        raise ArtifactError(f"a transmitter of the bundle does not keep to the mode {modes.names[forced]}")


def _scaled(mode: NDArray[np.int64], points: NDArray[np.complex128], modes: ModeTable) -> Stream:
    symbols_of = np.array([entry.symbols for entry in modes])
    energy = float(np.sum(np.abs(points) ** 2) / symbols_of[mode].sum())
    if not energy > 0:
        raise ArtifactError("a transmitter of the bundle sends no energy")
    return Stream(mode, points / math.sqrt(energy), energy)


@dataclass(frozen=True)
class Frames:
    """What one system puts on the air for all samples."""

    mode: NDArray[np.int64]
    """Shape (samples,)."""
    header_count: NDArray[np.int64]
    """Header symbols of each sample, shape (samples,)."""
    points: NDArray[np.complex128]
    """Shape (samples, widest header + max_symbols); zero after a sample's frame."""
    energy: float
    """E, average energy per payload symbol before scaling."""


def framed(stream: Stream, header: Header, snr_db: NDArray[np.float32]) -> Frames:
    """Put in front of each payload the header that names its mode, coded for the transmitter's Es/N0."""
    symbols, count = header.encode(stream.mode, snr_db)
    return Frames(stream.mode, count, frames_of(symbols, count, stream.points), stream.energy)


def arrival_after(arrival: Arrival, header_count: NDArray[np.int64], width: int) -> Arrival:
    """What arrived after the header, with what the receiver knows of it; arguments as of ``after``."""
    return Arrival(
        after(arrival.received, header_count, width),
        after(arrival.gains, header_count, width),
        after(arrival.noise_var, header_count, width),
        after(arrival.true_gains, header_count, width),
    )


def widened(points: NDArray[np.complex128], width: int) -> NDArray[np.complex128]:
    """Zeros at the end of each row, (samples, n) to (samples, width) with n <= width."""
    return points if points.shape[1] == width else np.pad(points, [(0, 0), (0, width - points.shape[1])])


def shifted(
    points: NDArray[np.complex128], header_count: NDArray[np.int64], width: int
) -> NDArray[np.complex128]:
    """Each row after so many zeros as its header has symbols, (samples, n) to (samples, width)."""
    row = np.zeros((len(points), width), dtype=np.complex128)
    place = header_count[:, np.newaxis] + np.arange(points.shape[1])
    np.put_along_axis(row, place, points, axis=1)
    return row
