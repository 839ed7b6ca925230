"""Comparison of two runs of the same graph, and the tally of what differed.

``theirs`` and ``ours`` are outputs by name; ``ours`` come from the graph that is shipped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twophase.export.prove import expected_bits
from twophase.export.rule import ModeSearch
from twophase.export.session import Values
from twophase.link.manifest import Manifest

__all__ = [
    "EXCUSED_MARGIN",
    "POSTERIOR_MARGIN",
    "TOLERANCE",
    "Count",
    "Margins",
    "Tally",
    "check_rules",
    "compare_receptions",
    "compare_soft",
    "compare_transmissions",
    "read_margins",
]

EXCUSED_MARGIN = 1e-5
"""Relative margin between best and second-best codeword below which a different codeword is excused."""

POSTERIOR_MARGIN = 1e-4
"""Relative margin between the two most probable codewords below which a receiver may name either."""

TOLERANCE = 1e-4
"""Largest difference of real outputs: absolute plus relative."""


@dataclass
class Count:
    """Indices compared in one way."""

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
    largest_error: float = 0.0
    """Largest difference of a real output."""
    failures: dict[str, str] = field(default_factory=dict)
    """The first instance of each kind of failure."""

    def add(self, source: str, modes: NDArray[Any]) -> None:
        """Note a batch of samples."""
        self.samples[source] = self.samples.get(source, 0) + len(modes)
        for mode, count in zip(*np.unique(modes, return_counts=True), strict=True):
            self.samples_of_mode[int(mode)] = self.samples_of_mode.get(int(mode), 0) + int(count)

    def fail(self, kind: str, text: str) -> None:
        """Note a failure, a sentence that begins with its kind; of each kind the first is kept."""
        self.failures.setdefault(kind, f"{kind} {text}")

    @property
    def different(self) -> int:
        """Indices that differed, over all comparisons."""
        return sum(count.different for count in self.counts.values())

    @property
    def excused(self) -> int:
        """Differences that were excused, over all comparisons."""
        return sum(count.excused for count in self.counts.values())


@dataclass(frozen=True, eq=False)
class Margins:
    """The codebook search of a batch, done in float64."""

    nearest: NDArray[np.int64]
    """Best codeword of each token, shape (batch, max_tokens); -1 behind a mode's tokens."""
    margin: NDArray[np.float64]
    """Margin over the second best, same shape; infinite behind a mode's tokens."""

    def rows(self, subset: NDArray[np.int64]) -> Margins:
        """Those of some samples."""
        return Margins(self.nearest[subset], self.margin[subset])


def read_margins(
    latents: Values, modes: NDArray[Any], searches: tuple[ModeSearch, ...], manifest: Manifest
) -> Margins:
    """Search each sample's latents in its mode's codebook; without searches every margin is infinite."""
    shape = (len(modes), manifest.modes.max_tokens)
    nearest, margin = np.full(shape, -1, dtype=np.int64), np.full(shape, np.inf)
    for number, search in enumerate(searches):
        rows = np.flatnonzero(modes == number)
        if rows.size:
            vectors = latents[search.latents]
            best, gap = search.nearest(vectors.reshape(len(modes), -1, vectors.shape[-1])[rows])
            nearest[rows, : search.tokens], margin[rows, : search.tokens] = best, gap
    return Margins(nearest, margin)


def compare_transmissions(what: str, theirs: Values, ours: Values, margins: Margins, tally: Tally) -> None:
    """Modes and counts must be equal, indices up to the margin, bits and symbols where the indices are."""
    _count_indices(what, theirs["indices"], ours["indices"], margins.margin, EXCUSED_MARGIN, tally)
    same = (theirs["indices"] == ours["indices"]).all(axis=1)
    for name in ("mode", "bits", "symbols", "bit_count", "symbol_count"):
        rows = np.ones_like(same) if name == "mode" else same
        unequal = rows & _differing_rows(theirs[name], ours[name])
        if unequal.any():
            row = int(np.argmax(unequal))
            tally.fail(
                f"{what} differ in '{name}'",
                f"in {unequal.sum()} samples: {_short(theirs[name][row])} and {_short(ours[name][row])}",
            )


def check_rules(ours: Values, margins: Margins, manifest: Manifest, tally: Tally) -> None:
    """Indices must be those of the search in float64, and bits, symbols and counts those of the manifest."""
    what = "float64 search and ONNX Runtime"
    modes = ours["mode"]
    if (modes < 0).any() or (modes >= len(manifest.modes)).any():
        tally.fail("'mode'", f"must lie in 0..{len(manifest.modes) - 1}, not {_short(np.unique(modes))}")
        return
    if np.isfinite(margins.margin).any():
        _count_indices(what, margins.nearest, ours["indices"], margins.margin, EXCUSED_MARGIN, tally)
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


def compare_receptions(
    what: str, theirs: Values, ours: Values, modes: NDArray[np.int64], manifest: Manifest, tally: Tally
) -> None:
    """Logits and posteriors must be close, indices equal up to the margin of the posterior."""
    _compare_close(what, "logits", theirs, ours, tally)
    _compare_close(what, "posterior", theirs, ours, tally)
    top = np.partition(np.asarray(ours["posterior"], dtype=np.float64), -2, axis=-1)[..., -2:]
    margin = (top[..., 1] - top[..., 0]) / np.maximum(top[..., 1], np.finfo(np.float64).tiny)
    _count_indices(what, theirs["indices"], ours["indices"], margin, POSTERIOR_MARGIN, tally)
    for number, mode in enumerate(manifest.modes):
        indices = ours["indices"][modes == number]
        head, tail = indices[:, : mode.tokens], indices[:, mode.tokens :]
        if (head < 0).any() or (head >= mode.codebook_size).any() or (tail != -1).any():
            tally.fail(
                "'indices'",
                f"must lie in 0..{mode.codebook_size - 1} at the {mode.tokens} tokens of mode {number}, "
                "and be -1 behind them",
            )


def compare_soft(what: str, theirs: Values, ours: Values, tally: Tally) -> None:
    """Modes must be equal and symbols close."""
    _compare_close(what, "symbols_iq", theirs, ours, tally)
    unequal = _differing_rows(theirs["mode"], ours["mode"])
    if unequal.any():
        tally.fail(f"{what} differ in 'mode'", f"in {unequal.sum()} samples")


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
    tally.largest_error = max(tally.largest_error, float(error.max(initial=0.0)))
    if (error > TOLERANCE * (1.0 + np.abs(other))).any():
        tally.fail(f"{what} differ in '{name}'", f"by up to {error.max():.2e}, tolerance {TOLERANCE:.0e}")


def _differing_rows(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
    differs: NDArray[np.bool_] = (one != other).reshape(len(one), -1).any(axis=1)
    return differs


def _short(values: NDArray[Any]) -> str:
    return np.array2string(np.asarray(values), threshold=12, edgeitems=4, max_line_width=10_000)
