"""Comparison of the frozen graphs with the programs they were made from, in numbers.

The transmitter's integers must be equal: torch against ONNX Runtime, ONNX Runtime against the codebook search
done in float64, and a sample alone against the same sample in batches of other sizes, in another order and
next to a sample of every other mode.  Two float32 implementations may still pick different codewords where a
latent vector lies halfway between two of them, or different modes where a router that sees the content gives
two the same score; such a difference is excused if, and only if, its margin is below
``tally.EXCUSED_MARGIN``, and each one is counted and reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from torch.export import ExportedProgram

from twophase.export.compare.inputs import feature_batches, llr_batches, spread_db
from twophase.export.compare.tally import (
    BY_PROGRAM,
    DecidingGraph,
    Margins,
    Tally,
    check_modes,
    check_rules,
    compare_receptions,
    compare_soft,
    compare_transmissions,
)
from twophase.export.graphs.run import GraphRunError, OnnxRuntime, Runner, Values, joined, rows_of
from twophase.export.graphs.signature import signature_of
from twophase.export.graphs.torch_program import TorchProgram
from twophase.export.proof.hard import HardProof
from twophase.export.proof.mode import ModeProof
from twophase.link.graphs import MODE_REQUEST
from twophase.link.manifest import Manifest
from twophase.link.routing import SnrTable

__all__ = ["verify_receiver", "verify_soft", "verify_transmitter"]

_REGROUPED = 540
_SIZES = (1, 7)


@dataclass(frozen=True, eq=False)
class _Run:
    """What the shipped graph gave for a feed."""

    feed: Values
    outputs: Values
    margins: Margins | None
    """None for a receiver, which carries its margins in its outputs."""

    def rows(self, subset: NDArray[np.int64]) -> _Run:
        margins = None if self.margins is None else self.margins.rows(subset)
        return _Run(rows_of(self.feed, subset), rows_of(self.outputs, subset), margins)


_Compare = Callable[[str, Values, _Run], None]
"""Compare other outputs, said how they were made, with those of a run."""


def verify_transmitter(
    program: ExportedProgram,
    model: ModelProto,
    proof: HardProof | None,
    manifest: Manifest,
    features: NDArray[np.float32],
    random_inputs: int,
    seed: int,
    table: SnrTable | None = None,
) -> Tally:
    """Compare the hard transmitter's program with its graph.

    Parameters
    ----------
    proof
        Where the graph takes its decisions, for the margins; without it no difference is excused.
    manifest
        The link, with the routing of the bundle.
    features
        The test split, shape (n, *input_shape); all of it is compared at every SNR of ``SPLIT_SNRS_DB``.
    random_inputs, seed
        How many random inputs to compare besides, and their seed.
    table
        What took the place of the program's router in the graph, if anything did; the program is then asked
        for the mode of each sample.
    """
    searches, scores = ((), ()) if proof is None else (proof.searches, proof.mode.scores)
    graph = DecidingGraph(model, manifest.head_file, manifest, searches, scores)
    torch_side = TorchProgram(program, signature_of(manifest.head_file, manifest), table)
    return _verify_sender(
        torch_side, graph, compare_transmissions, check_rules, features, random_inputs, seed
    )


def verify_soft(
    graph_file: str,
    program: ExportedProgram,
    model: ModelProto,
    proof: ModeProof | None,
    manifest: Manifest,
    features: NDArray[np.float32],
    random_inputs: int,
    seed: int,
    table: SnrTable | None = None,
) -> Tally:
    """Compare a soft transmitter's program with its graph, as ``verify_transmitter`` does."""
    scores = () if proof is None else proof.scores
    graph = DecidingGraph(model, graph_file, manifest, (), scores)
    torch_side = TorchProgram(program, signature_of(graph_file, manifest), table)
    return _verify_sender(torch_side, graph, compare_soft, None, features, random_inputs, seed)


def verify_receiver(
    graph_file: str, program: ExportedProgram, model: ModelProto, manifest: Manifest, count: int, seed: int
) -> Tally:
    """Compare a receiver's program with its graph on ``count`` random LLR vectors and on the extreme ones."""
    tally = Tally()
    signature = signature_of(graph_file, manifest)
    try:
        torch_side, graph = TorchProgram(program, signature), OnnxRuntime(model, signature)

        def run(feed: Values) -> _Run:
            return _Run(feed, graph.outputs(feed), None)

        def compare(what: str, theirs: Values, whole: _Run) -> None:
            modes = np.asarray(whole.feed["mode"], dtype=np.int64)
            compare_receptions(what, theirs, whole.outputs, modes, manifest, tally)

        for llr, mode in llr_batches(manifest, count, seed):
            feed: Values = {"llr": llr, "mode": mode}
            tally.add("random", mode)
            compare(BY_PROGRAM, torch_side.outputs(feed), run(feed))
        _compare_groupings(graph, run, compare, _received(manifest, seed), seed)
    except GraphRunError as error:
        tally.fail("comparison", f"broken off: {error}")
    return tally


def _verify_sender(
    torch_side: TorchProgram,
    graph: DecidingGraph,
    compare_outputs: Callable[[str, Values, Values, Margins, Tally], None],
    check: Callable[[Values, Margins, Manifest, Tally], None] | None,
    features: NDArray[np.float32],
    random_inputs: int,
    seed: int,
) -> Tally:
    """Compare program and graph, the graph with what ``check`` asks for, and the graph with itself."""
    tally = Tally()
    manifest, modes = graph.manifest, len(graph.manifest.modes)

    def run(feed: Values) -> _Run:
        ours = graph.outputs(feed)
        return _Run(feed, ours, graph.margins(feed, ours["mode"]))

    def compare(what: str, theirs: Values, run: _Run) -> None:
        assert run.margins is not None
        compare_outputs(what, theirs, run.outputs, run.margins, tally)

    try:
        for batch in feature_batches(features, manifest, random_inputs, seed):
            whole = run(batch.feed)
            ours = whole.outputs
            tally.add(batch.source, ours["mode"])
            if batch.source == "test split":
                tally.add_usage(float(batch.snr_db[0]), ours["mode"])
            compare(BY_PROGRAM, torch_side.outputs(batch.feed), whole)
            check_modes(ours, batch.feed, manifest, tally)
            if check is not None and whole.margins is not None:
                check(ours, whole.margins, manifest, tally)
        _compare_groupings(graph, run, compare, _mixed(features, modes), seed)
    except GraphRunError as error:
        tally.fail("comparison", f"broken off: {error}")
    return tally


def _compare_groupings(
    graph: Runner, run: Callable[[Values], _Run], compare: _Compare, feeds: list[Values], seed: int
) -> None:
    """A sample's result must not depend on the size of its batch, its place in it, or its neighbours' modes.

    ``feeds`` are the same number of samples each; after the first, one feed for each mode of several.
    """
    alone: list[_Run] = []
    for feed in feeds:
        whole = run(feed)
        count = len(whole.outputs[next(iter(whole.outputs))])
        for size in _SIZES:
            parts = [
                graph.outputs(rows_of(feed, slice(start, start + size))) for start in range(0, count, size)
            ]
            together = joined(parts)
            compare(f"batches of {size} and of {count}", together, whole)
            if size == 1:
                alone.append(_Run(feed, together, whole.margins))
        order = np.random.default_rng(seed).permutation(count)
        what = "a batch in another order and the batch"
        compare(what, graph.outputs(rows_of(feed, order)), whole.rows(order))
    pairs = [
        _joined([alone[1 + mode].rows(_neighbour(number, side)) for side, mode in enumerate(pair)])
        for number, pair in enumerate(product(range(len(feeds) - 1), repeat=2))
    ]
    for pair in pairs:
        compare("two modes side by side and samples alone", graph.outputs(pair.feed), pair)
    if pairs:
        everything = _joined(pairs)
        order = np.random.default_rng(seed).permutation(2 * len(pairs))
        for rows in (np.sort(order), order):
            mixed = everything.rows(rows)
            compare("all pairs of modes in one batch and samples alone", graph.outputs(mixed.feed), mixed)


def _neighbour(number: int, side: int) -> NDArray[np.int64]:
    """Row of one of the two samples of a pair: another pair of samples each time."""
    return np.array([(2 * number + side) % _REGROUPED])


def _joined(runs: list[_Run]) -> _Run:
    """Runs one after the other."""
    margins = [run.margins for run in runs if run.margins is not None]
    return _Run(
        joined([run.feed for run in runs]),
        joined([run.outputs for run in runs]),
        Margins(
            np.concatenate([entry.nearest for entry in margins]),
            np.concatenate([entry.margin for entry in margins]),
            np.concatenate([entry.mode for entry in margins]),
        )
        if margins
        else None,
    )


def _mixed(features: NDArray[np.float32], modes: int) -> list[Values]:
    """Samples of the split, repeated if there are too few, at SNRs that differ from sample to sample.

    In the modes that the router gives them and, where there are several, in each mode.
    """
    rows = np.arange(_REGROUPED) % len(features)
    feed: Values = {"input": features[rows], "snr_db": spread_db(_REGROUPED)}
    forced = range(modes if modes > 1 else 0)
    return [feed, *({**feed, MODE_REQUEST: np.full(_REGROUPED, mode)} for mode in forced)]


def _received(manifest: Manifest, seed: int) -> list[Values]:
    """Random LLRs in random modes and, where there are several, in each mode."""
    modes: list[int | None] = [None]
    if len(manifest.modes) > 1:
        modes += range(len(manifest.modes))
    drawn = (next(llr_batches(manifest, _REGROUPED, seed, extremes=False, mode=mode)) for mode in modes)
    return [{"llr": llr, "mode": mode} for llr, mode in drawn]
