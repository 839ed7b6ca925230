"""The INT8 step of an export: quantise the deployed pair, prove it again, and hold it against float32.

What can be proved is proved as of the float32 graphs: the interface, the hard transmitter, no random
operators, a sample that does not depend on its batch.  What INT8 may change, which codewords are sent and
which classes are decided, is counted on the test split and on random inputs, and the accuracy of both pairs
is measured under the same noise.  On an integer grid INT8 writes the same numbers in another way: there
nothing may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from twophase.export.artefacts.accuracy import accuracy_of
from twophase.export.backbone.whole import WholeTransmitter, quantise_whole
from twophase.export.compare.inputs import feature_batches, llr_batches
from twophase.export.compare.tally import (
    Count,
    DecidingGraph,
    Tally,
    check_modes,
    check_rules,
    compare_receptions,
    compare_transmissions,
)
from twophase.export.graphs.run import GraphRunError, OnnxRuntime, Values, joined, rows_of
from twophase.export.graphs.signature import (
    WHOLE_FILE,
    check_interface,
    check_operators,
    deployed,
    signature_of,
)
from twophase.export.graphs.view import serialize
from twophase.export.int8.calibrate import receptions, steady_rows
from twophase.export.int8.quantize import check_quantized, quantize_receiver, quantize_transmitter
from twophase.export.proof.hard import HardProof, prove_hard
from twophase.link.errors import VerificationError
from twophase.link.manifest import Accuracy, Manifest
from twophase.link.samples import Samples
from twophase.link.sentences import Sentences

__all__ = ["Quantised", "quantise"]

_RECEIVED_SHARE = 5
"""Receivers are compared on a fifth of the random inputs."""

_ALONE = 256
"""So many samples are run alone, too, of those that no rounding error can change."""

_SOURCES = ("test_split", "random")

_ONE_BY_ONE = "alone and in a batch"


@dataclass(frozen=True)
class Quantised:
    """The deployed pair in INT8."""

    models: dict[str, ModelProto]
    """The transmitter from features on and ``rx.onnx``."""
    proof: HardProof
    """Of the transmitter."""
    accuracy: Accuracy
    record: dict[str, Any]
    """Next to float32: sizes, equal decisions and accuracies."""
    whole: WholeTransmitter | None
    """The whole of a link that takes text, in INT8."""


@dataclass
class _Agreement:
    """What the two precisions decided, by where the inputs come from."""

    indices: dict[str, Count] = field(default_factory=lambda: {where: Count() for where in _SOURCES})
    """Codewords that are sent, in samples of equal mode."""
    modes: dict[str, Count] = field(default_factory=lambda: {where: Count() for where in _SOURCES})
    received: Count = field(default_factory=Count)
    """Codewords that the receiver finds in the same LLRs."""
    decisions: Count = field(default_factory=Count)
    """Classes that it decides for."""


def quantise(
    calibration: Values,
    folder: Path,
    models: Mapping[str, ModelProto],
    manifest: Manifest,
    samples: Samples,
    random_inputs: int,
    seed: int,
    progress: Callable[[str], None],
    whole: WholeTransmitter | None = None,
) -> Quantised:
    """Quantise the deployed pair, check it, and compare it with what it was made from.

    ``calibration`` holds inputs of the transmitter, as ``calibrate.load_calibration`` gives them; ``models``
    are the graphs in float32, proved and verified; ``manifest`` has the routing of the bundle; ``samples``
    are the test split.  Files stand in ``folder`` for a while; ``progress`` is given each step before it
    begins.  The ``whole`` of a link that takes text, in float32, is quantised too, and the accuracy of the
    quantised pair is that on the features that it then gives.

    ``ArtifactError`` if a graph cannot be quantised; ``VerificationError``, with all failures of both graphs,
    if one fails a proof.
    """
    progress("calibrating INT8")
    link = replace(manifest, precision="int8")
    head = link.head_file
    transmitter = quantize_transmitter(models[head], link, calibration)
    received = receptions(transmitter, link, calibration, seed)
    quantised = {head: transmitter, "rx.onnx": quantize_receiver(models["rx.onnx"], link, received)}
    progress("proving the INT8 graphs")
    proof, problems = prove_hard(quantised[head], link)
    problems = [f"{head}: {problem}" for problem in problems]
    problems += [f"rx.onnx: {problem}" for problem in check_operators(quantised["rx.onnx"])]
    for name, model in quantised.items():
        found = check_interface(model, signature_of(name, link)) + check_quantized(model, models[name])
        problems += [f"{name}: {problem}" for problem in found]
    if problems or proof is None:
        raise VerificationError("the INT8 graphs", problems)
    progress("comparing INT8 with float32")
    agreement = _Agreement()
    try:
        problems = _compare_transmitters(
            models[head], quantised[head], proof, link, samples, random_inputs, seed, agreement
        )
        problems += _compare_receivers(
            models["rx.onnx"], quantised["rx.onnx"], link, random_inputs // _RECEIVED_SHARE, seed, agreement
        )
    except GraphRunError as error:
        problems = [f"comparison broken off: {error}"]
    if problems:
        raise VerificationError("the INT8 graphs", problems)
    splits = {"float32": samples, "int8": samples}
    sizes: dict[str, dict[str, int]] = {}
    if whole is not None and samples.sentences is not None:
        before, whole = whole, _whole_in_int8(whole, models, quantised, link, samples.sentences, progress)
        splits["int8"] = replace(samples, features=whole.features)
        sizes[WHOLE_FILE] = {"float32": before.model.ByteSize(), "int8": whole.model.ByteSize()}
    progress("measuring the accuracy of INT8 and float32")
    graphs = {
        precision: {name: serialize(pair[name]) for name in deployed(link)}
        for precision, pair in (("float32", models), ("int8", quantised))
    }
    accuracy = {name: accuracy_of(folder, pair, link, splits[name]) for name, pair in graphs.items()}
    record = _record(graphs, agreement, accuracy)
    record["bytes"] |= sizes
    return Quantised(quantised, proof, accuracy["int8"], record, whole)


def _whole_in_int8(
    whole: WholeTransmitter,
    models: Mapping[str, ModelProto],
    quantised: Mapping[str, ModelProto],
    manifest: Manifest,
    sentences: Sentences,
    progress: Callable[[str], None],
) -> WholeTransmitter:
    """The whole transmitter of the quantised pair."""
    try:
        made = quantise_whole(whole, {"float32": models, "int8": quantised}, manifest, sentences, progress)
        problems = made.problems
    except GraphRunError as error:
        made, problems = whole, [f"comparison broken off: {error}"]
    if problems:
        raise VerificationError("the INT8 graphs", [f"{WHOLE_FILE}: {problem}" for problem in problems])
    return made


def _compare_transmitters(
    model: ModelProto,
    quantised: ModelProto,
    proof: HardProof,
    manifest: Manifest,
    samples: Samples,
    random_inputs: int,
    seed: int,
    agreement: _Agreement,
) -> list[str]:
    """Count equal modes and codewords; the INT8 graph itself must keep to the manifest."""
    head, tally = manifest.head_file, Tally()
    original = OnnxRuntime(model, signature_of(head, manifest))
    graph = DecidingGraph(quantised, head, manifest, proof.searches, proof.mode.scores)
    for batch in feature_batches(samples.features, manifest, random_inputs, seed):
        feed = batch.feed
        theirs, ours = original.outputs(feed), graph.outputs(feed)
        margins = graph.margins(feed, ours["mode"])
        check_modes(ours, feed, manifest, tally)
        check_rules(ours, margins, manifest, tally)
        if batch.source == "test split":
            steady = steady_rows(quantised, feed) | (manifest.grid is not None)
            rows = np.flatnonzero(steady)[:_ALONE]
            if alone := _one_by_one(graph, feed, rows):
                compare_transmissions(_ONE_BY_ONE, alone, rows_of(ours, rows), margins.rows(rows), tally)
        where = "random" if batch.source == "random" else "test_split"
        same = theirs["mode"] == ours["mode"]
        _count(agreement.modes[where], ~same)
        used = ours["indices"][same] >= 0
        differs = theirs["indices"][same] != ours["indices"][same]
        _count(agreement.indices[where], differs[used])
    problems = [f"{head}: {text}" for text in tally.failures.values()]
    different = sum(count.different for count in agreement.indices.values())
    if manifest.grid is not None and different:
        problems.append(f"{head}: {different} codewords differ from float32, and on a grid none may")
    return problems


def _compare_receivers(
    model: ModelProto, quantised: ModelProto, manifest: Manifest, count: int, seed: int, agreement: _Agreement
) -> list[str]:
    """Count equal codewords and classes for the same LLRs."""
    signature, tally = signature_of("rx.onnx", manifest), Tally()
    original, graph = OnnxRuntime(model, signature), OnnxRuntime(quantised, signature)
    for number, (llr, mode) in enumerate(llr_batches(manifest, count, seed)):
        feed: Values = {"llr": llr, "mode": mode}
        theirs, ours = original.outputs(feed), graph.outputs(feed)
        if number < 2:  # the extremes, and some random ones
            rows = np.flatnonzero(steady_rows(quantised, feed))[:_ALONE]
            if alone := _one_by_one(graph, feed, rows):
                compare_receptions(_ONE_BY_ONE, alone, rows_of(ours, rows), mode[rows], manifest, tally)
        used = ours["indices"] >= 0
        _count(agreement.received, (theirs["indices"] != ours["indices"])[used])
        _count(agreement.decisions, theirs["logits"].argmax(-1) != ours["logits"].argmax(-1))
    return [f"rx.onnx: {text}" for text in tally.failures.values()]


def _one_by_one(graph: OnnxRuntime, feed: Values, rows: NDArray[np.int64]) -> Values:
    """Outputs of samples that are run alone; empty if there are none."""
    parts = [graph.outputs(rows_of(feed, rows[place : place + 1])) for place in range(len(rows))]
    return joined(parts) if parts else {}


def _count(count: Count, differs: NDArray[np.bool_]) -> None:
    count.compared += differs.size
    count.different += int(differs.sum())


def _record(
    graphs: Mapping[str, Mapping[str, bytes]], agreement: _Agreement, accuracy: Mapping[str, Accuracy]
) -> dict[str, Any]:
    def counted(count: Count) -> dict[str, int]:
        return {"compared": count.compared, "different": count.different}

    measured = accuracy["int8"]
    return {
        "bytes": {
            name: {precision: len(pair[name]) for precision, pair in graphs.items()}
            for name in graphs["int8"]
        },
        "indices": {where: counted(agreement.indices[where]) for where in _SOURCES},
        "modes": {where: counted(agreement.modes[where]) for where in _SOURCES},
        "received": counted(agreement.received),
        "decisions": counted(agreement.decisions),
        "accuracy": {
            "seed": measured.seed,
            "trials": measured.trials,
            "samples": measured.samples,
            "esn0_db": list(measured.esn0_db),
            "float32": list(accuracy["float32"].correct),
            "int8": list(measured.correct),
        },
    }
