"""Bundles that cheat or are broken, each in one way, with a manifest that is valid again.

An attacker can sign anew what he alters: hashes and vectors then only say that nothing was altered since.
Each mutant names the check of ``tp-verify`` that must reject it, and a part of the reason.

Vectors and golden hash are made again from the altered graphs, unless it is they that must tell: an encoder
or classifier with other weights is simply another model, which nothing else gives away.  Accuracy is as it
was: only the check that measures it again looks at it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tools.mutate import after, ahead, changed, first, operand, producer, scalar
from twophase.export.artefacts.conformance import read_set
from twophase.export.artefacts.ort import ORT_FOLDER, write_ort
from twophase.export.graphs.run import GraphRunError, OnnxRuntime
from twophase.export.int8.nodes import INT8_IR_VERSION, INT8_OPSET
from twophase.link.errors import ArtifactError
from twophase.link.manifest import Manifest, load_manifest, write_manifest
from twophase.link.modem import stream_hash, symbol_stream

Change = Callable[[Path, Manifest], Manifest]
"""Alters the files of a bundle and returns the manifest that is to be signed."""

UNSIGNED = {"sha256": "0" * 64, "bytes": 0}
"""Of a file that is still to be hashed."""


@dataclass(frozen=True)
class Mutant:
    """One wrong bundle."""

    name: str
    change: Change
    check: str
    """The check that must fail."""
    reason: str
    """What one of its problems must contain."""
    resigned: bool = True
    """Whether vectors are made again from its graphs, not the hashes alone."""
    whole: bool = False
    """Whether it goes through the whole of ``tp-verify``, not through its own check alone."""


MUTANTS: list[Mutant] = []
"""All of them; the functions below are added as they are defined."""


def make_mutant(bundle: Path, folder: Path, mutant: Mutant) -> Path:
    """Copy ``bundle`` to ``folder``, alter it and sign it anew."""
    shutil.copytree(bundle, folder)
    manifest = mutant.change(folder, load_manifest(folder, "bundle"))
    if mutant.resigned:
        manifest = _with_vectors(folder, manifest)
    write_manifest(folder, manifest, tuple(manifest.files))
    return folder


def _with_vectors(folder: Path, manifest: Manifest) -> Manifest:
    """Outputs and golden hash that the graphs give now; as they are where a graph does not run."""
    if manifest.conformance is None:
        return manifest
    streams = []
    for entry in manifest.conformance.sets:
        try:
            inputs, outputs = read_set(folder, entry)
            given = OnnxRuntime((folder / entry.graph).read_bytes()).run(list(outputs), inputs)
        except (ArtifactError, GraphRunError):
            continue
        outputs = dict(zip(outputs, map(np.ascontiguousarray, given), strict=True))
        for position, (name, value) in enumerate(outputs.items()):
            tensor = numpy_helper.from_array(value, name)
            path = folder / entry.folder / f"output_{position}.pb"
            path.write_bytes(tensor.SerializeToString(deterministic=True))
        if entry.graph == "tx.onnx" and {"mode", "symbols", "symbol_count"} <= outputs.keys():
            streams.append(symbol_stream(*(outputs[name] for name in ("mode", "symbols", "symbol_count"))))
    signed = replace(manifest.conformance, symbols_sha256=stream_hash(streams))
    return replace(manifest, conformance=signed)


def in_graph(alter: Callable[[ModelProto], None], file: str = "tx.onnx") -> Change:
    """A change of one graph."""

    def change(folder: Path, manifest: Manifest) -> Manifest:
        model = onnx.load(folder / file)
        alter(model)
        (folder / file).write_bytes(model.SerializeToString(deterministic=True))
        return manifest

    return change


def mutant(
    check: str, reason: str, file: str | None = "tx.onnx", *, resigned: bool = True, whole: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add what a function makes of a graph, or of the whole bundle where no file is named."""

    def add(alter: Callable[..., Any]) -> Callable[..., Any]:
        change = alter if file is None else in_graph(alter, file)
        MUTANTS.append(Mutant(alter.__name__, change, check, reason, resigned, whole))
        return alter

    return add


def column_negated(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whole numbers still: only what is sent tells."""
    return value * np.where(np.arange(value.shape[1]) == 0, -1, 1).astype(np.float32)


def at(value: NDArray[np.float32], *place: int) -> NDArray[np.float32]:
    """One at a place, zero elsewhere."""
    one = np.zeros_like(value)
    one[place] = 1
    return one


# --- what is sent


@mutant("cut", "take values from 'input' past", whole=True)
def symbols_past_the_indices(model: ModelProto) -> None:
    """A symbol is switched by a feature, which no codeword tells."""
    text = (
        "row = Gather<axis=1>(input, one); pixel = Gather<axis=1>(row, one); bright = Greater(pixel, still);"
    )
    text += "shown = Unsqueeze(bright, column); symbols = Where(shown, nothing, it)"
    after("symbols", text, one=1, still=np.float32(0), column=[1], nothing=0)(model)


@mutant("labels one to one", "8 codewords have 7 patterns of bits", whole=True)
def shared_label(model: ModelProto) -> None:
    changed("table_0", lambda value: value[[0, 1, 2, 5, 4, 5, 6, 7]])(model)


# --- the choice of codewords


@mutant(
    "random operators",
    "'tx.onnx' uses the operator 'RandomUniformLike', which a link does not need",
    whole=True,
)
def gumbel_noise(model: ModelProto) -> None:
    text = "uniform = RandomUniformLike<low=0.000001, high=1.0>(it); log = Log(uniform);"
    text += "exponential = Neg(log); gumbel = Log(exponential); noisy = Sub(it, gumbel)"
    ahead(operand("ArgMax"), text)(model)


@mutant("codebook hash", "'tx.onnx': the codebook search is not proved", whole=True)
def altered_searched_codeword(model: ModelProto) -> None:
    changed(first(model, "MatMul").input[1], lambda value: value + 2 * at(value, 2, 5))(model)


@mutant("vectors: ONNX Runtime", "(tx.onnx): 'indices' differs in", resigned=False)
def altered_encoder_weight(model: ModelProto) -> None:
    changed("w1", column_negated)(model)


@mutant("exactness", "exact are those below 16,777,216 only", whole=True)
def overflowing_sum(model: ModelProto) -> None:
    """The same decisions, but of sums that float32 cannot hold: 2^7 times larger, and odd."""
    changed("w2", lambda value: value * np.float32(2**7) + 1)(model)
    changed("b2", lambda value: value * np.float32(2**7))(model)
    scaling = [entry for entry in model.graph.node if entry.op_type == "Mul"][2]
    scaling.input[1] = scalar(model, "smaller_unit", 2.0**-14, np.float32)


@mutant("search in NumPy", "are no whole numbers", whole=True)
def latents_not_rounded(model: ModelProto) -> None:
    [entry for entry in model.graph.node if entry.op_type == "Round"][-1].op_type = "Identity"


@mutant("batch 1 = batch n", "batch 1 and batch 40 differ in 'indices'", whole=True)
def sees_its_batch(model: ModelProto) -> None:
    """Inputs are measured from the largest of the batch: exact, and another thing for a sample alone."""
    text = "largest = ReduceMax(it, batch_axis); from_top = Sub(it, largest)"
    ahead(operand("Gemm"), text, batch_axis=[0])(model)


# --- the choice of the mode


@mutant("mode", "'mode' is computed from 'input', which the receiver does not know", whole=True)
def mode_from_the_features(model: ModelProto) -> None:
    """The routed mode is one higher for bright inputs: a bit that crosses the channel free of charge."""
    text = "peak = ReduceMax<keepdims=0>(input, all_axes); bright = Greater(peak, limit);"
    text += "leaked = Where(bright, mode_1, it)"
    place = producer(model, "mode"), 2
    ahead(lambda model: place, text, all_axes=[1, 2], limit=np.float32(2), mode_1=1)(model)


# --- the graph


@mutant("opset, IR, domains", "'tx.onnx' uses operators of 'com.microsoft', not of ONNX")
def own_operator(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.node.append(helper.make_node("Gelu", ["input"], ["stray"], domain="com.microsoft"))


@mutant(
    "dynamic quantisation",
    "'rx.onnx': DynamicQuantizeLinear ('node_zero') makes a sample depend on the others in its batch",
    "rx.onnx",
)
def quantised_by_batch(model: ModelProto) -> None:
    text = "byte, scale, zero = DynamicQuantizeLinear(it); real = DequantizeLinear(byte, scale, zero)"
    ahead(operand("Gemm"), text)(model)


@mutant("inputs and outputs", "'rx.onnx': the outputs must be ['logits', 'posterior', 'indices']", "rx.onnx")
def renamed_output(model: ModelProto) -> None:
    producer(model, "logits").output[0] = "scores_of_classes"
    next(value for value in model.graph.output if value.name == "logits").name = "scores_of_classes"


@mutant("ONNX checker", "'tx.onnx' does not type-check")
def contradicting_types(model: ModelProto) -> None:
    value = next(value for value in model.graph.output if value.name == "bits")
    value.type.tensor_type.elem_type = TensorProto.FLOAT


@mutant(
    "codebook hash",
    "'rx.onnx' holds other codewords than codebook 0: codeword 6 differs by 0.0312",
    "rx.onnx",
    whole=True,
)
def altered_received_codeword(model: ModelProto) -> None:
    changed("codebook_0", lambda value: value + 0.03125 * at(value, 6, 1))(model)


@mutant("accuracy", "decisions are right", "rx.onnx", resigned=False)
def swapped_classes(model: ModelProto) -> None:
    """A receiver that calls one class another: it works, but not as it was trained."""
    for name in ("head.weight", "head.bias"):
        changed(name, lambda value: value[[1, 0, *range(2, len(value))]])(model)


@mutant("labels of the receiver", "mode 0 (8x4qam): the labels of the codewords", "rx.onnx", whole=True)
def permuted_received_labels(model: ModelProto) -> None:
    """A receiver that takes the bits of a label in another order."""
    (tensor,) = [item for item in model.graph.initializer if sorted(item.dims) == [3, 8]]
    axis = list(tensor.dims).index(3)
    changed(tensor.name, lambda value: np.ascontiguousarray(np.flip(value, axis)))(model)


@mutant("labels of the receiver", "from that of the manifest's labels and", "rx.onnx")
def with_a_prior(model: ModelProto) -> None:
    """A receiver that prefers the first codeword, at LLRs that leave it open."""
    prior = np.array([0.5, *[0.0] * 7], dtype=np.float32)
    ahead(operand("Softmax"), "with_prior = Add(it, prior)", prior=prior)(model)


# --- the rest of the bundle


@mutant("precision", "'tx.onnx' is no int8 graph: no product multiplies uint8 with stored uint8", None)
def declared_int8(folder: Path, manifest: Manifest) -> Manifest:
    """Graphs in float32 that are sold as INT8."""
    for file in ("tx.onnx", "rx.onnx"):
        model = onnx.load(folder / file)
        model.opset_import[0].version, model.ir_version = INT8_OPSET, INT8_IR_VERSION
        (folder / file).write_bytes(model.SerializeToString(deterministic=True))
    return replace(manifest, precision="int8")


@mutant("ort/ files", "(tx.onnx): 'indices' differs in", None)
def foreign_ort(folder: Path, manifest: Manifest) -> Manifest:
    """Converted graphs of another model."""
    other = Path(shutil.copytree(folder, folder.parent / "other"))
    in_graph(altered_encoder_weight)(other, manifest)
    names = [f"{ORT_FOLDER}/{name}" for name in write_ort(other, folder / ORT_FOLDER)]
    return replace(manifest, files=manifest.files | dict.fromkeys(names, UNSIGNED))


@mutant("ort/ files", "the manifest does not list 'ort/rx.ort'", None)
def half_an_ort(folder: Path, manifest: Manifest) -> Manifest:
    names = write_ort(folder, folder / ORT_FOLDER)
    (folder / ORT_FOLDER / "rx.ort").unlink()
    listed = [f"{ORT_FOLDER}/{name}" for name in names if name != "rx.ort"]
    return replace(manifest, files=manifest.files | dict.fromkeys(listed, UNSIGNED))


@mutant("vectors: ONNX Runtime", "must hold the outputs logits, posterior, indices", None)
def without_an_output(folder: Path, manifest: Manifest) -> Manifest:
    """A set that does not say what the receiver decides."""
    assert manifest.conformance is not None
    entry = next(entry for entry in manifest.conformance.sets if entry.graph == "rx.onnx")
    (folder / entry.folder / "output_2.pb").unlink()
    files = {name: value for name, value in manifest.files.items() if name != f"{entry.folder}/output_2.pb"}
    return replace(manifest, files=files)


def shortened_sets(folder: Path, manifest: Manifest, samples: int) -> Manifest:
    """The first samples of every set alone."""
    for path in folder.glob("test_data_set_*/*.pb"):
        tensor = onnx.TensorProto.FromString(path.read_bytes())
        value = np.ascontiguousarray(numpy_helper.to_array(tensor)[:samples])
        path.write_bytes(numpy_helper.from_array(value, tensor.name).SerializeToString(deterministic=True))
    return manifest


@mutant("vectors: ONNX Runtime", "test_data_set_0 (tx.onnx): 'input' is empty", None, resigned=False)
def empty_sets(folder: Path, manifest: Manifest) -> Manifest:
    return shortened_sets(folder, manifest, 0)


@mutant("vectors: ONNX Runtime", "in which 'tx.onnx' sends mode ", None)
def one_sample_each(folder: Path, manifest: Manifest) -> Manifest:
    return shortened_sets(folder, manifest, 1)


@mutant("vectors: ONNX Runtime", "/input_0.pb' is not listed in the manifest", None)
def unlisted_vectors(folder: Path, manifest: Manifest) -> Manifest:
    """Vectors that no hash covers."""
    files = {name: value for name, value in manifest.files.items() if not name.startswith("test_data_set_0/")}
    return replace(manifest, files=files)


@mutant("vectors: ONNX Runtime", "no conformance vectors are there for 'tx.onnx'", None)
def no_sets(folder: Path, manifest: Manifest) -> Manifest:
    return sets_of(manifest)


@mutant("vectors: ONNX Runtime", "no conformance vectors are there for 'rx.onnx'", None)
def vectors_of_one_side(folder: Path, manifest: Manifest) -> Manifest:
    return sets_of(manifest, "tx.onnx")


def sets_of(manifest: Manifest, *graphs: str) -> Manifest:
    """With the vectors of these graphs alone."""
    assert manifest.conformance is not None
    kept = tuple(entry for entry in manifest.conformance.sets if entry.graph in graphs)
    return replace(manifest, conformance=replace(manifest.conformance, sets=kept))
