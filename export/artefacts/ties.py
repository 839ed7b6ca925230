"""Inputs on which the transmitter decides by a hair: the hardest ones to send alike on two machines.

They come from a seeded pool: test samples in noise, and for each mode pairs of test samples whose codewords
differ.  The way between the two of a pair is halved until its ends are neighbours in float32 and the codeword
changes between them, so the pool holds inputs on either side of a boundary of decision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twophase.export.compare.inputs import SPLIT_SNRS_DB
from twophase.export.compare.tally import EXCUSED_MARGIN, DecidingGraph
from twophase.export.graphs.run import Values
from twophase.export.proof.hard import HardProof
from twophase.link.graphs import MODE_REQUEST
from twophase.link.manifest import Manifest

__all__ = ["Decisions", "Pool", "TieSearch"]

_NOISY = 512
"""Test samples in noise, for each mode."""

_PAIRS = 32
"""Pairs of test samples, for each mode."""

_HALVINGS = 70
"""More than enough to come down from any two float32 numbers to neighbours along their way."""

_CHUNK = 2048


@dataclass(frozen=True, eq=False)
class Decisions:
    """What a transmitter decided, and how clearly."""

    indices: NDArray[np.int64]
    """Codewords, shape (batch, max_tokens)."""
    margin: NDArray[np.float64]
    """Smallest margin of a sample's codewords, shape (batch,); -1 where a latent is not finite."""
    mode_margin: NDArray[np.float64]
    """Margin of its mode, shape (batch,); infinite where a table or a request decides."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Inputs and how they are decided, all arrays with a row for each."""

    features: NDArray[np.float32]
    snr_db: NDArray[np.float32]
    mode: NDArray[np.int64]
    """The mode that is requested."""
    indices: NDArray[np.int64]
    margin: NDArray[np.float64]
    """As in ``Decisions``."""

    def rows(self, subset: NDArray[np.int64]) -> Pool:
        """Some of them."""
        return Pool(*(getattr(self, name)[subset] for name in self.__dataclass_fields__))

    def replaced(self, other: Pool, where: NDArray[np.bool_]) -> Pool:
        """These rows, but those of ``other`` where it says so; the conditions are the same in both."""

        def choose(name: str) -> NDArray[np.generic]:
            mine, theirs = getattr(self, name), getattr(other, name)
            chosen: NDArray[np.generic] = np.where(where.reshape(-1, *(1,) * (mine.ndim - 1)), theirs, mine)
            return chosen

        return Pool(*(choose(name) for name in self.__dataclass_fields__))  # type: ignore[arg-type]

    def smallest(self, count: int, bound: float) -> Pool:
        """The different rows of the smallest margins that reach ``bound``; of equal ones the first."""
        order = np.argsort(self.margin, kind="stable")
        order = order[self.margin[order] >= bound]
        seen: dict[bytes, int] = {}
        for row in order:
            if len(seen) == count:
                break
            seen.setdefault(self.features[row].tobytes() + self.snr_db[row].tobytes(), int(row))
        return self.rows(np.array(list(seen.values()), dtype=np.int64))


class TieSearch:
    """A transmitter's graph, as bytes, and by its proof the tensors that it decides by."""

    def __init__(self, serialized: bytes, manifest: Manifest, proof: HardProof) -> None:
        self._manifest = manifest
        self._graph = DecidingGraph(
            serialized, manifest.head_file, manifest, proof.searches, proof.mode.scores
        )
        self._names = dict.fromkeys(("mode", "indices", *self._graph.decided_by))

    @property
    def is_exact(self) -> bool:
        """Whether every codeword follows from whole numbers, so that not even a tie is open to doubt."""
        return self._manifest.grid is not None

    def decide(self, feed: Values) -> Decisions:
        """Codewords and margins of a feed that has one request for all samples, or one for each, or none."""
        values = self._graph.read(list(self._names), feed)
        with np.errstate(all="ignore"):  # latents of extreme inputs may not be finite
            found = self._graph.margins_from(values, feed, values["mode"])
        margin, mode_margin = (np.nan_to_num(part, nan=-1.0) for part in (found.margin, found.mode))
        for search in self._graph.searches:
            finite = np.isfinite(values[search.latents].reshape(len(margin), -1)).all(axis=1)
            margin[~finite] = -1.0
        return Decisions(values["indices"], margin.min(axis=1), mode_margin)

    def clear(self, feed: Values) -> NDArray[np.bool_]:
        """Which samples every machine must decide alike, shape (batch,).

        All of an exact transmitter; of another those whose margins reach ``EXCUSED_MARGIN``.
        """
        found = self.decide(feed)
        codewords = np.full(len(found.margin), True) if self.is_exact else found.margin >= EXCUSED_MARGIN
        return codewords & (found.mode_margin >= EXCUSED_MARGIN)

    def find(self, features: NDArray[np.float32], per_mode: int, seed: int) -> Pool:
        """For each mode the clear inputs with the smallest margins, at most ``per_mode``.

        Of an exact transmitter half of them are pairs of neighbours in float32 with a boundary in between.
        """
        rng = np.random.default_rng(seed)
        noisy = self._noisy(features, rng)
        ends, visited = self._halved(features, rng)
        pool = _joined([noisy, *visited])
        kept: list[Pool] = []
        for number in range(len(self._manifest.modes)):
            here = pool.rows(np.flatnonzero(pool.mode == number))
            pairs = np.flatnonzero(ends[0].mode == number)[: per_mode // 4 if self.is_exact else 0]
            kept += [end.rows(pairs) for end in ends]
            kept.append(here.smallest(per_mode - 2 * len(pairs), 0.0 if self.is_exact else EXCUSED_MARGIN))
        return _joined(kept)

    def _noisy(self, features: NDArray[np.float32], rng: np.random.Generator) -> Pool:
        """Test samples in Gaussian noise of 0.3 of each feature's standard deviation."""
        count = _NOISY * len(self._manifest.modes)
        drawn = features[rng.integers(0, len(features), count)]
        noise = 0.3 * features.std(axis=0) * rng.standard_normal(drawn.shape)
        return self._pool((drawn + noise).astype(np.float32), *self._conditions(count, rng))

    def _halved(
        self, features: NDArray[np.float32], rng: np.random.Generator
    ) -> tuple[tuple[Pool, Pool], list[Pool]]:
        """Neighbours between which a codeword changes, and the smallest margins met on the way to them."""
        count = _PAIRS * len(self._manifest.modes)
        start, stop = (features[rng.integers(0, len(features), count)].astype(np.float64) for _ in range(2))
        snr_db, mode = self._conditions(count, rng)
        first, last = (self._pool(side.astype(np.float32), snr_db, mode) for side in (start, stop))
        differs = first.indices != last.indices
        rows = np.flatnonzero(differs.any(axis=1))
        token = differs.argmax(axis=1)[rows]
        first, last = first.rows(rows), last.rows(rows)
        start, way = start[rows], (stop - start)[rows]
        sides = np.zeros(len(rows)), np.ones(len(rows))
        visited = [first, last]
        # A link that has collapsed to one codeword has no boundary to come near to.
        for _ in range(_HALVINGS if len(rows) else 0):
            middle = (sides[0] + sides[1]) / 2.0
            share = middle.reshape(-1, *(1,) * (features.ndim - 1))
            point = self._pool((start + share * way).astype(np.float32), first.snr_db, first.mode)
            moved = ~(_equal(point, first) | _equal(point, last))
            if not moved.any():
                break
            visited.append(point.rows(np.flatnonzero(moved)))
            word = np.take_along_axis(point.indices, token[:, np.newaxis], axis=1)[:, 0]
            before = word == np.take_along_axis(first.indices, token[:, np.newaxis], axis=1)[:, 0]
            sides = np.where(before, middle, sides[0]), np.where(before, sides[1], middle)
            first, last = first.replaced(point, before & moved), last.replaced(point, ~before & moved)
        return (first, last), visited

    def _conditions(
        self, count: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """SNRs in the range of the comparison, and every mode in its turn."""
        snr_db = rng.uniform(SPLIT_SNRS_DB[0], SPLIT_SNRS_DB[-1], count).astype(np.float32)
        return snr_db, np.arange(count, dtype=np.int64) % len(self._manifest.modes)

    def _pool(
        self, features: NDArray[np.float32], snr_db: NDArray[np.float32], mode: NDArray[np.int64]
    ) -> Pool:
        parts = []
        features = self._manifest.input.legal(features)
        for begin in range(0, len(features), _CHUNK):
            rows = slice(begin, begin + _CHUNK)
            feed: Values = {"input": features[rows], "snr_db": snr_db[rows]}
            if len(self._manifest.modes) > 1:
                feed[MODE_REQUEST] = mode[rows]
            parts.append(self.decide(feed))
        indices = np.concatenate([part.indices for part in parts])
        return Pool(features, snr_db, mode, indices, np.concatenate([part.margin for part in parts]))


def _equal(one: Pool, other: Pool) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = (one.features == other.features).reshape(len(one.features), -1).all(axis=1)
    return same


def _joined(pools: list[Pool]) -> Pool:
    names = Pool.__dataclass_fields__
    return Pool(*(np.concatenate([getattr(pool, name) for pool in pools]) for name in names))
