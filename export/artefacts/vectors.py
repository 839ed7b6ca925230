"""What the conformance vectors of a bundle are: inputs of either graph, and what the graphs give for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from twophase.export.artefacts.ties import TieSearch
from twophase.export.backbone.compare import decided, rows_apart
from twophase.export.compare.inputs import llr_batches, sent_llr, spread_db
from twophase.export.compare.tally import POSTERIOR_MARGIN, TOLERANCE, posterior_margin
from twophase.export.graphs.run import GraphRunError, OnnxRuntime, Values, rows_of
from twophase.export.graphs.signature import UNFORCED, WHOLE_FILE, Signature, signature_of
from twophase.export.int8.calibrate import steady_rows
from twophase.export.proof.hard import HardProof
from twophase.link.errors import VerificationError
from twophase.link.graphs import MODE_REQUEST
from twophase.link.manifest import Manifest
from twophase.link.sentences import Sentences

__all__ = ["FilledSet", "vector_sets"]

_BUDGET = 64_000
"""Bytes that the samples of one set take about at most; every mode is met all the same."""

_ORDINARY, _TIES_PER_MODE, _SAMPLES_PER_MODE, _RECEIVED = 40, 8, 3, 16

_TRIED, _MOVES, _SENTENCES = 64, 32, 8
"""Sentences tried for the set of the whole, how often their features are moved, and how many it holds."""

_LARGE = 1000.0
"""Large features are so many times as large as the largest of the test split."""

_SENT_LLR = 4.0
"""LLR of a bit that was sent, in favour of it."""


@dataclass(frozen=True, eq=False)
class FilledSet:
    """One set: what a graph takes and what it gives."""

    graph: str
    description: str
    inputs: Values
    outputs: Values


def vector_sets(
    graphs: Mapping[str, bytes],
    manifest: Manifest,
    features: NDArray[np.float32],
    proof: HardProof,
    seed: int,
    sentences: Sentences | None = None,
) -> Iterator[FilledSet]:
    """The sets of a bundle in order; arguments and errors of ``conformance.write_vectors``."""
    try:
        yield from _sets(graphs, manifest, features, proof, seed)
        if sentences is not None:
            yield from _whole_set(graphs, manifest, features, sentences, seed)
    except GraphRunError as error:
        raise VerificationError("the conformance vectors", [f"a graph does not run: {error}"]) from error


def _sets(
    graphs: Mapping[str, bytes],
    manifest: Manifest,
    features: NDArray[np.float32],
    proof: HardProof,
    seed: int,
) -> Iterator[FilledSet]:
    head = manifest.head_file
    search = TieSearch(graphs[head], manifest, proof)
    signature = signature_of(head, manifest)
    graph, model = OnnxRuntime(graphs[head]), onnx.load_model_from_string(graphs[head])
    sent: FilledSet | None = None
    for description, feed in _transmitter_feeds(search, manifest, features, seed):
        clear = search.clear(feed)
        if not search.is_exact:
            clear &= steady_rows(model, feed)
        description += _left_out(clear)
        if clear.any():
            inputs = _rows(feed, clear, ("input", "snr_db"))
            made = FilledSet(head, description, inputs, graph.read(signature.output_names, inputs))
            sent = sent or made
            yield made
    if sent is None:
        raise VerificationError("the conformance vectors", [f"'{head}' decides no sample clearly"])
    signature = signature_of("rx.onnx", manifest)
    graph, model = OnnxRuntime(graphs["rx.onnx"]), onnx.load_model_from_string(graphs["rx.onnx"])
    for description, feed in _receiver_feeds(sent, manifest, seed):
        outputs = graph.read(signature.output_names, feed)
        clear = _clear_receptions(outputs, feed["mode"], manifest)
        clear &= steady_rows(model, feed)
        if clear.any():
            feed = _rows(feed, clear)
            description += _left_out(clear)
            yield FilledSet("rx.onnx", description, feed, graph.read(signature.output_names, feed))


def _transmitter_feeds(
    search: TieSearch, manifest: Manifest, features: NDArray[np.float32], seed: int
) -> Iterator[tuple[str, Values]]:
    modes = len(manifest.modes)
    room = _room(signature_of(manifest.head_file, manifest))

    def feed(inputs: NDArray[np.float32], snr_db: NDArray[np.float32], mode: NDArray[np.int64]) -> Values:
        values: Values = {"input": inputs, "snr_db": snr_db}
        return values | {MODE_REQUEST: mode} if modes > 1 else values

    count = min(_ORDINARY, room, len(features))
    snr_db = spread_db(count)
    # a request of one number holds for all samples
    yield (
        "test samples from -5 to 20 dB, mode left to the router",
        feed(features[:count], snr_db, np.array([UNFORCED])),
    )
    ties = search.find(features, min(_TIES_PER_MODE, max(2, room // modes)), seed)
    yield (
        "smallest margins between two codewords in each mode, of a pool of test samples in noise and between "
        "two test samples" + ("; exact ties, and neighbours in float32 that differ" * search.is_exact),
        feed(ties.features, ties.snr_db, ties.mode),
    )
    if modes > 1:
        number = np.repeat(np.arange(modes), min(_SAMPLES_PER_MODE, max(1, room // modes)))
        rows = np.arange(len(number)) % len(features)
        yield "test samples, each mode requested", feed(features[rows], spread_db(len(rows)), number)
    patterns, snr_db = _extreme_features(manifest, features), _extreme_snrs(manifest)
    rows = np.arange(len(snr_db)) % len(features)
    asked = np.arange(len(patterns)) % (modes + 1) + UNFORCED
    yield (
        "extremes: features of 0, 1, large and smallest ones"
        + ", the largest of float32" * search.is_exact
        + ", of either sign, and half-way between multiples of powers of two; SNRs far out and at thresholds",
        feed(
            np.concatenate([patterns, features[rows]]),
            np.concatenate([spread_db(len(patterns)), snr_db]),
            np.concatenate([asked, np.full(len(rows), UNFORCED)]),
        ),
    )


def _extreme_features(manifest: Manifest, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shape (count, *input_shape)."""
    shape, single = manifest.input_shape, np.finfo(np.float32)
    large = _LARGE * float(np.abs(features).max())
    levels = [0.0, 1.0, large, float(single.smallest_subnormal), float(single.tiny)]
    if manifest.grid is not None:
        levels.append(float(single.max))  # elsewhere it depends on the order of a sum whether it overflows
    signs = (-1.0) ** np.arange(int(np.prod(shape))).reshape(shape)
    flat = [np.full(shape, sign * level) for level in levels for sign in (1.0, -1.0)]
    mixed = [signs * level for level in levels[1:]]
    halves = [
        (np.rint(features[power % len(features)].astype(np.float64) * 2.0**power) + 0.5) * 2.0**-power
        for power in range(11)
    ]
    return manifest.input.legal(np.array([*flat, *mixed, *halves]).astype(np.float32))


def _extreme_snrs(manifest: Manifest) -> NDArray[np.float32]:
    """Thresholds of the table, their neighbours in float32, and SNRs far out."""
    edges = np.array([0.0, *manifest.routing.table.thresholds_db], dtype=np.float32)
    wide = [-100.0, -20.0, 40.0, 100.0]
    if manifest.grid is not None and not manifest.routing.tells_mode:
        wide += [float(end) * float(np.finfo(np.float32).max) for end in (-1, 1)]  # it is compared, no more
    near = (edges, *(np.nextafter(edges, np.float32(end)) for end in (-np.inf, np.inf)))
    return np.unique(np.concatenate([*near, np.array(wide, dtype=np.float32)]))


def _whole_set(
    graphs: Mapping[str, bytes],
    manifest: Manifest,
    features: NDArray[np.float32],
    sentences: Sentences,
    seed: int,
) -> Iterator[FilledSet]:
    """Short sentences, as routed and in each mode, of which features about the same decide alike.

    Those whose features, moved by ``tally.TOLERANCE`` in directions drawn at random, give another mode or
    index in any mode are left out.  Without any other there is no set.
    """
    head = OnnxRuntime(graphs[manifest.head_file])
    rng = np.random.default_rng([seed, len(sentences)])
    short = np.argsort(sentences.lengths, kind="stable")[:_TRIED]
    given = features[short]
    apart = np.zeros(len(short), dtype=bool)
    own = decided(head, given, manifest)
    for _ in range(_MOVES):
        signs = rng.choice(np.array([-1.0, 1.0]), given.shape)
        moved = given + signs * TOLERANCE * (1.0 + np.abs(given))
        apart |= rows_apart(own, decided(head, moved.astype(np.float32), manifest))[0]
    clear = np.flatnonzero(~apart)
    if not clear.size:
        return
    places = clear[np.linspace(0, len(clear) - 1, min(_SENTENCES, len(clear))).astype(np.int64)]
    number = np.arange(len(manifest.modes) if len(manifest.modes) > 1 else 0)
    rows = np.concatenate([places, np.resize(places, len(number))])
    inputs = sentences.padded(short[rows]) | {"snr_db": spread_db(len(short))[rows]}
    if number.size:
        inputs[MODE_REQUEST] = np.concatenate([np.full(len(places), UNFORCED), number])
    description = "short test sentences as routed" + (", then in each mode" if number.size else "")
    left_out = (
        f"; left out: {apart.sum()} of {len(short)} that features moved by {TOLERANCE:g} decide otherwise"
    )
    outputs = OnnxRuntime(graphs[WHOLE_FILE]).read(signature_of(WHOLE_FILE, manifest).output_names, inputs)
    yield FilledSet(WHOLE_FILE, description + left_out * bool(apart.any()), inputs, outputs)


def _receiver_feeds(sent: FilledSet, manifest: Manifest, seed: int) -> Iterator[tuple[str, Values]]:
    count = min(_RECEIVED, _room(signature_of("rx.onnx", manifest)))
    rows = np.linspace(0, len(sent.outputs["mode"]) - 1, count).astype(np.int64)
    given = rows_of(sent.outputs, rows)
    yield (
        f"what the first set sends, all LLRs +-{_SENT_LLR:g}",
        {"llr": sent_llr(given, _SENT_LLR), "mode": given["mode"]},
    )
    llr, mode = next(llr_batches(manifest, 0, seed))
    yield (
        f"extremes in each mode: all LLRs 0, {manifest.llr_clip:g} and -{manifest.llr_clip:g}",
        {"llr": llr, "mode": mode},
    )
    llr, mode = next(llr_batches(manifest, count, seed, extremes=False))
    yield "random LLRs in random modes", {"llr": llr, "mode": mode}


def _clear_receptions(outputs: Values, modes: NDArray[np.int64], manifest: Manifest) -> NDArray[np.bool_]:
    """Samples whose codewords and class do not hang by rounding errors, shape (batch,)."""
    margin = posterior_margin(outputs["posterior"])
    tokens = np.array([mode.tokens for mode in manifest.modes])[modes]
    unused = np.arange(manifest.modes.max_tokens) >= tokens[:, np.newaxis]
    clear = np.asarray(((margin >= POSTERIOR_MARGIN) | unused).all(axis=1))
    if len(manifest.classes) > 1:
        best = np.sort(outputs["logits"].astype(np.float64), axis=-1)[:, -2:]
        clear &= best[:, 1] - best[:, 0] > 2.0 * TOLERANCE * (1.0 + np.abs(best).max(axis=1))
    return clear


def _left_out(clear: NDArray[np.bool_]) -> str:
    left_out = int(len(clear) - clear.sum())
    return f"; left out: {left_out} decided by a rounding error" if left_out else ""


def _rows(values: Values, where: NDArray[np.bool_], by_sample: tuple[str, ...] | None = None) -> Values:
    """Some samples; an array that is not one of ``by_sample`` may hold one number for all of them."""
    return {
        name: value if by_sample and name not in by_sample and len(value) == 1 else value[where]
        for name, value in values.items()
    }


def _room(signature: Signature) -> int:
    """Samples that fit into the budget of a set; at least one."""
    ports = (*signature.inputs, *signature.outputs)
    size = sum(int(np.prod(port.shape)) * np.dtype(port.dtype).itemsize for port in ports)
    return max(1, _BUDGET // size)
