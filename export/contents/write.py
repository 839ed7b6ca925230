"""What stands in a bundle besides the graphs, written in the order in which one part needs the other.

Graphs and test split, conformance vectors, accuracy, then the manifest: from here on the folder is a bundle,
and a conversion, a page and the card are made from it.  The manifest is written again with their hashes.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twophase.export.contents.accuracy import ESN0_DB, SEED, measure_accuracy, trials_for
from twophase.export.contents.card import CARD_FILE, link_card
from twophase.export.contents.conformance import replay, set_files, write_vectors
from twophase.export.prove import HardProof
from twophase.export.session import Session
from twophase.link.errors import VerificationError
from twophase.link.manifest import EVAL_FILE, Accuracy, Manifest, load_manifest, write_manifest
from twophase.link.runtime import Receiver, Transmitter

if TYPE_CHECKING:
    from twophase.export.contents.web import WebRuntime

__all__ = ["DEPLOYED", "Extras", "Samples", "accuracy_of", "load_samples", "write_content"]

DEPLOYED = ("tx.onnx", "rx.onnx")
"""The graphs that a device runs; the others are references."""


@dataclass(frozen=True, eq=False)
class Samples:
    """The test split."""

    features: NDArray[np.float32]
    """Shape (n, *input_shape)."""
    labels: NDArray[np.int64]
    """Shape (n,)."""


@dataclass(frozen=True)
class Extras:
    """What a bundle holds on request."""

    ort: bool = False
    """The deployed graphs in ONNX Runtime's own format."""
    web: WebRuntime | None = None
    """A page with this runtime for browsers."""


def load_samples(path: Path, features: NDArray[np.float32]) -> Samples:
    """The test split whose ``features`` ``inputs.load_split`` has read and checked, with its labels."""
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return Samples(features, arrays["label"])


def accuracy_of(folder: Path, graphs: Mapping[str, bytes], manifest: Manifest, samples: Samples) -> Accuracy:
    """Accuracy of a deployed pair that stands in no bundle yet; ``folder`` holds it for a while."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for graph in DEPLOYED:
            (Path(name) / graph).write_bytes(graphs[graph])
        return measure_accuracy(
            Transmitter(name, manifest=manifest),
            Receiver(name, manifest=manifest),
            samples.features,
            samples.labels,
            trials=trials_for(len(samples.labels)),
            seed=SEED,
            esn0_db=ESN0_DB,
        )


def write_content(
    folder: Path,
    run: Path,
    graphs: Mapping[str, bytes],
    manifest: Manifest,
    samples: Samples,
    proof: HardProof,
    seed: int,
    extras: Extras,
    progress: Callable[[str], None],
) -> None:
    """Write a whole bundle.

    Parameters
    ----------
    folder
        An empty folder.
    run
        Where the test split is copied from.
    graphs
        Bytes of every graph, by file, proved and verified.
    manifest
        The bundle's, without vectors and files; its accuracy is measured if it has none.
    samples
        The test split.
    proof
        Of ``tx.onnx``.
    seed
        Of the vectors.
    extras
        What is asked for besides.
    progress
        Is told each step before it begins.

    Raises
    ------
    VerificationError
        If a graph does not give its own vectors again, in the bundle or converted.
    """
    for name, content in graphs.items():
        (folder / name).write_bytes(content)
    shutil.copyfile(run / EVAL_FILE, folder / EVAL_FILE)
    progress("choosing conformance vectors")
    conformance = write_vectors(
        folder, {name: graphs[name] for name in DEPLOYED}, manifest, samples.features, proof, seed
    )
    accuracy = manifest.accuracy
    if accuracy is None:
        progress("measuring accuracy")
        accuracy = accuracy_of(folder, graphs, manifest, samples)
    whole = replace(manifest, conformance=conformance, accuracy=accuracy)
    files = [*graphs, EVAL_FILE, *set_files(folder, conformance)]
    write_manifest(folder, whole, tuple(files))
    _check_vectors(folder, graphs, whole)
    if extras.ort:
        from twophase.export.contents.ort_format import ORT_FOLDER, ort_runner, write_ort

        progress("converting to ONNX Runtime's format")
        files += [f"{ORT_FOLDER}/{name}" for name in write_ort(folder, folder / ORT_FOLDER)]
        problems = replay(ort_runner(folder / ORT_FOLDER), folder, whole)
        if problems:
            raise VerificationError("the converted graphs", problems)
    if extras.web is not None:
        from twophase.export.contents.web import write_web

        progress("writing the page")
        files += write_web(folder, extras.web)
    progress("writing the card")
    write_manifest(folder, whole, tuple(files))
    card = link_card(load_manifest(folder, "bundle"))
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    write_manifest(folder, whole, (*files, CARD_FILE))


def _check_vectors(folder: Path, graphs: Mapping[str, bytes], manifest: Manifest) -> None:
    """What was written reads back, and the graphs give it again."""
    sessions = {name: Session(graphs[name]) for name in DEPLOYED}
    problems = replay(lambda graph, names, feed: sessions[graph].run(names, feed), folder, manifest)
    if problems:
        raise VerificationError("the conformance vectors", problems)
