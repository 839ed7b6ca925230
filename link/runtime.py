"""Edge inference over ONNX Runtime: a transmitter and a receiver, without torch.

>>> from twophase.link.runtime import Receiver, Transmitter   # doctest: +SKIP
>>> sent = Transmitter("runs/digits/bundle").send(features, snr_db=10.0)   # doctest: +SKIP
>>> receiver = Receiver("runs/digits/bundle")   # doctest: +SKIP
>>> decided = receiver.receive(llr, receiver.mode_of(snr_db=10.0)).classes   # doctest: +SKIP

>>> sent = Transmitter("runs/reviews/bundle").send("a charming film", snr_db=10.0)   # doctest: +SKIP

Each takes one sample or a batch, and a sample gives the same in any batch.  Each may be used by several
threads at once: a call leaves nothing behind.  (A :class:`~twophase.link.routing.Hysteresis` remembers: one
for each end of each link.)  ``examples/edge_tx.py`` and ``edge_rx.py`` run the two ends as two processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import ArtifactError, InputError
from twophase.link.graphs import (
    MODE_REQUEST,
    FeatureGraph,
    Graph,
    GraphOptions,
    Shapes,
    TokenGraph,
    as_float32,
    graph_file,
    graph_path,
    modes_of,
)
from twophase.link.manifest import TOKENIZER_FILE, Front, Manifest, load_manifest
from twophase.link.modes import checked_modes
from twophase.link.text import TextEncoder

__all__ = [
    "MODE_REQUEST",
    "FeatureTransmitter",
    "Frames",
    "GraphOptions",
    "Receiver",
    "Reception",
    "SoftTransmitter",
    "TextTransmitter",
    "Transmission",
    "Transmitter",
]


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


class TextTransmitter:
    """Each text runs by itself and unpadded, so that it gives the same beside any others.

    :class:`~twophase.link.runtime.Transmitter` documents what it takes and raises.
    """

    def __init__(
        self, folder: Path, threads: int, manifest: Manifest, front: Front, options: GraphOptions | None
    ) -> None:
        self._encoder = TextEncoder(folder / TOKENIZER_FILE, front.max_length)
        self._frames = Frames("tx.onnx", manifest)
        outputs = self._frames.outputs | {"features": manifest.input_shape}
        self._graph = TokenGraph(folder, "tx.onnx", manifest, threads, outputs, options)

    def send(self, texts: object, snr_db: ArrayLike, mode: ArrayLike | None = None) -> Transmission:
        """Encode one text or several."""
        *outputs, _, snr = self._run(texts, snr_db, mode)
        return self._frames.transmission(outputs, snr)

    def features(self, texts: object) -> NDArray[np.float32]:
        """What the head takes for each text."""
        *_, features, _ = self._run(texts, 0.0, None)
        return np.asarray(features, dtype=np.float32)

    def _run(self, texts: object, snr_db: ArrayLike, mode: ArrayLike | None) -> list[NDArray[np.generic]]:
        """The graph's outputs of all texts, one below the other, and the SNR of each."""
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


@dataclass(frozen=True)
class Reception:
    """What the receiver concludes for each sample."""

    logits: NDArray[np.float32]
    """Class scores, shape (batch, classes)."""
    indices: NDArray[np.int64]
    """Most probable codeword of each token, shape (batch, max_tokens); -1 behind a mode's tokens."""

    @property
    def classes(self) -> NDArray[np.int64]:
        """Decided class of each sample, shape (batch,)."""
        return np.asarray(np.argmax(self.logits, axis=-1), dtype=np.int64)


class FeatureTransmitter:
    """The hard transmitter of a bundle from features on: to codeword indices, bits and symbols.

    Parameters
    ----------
    bundle
        Folder of the bundle, or one that holds no more of it than ``link.json`` and the graph, whose hash is
        checked.
    threads
        Threads that share the work of one call; programs that call from several threads need no more.
    manifest
        The bundle's manifest, if :func:`~twophase.link.manifest.load_manifest` has read it already; the
        hashes are not checked again then.
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
        self.manifest = manifest or load_manifest(
            folder, "bundle", lambda known: (graph_file(known.head_file, options),)
        )
        self._frames = Frames(self.manifest.head_file, self.manifest)
        self._graph = FeatureGraph(
            folder, self.manifest.head_file, self.manifest, threads, self._frames.outputs, options
        )

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
            Mode number to send in, one or one per sample; the routing chooses if not given.

        Raises
        ------
        InputError
            If a shape is wrong, a value is not finite or a mode does not exist.
        ArtifactError
            If the graph fails or gives arrays of other shapes, or a mode that does not exist.
        """
        inputs = self._graph.inputs(features, snr_db, mode)
        return self._frames.transmission(self._graph.run(inputs), inputs["snr_db"])


class Transmitter:
    """The hard transmitter of a bundle, whole: features, or texts where the link has a front, to symbols.

    Parameters
    ----------
    bundle
        Folder of the bundle, or one that holds no more of it than ``link.json``, the graph and the tokenizer
        of a text link, whose hashes are checked.
    threads, manifest, options
        As for :class:`FeatureTransmitter`.

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
    ) -> None:
        folder = Path(bundle)
        self.manifest = manifest or load_manifest(
            folder, "bundle", (graph_file("tx.onnx", options), TOKENIZER_FILE)
        )
        self._whole: FeatureTransmitter | TextTransmitter
        if self.manifest.front is None:
            self._whole = FeatureTransmitter(folder, threads, manifest=self.manifest, options=options)
        else:
            from twophase.link.runtime import TextTransmitter

            self._whole = TextTransmitter(folder, threads, self.manifest, self.manifest.front, options)

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


class SoftTransmitter:
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
        self.manifest = manifest or load_manifest(folder, "bundle", (graph_file(file, options),))
        outputs: Shapes = {"mode": (), "symbols_iq": (self.manifest.modes.max_symbols, 2)}
        self._graph = FeatureGraph(folder, file, self.manifest, threads, outputs, options)

    def send(
        self, features: ArrayLike, snr_db: ArrayLike, mode: ArrayLike | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.complex128]]:
        """Mode, (batch,), and complex symbols, (batch, max_symbols), zero behind a mode's symbols.

        Arguments and errors of :meth:`FeatureTransmitter.send`; a header is made from the mode by
        :attr:`~twophase.link.manifest.Manifest.header`.
        """
        sent, pairs = self._graph.run(self._graph.inputs(features, snr_db, mode))
        values = np.asarray(pairs, dtype=np.float64)
        return np.asarray(sent, dtype=np.int64), values[..., 0] + 1j * values[..., 1]


class Receiver:
    """The receiver of a bundle: LLRs and mode to class scores.  It sees nothing else.

    Parameters
    ----------
    bundle
        Folder of the bundle, or one that holds no more of it than ``link.json`` and the graph, whose hash is
        checked.
    threads
        As for :class:`FeatureTransmitter`.
    file
        Its graph; a soft reference has one of its own.
    manifest, options
        As for :class:`FeatureTransmitter`.

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
    ) -> None:
        folder = Path(bundle)
        self.manifest = manifest or load_manifest(folder, "bundle", (graph_file(file, options),))
        modes = self.manifest.modes
        self._width, self._modes_count = modes.max_bits, len(modes)
        outputs: Shapes = {"logits": (len(self.manifest.classes),), "indices": (modes.max_tokens,)}
        path = graph_path(folder, file, self.manifest, options)
        self._graph = Graph(path, threads, ("llr", "mode"), outputs, options=options)

    def mode_of(self, snr_db: ArrayLike, header_llr: ArrayLike | None = None) -> NDArray[np.int64]:
        """What to take the mode for: the header's word, or the routing's table at the receiver's own SNR.

        Parameters
        ----------
        snr_db
            The receiver's estimate of Es/N0 in dB, one or one per sample; held by a
            :class:`~twophase.link.routing.Hysteresis` of its own if the routing has one.
        header_llr
            LLRs of the first symbols of each frame taken for QPSK, shape (2 * max_header_symbols,) or
            (batch, 2 * max_header_symbols); None where the routing sends no header.

        Returns
        -------
        NDArray
            Mode numbers for :meth:`receive`, shape () or (batch,).

        Raises
        ------
        InputError
            If ``header_llr`` is missing or not expected, or a shape or value is wrong.
        """
        return self.manifest.routing.received_mode(snr_db, header_llr, self._modes_count)

    def receive(self, llr: ArrayLike, mode: ArrayLike) -> Reception:
        """Classify one sample or a batch.

        Parameters
        ----------
        llr
            log P(b=1)/P(b=0), shape (max_bits,) or (batch, max_bits); zero where a sample has no bit.
        mode
            Mode number, one or one per sample.

        Raises
        ------
        InputError
            If a shape is wrong, an LLR is not finite or a mode does not exist.
        ArtifactError
            If the graph fails or gives arrays of other shapes.
        """
        width = self._width
        values = as_float32("llr", llr)
        if values.ndim < 2:
            values = np.atleast_2d(values)
        if values.ndim != 2 or values.shape[1] != width:
            raise InputError("llr", f"have shape ({width},) or (batch, {width})", np.shape(llr))
        inputs: dict[str, NDArray[np.generic]] = {
            "llr": values,
            "mode": modes_of(mode, values.shape[0], self._modes_count),
        }
        logits, indices = self._graph.run(inputs)
        return Reception(np.asarray(logits, dtype=np.float32), np.asarray(indices, dtype=np.int64))
