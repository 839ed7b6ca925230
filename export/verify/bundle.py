"""A bundle under verification: its manifest, its graphs and what was proved of them, each read once.

Nothing here trusts the bundle.  What cannot be read becomes a ``CheckError`` in every check that needs it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any, get_type_hints

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto
from onnx.shape_inference import infer_shapes

from twophase.export.graphs.signature import WHOLE_FILE, all_graphs
from twophase.export.graphs.view import GraphError, GraphView
from twophase.export.proof.hard import prove_cut
from twophase.export.proof.mode import ModeProof, prove_mode
from twophase.export.proof.nearest_codeword import ModeSearch
from twophase.export.proof.search import prove_search
from twophase.link.errors import ArtifactError, LinkError, first_line
from twophase.link.files import read_json, read_plain
from twophase.link.listing import problems_of_files
from twophase.link.manifest import EVAL_FILE, MANIFEST_NAME, Manifest, load_manifest
from twophase.link.samples import Samples, load_split
from twophase.link.sentences import Sentences
from twophase.link.sizes import problem_of_sizes
from twophase.link.typed import from_json
from twophase.link.wire import problem_of_graph

__all__ = ["Bundle", "CheckError", "Finding"]


class CheckError(Exception):
    """Why a check cannot be made, which fails it."""


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    problems: list[str]
    """One sentence each; none if it passes."""
    detail: str
    """What was compared, in a few words."""
    note: bool = False
    """Whether it only states something, and neither passes nor fails."""


class Bundle:
    """A bundle.

    Raises
    ------
    ArtifactError
        If it is no bundle of this version at all.  Damage is listed by ``manifest_problems``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest_problems: list[str] = []
        try:
            self.manifest = load_manifest(folder, "bundle")
        except ArtifactError as error:
            self.manifest = _unchecked_manifest(folder, error)
            others = problems_of_files(folder, self.manifest.files)
            self.manifest_problems = [str(error), *(problem for problem in others if problem != str(error))]
        # a bundle is read by several checks; the methods are functions of it alone
        self.model = cache(self._model)
        self.view = cache(self._view)

    def content(self, file: str) -> bytes:
        """The bytes of a listed file, altered or not, but no larger; else a ``CheckError``."""
        if file not in self.manifest.files:
            raise CheckError(f"'{file}' is not listed in the manifest")
        try:
            return read_plain(self.folder / file, self.folder, limit=self.manifest.files[file]["bytes"])
        except LinkError as error:
            raise CheckError(str(error)) from error

    def graph_bytes(self, file: str) -> bytes:
        """The bytes of a graph that asks for no more than a link needs; else a ``CheckError``."""
        content = self.content(file)
        if (problem := problem_of_graph(content)) is not None:
            raise CheckError(f"'{file}' {problem}")
        return content

    def unlisted_files(self) -> list[str]:
        """Files in the folder that the manifest does not list, itself left out; relative, in order."""
        names = (
            path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if not path.is_dir()
        )
        return sorted(set(names) - {MANIFEST_NAME, *self.manifest.files})

    def _model(self, file: str) -> ModelProto:
        try:
            model = onnx.load_model_from_string(self.graph_bytes(file))
        except DecodeError as error:
            raise CheckError(f"'{file}' is no ONNX graph: {first_line(error)}") from error
        # The backbone of a text link makes sizes of lengths in ways that onnx does not follow.
        is_whole = file == WHOLE_FILE != self.manifest.head_file
        if (
            problem := problem_of_sizes(model, self.manifest, infer_shapes, may_be_unknown=is_whole)
        ) is not None:
            raise CheckError(f"'{file}' {problem}")
        return model

    def _view(self, file: str) -> GraphView:
        try:
            return GraphView(self.model(file))
        except GraphError as error:
            raise CheckError(f"'{file}' does not type-check: {first_line(error)}") from error

    @property
    def graphs(self) -> tuple[str, ...]:
        """Every graph that the bundle must hold."""
        return all_graphs(self.manifest)

    @property
    def tx(self) -> GraphView:
        """The transmitter from features on, type-checked, with all its outputs."""
        file = self.manifest.head_file
        view = self.view(file)
        missing = {"mode", "indices", "bits", "symbols", "bit_count", "symbol_count"} - view.outputs
        if missing:
            raise CheckError(f"'{file}' lacks the output '{min(missing)}'")
        return view

    @cached_property
    def mode_proof(self) -> tuple[ModeProof | None, list[str]]:
        """How the transmitter chooses the mode, or the problems found."""
        return prove_mode(self.tx, self.manifest)

    @cached_property
    def search_proof(self) -> tuple[tuple[ModeSearch, ...], list[str]]:
        """The codebook search of each mode, or the problems found."""
        return prove_search(self.tx, self.manifest)

    @property
    def searches(self) -> tuple[ModeSearch, ...]:
        """The codebook search of each mode; a ``CheckError`` if the proof of the search fails."""
        searches, problems = self.search_proof
        if problems:
            raise CheckError("the codebook search is not proved, see above")
        return searches

    @property
    def cut(self) -> GraphView:
        """The transmitter, once it is proved that what is sent can be cut off; else a ``CheckError``."""
        if prove_cut(self.tx):
            raise CheckError("what is sent cannot be cut off after 'indices', see above")
        return self.tx

    @cached_property
    def samples(self) -> Samples:
        """The test split."""
        return load_split(self.folder / EVAL_FILE, self.manifest)

    @property
    def sentences(self) -> Sentences:
        """The test split as text and as token ids, of a link that takes text."""
        if self.samples.sentences is None:
            raise CheckError(f"'{EVAL_FILE}' holds no sentences, and the link takes text")
        return self.samples.sentences


def _unchecked_manifest(folder: Path, cause: ArtifactError) -> Manifest:
    """The manifest of a bundle whose files or digest are not what it says; ``cause`` if there is none."""
    if not (folder / MANIFEST_NAME).is_file():
        raise cause
    value = read_json(folder / MANIFEST_NAME, folder)
    hints = get_type_hints(Manifest)
    names = [item.name for item in fields(Manifest)]
    try:
        if value["kind"] != "bundle" or value["format"] != "twophase-link":
            raise cause
        known: dict[str, Any] = {name: from_json(hints[name], value[name], name) for name in names}
        return Manifest(**known)
    except (ValueError, KeyError, TypeError) as error:
        raise cause from error
