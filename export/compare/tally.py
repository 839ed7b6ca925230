"""Comparison of two runs of a graph: how clearly it decides, and the tally of what differed.

``theirs`` and ``ours`` are outputs by name; ``ours`` come from the graph that is shipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from twophase.export.graphs.run import OnnxRuntime, Values
from twophase.export.graphs.signature import UNFORCED, signature_of
from twophase.export.proof.hard import expected_bits
from twophase.export.proof.nearest_codeword import BARRED, ModeSearch
from twophase.link.graphs import MODE_REQUEST
from twophase.link.manifest import Manifest

__all__ = [
    "BY_PROGRAM",
    "BY_SEARCH",
    "EXCUSED_MARGIN",
    "POSTERIOR_MARGIN",
    "TOLERANCE",
    "Count",
    "DecidingGraph",
    "Margins",
    "Tally",
    "check_modes",
    "check_rules",
    "compare_receptions",
    "compare_soft",
    "compare_transmissions",
    "posterior_margin",
    "read_margins",
]

EXCUSED_MARGIN = 1e-5
"""Relative margin between best and second-best codeword, or mode, below which a different one is excused."""

POSTERIOR_MARGIN = 1e-4
"""Relative margin between the two most probable codewords below which a receiver may name either."""

BY_PROGRAM = "torch and ONNX Runtime"
"""What ``Tally`` calls the comparison of the graph with its program."""

BY_SEARCH = "float64 search and ONNX Runtime"
"""What ``Tally`` calls the comparison of the graph with the manifest's codebook."""

TOLERANCE = 1e-4
"""Largest difference of real outputs: absolute plus relative."""


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

    ``inner`` holds the latents of ``searches``, one for each mode, and the ``scores`` (batch, choices) of
    which the router takes the largest; ``requests`` is ``mode_request`` as it was given, if it was.
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

    ``file`` says which graph of the bundle it is; ``searches`` are those of each mode, none of a soft
    transmitter, and ``scores`` tensors whose largest entries a router that sees the content takes.
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


@dataclass
class Count:
    """Indices or modes compared in one way."""

    compared: int = 0
    different: int = 0
    excused: int = 0
    """Differences with a margin below the bound."""


@dataclass
class Tally:
    """What was compared for one graph and what differed."""

    samples: dict[str, int] = field(default_factory=dict)
    """Samples by source."""
    samples_of_mode: dict[int, int] = field(default_factory=dict)
    counts: dict[str, Count] = field(default_factory=dict)
    """Indices by what was compared."""
    mode_counts: dict[str, Count] = field(default_factory=dict)
    """Modes by what was compared."""
    usage: dict[float, dict[int, int]] = field(default_factory=dict)
    """Samples of the test split by Es/N0 in dB and by the mode that the router chose."""
    largest_error: float = 0.0
    """Largest difference of a real output between torch and ONNX Runtime."""
    largest_batch_error: float = 0.0
    """Largest difference of a real output between batches."""
    failures: dict[str, str] = field(default_factory=dict)
    """The first instance of each kind of failure."""

    def add(self, source: str, modes: NDArray[Any]) -> None:
        """Note a batch of samples."""
        self.samples[source] = self.samples.get(source, 0) + len(modes)
        _add_modes(self.samples_of_mode, modes)

    def add_usage(self, snr_db: float, modes: NDArray[Any]) -> None:
        """Note which modes the router chose at an SNR."""
        _add_modes(self.usage.setdefault(snr_db, {}), modes)

    def fail(self, kind: str, text: str) -> None:
        """Note a failure, a sentence that begins with its kind; of each kind the first is kept."""
        self.failures.setdefault(kind, f"{kind} {text}")

    @property
    def different(self) -> int:
        """Indices and modes that differed, over all comparisons."""
        return sum(count.different for count in (*self.counts.values(), *self.mode_counts.values()))

    @property
    def excused(self) -> int:
        """Differences that were excused, over all comparisons."""
        return sum(count.excused for count in (*self.counts.values(), *self.mode_counts.values()))


def compare_transmissions(what: str, theirs: Values, ours: Values, margins: Margins, tally: Tally) -> None:
    """Modes and indices must be equal up to their margins, the rest where modes and indices are."""
    agree = _count_modes(what, theirs["mode"], ours["mode"], margins.mode, tally)
    _count_indices(
        what, theirs["indices"][agree], ours["indices"][agree], margins.margin[agree], EXCUSED_MARGIN, tally
    )
    same = agree & (theirs["indices"] == ours["indices"]).all(axis=1)
    for name in ("bits", "symbols", "bit_count", "symbol_count"):
        unequal = same & _differing_rows(theirs[name], ours[name])
        if unequal.any():
            row = int(np.argmax(unequal))
            tally.fail(
                f"{what} differ in '{name}'",
                f"in {unequal.sum()} samples: {_short(theirs[name][row])} and {_short(ours[name][row])}",
            )


def check_modes(ours: Values, feed: Values, manifest: Manifest, tally: Tally) -> None:
    """Modes must be the requested ones, and otherwise those of a table that both ends know."""
    modes = ours["mode"]
    if (modes < 0).any() or (modes >= len(manifest.modes)).any():
        tally.fail("'mode'", f"must lie in 0..{len(manifest.modes) - 1}, not {_short(np.unique(modes))}")
        return
    requests = np.broadcast_to(feed.get(MODE_REQUEST, np.array(UNFORCED)), modes.shape)
    routed = modes if manifest.routing.tells_mode else manifest.routing.table.choose(feed["snr_db"])
    wanted = np.where(requests >= 0, requests, routed)
    if (modes != wanted).any():
        row = int(np.argmax(modes != wanted))
        source = "is requested" if requests[row] >= 0 else "is what the manifest's routing table gives"
        tally.fail("'mode'", f"is {modes[row]} at {feed['snr_db'][row]:g} dB, where {wanted[row]} {source}")


def check_rules(ours: Values, margins: Margins, manifest: Manifest, tally: Tally) -> None:
    """Indices must be those of the search in float64, and bits, symbols and counts those of the manifest."""
    modes = ours["mode"]
    if np.isfinite(margins.margin).any():
        _count_indices(BY_SEARCH, margins.nearest, ours["indices"], margins.margin, EXCUSED_MARGIN, tally)
    for number, mode in enumerate(manifest.modes):
        rows = np.flatnonzero(modes == number)
        if not rows.size:
            continue
        part = {name: value[rows] for name, value in ours.items()}
        sent = np.asarray(part["indices"], dtype=np.int64)[:, : mode.tokens]
        if (sent < 0).any() or (sent >= mode.codebook_size).any():
            tally.fail("'indices'", f"must lie in 0..{mode.codebook_size - 1} in mode {number}")
            continue
        bits, symbols = expected_bits(sent, mode, manifest.label_array(mode.codebook))
        for name, head, filler in (("indices", sent, -1), ("bits", bits, 0), ("symbols", symbols, 0)):
            wanted = np.full(part[name].shape, filler, dtype=np.int64)
            wanted[:, : head.shape[1]] = head
            if (part[name] != wanted).any():
                tally.fail(f"'{name}'", f"are not what the manifest gives for the indices in mode {number}")
        for name, value in (("bit_count", mode.channel_bits), ("symbol_count", mode.symbols)):
            if (part[name] != value).any():
                tally.fail(
                    f"'{name}'", f"must be {value} in mode {number}, not {_short(np.unique(part[name]))}"
                )


def posterior_margin(posterior: NDArray[Any]) -> NDArray[np.float64]:
    """Relative margin between the two most probable codewords, one axis less."""
    top = np.partition(posterior.astype(np.float64), -2, axis=-1)[..., -2:]
    return np.asarray((top[..., 1] - top[..., 0]) / np.maximum(top[..., 1], np.finfo(np.float64).tiny))


def compare_receptions(
    what: str, theirs: Values, ours: Values, modes: NDArray[np.int64], manifest: Manifest, tally: Tally
) -> None:
    """Logits and posteriors must be close, indices equal up to the margin of the posterior."""
    _compare_close(what, "logits", theirs, ours, tally)
    _compare_close(what, "posterior", theirs, ours, tally)
    margin = posterior_margin(ours["posterior"])
    _count_indices(what, theirs["indices"], ours["indices"], margin, POSTERIOR_MARGIN, tally)
    for number, mode in enumerate(manifest.modes):
        indices = ours["indices"][modes == number]
        head, tail = indices[:, : mode.tokens], indices[:, mode.tokens :]
        if (head < 0).any() or (head >= mode.codebook_size).any() or (tail != -1).any():
            tally.fail(
                "'indices'",
                f"must lie in 0..{mode.codebook_size - 1} at the {mode.tokens} tokens of mode {number}, "
                "and be -1 after them",
            )


def compare_soft(what: str, theirs: Values, ours: Values, margins: Margins, tally: Tally) -> None:
    """Modes must be equal up to their margins, and symbols close where the modes are equal."""
    agree = _count_modes(what, theirs["mode"], ours["mode"], margins.mode, tally)
    one, other = ({"symbols_iq": side["symbols_iq"][agree]} for side in (theirs, ours))
    _compare_close(what, "symbols_iq", one, other, tally)


def _add_modes(counts: dict[int, int], modes: NDArray[Any]) -> None:
    for mode, count in zip(*np.unique(modes, return_counts=True), strict=True):
        counts[int(mode)] = counts.get(int(mode), 0) + int(count)


def _count_modes(
    what: str, theirs: NDArray[Any], ours: NDArray[Any], margin: NDArray[np.float64], tally: Tally
) -> NDArray[np.bool_]:
    """Count modes that differ; returns where they are equal."""
    differs: NDArray[np.bool_] = theirs != ours
    excused = differs & (margin < EXCUSED_MARGIN)
    count = tally.mode_counts.setdefault(what, Count())
    count.compared += len(differs)
    count.different += int(differs.sum())
    count.excused += int(excused.sum())
    wrong = differs & ~excused
    if wrong.any():
        row = int(np.argmax(wrong))
        tally.fail(
            f"{what} differ in 'mode'",
            f"in {int(wrong.sum())} samples: {theirs[row]} and {ours[row]}, "
            f"margin {margin[row]:.2e}, not below {EXCUSED_MARGIN:.0e}",
        )
    return ~differs


def _count_indices(
    what: str,
    theirs: NDArray[Any],
    ours: NDArray[Any],
    margin: NDArray[np.float64],
    bound: float,
    tally: Tally,
) -> None:
    differs = theirs != ours
    excused = differs & (margin < bound)
    count = tally.counts.setdefault(what, Count())
    count.compared += int(((theirs >= 0) | (ours >= 0)).sum())
    count.different += int(differs.sum())
    count.excused += int(excused.sum())
    wrong = differs & ~excused
    if wrong.any():
        row, token = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        tally.fail(
            f"{what} differ in 'indices'",
            f"of {int(wrong.sum())} tokens: codewords {theirs[row, token]} and {ours[row, token]} "
            f"at token {token}, margin {margin[row, token]:.2e}, not below {bound:.0e}",
        )


def _compare_close(what: str, name: str, theirs: Values, ours: Values, tally: Tally) -> None:
    one, other = np.asarray(theirs[name], dtype=np.float64), np.asarray(ours[name], dtype=np.float64)
    error = np.abs(one - other)
    largest = float(error.max(initial=0.0))
    if what == BY_PROGRAM:
        tally.largest_error = max(tally.largest_error, largest)
    else:
        tally.largest_batch_error = max(tally.largest_batch_error, largest)
    if (error > TOLERANCE * (1.0 + np.abs(other))).any():
        tally.fail(f"{what} differ in '{name}'", f"by up to {error.max():.2e}, tolerance {TOLERANCE:.0e}")


def _differing_rows(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
    differs: NDArray[np.bool_] = (one != other).reshape(len(one), -1).any(axis=1)
    return differs


def _short(values: NDArray[Any]) -> str:
    return np.array2string(np.asarray(values), threshold=12, edgeitems=4, max_line_width=10_000)
