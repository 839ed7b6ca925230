"""The rule of a codebook search, read from a graph and compared with the manifest's codebook.

The part of the graph between the latents z and the scores is affine (``search`` proves it), so its matrix W
and offset b can be read off by running it on the unit vectors.  They must satisfy, for the codebook c of the
manifest,

    W_k = a (c_k - m),   b_k = -(a s / 2) |c_k - m|^2 + const,   a > 0, s >= 0

for then argmax_k (z W_k + b_k) = argmin_k |z - s (c_k - m)|^2: the nearest codeword of the manifest's
codebook in coordinates that may be shifted (m) and scaled (s).  A constant temperature is part of a and
cannot change the decision.

On an integer grid nothing is tolerated: with c in whole numbers of units,

    W_k = a c_k,   b_k = -(a / 2) |c_k|^2 + const,   a a positive power of two, const a multiple of a / 2

must hold exactly, for an offset that is wrong by one unit moves the border between two codewords.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from twophase.export.graphs.run import GraphRunError, OnnxRuntime, Values
from twophase.export.graphs.view import GraphView, problem_of_cut
from twophase.link.manifest import Manifest

__all__ = ["BARRED", "ModeSearch", "Rule", "Search", "grid_misfit", "misfit", "misfit_of_link", "read_rule"]

Rule = tuple[NDArray[np.float64], NDArray[np.float64]]
"""W, shape (C, K), and b, shape (K,): the codeword with the largest ``z @ W + b`` wins."""

FIT_TOLERANCE = 1e-5
"""Largest relative deviation of the rule in the graph from the manifest's codebook (float32 rounding)."""

_PROBE = 1024.0
"""Length of the unit vectors that W is read with: a power of two, so long that b does not blur W.  On a
grid, where every score is exact up to 2^24 units, it is 1."""

_BLOCK = 1 << 22
"""Scores held in memory at once."""

BARRED = -1e30
"""Scores from here down bar a codeword (padding of a smaller codebook)."""


@dataclass(frozen=True, eq=False)
class ModeSearch:
    """How one mode's codewords are picked: argmax over k of ``latents @ weights[:, k] + offsets[k]``."""

    latents: str
    """Tensor of the graph that is searched: (batch, tokens, C) or (batch * tokens, C)."""
    tokens: int
    weights: NDArray[np.float64]
    """Shape (C, K)."""
    offsets: NDArray[np.float64]
    """Shape (K,)."""

    def nearest(self, latents: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Search in float64; ``latents`` have shape (batch, tokens or more, C), at least one sample.

        Returns the indices of the best codewords, shape (batch, tokens), and the margin of each over the
        second best: the difference of the two scores over |z| max|W_k| + max|b_k|, the largest score that
        a latent vector of this length can reach.
        """
        rows = max(1, _BLOCK // (self.tokens * self.offsets.size))
        parts = [self._nearest(latents[start : start + rows]) for start in range(0, len(latents), rows)]
        best, margin = zip(*parts, strict=True)
        return np.concatenate(best), np.concatenate(margin)

    def _nearest(self, latents: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        vectors = np.asarray(latents[:, : self.tokens], dtype=np.float64)
        scores = vectors @ self.weights + self.offsets
        best = np.argmax(scores, axis=-1)
        top = np.partition(scores, -2, axis=-1)[..., -2:]
        reach = np.linalg.norm(vectors, axis=-1) * np.linalg.norm(self.weights, axis=0).max()
        reach = reach + np.abs(self.offsets).max()
        return best, (top[..., 1] - top[..., 0]) / np.maximum(reach, np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Search:
    """One ArgMax or ArgMin of the graph with the affine part before it."""

    node: str
    latents: str
    scores: str
    sign: int
    by_mode: bool
    """Whether the mode selects among stored codebooks."""


def read_rule(view: GraphView, search: Search, manifest: Manifest, mode: int | None) -> Rule | str:
    """W and b of a search, read by running its affine part on zero and the unit vectors, or why it has none.

    ``mode`` is that of a search over a codebook that the mode selects.
    """
    inputs = [search.latents] + (["mode"] if search.by_mode else [])
    if (problem := problem_of_cut(view, inputs, [search.scores])) is not None:
        return problem
    shape = view.shape(search.latents)
    width = manifest.link.embedding_dim
    if shape is None or len(shape) not in (2, 3) or shape[-1] != width:
        return f"the latents '{search.latents}' must have shape (batch, tokens, {width}), not {shape}"
    if len(shape) == 2 and search.by_mode:
        return f"the latents '{search.latents}' must keep the batch axis where the mode selects the codebook"
    tokens = shape[1] if len(shape) == 3 else math.lcm(*manifest.link.tokens)
    if tokens is None:
        return f"the latents '{search.latents}' must have a fixed number of tokens"
    probe, tolerance = (_PROBE, FIT_TOLERANCE) if manifest.grid is None else (1.0, 0.0)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(view.element_type(search.latents))
    probes = np.concatenate([np.zeros((1, width)), probe * np.eye(width)]).astype(dtype)
    feed: Values = {
        search.latents: np.repeat(probes[:, np.newaxis], tokens, axis=1).reshape(
            (-1, width) if len(shape) == 2 else (-1, tokens, width)
        )
    }
    if mode is not None:
        feed["mode"] = np.full(width + 1, mode, dtype=np.int64)
    part = view.cut(inputs, [search.scores])
    try:
        (raw,) = OnnxRuntime(part).run([search.scores], feed)
    except GraphRunError as error:
        return f"the part before the decision does not run: {error}"
    if raw.size != raw.shape[-1] * (width + 1) * tokens:
        return f"the scores '{search.scores}' must have one row for each token, not shape {raw.shape}"
    scores = search.sign * np.asarray(raw, dtype=np.float64).reshape(width + 1, tokens, -1)
    kept = ~(scores <= BARRED).all(axis=(0, 1))
    finite = scores[..., kept]
    scale = np.abs(finite).max(initial=0.0)
    if not np.isfinite(scale) or np.abs(finite - finite[:, :1]).max(initial=0.0) > tolerance * scale:
        return "the tokens of a sample are not all searched by the same finite rule"
    offsets = scores[0, 0]
    weights = np.zeros((width, offsets.size))
    weights[:, kept] = (scores[1:, 0, kept] - offsets[kept]) / probe
    return weights, offsets


def misfit(
    weights: NDArray[np.float64], offsets: NDArray[np.float64], codebook: NDArray[np.float64]
) -> str | None:
    """Why a rule is no nearest-codeword search over ``codebook``, shape (K, C); None if it is one."""
    size = len(codebook)
    if (problem := _problem_of_choice(offsets, size)) is not None:
        return problem
    used = weights.T[:size]
    spread, wanted = used - used.mean(axis=0), codebook - codebook.mean(axis=0)
    gain = float((spread * wanted).sum() / max((wanted * wanted).sum(), np.finfo(np.float64).tiny))
    if gain <= 0.0:
        return "its scores do not grow towards the codewords of the manifest"
    error = np.abs(spread / gain - wanted).max(axis=1)
    if error.max() > FIT_TOLERANCE * np.abs(wanted).max():
        word = int(error.argmax())
        return f"codeword {word} is not the manifest's: it differs by {error[word]:.3g}"
    energy = ((used / gain) ** 2).sum(axis=1)
    centred = energy - energy.mean()
    height = offsets[:size] - offsets[:size].mean()
    power = float(centred @ centred)
    scale = -float(height @ centred) / power if power > (FIT_TOLERANCE * energy.max()) ** 2 else 0.0
    error = np.abs(height + scale * centred)
    if scale < 0.0 or error.max() > FIT_TOLERANCE * max(np.abs(offsets[:size]).max(), gain * energy.max()):
        word = int(error.argmax())
        return f"its offsets are not those of a nearest-codeword search: off by {error[word]:.3g} at {word}"
    return None


def grid_misfit(
    weights: NDArray[np.float64], offsets: NDArray[np.float64], units: NDArray[np.int64]
) -> str | None:
    """Why a rule is not exactly the search over codewords in whole units, shape (K, C); None if it is."""
    size = len(units)
    if (problem := _problem_of_choice(offsets, size)) is not None:
        return problem
    used, wanted = weights.T[:size], units.astype(np.float64)
    gain = float((used * wanted).sum() / max((wanted * wanted).sum(), 1.0))
    if not gain > 0.0:
        return "its scores do not grow towards the codewords of the manifest"
    step = 2.0 ** round(math.log2(gain))
    error = np.abs(used / step - wanted).max(axis=1)
    if error.any():
        word = int(error.argmax())
        return (
            f"codeword {word} is not exactly the manifest's, times a power of two: "
            f"it differs by {error[word]:.9g} units"
        )
    # in halves of ``step``, everything is a whole number; most offsets agree on the constant, if any does
    constants = offsets[:size] / (step / 2) + np.square(wanted).sum(axis=1)
    values, counts = np.unique(constants, return_counts=True)
    constant = values[counts.argmax()]
    error = np.abs(constants - constant)
    if error.any():
        word = int(error.argmax())
        return (
            "its offsets are not exactly those of a nearest-codeword search: "
            f"off by {error[word] / 2:.9g} units at {word}"
        )
    if constant != np.rint(constant):
        return f"its offsets hold {constant / 2:.9g}, no whole number or half of units"
    return None


def misfit_of_link(rule: Rule, manifest: Manifest, index: int) -> str | None:
    """Why a rule is no nearest-codeword search over a codebook of a link; exact where that is on a grid."""
    if manifest.grid is None:
        return misfit(*rule, manifest.codebook(index))
    return grid_misfit(*rule, manifest.grid_codebook(index))


def _problem_of_choice(offsets: NDArray[np.float64], size: int) -> str | None:
    barred = offsets <= BARRED
    if len(offsets) < size or barred[:size].any() or not barred[size:].all():
        return f"it chooses among {int((~barred).sum())} codewords, not {size}"
    return None
