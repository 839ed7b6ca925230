"""What stands in a bundle besides the graphs, written in the order in which one part needs the other.

Graphs and test split, conformance vectors, accuracy, on request a conversion and a page, then the card, which
lists what is there, and last the manifest: with it the folder is a bundle.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twophase.export.artefacts.accuracy import accuracy_of
from twophase.export.artefacts.card import CARD_FILE, link_card
from twophase.export.artefacts.conformance import replay, set_files, write_vectors
from twophase.export.graphs.run import OnnxRuntime
from twophase.export.graphs.signature import run_by_devices
from twophase.export.proof.hard import HardProof
from twophase.link.archives import read_arrays
from twophase.link.errors import ArtifactError, VerificationError
from twophase.link.files import atomic_folder, sha256_of
from twophase.link.listing import read_listed
from twophase.link.manifest import (
    EVAL_FILE,
    MANIFEST_NAME,
    TOKENIZER_FILE,
    Manifest,
    load_manifest,
    write_manifest,
)
from twophase.link.samples import Samples

if TYPE_CHECKING:
    from twophase.export.artefacts.web import WebRuntime

__all__ = ["Extras", "add_artefacts", "write_artefacts"]


@dataclass(frozen=True)
class Extras:
    """What a bundle holds on request."""

    ort: bool = False
    """The deployed graphs in ONNX Runtime's own format."""
    web: WebRuntime | None = None
    """A page with this runtime for browsers."""


def write_artefacts(
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
    """Write a whole bundle into an empty folder; ``progress`` is given each step before it begins.

    The test split, and the tokenizer of a link that takes text, are copied from ``run``.  ``graphs`` holds
    bytes by file, proved and verified; of a link that takes text the whole is among them, and ``samples``
    have the features that it gives.  ``manifest`` is the bundle's, without vectors and files; its
    accuracy is measured if it has none.  ``proof`` is of the transmitter from features on.  VerificationError
    if a graph does not give its own vectors again, in the bundle or converted.
    """
    for name, content in graphs.items():
        (folder / name).write_bytes(content)
    files = [*graphs, EVAL_FILE]
    if manifest.front is None:
        shutil.copyfile(run / EVAL_FILE, folder / EVAL_FILE)
    else:
        _write_split(run / EVAL_FILE, folder / EVAL_FILE, samples.features)
        shutil.copyfile(run / TOKENIZER_FILE, folder / TOKENIZER_FILE)
        files.append(TOKENIZER_FILE)
    progress("choosing conformance vectors")
    conformance = write_vectors(
        folder, graphs, manifest, samples.features, proof, seed, sentences=samples.sentences
    )
    accuracy = manifest.accuracy
    if accuracy is None:
        progress("measuring accuracy")
        accuracy = accuracy_of(folder, graphs, manifest, samples)
    manifest = replace(manifest, conformance=conformance, accuracy=accuracy)
    files += set_files(folder, conformance)
    runners = {entry.graph: OnnxRuntime(graphs[entry.graph]) for entry in conformance.sets}
    problems = replay(lambda graph, names, feed: runners[graph].run(names, feed), folder, manifest)
    if problems:
        raise VerificationError("the conformance vectors", problems)
    _complete(folder, manifest, files, extras, progress)


def add_artefacts(bundle: Path, extras: Extras, progress: Callable[[str], None]) -> None:
    """Make ``extras`` in a finished bundle; the other files stay as they are, to the byte.

    Nothing is proved anew: the hash of each file is checked.  The folder is replaced as a whole once all is
    there, and equals what an export with these extras writes.

    Raises
    ------
    ArtifactError
        If the bundle is incomplete or altered, or holds files that are not listed.
    VerificationError
        If a converted graph does not give its vectors again.
    """
    from twophase.export.artefacts.ort import ORT_FOLDER
    from twophase.export.artefacts.web import WEB_FOLDER

    manifest = load_manifest(bundle, "bundle")
    held = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if not path.is_dir()}
    if unlisted := sorted(held - manifest.files.keys() - {MANIFEST_NAME}):
        raise ArtifactError(f"'{bundle}' holds '{unlisted[0]}', which its manifest does not list")
    made = [part for part, wanted in ((ORT_FOLDER, extras.ort), (WEB_FOLDER, extras.web)) if wanted]
    files = [name for name in manifest.files if name != CARD_FILE and name.partition("/")[0] not in made]
    with atomic_folder(bundle) as folder:
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(read_listed(bundle, name, manifest.files))
        _complete(folder, replace(manifest, files={}), files, extras, progress)


def _complete(
    folder: Path, manifest: Manifest, files: list[str], extras: Extras, progress: Callable[[str], None]
) -> None:
    """Write the extras, the card and the manifest to the ``files`` of a bundle that are there."""
    if extras.ort:
        from twophase.export.artefacts.ort import ORT_FOLDER, ort_runner, write_ort

        progress("converting to ONNX Runtime's format")
        converted = run_by_devices(manifest)
        files += [f"{ORT_FOLDER}/{name}" for name in write_ort(folder, folder / ORT_FOLDER, converted)]
        problems = replay(ort_runner(folder / ORT_FOLDER, converted), folder, manifest)
        if problems:
            raise VerificationError("the converted graphs", problems)
    if extras.web is not None:
        from twophase.export.artefacts.web import write_web

        progress("writing the page")
        files += write_web(folder, extras.web)
    progress("writing the card")
    listed: dict[str, Any] = {
        name: {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size} for name in files
    }
    (folder / CARD_FILE).write_text(link_card(replace(manifest, files=listed)), encoding="utf-8")
    write_manifest(folder, manifest, (*files, CARD_FILE))


def _write_split(source: Path, target: Path, features: NDArray[np.float32]) -> None:
    """Copy an ``eval.npz`` with other features; equal arrays give equal bytes."""
    held: dict[str, Any] = read_arrays(source)
    np.savez(target, **(held | {"input": features}))
