"""Checks of a bundle that run its graphs: vectors, other runtimes, batches, threads, accuracy, latency."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import onnxruntime
from onnx import ModelProto

from twophase.export.artefacts.accuracy import measure_accuracy
from twophase.export.artefacts.conformance import Run, replay
from twophase.export.backbone.compare import WholeRunner, allowed, decided, rows_apart, unlike_head
from twophase.export.compare.inputs import SPLIT_SNRS_DB, llr_batches
from twophase.export.compare.tally import (
    TOLERANCE,
    DecidingGraph,
    Margins,
    Tally,
    check_rules,
    compare_receptions,
    compare_transmissions,
)
from twophase.export.graphs.run import (
    GraphRunError,
    OnnxReference,
    OnnxRuntime,
    Runner,
    Values,
    joined,
    rows_of,
)
from twophase.export.graphs.signature import FEATURES, UNFORCED, WHOLE_FILE, run_by_devices, signature_of
from twophase.export.verify.bundle import Bundle, CheckError, Finding
from twophase.link.graphs import MODE_REQUEST
from twophase.link.grid import grid_search
from twophase.link.manifest import EVAL_FILE
from twophase.link.receiver import Receiver
from twophase.link.transmitter import FeatureTransmitter

__all__ = [
    "Latency",
    "accuracy",
    "alone_and_in_batches",
    "has_ort_files",
    "latency",
    "measure_latency",
    "numpy_search",
    "replayed_by_reference",
    "replayed_converted",
    "replayed_optimised",
    "replayed_unoptimised",
    "text_to_symbols",
    "threads",
]


@dataclass(frozen=True)
class Latency:
    """Times of single calls."""

    p50_us: float
    """Median, in microseconds."""
    p99_us: float
    calls: int


def measure_latency(call: Callable[[], object], calls: int = 1000, warm_up: int = 100) -> Latency:
    """Time ``call`` by itself, ``calls`` times after ``warm_up`` that are not counted."""
    for _ in range(warm_up):
        call()
    times = np.empty(calls)
    for number in range(calls):
        start = perf_counter_ns()
        call()
        times[number] = perf_counter_ns() - start
    p50, p99 = np.percentile(times, (50, 99)) / 1000.0
    return Latency(float(p50), float(p99), calls)


_ACCURACY_TOLERANCE = 2.0 * TOLERANCE
"""Share of decisions that may differ from the manifest's, besides one.

Class scores are real numbers; runtimes may differ by ``TOLERANCE`` in them, so that a decision can differ
where the two largest lie closer than twice that, relative to 1 plus their magnitude.  Of 64,800 decisions of
either of two digits links (540 samples, 20 trials, -5 to 20 dB) none and one did."""

_SENTENCE_CALLS = {"calls": 100, "warm_up": 10}
"""A sentence takes a hundred times as long as features do."""

_ALONE = 48
"""Samples that are run alone, and in a batch."""

_PADDED = 64
"""Sentences that are run in padded batches too."""


def replayed_optimised(bundle: Bundle) -> Finding:
    """The conformance vectors in ONNX Runtime as it is deployed."""
    return _replay(bundle, OnnxRuntime)


def replayed_unoptimised(bundle: Bundle) -> Finding:
    """The conformance vectors in ONNX Runtime, which runs the graph node by node."""
    return _replay(bundle, lambda model: OnnxRuntime(model, optimised=False))


def replayed_by_reference(bundle: Bundle) -> Finding:
    """The conformance vectors in the reference implementation of ONNX."""
    return _replay(bundle, OnnxReference)


def has_ort_files(bundle: Bundle) -> bool:
    """Whether the manifest lists a graph in ONNX Runtime's own format."""
    return any(name in bundle.manifest.files for name in _ort_files(bundle))


def replayed_converted(bundle: Bundle) -> Finding:
    """The conformance vectors in the graphs that were converted to ONNX Runtime's own format."""
    from twophase.export.artefacts.ort import ORT_FOLDER, ort_runner  # its converter looks for torch

    missing = [name for name in _ort_files(bundle) if name not in bundle.manifest.files]
    if missing:
        raise CheckError(f"the manifest does not list '{missing[0]}' next to the other converted graph")
    graphs = run_by_devices(bundle.manifest)
    found = _replayed(bundle, ort_runner(bundle.folder / ORT_FOLDER, graphs, bundle.manifest.files))
    export = bundle.manifest.provenance.get("export", {})
    made_by = export.get("versions", {}).get("onnxruntime", "an unknown version")
    other = f"; converted by {made_by}, run by {onnxruntime.__version__}"
    return Finding(found.problems, found.detail + other * (made_by != onnxruntime.__version__))


def numpy_search(bundle: Bundle) -> Finding:
    """On the test split indices are those of a search in NumPy, and all else the manifest's for them."""
    graph = _transmitter(bundle)
    tally = Tally()
    tokens = 0
    for feed in _split_feeds(bundle):
        ours, margins = _decided(graph, feed)
        check_rules(ours, margins, bundle.manifest, tally)
        tokens += int((margins.nearest >= 0).sum())
        if bundle.manifest.grid is not None and (different := _off_grid(graph, feed, ours)):
            tally.fail(f"{different} indices", "are not those of the search on the grid in whole numbers")
    return Finding(list(tally.failures.values()), f"{tokens:,} indices on the test split")


def alone_and_in_batches(bundle: Bundle) -> Finding:
    """A sample gives the same alone and in a batch."""
    tally = Tally()
    graph = _transmitter(bundle)
    for feed in _split_feeds(bundle, _ALONE):
        whole, margins = _decided(graph, feed)
        parts = [graph.outputs(_sample(feed, row)) for row in range(len(whole["mode"]))]
        compare_transmissions(f"batch 1 and batch {len(parts)}", joined(parts), whole, margins, tally)
    receiver, received = _receiver(bundle), _received(bundle)
    together = receiver.outputs(received)
    alone = [receiver.outputs(_sample(received, row)) for row in range(len(received["mode"]))]
    what = f"batch 1 and batch {len(alone)} of the receiver"
    compare_receptions(what, joined(alone), together, received["mode"], bundle.manifest, tally)
    samples = len(bundle.samples.features[:_ALONE])
    return _tallied(tally, f"{samples} samples in every mode, and the receiver")


def threads(bundle: Bundle) -> Finding:
    """Two threads give what one gives."""
    tally = Tally()
    one, two = _transmitter(bundle), _transmitter(bundle, threads=2)
    samples = 0
    for feed in _split_feeds(bundle):
        whole, margins = _decided(one, feed)
        samples += len(whole["mode"])
        compare_transmissions("1 and 2 threads", two.outputs(feed), whole, margins, tally)
    received = _received(bundle)
    again, first = (_receiver(bundle, threads=count).outputs(received) for count in (2, 1))
    what = "1 and 2 threads of the receiver"
    compare_receptions(what, again, first, received["mode"], bundle.manifest, tally)
    return _tallied(tally, f"1 and 2, {samples:,} samples, and the receiver")


def text_to_symbols(bundle: Bundle) -> Finding:
    """Each sentence by itself gives the features of the test split, and sends what the head sends for them.

    Features are those of the machine that exported, up to rounding errors that change few indices.
    """
    manifest, sentences = bundle.manifest, bundle.sentences
    whole, head = (bundle.graph_bytes(file) for file in (WHOLE_FILE, manifest.head_file))
    runner = WholeRunner(whole, head, manifest)
    sent, features = runner.alone(sentences)
    if not np.isfinite(features).all():
        raise GraphRunError(f"'{WHOLE_FILE}' gives NaN or infinity in '{FEATURES}'")
    compared, problems = unlike_head(runner, sentences, sent, features)
    recorded = bundle.samples.features
    error = np.abs(features - recorded)
    if (error > TOLERANCE * (1.0 + np.abs(recorded))).any():
        problems.append(
            f"'{FEATURES}' differ by up to {error.max():.1e} from 'input' of '{EVAL_FILE}', "
            f"tolerance {TOLERANCE:g}"
        )
    some = sentences.first(_PADDED)
    padded = np.concatenate([values for _, values in runner.padded(some)])
    counted = []
    for what, ones, others in (
        ("recorded", features, recorded),
        ("in a padded batch", features[: len(some)], padded),
    ):
        apart, _ = rows_apart(*(decided(runner.head, values, manifest) for values in (ones, others)))
        different, count = int(apart.sum()), len(apart)
        counted.append(f"{different} of {count:,} with other indices than {what}")
        if different > allowed(count):
            problems.append(f"{counted[-1]}; {allowed(count)} may")
    how = "bit for bit as recorded" if not error.any() else f"within {error.max():.1e} of those recorded"
    return Finding(
        [f"'{WHOLE_FILE}': {problem}" for problem in problems],
        f"features {how}; {compared:,} transmissions as the head's; {'; '.join(counted)}",
    )


def accuracy(bundle: Bundle) -> Finding:
    """Right decisions over AWGN are as many as the manifest says."""
    stated = bundle.manifest.accuracy
    if stated is None:
        raise CheckError("the manifest states no accuracy: export the run again")
    manifest = bundle.manifest
    got = measure_accuracy(
        FeatureTransmitter(bundle.folder, manifest=manifest),
        Receiver(bundle.folder, manifest=manifest),
        bundle.samples.features,
        bundle.samples.labels,
        trials=stated.trials,
        seed=stated.seed,
        esn0_db=stated.esn0_db,
    )
    problems = []
    if got.samples != stated.samples:
        problems.append(f"the test split has {got.samples} samples, not {stated.samples}")
    decisions = got.samples * got.trials
    margin = 1 + math.floor(_ACCURACY_TOLERANCE * decisions)
    rows = zip(stated.esn0_db, got.correct, stated.correct, got.symbols, stated.symbols, strict=True)
    largest = 0
    for point, correct, stated_correct, symbols, stated_symbols in rows:
        largest = max(largest, abs(correct - stated_correct))
        if abs(correct - stated_correct) > margin:
            problems.append(
                f"at {point:g} dB {correct:,} of {decisions:,} decisions are right, not {stated_correct:,} "
                f"as stated; {margin} may differ"
            )
        if symbols != stated_symbols:
            problems.append(f"at {point:g} dB a sample takes {symbols} channel uses, not {stated_symbols}")
    shares = ", ".join(
        f"{correct / decisions:.4f} at {point:g} dB"
        for point, correct in zip(stated.esn0_db, got.correct, strict=True)
    )
    return Finding(
        problems, f"{shares}; counts differ by up to {largest} of {decisions:,}, {margin} may differ"
    )


def latency(bundle: Bundle) -> Finding:
    """How long one sample takes here; a note, no judgement."""
    measured = []
    sample = _sample(_split_feeds(bundle, 1)[0], 0)
    feeds: dict[str, Values] = {bundle.manifest.head_file: sample}
    feeds["rx.onnx"] = _sample(_received(bundle), 0)
    if bundle.manifest.front is not None:
        median = int(np.argsort(bundle.sentences.lengths)[len(bundle.sentences) // 2])
        feeds[WHOLE_FILE] = bundle.sentences.alone(median) | {"snr_db": sample["snr_db"]}
    for file, feed in feeds.items():
        runner = OnnxRuntime(bundle.model(file))
        names = signature_of(file, bundle.manifest).output_names
        calls = _SENTENCE_CALLS if "input_ids" in feed else {}
        times = measure_latency(partial(runner.run, names, feed), **calls)
        measured.append(f"{file} p50 {times.p50_us:.0f} us, p99 {times.p99_us:.0f} us")
    return Finding([], f"{'; '.join(measured)} (batch 1, one thread, this machine)", note=True)


def _transmitter(bundle: Bundle, threads: int = 1) -> DecidingGraph:
    """The transmitter with what its decisions depend on.

    ``CheckError`` if the choice of the mode or of codewords is not proved.
    """
    searches, (proof, _) = bundle.searches, bundle.mode_proof
    if proof is None:
        raise CheckError("the choice of the mode is not proved, see above")
    file = bundle.manifest.head_file
    return DecidingGraph(bundle.model(file), file, bundle.manifest, searches, proof.scores, threads=threads)


def _decided(graph: DecidingGraph, feed: Values) -> tuple[Values, Margins]:
    """Outputs and margins; infinite ones of codewords on a grid, where nothing excuses a difference."""
    outputs = graph.outputs(feed)
    margins = graph.margins(feed, outputs["mode"])
    if graph.manifest.grid is not None:
        margins = replace(margins, margin=np.full(margins.margin.shape, np.inf))
    return outputs, margins


def _off_grid(graph: DecidingGraph, feed: Values, outputs: Values) -> int:
    """Indices that are not those of the search in whole numbers."""
    manifest, inner = graph.manifest, graph.read(graph.decided_by, feed)
    modes = outputs["mode"]
    different = 0
    for number, search in enumerate(graph.searches):
        rows = np.flatnonzero(modes == number)
        if not rows.size:
            continue
        latents = inner[search.latents].reshape(len(modes), -1, manifest.link.embedding_dim)
        latents = latents[rows, : search.tokens]
        if (latents != np.rint(latents)).any():
            raise CheckError(f"the latents '{search.latents}' are no whole numbers")
        found = grid_search(latents.astype(np.int64), manifest.grid_codebook(manifest.modes[number].codebook))
        different += int((found != outputs["indices"][rows, : search.tokens]).sum())
    return different


def _receiver(bundle: Bundle, threads: int = 1) -> OnnxRuntime:
    return OnnxRuntime(bundle.model("rx.onnx"), signature_of("rx.onnx", bundle.manifest), threads=threads)


def _received(bundle: Bundle) -> Values:
    """Random LLRs in every mode."""
    manifest = bundle.manifest
    parts = [
        next(llr_batches(manifest, 4, seed=0, extremes=False, mode=number))
        for number in range(len(manifest.modes))
    ]
    return joined([{"llr": llr, "mode": mode.astype(np.int64)} for llr, mode in parts])


def _replay(bundle: Bundle, make: Callable[[ModelProto], Runner]) -> Finding:
    runner = cache(lambda file: make(bundle.model(file)))
    return _replayed(bundle, lambda file, names, feed: runner(file).run(names, feed))


def _replayed(bundle: Bundle, run: Run) -> Finding:
    conformance = bundle.manifest.conformance
    if conformance is None:
        raise CheckError("the bundle holds no conformance vectors: export the run again")
    problems = replay(run, Path(bundle.folder), bundle.manifest)
    return Finding(
        problems, f"{len(conformance.sets)} sets; symbol stream SHA-256 {conformance.symbols_sha256[:12]}..."
    )


def _split_feeds(bundle: Bundle, count: int | None = None) -> list[Values]:
    """The test split, or its first samples, from -5 to 20 dB: as routed, then in each mode of several."""
    features = bundle.samples.features[:count]
    snr_db = np.linspace(SPLIT_SNRS_DB[0], SPLIT_SNRS_DB[-1], len(features), dtype=np.float32)
    feed: Values = {"input": features, "snr_db": snr_db}
    modes = len(bundle.manifest.modes)
    if modes == 1:
        return [feed]
    return [{**feed, MODE_REQUEST: np.full(len(features), number)} for number in (UNFORCED, *range(modes))]


def _ort_files(bundle: Bundle) -> tuple[str, ...]:
    return tuple(f"ort/{Path(name).with_suffix('.ort')}" for name in run_by_devices(bundle.manifest))


def _sample(feed: Values, row: int) -> Values:
    return rows_of(feed, slice(row, row + 1))


def _tallied(tally: Tally, detail: str) -> Finding:
    excused = f"; {tally.excused} ties of rounding errors excused" if tally.excused else ""
    return Finding(list(tally.failures.values()), detail + excused)
