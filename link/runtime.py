"""Edge inference over ONNX Runtime: a transmitter and a receiver, without torch.

>>> from twophase.link.runtime import Receiver, Transmitter   # doctest: +SKIP
>>> sent = Transmitter("runs/digits/bundle").send(features, snr_db=10.0)   # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import ArtifactError, InputError, first_line
from twophase.link.manifest import Manifest, load_manifest

__all__ = ["Receiver", "Reception", "SoftTransmitter", "Transmission", "Transmitter"]


@dataclass(frozen=True)
class Transmission:
    """What the transmitter sends for each sample; integers only, padded to the largest mode.

    Entries behind a sample's count are zero (bits, symbols) or -1 (indices) and are not sent.
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
    """Channel uses of each sample, shape (batch,)."""


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


_Shapes = dict[str, tuple[int, ...]]
"""Outputs that are needed, by name, with their shape behind the batch axis."""


class _Graph:
    """One ONNX Runtime session on the CPU, with the names and shapes that its graph must have."""

    def __init__(self, path: Path, threads: int, inputs: tuple[str, ...], outputs: _Shapes) -> None:
        if threads < 1:
            raise InputError("threads", "be at least 1", threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ArtifactError(
                f"'{path}' is no graph that ONNX Runtime can load: {first_line(error)}"
            ) from error
        self._path = path
        self._outputs = outputs
        taken = [entry.name for entry in self._session.get_inputs()]
        given = [entry.name for entry in self._session.get_outputs()]
        if sorted(taken) != sorted(inputs):
            raise ArtifactError(
                f"'{path}' must take {', '.join(inputs)}, not {', '.join(taken) or 'nothing'}"
            )
        if not set(outputs) <= set(given):
            raise ArtifactError(f"'{path}' must give {', '.join(outputs)}, not {', '.join(given)}")

    def run(self, inputs: dict[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
        """The needed outputs, in their order."""
        try:
            result: list[NDArray[np.generic]] = self._session.run(list(self._outputs), inputs)
        except Exception as error:
            raise ArtifactError(
                f"'{self._path}' fails on inputs as the manifest has them: {first_line(error)}"
            ) from error
        batch = len(next(iter(inputs.values())))
        for (name, shape), array in zip(self._outputs.items(), result, strict=True):
            if np.shape(array) != (batch, *shape):
                raise ArtifactError(
                    f"'{self._path}' must give '{name}' the shape {(batch, *shape)}, not {np.shape(array)}"
                )
        return result


class _FeatureGraph(_Graph):
    """A graph that takes ``input`` and ``snr_db``."""

    def __init__(self, path: Path, manifest: Manifest, threads: int, outputs: _Shapes) -> None:
        super().__init__(path, threads, ("input", "snr_db"), outputs)
        self.manifest = manifest

    def inputs(self, features: ArrayLike, snr_db: ArrayLike) -> dict[str, NDArray[np.generic]]:
        shape = self.manifest.input_shape
        batch = np.asarray(features, dtype=np.float32)
        if batch.shape == shape:
            batch = batch[np.newaxis]
        if batch.shape[1:] != shape:
            raise InputError("features", f"have shape {shape} or (batch, *{shape})", np.shape(features))
        if not np.isfinite(batch).all():
            raise InputError("features", "be finite", "an array with NaN or infinity")
        snr = np.asarray(snr_db, dtype=np.float32)
        if snr.ndim > 1 or (snr.ndim == 1 and snr.shape != batch.shape[:1]):
            raise InputError(
                "snr_db", f"be one number or {batch.shape[0]} numbers, one per sample", snr.shape
            )
        if not np.isfinite(snr).all():
            raise InputError("snr_db", "be finite", "NaN or infinity")
        return {"input": batch, "snr_db": np.broadcast_to(snr, batch.shape[:1])}


class Transmitter:
    """The hard transmitter of a bundle: features to codeword indices, bits and symbols.

    Parameters
    ----------
    bundle
        Folder of the bundle; every file's hash is checked.
    threads
        Threads of ONNX Runtime.
    manifest
        The bundle's manifest, if :func:`~twophase.link.manifest.load_manifest` has read it already; the
        hashes are not checked again then.

    Raises
    ------
    ArtifactError
        If the bundle is incomplete, altered or of another version, or its graph is no transmitter.
    """

    def __init__(self, bundle: str | Path, threads: int = 1, *, manifest: Manifest | None = None) -> None:
        folder = Path(bundle)
        self.manifest = manifest or load_manifest(folder, "bundle")
        modes = self.manifest.modes
        outputs: _Shapes = {
            "mode": (),
            "indices": (modes.max_tokens,),
            "bits": (modes.max_bits,),
            "symbols": (modes.max_symbols,),
            "bit_count": (),
            "symbol_count": (),
        }
        self._graph = _FeatureGraph(folder / "tx.onnx", self.manifest, threads, outputs)

    def send(self, features: ArrayLike, snr_db: ArrayLike) -> Transmission:
        """Encode one sample or a batch.

        Parameters
        ----------
        features
            Shape ``input_shape`` or (batch, *input_shape).
        snr_db
            Es/N0 in dB that both ends know; one number or one per sample.

        Raises
        ------
        InputError
            If a shape is wrong or a value is not finite.
        ArtifactError
            If the graph fails or gives arrays of other shapes.
        """
        return Transmission(*self._graph.run(self._graph.inputs(features, snr_db)))  # type: ignore[arg-type]


class SoftTransmitter:
    """The soft transmitter of a reference system: symbols as expectations, no decision taken.

    It exists to be measured against, not to be deployed.

    Parameters
    ----------
    bundle
        Folder of the bundle.
    file
        Its graph, as the manifest's reference names it.
    threads
        Threads of ONNX Runtime.
    manifest
        As for :class:`Transmitter`.

    Raises
    ------
    ArtifactError
        As for :class:`Transmitter`.
    """

    def __init__(
        self, bundle: str | Path, file: str, threads: int = 1, *, manifest: Manifest | None = None
    ) -> None:
        folder = Path(bundle)
        self.manifest = manifest or load_manifest(folder, "bundle")
        outputs: _Shapes = {"mode": (), "symbols_iq": (self.manifest.modes.max_symbols, 2)}
        self._graph = _FeatureGraph(folder / file, self.manifest, threads, outputs)

    def send(
        self, features: ArrayLike, snr_db: ArrayLike
    ) -> tuple[NDArray[np.int64], NDArray[np.complex128]]:
        """Mode, (batch,), and complex symbols, (batch, max_symbols), zero behind a mode's symbols."""
        mode, pairs = self._graph.run(self._graph.inputs(features, snr_db))
        values = np.asarray(pairs, dtype=np.float64)
        return np.asarray(mode, dtype=np.int64), values[..., 0] + 1j * values[..., 1]


class Receiver:
    """The receiver of a bundle: LLRs and mode to class scores.  It sees nothing else.

    Parameters
    ----------
    bundle
        Folder of the bundle; every file's hash is checked.
    threads
        Threads of ONNX Runtime.
    file
        Its graph; a soft reference has one of its own.
    manifest
        As for :class:`Transmitter`.

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
    ) -> None:
        folder = Path(bundle)
        self.manifest = manifest or load_manifest(folder, "bundle")
        outputs: _Shapes = {
            "logits": (len(self.manifest.classes),),
            "indices": (self.manifest.modes.max_tokens,),
        }
        self._graph = _Graph(folder / file, threads, ("llr", "mode"), outputs)

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
        width = self.manifest.modes.max_bits
        values = np.atleast_2d(np.asarray(llr, dtype=np.float32))
        if values.ndim != 2 or values.shape[1] != width:
            raise InputError("llr", f"have shape ({width},) or (batch, {width})", np.shape(llr))
        if not np.isfinite(values).all():
            raise InputError("llr", "be finite", "an array with NaN or infinity")
        modes = np.asarray(mode, dtype=np.int64)
        if modes.ndim > 1 or (modes.ndim == 1 and modes.shape != values.shape[:1]):
            raise InputError(
                "mode", f"be one number or {values.shape[0]} numbers, one per sample", modes.shape
            )
        if modes.size and (modes.min() < 0 or modes.max() >= len(self.manifest.modes)):
            raise InputError(
                "mode", f"lie in 0..{len(self.manifest.modes) - 1}", int(modes.flat[np.argmax(np.abs(modes))])
            )
        inputs: dict[str, NDArray[np.generic]] = {
            "llr": values,
            "mode": np.broadcast_to(modes, values.shape[:1]),
        }
        logits, indices = self._graph.run(inputs)
        return Reception(np.asarray(logits, dtype=np.float32), np.asarray(indices, dtype=np.int64))
