"""Comparison of the frozen graphs with the programs they were made from, in numbers.

The transmitter's integers must be equal: torch against ONNX Runtime, ONNX Runtime against the codebook search
done in float64, and a batch against single samples and another order.  Two float32 implementations may still
pick different codewords where a latent vector lies halfway between two of them; such a difference is excused
if, and only if, its margin is below ``compare.EXCUSED_MARGIN``, and each one is counted and reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from torch.export import ExportedProgram

from twophase.export.compare import (
    Margins,
    Tally,
    check_rules,
    compare_receptions,
    compare_soft,
    compare_transmissions,
    read_margins,
)
from twophase.export.inputs import feature_batches, llr_batches
from twophase.export.rule import ModeSearch
from twophase.export.runners import GraphRunner, ProgramRunner
from twophase.export.session import GraphRunError, Values
from twophase.export.signature import signature_of
from twophase.link.manifest import Manifest

__all__ = ["verify_receiver", "verify_soft", "verify_transmitter"]

_TORCH = "torch and ONNX Runtime"
_REGROUPED = 256
_SINGLES = 32


def verify_transmitter(
    program: ExportedProgram,
    model: ModelProto,
    searches: tuple[ModeSearch, ...],
    manifest: Manifest,
    features: NDArray[np.float32],
    random_inputs: int,
    seed: int,
) -> Tally:
    """Compare the hard transmitter's program with its graph.

    Parameters
    ----------
    program, model
        What to compare.
    searches
        The codebook search of each mode, for the margins; without them no difference is excused.
    manifest
        The link.
    features
        The test split, shape (n, *input_shape); all of it is compared at every SNR of ``SPLIT_SNRS_DB``.
    random_inputs, seed
        How many random inputs to compare besides, and their seed.

    Returns
    -------
    Tally
        Counts, and what failed.
    """
    tally = Tally()
    signature = signature_of("tx.onnx", manifest)
    inner = tuple(dict.fromkeys(search.latents for search in searches))
    try:
        torch_side, graph = ProgramRunner(program, signature), GraphRunner(model, signature, inner)

        def run(feed: Values) -> tuple[Values, Margins]:
            ours = graph.run(feed)
            return ours, read_margins(graph.read_inner(feed), ours["mode"], searches, manifest)

        for batch in feature_batches(features, random_inputs, seed):
            feed: Values = {"input": batch.features, "snr_db": batch.snr_db}
            ours, margins = run(feed)
            tally.add(batch.source, ours["mode"])
            compare_transmissions(_TORCH, torch_side.run(feed), ours, margins, tally)
            check_rules(ours, margins, manifest, tally)
        feed = _mixed(features)
        ours, margins = run(feed)
        for what, subset in _regroupings(seed):
            part = graph.run(_rows(feed, subset))
            compare_transmissions(what, part, _rows(ours, subset), margins.rows(subset), tally)
    except GraphRunError as error:
        tally.fail("comparison", f"broken off: {error}")
    return tally


def verify_receiver(
    graph_file: str, program: ExportedProgram, model: ModelProto, manifest: Manifest, count: int, seed: int
) -> Tally:
    """Compare a receiver's program with its graph on ``count`` random LLR vectors and on the extreme ones."""

    def compare(what: str, theirs: Values, ours: Values, feed: Values, tally: Tally) -> None:
        modes = np.asarray(feed["mode"], dtype=np.int64)
        compare_receptions(what, theirs, ours, modes, manifest, tally)

    batches: list[tuple[str, Values]] = [
        ("random", {"llr": llr, "mode": mode}) for llr, mode in llr_batches(manifest, count, seed)
    ]
    llr, mode = next(llr_batches(manifest, _REGROUPED, seed, extremes=False))
    return _verify_real(
        graph_file, program, model, manifest, batches, {"llr": llr, "mode": mode}, compare, seed
    )


def verify_soft(
    graph_file: str,
    program: ExportedProgram,
    model: ModelProto,
    manifest: Manifest,
    features: NDArray[np.float32],
    random_inputs: int,
    seed: int,
) -> Tally:
    """Compare a soft transmitter's program with its graph, on the test split and on random inputs."""

    def compare(what: str, theirs: Values, ours: Values, feed: Values, tally: Tally) -> None:
        compare_soft(what, theirs, ours, tally)

    batches: list[tuple[str, Values]] = [
        (batch.source, {"input": batch.features, "snr_db": batch.snr_db})
        for batch in feature_batches(features, random_inputs, seed)
    ]
    return _verify_real(graph_file, program, model, manifest, batches, _mixed(features), compare, seed)


def _verify_real(
    graph_file: str,
    program: ExportedProgram,
    model: ModelProto,
    manifest: Manifest,
    batches: list[tuple[str, Values]],
    regrouped: Values,
    compare: Callable[[str, Values, Values, Values, Tally], None],
    seed: int,
) -> Tally:
    """Compare program and graph on ``batches``, and the graph with itself on ``regrouped``."""
    tally = Tally()
    signature = signature_of(graph_file, manifest)
    try:
        torch_side, graph = ProgramRunner(program, signature), GraphRunner(model, signature)
        for source, feed in batches:
            ours = graph.run(feed)
            tally.add(source, feed.get("mode", ours.get("mode", np.empty(0))))
            compare(_TORCH, torch_side.run(feed), ours, feed, tally)
        ours = graph.run(regrouped)
        for what, subset in _regroupings(seed):
            feed = _rows(regrouped, subset)
            compare(what, graph.run(feed), _rows(ours, subset), feed, tally)
    except GraphRunError as error:
        tally.fail("comparison", f"broken off: {error}")
    return tally


def _mixed(features: NDArray[np.float32]) -> Values:
    """Samples of the split, repeated if there are too few, at SNRs that differ from sample to sample."""
    rows = np.arange(_REGROUPED) % len(features)
    return {"input": features[rows], "snr_db": np.linspace(-5.0, 25.0, _REGROUPED, dtype=np.float32)}


def _regroupings(seed: int) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """The same samples in another order, and one by one: a sample's result must not depend on its batch."""
    order = np.random.default_rng(seed).permutation(_REGROUPED)
    yield "a batch in another order and the batch", order
    for row in order[:_SINGLES]:
        yield "a sample alone and in its batch", np.array([row])


def _rows(values: Values, subset: NDArray[np.int64]) -> Values:
    return {name: value[subset] for name, value in values.items()}
