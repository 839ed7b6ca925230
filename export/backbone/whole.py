"""The whole transmitter of a link that takes text: the backbone frozen, put ahead of the head, and measured.

What a bundle keeps as features of its test split is what its own ``tx.onnx`` gives, each sentence by itself
and unpadded, as a device runs it.  The head's vectors and the accuracy are those on these features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from torch.export import ExportedProgram

from twophase.export.backbone.compare import (
    TORCH_TOLERANCE,
    WholeRunner,
    allowed,
    decided,
    problems_of_tokenizer,
    rows_apart,
    unlike_head,
)
from twophase.export.backbone.merge import check_whole, merge
from twophase.export.compare.inputs import sent_llr
from twophase.export.compare.tally import Count
from twophase.export.graphs.run import GraphRunError, OnnxRuntime, Values
from twophase.export.graphs.signature import (
    FEATURES,
    backbone_signature,
    check_interface,
    check_operators,
    deployed,
)
from twophase.export.graphs.torch_program import TorchProgram, freeze, load_program
from twophase.export.graphs.view import GraphError, GraphView, serialize
from twophase.export.int8.weights import check_weights, quantise_weights
from twophase.link.errors import ArtifactError, first_line
from twophase.link.listing import read_listed
from twophase.link.manifest import BACKBONE_PROGRAM, TOKENIZER_FILE, Manifest
from twophase.link.sentences import Sentences

__all__ = ["WholeTransmitter", "build_whole", "freeze_backbone", "quantise_whole"]


_MOST_BYTES = 2_000_000_000
"""Of the weights: an ONNX file holds at most 2 GiB."""


def freeze_backbone(run: Path, manifest: Manifest) -> tuple[ExportedProgram, ModelProto, list[str]]:
    """Convert the backbone of a run: its program, its graph, and one sentence for each problem of the graph.

    Raises
    ------
    ArtifactError
        If the program cannot be loaded or converted, or is too large for one file.
    """
    path = run / BACKBONE_PROGRAM
    program = load_program(path, read_listed(run, BACKBONE_PROGRAM, manifest.files))
    size = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    if size > _MOST_BYTES:
        raise ArtifactError(f"'{path}' holds {size / 1e9:.1f} GB, and an ONNX file at most 2")
    signature = backbone_signature(manifest)
    model = freeze(str(path), program, signature)
    try:
        GraphView(model)
    except GraphError as error:
        return program, model, [f"the graph does not type-check: {first_line(error)}"]
    return program, model, check_interface(model, signature) + check_operators(model)


_REPORTED_EVERY = 20
"""Sentences between two messages of the progress."""

_SENT_LLR = 20.0
"""LLR of a bit that was sent, in favour of it, where decisions of two precisions are compared."""


@dataclass(frozen=True, eq=False)
class WholeTransmitter:
    """``tx.onnx`` of a link that takes text, and what was found of it."""

    backbone: ModelProto
    model: ModelProto
    """Backbone and head in one graph."""
    features: NDArray[np.float32]
    """What it gives for each sentence of the test split, shape (n, C)."""
    sent: Values
    """What it sends for each, from -5 to 20 dB."""
    record: dict[str, Any]
    """For the manifest, ``provenance.export.front``."""
    problems: list[str]


def build_whole(
    run: Path,
    manifest: Manifest,
    head: ModelProto,
    sentences: Sentences,
    trained_on: NDArray[np.float32],
    progress: Callable[[str], None],
) -> WholeTransmitter:
    """Freeze the backbone of a run, put it ahead of the head and verify the two.

    ``manifest`` is the run's, with the routing of the bundle, ``head`` is ``tx_head.onnx`` in float32,
    ``sentences`` are the test split and ``trained_on`` its features as training computed them, (n, C).
    ArtifactError if the backbone cannot be converted or put ahead of the head, or the tokenizer cannot be
    read; GraphRunError if the program or a graph does not run.
    """
    progress("tx.onnx: converting the backbone")
    program, backbone, problems = freeze_backbone(run, manifest)
    model = merge(backbone, head, manifest)
    problems += check_whole(model, head, manifest)
    problems += [
        f"{TOKENIZER_FILE}: {problem}" for problem in problems_of_tokenizer(run, sentences, manifest)
    ]
    measured = _measured(model, head, manifest, sentences, progress)
    progress("tx.onnx: comparing with torch")
    torch_record, found = _compare_torch(program, measured.padded, manifest)
    own = decided(measured.runner.head, measured.features, manifest)
    theirs = decided(measured.runner.head, trained_on, manifest)
    run_record, others = _count_apart(
        own, theirs, measured.features, trained_on, "those of the run and of tx.onnx"
    )
    record = {
        "sentences": len(sentences),
        "tokens": int(sentences.lengths.sum()),
        "longest": int(sentences.lengths.max()),
        "allowed": allowed(len(sentences)),
        "torch": torch_record,
        **measured.record,
        "run": run_record,
    }
    problems += [*measured.problems, *found, *others]
    return WholeTransmitter(backbone, model, measured.features, measured.sent, record, problems)


def quantise_whole(
    whole: WholeTransmitter,
    pairs: Mapping[str, Mapping[str, ModelProto]],
    manifest: Manifest,
    sentences: Sentences,
    progress: Callable[[str], None],
) -> WholeTransmitter:
    """The same in INT8: weights of the backbone in 8 bits, ahead of the head in INT8.

    ``pairs`` are heads and receivers of ``float32`` and ``int8``, by file.

    Raises
    ------
    ArtifactError
        If the backbone cannot be quantised.
    GraphRunError
        If a graph does not run.
    """
    progress("tx.onnx: quantising the backbone")
    head = pairs["int8"][manifest.head_file]
    backbone = quantise_weights(whole.backbone)
    model = merge(backbone, head, manifest)
    problems = check_whole(model, head, manifest) + check_weights(model, head)
    measured = _measured(model, head, manifest, sentences, progress)
    decisions, classes = [], []
    for name, features, sent in (
        ("float32", whole.features, whole.sent),
        ("int8", measured.features, measured.sent),
    ):
        sender, receiver = (OnnxRuntime(pairs[name][file]) for file in deployed(manifest))
        decisions.append(decided(sender, features, manifest))
        classes.append(_classes(receiver, sent))
    apart, count = rows_apart(*decisions)
    record = {
        **measured.record,
        "float32": {
            "sentences": len(sentences),
            "different": int(apart.sum()),
            "indices": _count(count),
            "decisions": {"compared": len(sentences), "different": int((classes[0] != classes[1]).sum())},
            "features": _rms(measured.features - whole.features)
            / _rms(whole.features - whole.features.mean(axis=0)),
        },
    }
    problems += measured.problems
    return WholeTransmitter(
        backbone, model, measured.features, measured.sent, whole.record | {"int8": record}, problems
    )


@dataclass(frozen=True, eq=False)
class _Measured:
    """What a whole gave for the test split."""

    runner: WholeRunner
    features: NDArray[np.float32]
    sent: Values
    padded: list[tuple[Values, NDArray[np.float32]]]
    record: dict[str, Any]
    problems: list[str]


def _measured(
    model: ModelProto,
    head: ModelProto,
    manifest: Manifest,
    sentences: Sentences,
    progress: Callable[[str], None],
) -> _Measured:
    """Run a whole on each sentence alone and in padded batches, and hold it against its head."""
    runner = WholeRunner(serialize(model), serialize(head), manifest)

    def report(row: int) -> None:
        if row % _REPORTED_EVERY == 0:
            progress(f"tx.onnx: sentence {row} of {len(sentences)}")

    sent, features = runner.alone(sentences, report)
    if not np.isfinite(features).all():
        raise GraphRunError(f"the backbone gives NaN or infinity in '{FEATURES}'")
    progress("tx.onnx: comparing with the head, and with padded batches")
    compared, problems = unlike_head(runner, sentences, sent, features)
    padded = runner.padded(sentences)
    in_batches = np.concatenate([given for _, given in padded])
    own, others = (decided(runner.head, values, manifest) for values in (features, in_batches))
    record, found = _count_apart(
        own, others, features, in_batches, "those of a sentence alone and in a padded batch"
    )
    head_record = {"compared": compared, "different": 0}
    return _Measured(
        runner, features, sent, padded, {"head": head_record, "padded": record}, [*problems, *found]
    )


def _compare_torch(
    program: ExportedProgram, padded: list[tuple[Values, NDArray[np.float32]]], manifest: Manifest
) -> tuple[dict[str, float], list[str]]:
    """Largest difference of features between torch and ONNX Runtime, on the same padded batches."""
    torch_side = TorchProgram(program, backbone_signature(manifest), threads=None)
    pairs = [(given, torch_side.outputs(feed)[FEATURES]) for feed, given in padded]
    largest = max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)
    bound = TORCH_TOLERANCE * max(float(np.abs(theirs).max()) for _, theirs in pairs)
    record = {"largest": largest, "tolerance": bound}
    if largest <= bound:
        return record, []
    return record, [
        f"'{FEATURES}' of torch and of ONNX Runtime differ by up to {largest:.1e}, tolerance {bound:.1e}"
    ]


def _count_apart(
    ones: list[Values],
    others: list[Values],
    features: NDArray[np.float32],
    other_features: NDArray[np.float32],
    what: str,
) -> tuple[dict[str, Any], list[str]]:
    """Count sentences that get other indices from features that should be the same."""
    apart, count = rows_apart(ones, others)
    different = int(apart.sum())
    record = {
        "sentences": len(apart),
        "different": different,
        "indices": _count(count),
        "largest": float(np.abs(features - other_features).max()),
    }
    if different <= allowed(len(apart)):
        return record, []
    return record, [
        f"{different} of {len(apart)} sentences get other indices from two sets of features, {what}, which "
        f"differ by up to {record['largest']:.1e}; {allowed(len(apart))} may"
    ]


def _classes(receiver: OnnxRuntime, sent: Values) -> NDArray[np.int64]:
    """Classes that a receiver decides for from what is sent, without noise."""
    (logits,) = receiver.run(["logits"], {"llr": sent_llr(sent, _SENT_LLR), "mode": sent["mode"]})
    decisions: NDArray[np.int64] = logits.argmax(axis=-1)
    return decisions


def _count(count: Count) -> dict[str, int]:
    record = asdict(count)
    del record["excused"]
    return record


def _rms(values: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
