"""Conformance vectors: written with a bundle, read and replayed by any runtime.

Each set is a folder in ONNX's test layout, ``input_M.pb`` and ``output_M.pb`` in the order of the graph's
inputs and outputs.  The transmitter from features on (``manifest.head_file``) must give every output exactly
and, over all of its sets, the symbol stream of ``Conformance.symbols_sha256``; ``rx.onnx`` the same indices
and the same class, and real outputs within ``tally.TOLERANCE``.  A transmitter that takes text has a set of
its own, of sentences that it decides clearly: integers are the same, features within ``tally.TOLERANCE``.

A set holds only what every machine must decide alike.  Where the transmitter computes on an integer grid that
is everything, exact ties included.  Elsewhere, and in every receiver, two float32 implementations may differ
where a decision hangs by a rounding error; such samples are left out, and the description says how many.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

from twophase.export.compare.tally import TOLERANCE
from twophase.export.graphs.run import GraphRunError, Values
from twophase.export.graphs.signature import WHOLE_FILE, signature_of
from twophase.export.proof.hard import HardProof
from twophase.link.errors import ArtifactError
from twophase.link.files import read_plain, reading
from twophase.link.manifest import Conformance, Manifest, VectorSet
from twophase.link.modem import stream_hash, symbol_stream
from twophase.link.sentences import Sentences

__all__ = ["Run", "read_set", "replay", "set_files", "write_vectors"]

Run = Callable[[str, list[str], Values], list[NDArray[Any]]]
"""Runs a graph of the bundle: its file, the names of the outputs, the inputs by name."""

_LARGEST_TENSOR = 1 << 28
"""Bytes of a file of a set."""

_EXACT = frozenset({"mode", "indices", "bits", "symbols", "bit_count", "symbol_count"})


def write_vectors(
    folder: Path,
    graphs: Mapping[str, bytes],
    manifest: Manifest,
    features: NDArray[np.float32],
    proof: HardProof,
    seed: int,
    *,
    sentences: Sentences | None = None,
) -> Conformance:
    """Choose vectors, run the graphs on them and write the sets into ``folder``, the bundle.

    ``graphs`` holds bytes by file: the transmitter from features on, ``rx.onnx`` and, with the ``sentences``
    that the features were made of, ``tx.onnx``.  ``features`` are the test split, (n, *input_shape);
    ``proof`` says where the transmitter takes its decisions.  VerificationError if a graph fails on finite
    inputs.
    """
    from twophase.export.artefacts.vectors import vector_sets  # who replays vectors needs none of this

    entries: list[VectorSet] = []
    streams: list[bytes] = []
    for number, filled in enumerate(vector_sets(graphs, manifest, features, proof, seed, sentences)):
        entry = VectorSet(f"test_data_set_{number}", filled.graph, filled.description)
        (folder / entry.folder).mkdir()
        for side, values in (("input", filled.inputs), ("output", filled.outputs)):
            for position, (name, value) in enumerate(values.items()):
                tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
                path = folder / entry.folder / f"{side}_{position}.pb"
                path.write_bytes(tensor.SerializeToString(deterministic=True))
        entries.append(entry)
        if filled.graph == manifest.head_file:
            streams.append(_stream(filled.outputs))
    return Conformance(tuple(entries), stream_hash(streams))


def set_files(folder: Path, conformance: Conformance) -> tuple[str, ...]:
    """All files of the sets, relative to the bundle, in order."""
    return tuple(
        f"{entry.folder}/{path.name}"
        for entry in conformance.sets
        for side in ("input", "output")
        for path in _side(folder / entry.folder, side)
    )


def read_set(folder: Path, entry: VectorSet) -> tuple[Values, Values]:
    """Inputs and outputs of a set by name, in the graph's order; ArtifactError if a file is no tensor."""
    sides = []
    for side in ("input", "output"):
        paths = _side(folder / entry.folder, side)
        if not paths:
            raise ArtifactError(f"'{folder / entry.folder}' holds no '{side}_0.pb'")
        sides.append(dict(_read_tensor(path) for path in paths))
    return sides[0], sides[1]


def replay(run: Run, folder: Path, manifest: Manifest) -> list[str]:
    """Run all vectors and compare.

    Vectors that prove little are a problem too: a set that is empty or lacks a tensor of its graph, files
    that the manifest does not list or lists in vain, a graph without a set, a mode that no set has.  The
    files are compared if the manifest lists any.  One sentence for each problem; none if everything is
    reproduced, the golden hash included.  ArtifactError if there are no vectors or a file is damaged.
    """
    if manifest.conformance is None:
        raise ArtifactError(f"'{folder}' holds no conformance vectors: export it again")
    problems: list[str] = []
    streams: list[bytes] = []
    head = manifest.head_file
    met: dict[str, set[int]] = {graph: set() for graph in (head, "rx.onnx", WHOLE_FILE)}
    for entry in manifest.conformance.sets:
        if manifest.files:
            problems += _unlisted(folder, entry, manifest)
        inputs, wanted = read_set(folder, entry)
        if vacuous := _vacuous(entry, inputs, wanted, manifest):
            problems += vacuous
            continue
        met[entry.graph].update(np.unique((wanted | inputs)["mode"]).tolist())
        try:
            got = dict(zip(wanted, run(entry.graph, list(wanted), inputs), strict=True))
        except GraphRunError as error:
            problems.append(f"{entry.folder} ({entry.graph}) does not run: {error}")
            continue
        found = _differences(entry, got, wanted)
        problems += [f"{entry.folder} ({entry.graph}): {text}" for text in found]
        if entry.graph == head and got["symbols"].shape == wanted["symbols"].shape:
            streams.append(_stream(got))
    digest = stream_hash(streams)
    if digest != manifest.conformance.symbols_sha256:
        problems.append(
            f"the symbol stream has the SHA-256 {digest}, not {manifest.conformance.symbols_sha256}"
        )
    return problems + _unmet(met, manifest)


def _unlisted(folder: Path, entry: VectorSet, manifest: Manifest) -> list[str]:
    """Files of a set that are there and not listed, or listed and not there."""
    with reading(folder / entry.folder):
        held = {f"{entry.folder}/{path.name}" for path in (folder / entry.folder).iterdir()}
    listed = {name for name in manifest.files if name.startswith(f"{entry.folder}/")}
    faults = {"is not listed in the manifest": held - listed, "is listed and not there": listed - held}
    return [f"'{name}' {how}" for how, names in faults.items() for name in sorted(names)]


def _vacuous(entry: VectorSet, inputs: Values, wanted: Values, manifest: Manifest) -> list[str]:
    """Why a set cannot be compared in every tensor of its graph."""
    signature = signature_of(entry.graph, manifest)
    label = f"{entry.folder} ({entry.graph})"
    problems = []
    for side, ports, values in (("input", signature.inputs, inputs), ("output", signature.outputs, wanted)):
        names = [port.name for port in ports]
        if list(values) != names:
            problems.append(f"{label} must hold the {side}s {', '.join(names)}, not {', '.join(values)}")
            continue
        for port in ports:
            value = values[port.name]
            if value.dtype != port.dtype or not port.fits(value.shape):
                wanted_shape = ", ".join(map(str, ("n", *port.free, *port.shape)))
                problems.append(
                    f"{label}: '{port.name}' must be {port.dtype} of shape ({wanted_shape}), "
                    f"not {value.dtype} of shape {value.shape}"
                )
            elif len(value) == 0:
                problems.append(f"{label}: '{port.name}' is empty")
            elif not np.isfinite(value).all():
                problems.append(f"{label}: '{port.name}' holds NaN or infinity, which compares with nothing")
    return problems


def _unmet(met: dict[str, set[int]], manifest: Manifest) -> list[str]:
    """Graphs without a set, and modes that no set sends or receives."""
    assert manifest.conformance is not None
    graphs = {entry.graph for entry in manifest.conformance.sets}
    problems = []
    for graph, verb in ((manifest.head_file, "sends"), ("rx.onnx", "receives")):
        if graph not in graphs:
            problems.append(f"no conformance vectors are there for '{graph}'")
            continue
        problems += [
            f"no conformance vectors are there in which '{graph}' {verb} mode {number} ({name})"
            for number, name in enumerate(manifest.modes.names)
            if number not in met[graph]
        ]
    return problems


def _side(folder: Path, side: str) -> list[Path]:
    """The files of one side in the order of their numbers, which must not leave one out."""
    with reading(folder):
        found = [path for path in folder.iterdir() if re.fullmatch(rf"{side}_\d+\.pb", path.name)]
    paths = [folder / f"{side}_{number}.pb" for number in range(len(found))]
    if set(paths) != set(found):
        raise ArtifactError(f"'{folder}' must hold {side}_0.pb to {side}_{len(found) - 1}.pb without a gap")
    return paths


def _read_tensor(path: Path) -> tuple[str, NDArray[Any]]:
    try:
        tensor = onnx.TensorProto.FromString(read_plain(path, path.parent.parent, limit=_LARGEST_TENSOR))
        if tensor.data_location or tensor.external_data:
            raise ValueError("its values are in another file")
        return tensor.name, onnx.numpy_helper.to_array(tensor)
    except (DecodeError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"'{path}' is no tensor of ONNX: truncated or altered") from error


def _stream(outputs: Values) -> bytes:
    return symbol_stream(outputs["mode"], outputs["symbols"], outputs["symbol_count"])


def _differences(entry: VectorSet, got: Values, wanted: Values) -> list[str]:
    """What a runtime gave in another way than it is stored, one sentence for each output."""
    problems: list[str] = []
    for name, value in wanted.items():
        given = np.asarray(got[name])
        if given.shape != value.shape:
            problems.append(f"'{name}' has shape {given.shape}, not {value.shape}")
            continue
        if name in _EXACT:
            differs = given != value
        else:
            one, other = given.astype(np.float64), value.astype(np.float64)
            differs = ~(np.abs(one - other) <= TOLERANCE * (1.0 + np.abs(other)))  # NaN differs
        rows = differs.reshape(len(value), -1).any(axis=1)
        if rows.any():
            row = int(np.argmax(rows))
            place = tuple(np.argwhere(differs[row])[0]) if value.ndim > 1 else ()
            problems.append(
                f"'{name}' differs in {rows.sum()} of {len(rows)} samples, first in sample {row}: "
                f"{given[row][place]} instead of {value[row][place]}"
            )
        if name == "logits" and (decided := given.argmax(-1) != value.argmax(-1)).any():
            problems.append(f"the decided class differs in {decided.sum()} of {len(decided)} samples")
    return problems
