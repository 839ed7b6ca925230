"""The transmitter of a link of text: tokenizer, then one graph from token ids to symbols."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import InputError
from twophase.link.frames import Frames, Transmission
from twophase.link.front import TOKENIZER_FILE, Front
from twophase.link.manifest import Manifest
from twophase.link.session import GraphOptions, TokenGraph
from twophase.link.text import TextEncoder

__all__ = ["TextTransmitter"]


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
