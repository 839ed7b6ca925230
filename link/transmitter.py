"""The transmitter of a bundle over ONNX Runtime, without torch: samples to symbols, and to frames of I/Q.

>>> from twophase.link import Transmitter   # doctest: +SKIP
>>> sent = Transmitter("runs/digits/bundle").transmit(features, snr_db=10.0)   # doctest: +SKIP
>>> sent.iq, sent.mode, sent.symbols   # doctest: +SKIP

A link of text takes texts: ``Transmitter("runs/reviews/bundle").transmit("a charming film", 10.0)``.  Who has
a modem already takes :meth:`Transmitter.send` for the integers alone.

It takes one sample or a batch, and a sample gives the same in any batch.  Several threads may use it at once,
for a call leaves nothing behind; with ``hold=True`` it is one end of one link, whose calls come in the order
of time.  It is pickled by the path of its bundle.  ``examples/edge_tx.py`` and ``edge_rx.py`` run the two
ends as two processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import ArtifactError, InputError
from twophase.link.graphs import ByPath, FeatureGraph, GraphOptions, Shapes, TokenGraph
from twophase.link.header import Header
from twophase.link.listing import read_listed
from twophase.link.manifest import TOKENIZER_FILE, Front, Manifest, load_manifest
from twophase.link.modem import Transmission, frames_of, group_by_mode, modulate
from twophase.link.modes import ModeTable
from twophase.link.routing import Hysteresis
from twophase.link.text import TextEncoder

__all__ = ["FeatureTransmitter", "Frame", "SoftTransmitter", "Transmitter"]


@dataclass(frozen=True)
class Frame(Transmission):
    """A transmission, and what it is on the air."""

    iq: NDArray[np.complex64]
    """Frames of unit average energy, shape (batch, max_header_symbols + max_symbols); zero after a frame."""
    count: NDArray[np.int64]
    """Symbols of each frame, header included, shape (batch,): ``iq[row, : count[row]]`` is sent."""


def _shapes(modes: ModeTable) -> Shapes:
    """Outputs that a transmitter's graph must give; a transmission begins with these."""
    return {
        "mode": (),
        "indices": (modes.max_tokens,),
        "bits": (modes.max_bits,),
        "symbols": (modes.max_symbols,),
        "bit_count": (),
        "symbol_count": (),
    }


def _transmission(
    outputs: Sequence[NDArray[np.generic]], snr_db: NDArray[np.generic], header: Header, file: str
) -> Transmission:
    """The outputs of a graph and the headers at the transmitter's Es/N0 in dB, shape (batch,)."""
    try:
        headers = header.encode(outputs[0], snr_db)
    except InputError as error:
        raise ArtifactError(f"'{file}' gives a mode that the link does not have: {error}") from error
    return Transmission(*(*outputs, *headers))  # type: ignore[arg-type]


class _TextTransmitter:
    """Each text runs by itself and unpadded, so that it gives the same beside any others."""

    def __init__(
        self, folder: Path, threads: int, manifest: Manifest, front: Front, options: GraphOptions | None
    ) -> None:
        content = read_listed(folder, TOKENIZER_FILE, manifest.files)
        self._encoder = TextEncoder(folder / TOKENIZER_FILE, front.max_length, content)
        self._header = manifest.header
        outputs = _shapes(manifest.modes) | {"features": manifest.input_shape}
        self._graph = TokenGraph(folder, "tx.onnx", manifest, threads, outputs, options)

    def send(self, texts: object, snr_db: ArrayLike, mode: ArrayLike | None = None) -> Transmission:
        """Encode one text or several."""
        *outputs, _, snr = self._run(texts, snr_db, mode)
        return _transmission(outputs, snr, self._header, "tx.onnx")

    def features(self, texts: object) -> NDArray[np.float32]:
        """What the head takes for each text."""
        *_, features, _ = self._run(texts, 0.0, None)
        return np.asarray(features, dtype=np.float32)

    def _run(self, texts: object, snr_db: ArrayLike, mode: ArrayLike | None) -> list[NDArray[np.generic]]:
        """The graph's outputs of all texts, in their order, and the SNR of each."""
        if isinstance(texts, str):
            tokens = [self._encoder.encode(texts)]
        else:
            tokens = self._encoder.encode_each(_several(texts))
        inputs = self._graph.inputs(tokens, snr_db, mode)
        rows = [[*self._graph.run(entry), entry["snr_db"]] for entry in inputs]
        return [np.concatenate(column) for column in zip(*rows, strict=True)]


def _several(texts: object) -> list[str]:
    """The entries of a sequence; whether each is a text is for the encoder to check."""
    if isinstance(texts, np.ndarray):
        if texts.dtype.kind in "UO" and texts.ndim == 1 and texts.size:
            return list(texts)
        given = f"an array of {texts.dtype} of shape {texts.shape}"
    elif isinstance(texts, Sequence) and not isinstance(texts, (bytes, bytearray)):
        if texts:
            return list(texts)
        given = "an empty one"
    else:
        given = type(texts).__name__
    raise InputError("text", "be a string or a sequence of strings: this link takes text", given)


class FeatureTransmitter(ByPath):
    """The hard transmitter of a bundle from features on: to codeword indices, bits and symbols.

    Parameters
    ----------
    bundle
        Folder of the bundle, or one that holds no more of it than ``link.json`` and the graph, whose hash is
        checked.
    threads
        Threads that share the work of one call; programs that call from several threads need no more.
    manifest
        The bundle's manifest, if :func:`~twophase.link.manifest.load_manifest` has read it already.
    options
        How ONNX Runtime holds and runs the graph.

    Raises
    ------
    ArtifactError
        If the bundle is incomplete, altered or of another version, or its graph is no transmitter.
    """

    def __init__(
        self,
        bundle: str | Path,
        threads: int = 1,
        *,
        manifest: Manifest | None = None,
        options: GraphOptions | None = None,
    ) -> None:
        folder = Path(bundle)
        self._opened = folder.absolute(), {"threads": threads, "options": options}
        self.manifest = manifest or load_manifest(folder, "bundle", ())
        self._header, self._file = self.manifest.header, self.manifest.head_file
        outputs = _shapes(self.manifest.modes)
        self._graph = FeatureGraph(folder, self._file, self.manifest, threads, outputs, options)

    def send(self, features: ArrayLike, snr_db: ArrayLike, mode: ArrayLike | None = None) -> Transmission:
        """Encode one sample or a batch.

        Parameters
        ----------
        features
            Shape ``input_shape`` or (batch, *input_shape).
        snr_db
            The transmitter's estimate of Es/N0 in dB; one number or one per sample.  A link whose routing has
            a hysteresis takes what a :class:`~twophase.link.routing.Hysteresis` of its own holds; the graph
            keeps no state.
        mode
            Mode to send in, by number or name (``"4x16qam"``), one or one per sample; the routing chooses if
            not given.

        Raises
        ------
        InputError
            If a shape is wrong, a value is not finite or a mode does not exist.
        ArtifactError
            If the graph fails or gives arrays of other shapes, or a mode that does not exist.
        """
        inputs = self._graph.inputs(features, snr_db, mode)
        return _transmission(self._graph.run(inputs), inputs["snr_db"], self._header, self._file)


class Transmitter(ByPath):
    """The hard transmitter of a bundle, whole: features, or texts where the link has a front, to symbols.

    Parameters
    ----------
    bundle
        Folder of the bundle, or one that holds no more of it than ``link.json``, the graph and the tokenizer
        of a text link, whose hashes are checked.
    threads, manifest, options
        As for :class:`FeatureTransmitter`.
    hold
        Whether :meth:`transmit` holds the estimates that it is given by the routing's hysteresis
        (:class:`~twophase.link.routing.Hysteresis`).  Both ends or neither: one cannot see what the other
        does, and they would take frames for other modes near a threshold.

    Raises
    ------
    ArtifactError
        If the bundle is incomplete, altered or of another version, or its graph is no transmitter.
    PackageError
        If the link takes text and ``tokenizers`` is not installed.
    """

    def __init__(
        self,
        bundle: str | Path,
        threads: int = 1,
        *,
        manifest: Manifest | None = None,
        options: GraphOptions | None = None,
        hold: bool = False,
    ) -> None:
        folder = Path(bundle)
        self._opened = folder.absolute(), {"threads": threads, "options": options, "hold": hold}
        self.manifest = manifest or load_manifest(folder, "bundle", ())
        self._whole: FeatureTransmitter | _TextTransmitter
        if self.manifest.front is None:
            self._whole = FeatureTransmitter(folder, threads, manifest=self.manifest, options=options)
        else:
            self._whole = _TextTransmitter(folder, threads, self.manifest, self.manifest.front, options)

        self._held = Hysteresis.of(self.manifest.routing, hold)

    def transmit(self, samples: ArrayLike, snr_db: ArrayLike, mode: ArrayLike | None = None) -> Frame:
        """Encode one sample or a batch and modulate it: header and payload as I/Q.

        Arguments and errors of :meth:`send`.
        """
        held = snr_db if self._held is None else self._held.hold(snr_db)
        sent = self.send(samples, held, mode)
        points = modulate(sent.symbols, group_by_mode(sent.mode, self.manifest.modes))
        payload = points / self.manifest.amplitudes[sent.mode][:, np.newaxis]
        iq = frames_of(sent.header, sent.header_count, payload).astype(np.complex64)
        return Frame(**vars(sent), iq=iq, count=sent.header_count + sent.symbol_count)

    def send(self, samples: ArrayLike, snr_db: ArrayLike, mode: ArrayLike | None = None) -> Transmission:
        """Encode one sample or a batch.

        Parameters
        ----------
        samples
            Features of shape ``input_shape`` or (batch, *input_shape); of a link with a front a string, or a
            sequence of strings.  A text that is longer than the link takes is cut, and a warning logged.
        snr_db, mode
            As for :meth:`FeatureTransmitter.send`.

        Raises
        ------
        InputError
            If a shape is wrong, a value is not finite, a mode does not exist, a text is empty or no text, or
            the link takes the other kind of samples.
        ArtifactError
            If the graph fails or gives arrays of other shapes, or a mode that does not exist.
        """
        if isinstance(self._whole, FeatureTransmitter) and _is_text(samples):
            raise InputError("features", "be real numbers: this link takes no text", "text")
        return self._whole.send(samples, snr_db, mode)

    def features(self, texts: str | Sequence[str]) -> NDArray[np.float32]:
        """What the front of a link of text gives its head for each text, shape (texts, *input_shape).

        Raises
        ------
        InputError
            If a text is empty or no text, or the link has no front.
        ArtifactError
            If the graph fails or gives arrays of other shapes.
        """
        if isinstance(self._whole, FeatureTransmitter):
            raise InputError("front", "be there: this link takes features", None)
        return self._whole.features(texts)


def _is_text(samples: object) -> bool:
    return isinstance(samples, str) or (
        isinstance(samples, Sequence) and any(isinstance(entry, str) for entry in samples)
    )


class SoftTransmitter(ByPath):
    """The soft transmitter of a reference system: symbols as expectations, no decision taken.

    It exists to be measured against, not to be deployed.

    Parameters
    ----------
    bundle
        Folder of the bundle.
    file
        Its graph, as the manifest's reference names it.
    threads, manifest, options
        As for :class:`FeatureTransmitter`.

    Raises
    ------
    ArtifactError
        As for :class:`FeatureTransmitter`.
    """

    def __init__(
        self,
        bundle: str | Path,
        file: str,
        threads: int = 1,
        *,
        manifest: Manifest | None = None,
        options: GraphOptions | None = None,
    ) -> None:
        folder = Path(bundle)
        self._opened = folder.absolute(), {"file": file, "threads": threads, "options": options}
        self.manifest = manifest or load_manifest(folder, "bundle", ())
        outputs: Shapes = {"mode": (), "symbols_iq": (self.manifest.modes.max_symbols, 2)}
        self._graph = FeatureGraph(folder, file, self.manifest, threads, outputs, options)

    def send(
        self, features: ArrayLike, snr_db: ArrayLike, mode: ArrayLike | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.complex128]]:
        """Mode, (batch,), and complex symbols, (batch, max_symbols), zero after a mode's symbols.

        Arguments and errors of :meth:`FeatureTransmitter.send`; a header is made from the mode by
        :attr:`~twophase.link.manifest.Manifest.header`.
        """
        sent, pairs = self._graph.run(self._graph.inputs(features, snr_db, mode))
        values = np.asarray(pairs, dtype=np.float64)
        return np.asarray(sent, dtype=np.int64), values[..., 0] + 1j * values[..., 1]
