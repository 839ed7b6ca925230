"""The payload: integers of the transmitter to points of unit average energy.

The average energy E of the stream that a system transmits is measured over all samples and the stream is
divided by sqrt(E), so that noise of variance 10^(-Es/N0 / 10) gives the true Es/N0.
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
from twophase.link.modes import Mode, ModeTable
from twophase.link.runtime import Transmission
from twophase.sim.channels import modem
from twophase.sim.system import HardSender, SoftSender

__all__ = ["BLOCK", "Stream", "blocks", "by_mode", "modulate", "soft_stream", "transmit"]

BLOCK = 2048
"""Samples that are handled at once; bounds memory.  The noise depends on it, so it is no option."""


@dataclass(frozen=True)
class Stream:
    """Payloads that one system transmits for all samples, scaled to unit average energy."""

    mode: NDArray[np.int64]
    """Shape (samples,)."""
    points: NDArray[np.complex128]
    """Shape (samples, max_symbols); zero behind a sample's symbols."""
    energy: float
    """E, average energy per symbol before scaling."""


def transmit(
    sender: HardSender,
    features: NDArray[np.float32],
    snr_db: ArrayLike,
    modes: ModeTable,
    forced: int | None = None,
) -> Transmission:
    """Send all samples, block by block, and check that what is sent is what each mode allows.

    Parameters
    ----------
    sender
        The transmitter.
    features
        Shape (samples, *input_shape).
    snr_db
        Es/N0 in dB that the transmitter acts on, one or one per sample.
    modes
        All modes of the link.
    forced
        The mode of every sample; None leaves it to the router.

    Raises
    ------
    ArtifactError
        If a mode does not exist or is not the forced one, a count is not its mode's, or bits and symbols
        disagree.
    """
    snr = np.broadcast_to(snr_db, len(features))
    parts = [sender.send(features[rows], snr[rows], forced) for _, rows in blocks(len(features))]
    sent = Transmission(
        **{
            entry.name: np.concatenate([getattr(part, entry.name) for part in parts])
            for entry in fields(Transmission)
        }
    )
    _check_forced(sent.mode, forced, modes)
    for mode, rows in by_mode(sent.mode, modes):
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


def modulate(sent: Transmission, modes: ModeTable) -> Stream:
    """Constellation points of all samples, scaled to unit average energy."""
    points = np.zeros(sent.symbols.shape, dtype=np.complex128)
    for mode, rows in by_mode(sent.mode, modes):
        constellation = qam(mode.order)
        modem(constellation)  # proves, once, that commpy's modem maps like the table
        points[rows, : mode.symbols] = constellation.modulate(sent.symbols[rows, : mode.symbols])
    return _scaled(sent.mode, points, modes)


def soft_stream(
    sender: SoftSender,
    features: NDArray[np.float32],
    snr_db: ArrayLike,
    modes: ModeTable,
    forced: int | None = None,
) -> Stream:
    """Soft symbols of all samples, scaled to unit average energy; arguments of :func:`transmit`.

    Raises
    ------
    ArtifactError
        If a mode does not exist or is not the forced one, or a symbol is not finite.
    """
    snr = np.broadcast_to(snr_db, len(features))
    parts = [sender.send(features[rows], snr[rows], forced) for _, rows in blocks(len(features))]
    mode = np.concatenate([part[0] for part in parts])
    symbols = np.concatenate([part[1] for part in parts])
    _check_forced(mode, forced, modes)
    if not np.isfinite(symbols).all():
        raise ArtifactError("a soft transmitter of the bundle sends symbols that are not finite")
    points = np.zeros_like(symbols)
    for entry, rows in by_mode(mode, modes):
        points[rows, : entry.symbols] = symbols[rows, : entry.symbols]
    return _scaled(mode, points, modes)


def by_mode(mode: NDArray[np.int64], modes: ModeTable) -> Iterator[tuple[Mode, NDArray[np.intp]]]:
    """Each mode in use with the rows that use it.

    Raises
    ------
    ArtifactError
        If a mode does not exist.
    """
    for number in np.unique(mode):
        if not 0 <= number < len(modes):
            raise ArtifactError(f"a transmitter of the bundle chooses mode {number} of {len(modes)}")
        yield modes[int(number)], np.flatnonzero(mode == number)


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
