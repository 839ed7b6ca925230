"""The receiver of a bundle over ONNX Runtime, without torch: frames of I/Q, or LLRs, to classes.

>>> from twophase.link import Receiver   # doctest: +SKIP
>>> receiver = Receiver("runs/digits/bundle")   # doctest: +SKIP
>>> receiver.decide(received, noise_var, gain, snr_db=10.0).classes   # doctest: +SKIP

Who has a demapper already takes :meth:`Receiver.receive`.  Batches, threads and ``hold=True`` are as for
:class:`~twophase.link.transmitter.Transmitter`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.decode import class_posterior
from twophase.link.errors import InputError
from twophase.link.graphs import (
    CHUNK,
    ByPath,
    Graph,
    GraphOptions,
    Shapes,
    modes_of,
    per_sample,
)
from twophase.link.input_scale import as_float32
from twophase.link.manifest import Manifest, load_manifest
from twophase.link.modem import after, group_by_mode, header_llr, payload_llr, received_frames
from twophase.link.noise import esn0_float32, positive
from twophase.link.routing import Hysteresis

__all__ = ["Decision", "Receiver", "Reception"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reception:
    """What the receiver concludes for each sample."""

    logits: NDArray[np.float32]
    """Class scores, shape (batch, classes)."""
    indices: NDArray[np.int64]
    """Most probable codeword of each token, shape (batch, max_tokens); -1 after a mode's tokens."""

    @property
    def classes(self) -> NDArray[np.int64]:
        """Decided class of each sample, shape (batch,)."""
        return np.asarray(np.argmax(self.logits, axis=-1), dtype=np.int64)


@dataclass(frozen=True)
class Decision:
    """What the receiver concludes from each frame."""

    mode: NDArray[np.int64]
    """The mode that it takes each frame for, shape (batch,)."""
    llr: NDArray[np.float64]
    """LLRs of that mode's bits, shape (batch, max_bits); zero after them."""
    indices: NDArray[np.int64]
    """Most probable codeword of each token, shape (batch, max_tokens); -1 after a mode's tokens."""
    logits: NDArray[np.float32]
    """Class scores of the graph, shape (batch, classes)."""
    posterior: NDArray[np.float64]
    """Probability of each class, shape (batch, classes): the softmax of the scores, weighted by the prior."""
    classes: NDArray[np.int64]
    """The most probable class, shape (batch,)."""


class Receiver(ByPath):
    """The receiver of a bundle: I/Q, or LLRs and mode, to classes.  It sees nothing else.

    Parameters
    ----------
    bundle
        Folder of the bundle, or one that holds no more of it than ``link.json`` and the graph, whose hash is
        checked.
    threads
        As for :class:`~twophase.link.transmitter.FeatureTransmitter`.
    file
        Its graph; a soft reference has one of its own.
    manifest, options
        As for :class:`~twophase.link.transmitter.FeatureTransmitter`.
    hold
        Whether :meth:`decide` holds the estimates that it is given by the routing's hysteresis
        (:class:`~twophase.link.routing.Hysteresis`), if the transmitter does, too.

    Raises
    ------
    ArtifactError
        If the bundle is incomplete, altered or of another version, or its graph is no receiver.
    """

    def __init__(
        self,
        bundle: str | Path,
        threads: int = 1,
        file: str = "rx.onnx",
        *,
        manifest: Manifest | None = None,
        options: GraphOptions | None = None,
        hold: bool = False,
    ) -> None:
        folder = Path(bundle)
        self._opened = folder.absolute(), {"threads": threads, "file": file, "options": options, "hold": hold}
        self.manifest = manifest or load_manifest(folder, "bundle", ())
        self._held = Hysteresis.of(self.manifest.routing, hold)
        modes = self.manifest.modes
        self._width = modes.max_bits
        outputs: Shapes = {"logits": (len(self.manifest.classes),), "indices": (modes.max_tokens,)}
        self._graph = Graph(folder, file, self.manifest, threads, ("llr", "mode"), outputs, options=options)

    def decide(
        self,
        received: ArrayLike,
        noise_var: ArrayLike,
        gain: ArrayLike,
        snr_db: ArrayLike,
        *,
        mode: ArrayLike | None = None,
        prior: ArrayLike | None = None,
        amplitude: ArrayLike | None = None,
    ) -> Decision:
        """Receive one frame of I/Q or a batch: its mode, the LLRs of its bits, and the class.

        Parameters
        ----------
        received
            Complex, shape (n,) or (batch, n), from the frame's first symbol on.  Symbols that are missing at
            its end count as erased (LLR zero), what lies after the longest frame is not looked at.
        noise_var
            N0, total complex variance of the noise: one number, one per frame, or one per symbol.
        gain
            Complex gain of the channel: one number, one per frame, or one per symbol.
        snr_db
            The receiver's estimate of Es/N0 in dB, one number or one per frame: by it the routing chooses the
            mode, or the code of the header that names it.
        mode
            Mode of the frames, by number or name, where both ends know it; else the routing's, or the
            header's.
        prior
            What the receiver knows of the classes: weights of at least 0, shape (classes,) or (batch,
            classes), such as their frequencies where they differ from those in training, or 0 and 1 for
            candidates.  They take the place of the manifest's ``class_frequency``.
        amplitude
            What the payload's points were divided by, one number or one per frame; that of the manifest for
            the frame's mode if not given, as :meth:`~twophase.link.transmitter.Transmitter.transmit` does it.

        Raises
        ------
        InputError
            If a shape is wrong, a value is not finite or out of range, or a mode does not exist.
        ArtifactError
            If the graph fails or gives arrays of other shapes.

        A frame of which nothing was received, by its length or its gain, gets the most frequent class, and a
        warning is logged.
        """
        link, width = self.manifest, self.manifest.modes.max_symbols
        symbols, variance, gains = received_frames(received, noise_var, gain, link.header.max_symbols + width)
        batch = len(symbols)
        held = esn0_float32(snr_db) if self._held is None else self._held.hold(snr_db)
        snr = per_sample("snr_db", held, batch)
        known = None if mode is None else modes_of(mode, batch, link.modes)
        scale = (
            None if amplitude is None else per_sample("amplitude", positive("amplitude", amplitude), batch)
        )
        believed, llr = np.zeros(batch, dtype=np.int64), np.zeros((batch, link.modes.max_bits))
        for begin in range(0, batch, CHUNK):
            rows = slice(begin, begin + CHUNK)
            parts = (symbols[rows], variance[rows], gains[rows])
            if known is None:
                first = header_llr(*parts, link.header.max_symbols, link.llr_clip)
                believed[rows] = self.mode_of(snr[rows], first)
            else:
                believed[rows] = known[rows]
            start = link.header.symbol_count(snr[rows])
            here = link.amplitudes[believed[rows]] if scale is None else scale[rows]
            received_there, variance_there, gains_there = (after(part, start, width) for part in parts)
            llr[rows] = payload_llr(
                received_there,
                variance_there,
                gains_there / here[:, np.newaxis],
                group_by_mode(believed[rows], link.modes),
                link.modes.max_bits,
                link.llr_clip,
            )
        if empty := int((~llr.any(axis=1)).sum()):
            logger.warning(
                "nothing was received of %d of %d frames (no symbols, or the gain 0): they get the most "
                "frequent class",
                empty,
                batch,
            )
        reception = self.receive(llr, believed)
        posterior, classes = class_posterior(reception.logits, link.class_frequency, prior)
        return Decision(believed, llr, reception.indices, reception.logits, posterior, classes)

    def mode_of(self, snr_db: ArrayLike, header_llr: ArrayLike | None = None) -> NDArray[np.int64]:
        """Mode numbers, () or (batch,): the header's word, or the routing's table at the receiver's own SNR.

        Parameters
        ----------
        snr_db
            The receiver's estimate of Es/N0 in dB, one or one per sample; held by a
            :class:`~twophase.link.routing.Hysteresis` of its own if the routing has one.
        header_llr
            LLRs of the first symbols of each frame taken for QPSK, shape (2 * max_header_symbols,) or
            (batch, 2 * max_header_symbols); None where the routing sends no header.

        Raises
        ------
        InputError
            If ``header_llr`` is missing or not expected, or a shape or value is wrong.
        """
        return self.manifest.routing.received_mode(snr_db, header_llr, len(self.manifest.modes))

    def receive(self, llr: ArrayLike, mode: ArrayLike) -> Reception:
        """Classify one sample or a batch.

        Parameters
        ----------
        llr
            log P(b=1)/P(b=0), shape (max_bits,) or (batch, max_bits); zero where a sample has no bit.  Held
            within the manifest's ``llr_clip``, as in training.
        mode
            Mode number or name, one or one per sample.

        Raises
        ------
        InputError
            If a shape is wrong, an LLR is not finite or a mode does not exist.
        ArtifactError
            If the graph fails or gives arrays of other shapes.
        """
        width = self._width
        values = np.atleast_2d(as_float32("llr", llr))
        if values.ndim != 2 or values.shape[1] != width:
            raise InputError("llr", f"have shape ({width},) or (batch, {width})", np.shape(llr))
        if not len(values):
            raise InputError("llr", "hold at least one sample", values.shape)
        numbers = modes_of(mode, values.shape[0], self.manifest.modes)
        clip = np.float32(self.manifest.llr_clip)
        logits, indices = self._graph.run({"llr": np.clip(values, -clip, clip), "mode": numbers})
        return Reception(np.asarray(logits, dtype=np.float32), np.asarray(indices, dtype=np.int64))
