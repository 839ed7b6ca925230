"""Checks of a bundle that run its graphs: vectors, other runtimes, batches, threads, accuracy, latency."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from twophase.export.artefacts.accuracy import measure_accuracy
from twophase.export.artefacts.conformance import Run, replay
from twophase.export.compare.inputs import SPLIT_SNRS_DB, llr_batches
from twophase.export.compare.tally import (
    TOLERANCE,
    Margins,
    Tally,
    check_rules,
    compare_receptions,
    compare_transmissions,
    read_margins,
)
from twophase.export.graphs.run import OnnxRuntime, Reference, Runner, Values
from twophase.export.graphs.signature import UNFORCED, WHOLE_FILE, run_by_devices, signature_of
from twophase.export.verify.bundle import CheckError, Finding, Subject
from twophase.link.errors import InputError
from twophase.link.grid import grid_search
from twophase.link.runtime import MODE_REQUEST, FeatureTransmitter, Receiver

__all__ = [
    "ACCURACY_TOLERANCE",
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
    """Time ``call`` by itself, again and again.

    Parameters
    ----------
    call
        What to time.
    calls
        How often, at least once.
    warm_up
        Calls before that are not counted.

    Raises
    ------
    InputError
        If ``calls`` is below 1 or ``warm_up`` is negative.
    """
    if calls < 1:
        raise InputError("calls", "be at least 1", calls)
    if warm_up < 0:
        raise InputError("warm_up", "be at least 0", warm_up)
    for _ in range(warm_up):
        call()
    times = np.empty(calls)
    for number in range(calls):
        start = perf_counter_ns()
        call()
        times[number] = perf_counter_ns() - start
    p50, p99 = np.percentile(times, (50, 99)) / 1000.0
    return Latency(float(p50), float(p99), calls)


ACCURACY_TOLERANCE = 2.0 * TOLERANCE
"""Share of decisions that may differ from the manifest's, besides one.

Class scores are real numbers; runtimes may differ by ``TOLERANCE`` in them, so that a decision can differ
where the two largest lie closer than twice that, relative to 1 plus their magnitude.  Of 64,800 decisions of
either of two digits links (540 samples, 20 trials, -5 to 20 dB) none and one did."""

_SENTENCE_CALLS = {"calls": 100, "warm_up": 10}
"""A sentence takes a hundred times as long as features do."""

_ALONE = 48
"""Samples that are run alone, and in a batch."""


def replayed_optimised(subject: Subject) -> Finding:
    """The conformance vectors in ONNX Runtime as it is deployed."""
    return _replay(subject, OnnxRuntime)


def replayed_unoptimised(subject: Subject) -> Finding:
    """The conformance vectors in ONNX Runtime, which runs the graph node by node."""
    return _replay(subject, lambda model: OnnxRuntime(model, optimised=False))


def replayed_by_reference(subject: Subject) -> Finding:
    """The conformance vectors in the reference implementation of ONNX."""
    return _replay(subject, Reference)


def has_ort_files(subject: Subject) -> bool:
    """Whether the manifest lists a graph in ONNX Runtime's own format."""
    return any(name in subject.manifest.files for name in _ort_files(subject))


def replayed_converted(subject: Subject) -> Finding:
    """The conformance vectors in the graphs that were converted to ONNX Runtime's own format."""
    from twophase.export.artefacts.ort import ORT_FOLDER, ort_runner  # its converter looks for torch

    missing = [name for name in _ort_files(subject) if name not in subject.manifest.files]
    if missing:
        raise CheckError(f"the manifest does not list '{missing[0]}' beside the other converted graph")
    graphs = run_by_devices(subject.manifest)
    found = _replayed(subject, ort_runner(subject.folder / ORT_FOLDER, graphs))
    export = subject.manifest.provenance.get("export", {})
    made_by = export.get("versions", {}).get("onnxruntime", "an unknown version")
    other = f"; converted by {made_by}, run by {onnxruntime.__version__}"
    return Finding(found.problems, found.detail + other * (made_by != onnxruntime.__version__))


def numpy_search(subject: Subject) -> Finding:
    """On the test split indices are those of a search in NumPy, and all else the manifest's for them."""
    runner = _Transmissions(subject)
    feeds = _split_feeds(subject)
    tally = Tally()
    tokens = 0
    for feed in feeds:
        ours, margins = runner.run(feed)
        check_rules(ours, margins, subject.manifest, tally)
        tokens += int((margins.nearest >= 0).sum())
        if subject.manifest.grid is not None and (different := runner.off_grid(feed, ours)):
            tally.fail(f"{different} indices", "are not those of the search on the grid in whole numbers")
    return Finding(list(tally.failures.values()), f"{tokens:,} indices on the test split")


def alone_and_in_batches(subject: Subject) -> Finding:
    """A sample gives the same alone and in a batch."""
    tally = Tally()
    runner = _Transmissions(subject)
    for feed in _split_feeds(subject, _ALONE):
        whole, margins = runner.run(feed)
        parts = [runner.run(_sample(feed, row))[0] for row in range(len(whole["mode"]))]
        compare_transmissions(f"batch 1 and batch {len(parts)}", _joined(parts), whole, margins, tally)
    received = _Receptions(subject)
    heard = received.run(received.feed)
    alone = [received.run(_sample(received.feed, row)) for row in range(len(heard["indices"]))]
    what = f"batch 1 and batch {len(alone)} of the receiver"
    compare_receptions(what, _joined(alone), heard, received.feed["mode"], subject.manifest, tally)
    samples = len(subject.features[:_ALONE])
    return _tallied(tally, f"{samples} samples in every mode, and the receiver")


def threads(subject: Subject) -> Finding:
    """Two threads give what one gives."""
    tally = Tally()
    one, two = _Transmissions(subject), _Transmissions(subject, threads=2)
    samples = 0
    for feed in _split_feeds(subject):
        whole, margins = one.run(feed)
        samples += len(whole["mode"])
        compare_transmissions("1 and 2 threads", two.run(feed)[0], whole, margins, tally)
    received, again = _Receptions(subject), _Receptions(subject, threads=2)
    compare_receptions(
        "1 and 2 threads of the receiver",
        again.run(received.feed),
        received.run(received.feed),
        received.feed["mode"],
        subject.manifest,
        tally,
    )
    return _tallied(tally, f"1 and 2, {samples:,} samples, and the receiver")


def accuracy(subject: Subject) -> Finding:
    """Right decisions over AWGN are as many as the manifest says."""
    stated = subject.manifest.accuracy
    if stated is None:
        raise CheckError("the manifest states no accuracy: export the run again")
    manifest = subject.manifest
    got = measure_accuracy(
        FeatureTransmitter(subject.folder, manifest=manifest),
        Receiver(subject.folder, manifest=manifest),
        subject.features,
        subject.labels,
        trials=stated.trials,
        seed=stated.seed,
        esn0_db=stated.esn0_db,
    )
    problems = []
    if got.samples != stated.samples:
        problems.append(f"the test split has {got.samples} samples, not {stated.samples}")
    decisions = got.samples * got.trials
    allowed = 1 + math.floor(ACCURACY_TOLERANCE * decisions)
    rows = zip(stated.esn0_db, got.correct, stated.correct, got.symbols, stated.symbols, strict=True)
    largest = 0
    for point, correct, stated_correct, symbols, stated_symbols in rows:
        largest = max(largest, abs(correct - stated_correct))
        if abs(correct - stated_correct) > allowed:
            problems.append(
                f"at {point:g} dB {correct:,} of {decisions:,} decisions are right, not {stated_correct:,} "
                f"as stated; {allowed} may differ"
            )
        if symbols != stated_symbols:
            problems.append(f"at {point:g} dB a sample takes {symbols} channel uses, not {stated_symbols}")
    shares = ", ".join(
        f"{correct / decisions:.4f} at {point:g} dB"
        for point, correct in zip(stated.esn0_db, got.correct, strict=True)
    )
    return Finding(
        problems, f"{shares}; counts differ by up to {largest} of {decisions:,}, {allowed} may differ"
    )


def latency(subject: Subject) -> Finding:
    """How long one sample takes here; told, not judged."""
    told = []
    sample = _sample(_split_feeds(subject, 1)[0], 0)
    feeds: dict[str, Values] = {subject.manifest.head_file: sample}
    feeds["rx.onnx"] = _sample(_Receptions(subject).feed, 0)
    if subject.manifest.front is not None:
        median = int(np.argsort(subject.sentences.lengths)[len(subject.sentences) // 2])
        feeds[WHOLE_FILE] = subject.sentences.alone(median) | {"snr_db": sample["snr_db"]}
    for file, feed in feeds.items():
        runner = OnnxRuntime(subject.model(file))
        names = signature_of(file, subject.manifest).output_names
        calls = _SENTENCE_CALLS if "input_ids" in feed else {}
        times = measure_latency(partial(runner.run, names, feed), **calls)
        told.append(f"{file} p50 {times.p50_us:.0f} us, p99 {times.p99_us:.0f} us")
    return Finding([], f"{'; '.join(told)} (batch 1, one thread, this machine)", note=True)


class _Transmissions:
    """The transmitter with what its decisions hang by.

    On a grid nothing excuses a difference: margins are infinite there.
    """

    def __init__(self, subject: Subject, threads: int = 1) -> None:
        self._manifest, self._searches = subject.manifest, subject.searches
        proof = subject.mode_proof[0]
        if proof is None:
            raise CheckError("the choice of the mode is not proved, see above")
        self._scores = proof.scores
        self._inner = tuple(dict.fromkeys((*(search.latents for search in self._searches), *self._scores)))
        probe = ModelProto()
        probe.CopyFrom(subject.tx.model)
        known = {value.name: value for value in probe.graph.value_info}
        probe.graph.output.extend(known[name] for name in self._inner if name not in subject.tx.outputs)
        # what is compared is what is shipped; inner tensors come from a copy that shows them
        self._runner = OnnxRuntime(subject.model(subject.manifest.head_file), threads=threads)
        self._probe = OnnxRuntime(probe)
        self._names = signature_of(subject.manifest.head_file, subject.manifest).output_names

    def run(self, feed: Values) -> tuple[Values, Margins]:
        """Outputs and margins."""
        outputs = dict(zip(self._names, self._runner.run(self._names, feed), strict=True))
        margins = read_margins(
            self._read(feed),
            outputs["mode"],
            self._searches,
            self._manifest,
            self._scores,
            feed.get(MODE_REQUEST),
        )
        if self._manifest.grid is not None:
            margins = Margins(margins.nearest, np.full(margins.margin.shape, np.inf), margins.mode)
        return outputs, margins

    def off_grid(self, feed: Values, outputs: Values) -> int:
        """Indices that are not those of the search in whole numbers."""
        inner = self._read(feed)
        different = 0
        for number, search in enumerate(self._searches):
            rows = np.flatnonzero(outputs["mode"] == number)
            if not rows.size:
                continue
            latents = inner[search.latents].reshape(
                len(outputs["mode"]), -1, self._manifest.link.embedding_dim
            )[rows, : search.tokens]
            if (latents != np.rint(latents)).any():
                raise CheckError(f"the latents '{search.latents}' are no whole numbers")
            codebook = self._manifest.grid_codebook(self._manifest.modes[number].codebook)
            found = grid_search(latents.astype(np.int64), codebook)
            different += int((found != outputs["indices"][rows, : search.tokens]).sum())
        return different

    def _read(self, feed: Values) -> Values:
        names = list(self._inner)
        return dict(zip(names, self._probe.run(names, feed), strict=True))


class _Receptions:
    """The receiver and what it is given: random LLRs in every mode."""

    def __init__(self, subject: Subject, threads: int = 1) -> None:
        manifest = subject.manifest
        parts = [
            next(llr_batches(manifest, 4, seed=0, extremes=False, mode=number))
            for number in range(len(manifest.modes))
        ]
        llr, mode = (np.concatenate(side) for side in zip(*parts, strict=True))
        self.feed: Values = {"llr": llr, "mode": mode.astype(np.int64)}
        self._runner = OnnxRuntime(subject.model("rx.onnx"), threads=threads)
        self._names = signature_of("rx.onnx", manifest).output_names

    def run(self, feed: Values) -> Values:
        """Outputs by name."""
        return dict(zip(self._names, self._runner.run(self._names, feed), strict=True))


def _replay(subject: Subject, make: Callable[[ModelProto], Runner]) -> Finding:
    runners: dict[str, Runner] = {}

    def run(file: str, outputs: list[str], feed: Values) -> list[NDArray[Any]]:
        if file not in runners:
            runners[file] = make(subject.model(file))
        return runners[file].run(outputs, feed)

    return _replayed(subject, run)


def _replayed(subject: Subject, run: Run) -> Finding:
    conformance = subject.manifest.conformance
    if conformance is None:
        raise CheckError("the bundle holds no conformance vectors: export the run again")
    problems = replay(run, Path(subject.folder), subject.manifest)
    return Finding(
        problems, f"{len(conformance.sets)} sets; symbol stream SHA-256 {conformance.symbols_sha256[:12]}..."
    )


def _split_feeds(subject: Subject, count: int | None = None) -> list[Values]:
    """The test split, or its first samples, from -5 to 20 dB: as routed, then in each mode of several."""
    features = subject.features[:count]
    snr_db = np.linspace(SPLIT_SNRS_DB[0], SPLIT_SNRS_DB[-1], len(features), dtype=np.float32)
    feed: Values = {"input": features, "snr_db": snr_db}
    modes = len(subject.manifest.modes)
    if modes == 1:
        return [feed]
    return [{**feed, MODE_REQUEST: np.full(len(features), number)} for number in (UNFORCED, *range(modes))]


def _ort_files(subject: Subject) -> tuple[str, ...]:
    return tuple(f"ort/{Path(name).with_suffix('.ort')}" for name in run_by_devices(subject.manifest))


def _sample(feed: Values, row: int) -> Values:
    return {name: value[row : row + 1] for name, value in feed.items()}


def _joined(parts: list[Values]) -> Values:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _tallied(tally: Tally, detail: str) -> Finding:
    excused = f"; {tally.excused} ties of rounding errors excused" if tally.excused else ""
    return Finding(list(tally.failures.values()), detail + excused)
