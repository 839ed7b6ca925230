"""What a transmitter sends: the outputs of its graph and the header that tells the mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twophase.link.errors import ArtifactError, InputError
from twophase.link.manifest import Manifest
from twophase.link.modes import checked_modes
from twophase.link.session import Shapes

__all__ = ["Frames", "Transmission"]


@dataclass(frozen=True)
class Transmission:
    """What the transmitter sends for each sample; integers only, padded to the largest mode.

    Entries behind a sample's count are zero (bits, symbols) or -1 (indices, header) and are not sent.  A
    frame is the header's symbols, then the payload's.
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
    """QPSK point numbers that tell the mode, shape (batch, max_header_symbols); no columns where the routing
    sends no header."""
    header_count: NDArray[np.int64]
    """Channel uses of each sample's header, shape (batch,)."""


class Frames:
    """Makes transmissions of what the graph ``file`` gives."""

    def __init__(self, file: str, manifest: Manifest) -> None:
        modes = manifest.modes
        self.outputs: Shapes = {
            "mode": (),
            "indices": (modes.max_tokens,),
            "bits": (modes.max_bits,),
            "symbols": (modes.max_symbols,),
            "bit_count": (),
            "symbol_count": (),
        }
        """What the graph must give; a transmission begins with these."""
        self._file = file
        self._header = manifest.header

    def transmission(
        self, outputs: Sequence[NDArray[np.generic]], snr_db: NDArray[np.generic]
    ) -> Transmission:
        """The graph's outputs and the headers at the SNR that the transmitter believes in, (batch,).

        Raises
        ------
        ArtifactError
            If the graph gave a mode that does not exist.
        """
        try:
            header, header_count = self._told(outputs[0], snr_db)
        except InputError as error:
            raise ArtifactError(
                f"'{self._file}' gives a mode that the link does not have: {error}"
            ) from error
        return Transmission(*(*outputs, header, header_count))  # type: ignore[arg-type]

    def _told(
        self, mode: NDArray[np.generic], snr_db: NDArray[np.generic]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Headers and their lengths; without a look at the SNR where the link sends none."""
        if self._header.steps:
            return self._header.encode(mode, snr_db)
        batch = len(checked_modes(mode, self._header.modes_count))
        return np.empty((batch, 0), dtype=np.int64), np.zeros(batch, dtype=np.int64)
