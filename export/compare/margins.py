"""How clearly a transmitter decides: the margins of its codewords and of its mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from twophase.export.graphs.run import OnnxRuntime, Values
from twophase.export.graphs.signature import signature_of
from twophase.export.proof.nearest_codeword import BARRED, ModeSearch
from twophase.link.graphs import MODE_REQUEST
from twophase.link.manifest import Manifest

__all__ = ["DecidingGraph", "Margins", "read_margins"]


@dataclass(frozen=True, eq=False)
class Margins:
    """The codebook search of a batch, done in float64, and how clear the choice of the mode is."""

    nearest: NDArray[np.int64]
    """Best codeword of each token, shape (batch, max_tokens); -1 after a mode's tokens."""
    margin: NDArray[np.float64]
    """Margin over the second best, same shape; infinite after a mode's tokens."""
    mode: NDArray[np.float64]
    """Margin of the chosen mode, shape (batch,): the gap between the two largest scores over the largest
    magnitude of a score; infinite where the mode was requested or follows from the SNR by a table."""

    def rows(self, subset: NDArray[np.int64]) -> Margins:
        """Those of some samples."""
        return Margins(self.nearest[subset], self.margin[subset], self.mode[subset])


def read_margins(
    inner: Values,
    modes: NDArray[Any],
    searches: tuple[ModeSearch, ...],
    manifest: Manifest,
    scores: tuple[str, ...] = (),
    requests: NDArray[Any] | None = None,
) -> Margins:
    """Search each sample's latents in its mode's codebook; without searches every margin is infinite.

    Parameters
    ----------
    inner
        Inner tensors of the graph by name: the latents of ``searches`` and the ``scores`` of modes.
    modes
        Mode of each sample, shape (batch,).
    searches
        The codebook search of each mode.
    manifest
        The link.
    scores
        Tensors (batch, choices) whose largest entries the router takes.
    requests
        ``mode_request`` as it was given, if it was.
    """
    shape = (len(modes), manifest.modes.max_tokens)
    nearest, margin = np.full(shape, -1, dtype=np.int64), np.full(shape, np.inf)
    for number, search in enumerate(searches):
        rows = np.flatnonzero(modes == number)
        if rows.size:
            vectors = inner[search.latents]
            best, gap = search.nearest(vectors.reshape(len(modes), -1, vectors.shape[-1])[rows])
            nearest[rows, : search.tokens], margin[rows, : search.tokens] = best, gap
    clear = np.full(len(modes), np.inf)
    for name in scores:
        clear = np.minimum(clear, _gap(np.asarray(inner[name], dtype=np.float64)))
    if requests is not None:
        clear = np.where(requests >= 0, np.inf, clear)
    return Margins(nearest, margin, clear)


def _gap(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gap between the two largest scores of each row over the largest magnitude of one that is not barred."""
    if scores.shape[-1] < 2:
        return np.full(len(scores), np.inf)
    top = np.partition(scores, -2, axis=-1)[:, -2:]
    reach = np.abs(np.where(scores <= BARRED, 0.0, scores)).max(axis=-1)
    return np.asarray((top[:, 1] - top[:, 0]) / np.maximum(reach, np.finfo(np.float64).tiny))


class DecidingGraph(OnnxRuntime):
    """A transmitter, hard or soft, in ONNX Runtime, and the inner tensors that it decides by.

    Parameters
    ----------
    graph
        The transmitter, or its bytes.
    file
        Which one of the bundle it is.
    manifest
        The link.
    searches
        The codebook search of each mode; none of a soft transmitter.
    scores
        Tensors whose largest entries a router that sees the content takes.
    threads
        As for ``OnnxRuntime``.
    """

    def __init__(
        self,
        graph: ModelProto | bytes,
        file: str,
        manifest: Manifest,
        searches: Sequence[ModeSearch],
        scores: Sequence[str],
        *,
        threads: int = 1,
    ) -> None:
        self.manifest, self.searches, self.scores = manifest, tuple(searches), tuple(scores)
        self.decided_by = tuple(dict.fromkeys((*(search.latents for search in searches), *scores)))
        super().__init__(graph, signature_of(file, manifest), inner=self.decided_by, threads=threads)

    def margins(self, feed: Values, modes: NDArray[Any]) -> Margins:
        """Margins of a feed for which the graph gives these modes."""
        return self.margins_from(self.read(self.decided_by, feed), feed, modes)

    def margins_from(self, inner: Values, feed: Values, modes: NDArray[Any]) -> Margins:
        """The same where the tensors that it decides by have been read."""
        return read_margins(inner, modes, self.searches, self.manifest, self.scores, feed.get(MODE_REQUEST))
