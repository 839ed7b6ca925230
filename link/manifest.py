"""``link.json``: what a run or bundle holds, under which conventions, and the hash of every file.

A run folder's manifest lists the exported programs of the trained model, a bundle's manifest lists the
ONNX graphs.  Both carry the whole definition of the link, so that a reader needs no training code.

A bundle also holds conformance vectors, what a runtime must reproduce to send what was trained: inputs and
outputs of its graphs in ONNX's test layout, ``test_data_set_N/input_M.pb`` and ``output_M.pb``, and one hash
of all symbols that the transmitter's sets send.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np
from numpy.typing import NDArray

from twophase.link.constellation import qam
from twophase.link.errors import ArtifactError, InputError
from twophase.link.fields import (
    check_derived,
    check_graph_file,
    check_record,
    check_shares,
    check_within,
    modes_entry,
)
from twophase.link.files import read_json, reading, sha256, sha256_of, write_json
from twophase.link.grid import Grid, grid_codebook
from twophase.link.header import Header
from twophase.link.input_scale import InputScale
from twophase.link.listing import check_listing, problems_of_files
from twophase.link.modes import LinkConfig, ModeTable
from twophase.link.routing import Routing
from twophase.link.typed import from_json

__all__ = [
    "BACKBONE_PROGRAM",
    "CALIBRATION_FILE",
    "CONVENTIONS",
    "EVAL_FILE",
    "FORMAT",
    "MANIFEST_NAME",
    "TOKENIZER_FILE",
    "VERSION",
    "Accuracy",
    "Conformance",
    "Front",
    "Manifest",
    "Reference",
    "VectorSet",
    "kind_of",
    "load_manifest",
    "newest",
    "program_file",
    "write_manifest",
]

TOKENIZER_FILE = "tokenizer.json"
"""The tokenizer of a text link in the format of the ``tokenizers`` library, in its run and in its bundle."""
BACKBONE_PROGRAM = "programs/backbone.pt2"
"""The program of a run that takes token ids and a mask and gives the features that the head takes."""


@dataclass(frozen=True)
class Front:
    """A tokenizer and a backbone in float32; what they give are the features that the link is trained on."""

    backbone: str
    """What it was made from, a name or a path, for people."""
    max_length: int
    """Tokens of a text, special ones included; the rest is cut."""
    pooling: str = "mean"
    """How the backbone makes one vector of the tokens': their mean over the mask."""

    def __post_init__(self) -> None:
        if not self.backbone:
            raise InputError("backbone", "be a name or a path", self.backbone)
        if self.max_length < 2:
            raise InputError("max_length", "be at least 2 tokens", self.max_length)
        if not self.pooling:
            raise InputError("pooling", "name how tokens are pooled", self.pooling)


@dataclass(frozen=True)
class VectorSet:
    """One set of inputs and outputs."""

    folder: str
    """``test_data_set_N``."""
    graph: str
    """``tx.onnx``, ``tx_head.onnx`` or ``rx.onnx``."""
    description: str
    """What the inputs are, in a few words."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"test_data_set_[0-9]+", self.folder):
            raise InputError("folder", "be 'test_data_set_' and a number", self.folder)
        if self.graph not in ("tx.onnx", "tx_head.onnx", "rx.onnx"):
            raise InputError("graph", "be 'tx.onnx', 'tx_head.onnx' or 'rx.onnx'", self.graph)


@dataclass(frozen=True)
class Conformance:
    """The sets of a bundle, in order, and the hash of the symbols of those of the transmitter's head."""

    sets: tuple[VectorSet, ...]
    symbols_sha256: str
    """``stream_hash`` of the sets of ``tx_head.onnx``, or of ``tx.onnx`` where that is the head."""

    def __post_init__(self) -> None:
        folders = [entry.folder for entry in self.sets]
        if len(set(folders)) != len(folders):
            raise InputError("sets", "each have a folder of its own", folders)
        if not re.fullmatch(r"[0-9a-f]{64}", self.symbols_sha256):
            raise InputError("symbols_sha256", "be a SHA-256 in hexadecimal", self.symbols_sha256)


FORMAT = "twophase-link"
VERSION = 6
_HEAD = {"format", "version", "modes", "digest"}
"""Entries of the file that are no field of a manifest."""
MANIFEST_NAME = "link.json"
EVAL_FILE = "eval.npz"
"""The test split."""
CALIBRATION_FILE = "calibration.npz"
"""Training samples of a run, by which an exporter chooses ranges."""

_MOST_TRIALS, _MOST_POINTS = 100, 32
"""Of the accuracy of a bundle, which whoever verifies it measures again."""
_MOST_CLASSES = 10_000

CONVENTIONS = {
    "snr": "Es/N0 in dB; streams have unit average energy, charged from the transmitted symbols",
    "noise_var": "N0 = E|n|^2, total complex variance, N0/2 per real dimension",
    "bits": "MSB first; 'symbols' are constellation point numbers whose binary digits are the bits",
    "qam": "3GPP TS 38.211 clause 5.1, unit average energy",
    "llr": "log P(b=1|y) - log P(b=0|y), clipped",
    "mode": "number in the product codebooks x constellations, codebook-major; 'routing' says who chooses it",
    "header": "QPSK symbols of a block code before the payload that spell the mode number, MSB first; "
    "sent if 'routing.header' names codes, each from its Es/N0 on",
}


@dataclass(frozen=True)
class Reference:
    """A soft system that the deployed one is compared with: its transmitter and its own receiver."""

    name: str
    """``aligned`` or ``learning``."""
    description: str
    soft: str
    """File of the soft transmitter (symbols as I/Q, no decision taken)."""
    rx: str
    """File of the receiver that belongs to it."""
    temperature: float
    """Softmax temperature of the codebook assignment."""

    def __post_init__(self) -> None:
        check_graph_file("soft", self.soft)
        check_graph_file("rx", self.rx)
        check_within("temperature", (self.temperature,), 1e-6, 1e6)


@dataclass(frozen=True)
class Accuracy:
    """How often the deployed link decided right over AWGN, its mode chosen by the SNR that both ends know."""

    seed: int
    trials: int
    """How often each sample of the test split was sent at each SNR."""
    samples: int
    esn0_db: tuple[float, ...]
    correct: tuple[int, ...]
    """Right decisions at each SNR, of ``samples * trials``."""
    symbols: tuple[float, ...]
    """Channel uses per sample at each SNR, headers included."""

    def __post_init__(self) -> None:
        for name, most in (("trials", _MOST_TRIALS), ("samples", 1 << 31), ("seed", 1 << 63)):
            check_within(name, (getattr(self, name),), int(name != "seed"), most)
        if not 1 <= len(self.esn0_db) <= _MOST_POINTS:
            raise InputError("esn0_db", f"name 1 to {_MOST_POINTS} SNRs", len(self.esn0_db))
        check_within("esn0_db", self.esn0_db, -100, 100)
        for name in ("correct", "symbols"):
            _check_count(name, getattr(self, name), len(self.esn0_db), "SNR")
        check_within("correct", self.correct, 0, self.samples * self.trials)


@dataclass(frozen=True)
class Manifest:
    """The content of ``link.json``."""

    kind: Literal["run", "bundle"]
    task: str
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    """Shape of one sample's features, without the batch axis; one size where a ``front`` gives them."""
    input: InputScale
    """Units of the features, and what the transmitter does to them first."""
    link: LinkConfig
    routing: Routing
    """Who chooses the mode of a sample, and how the receiver learns of it."""
    codebooks: tuple[tuple[tuple[float, ...], ...], ...]
    """Codewords: (codebook, K, C)."""
    labels: tuple[tuple[int, ...], ...]
    """Bit label of each codeword as a number, MSB first: (codebook, K); a permutation of 0..K-1."""
    usage: tuple[tuple[float, ...], ...]
    """How often each codeword is used on training data: (codebook, K), sums to 1; the receiver's prior."""
    symbol_energy: tuple[float, ...]
    """Mean energy of the points that each mode sends on training data, (modes,); 1 where all points are used
    equally often.  A payload is divided by its root."""
    class_frequency: tuple[float, ...]
    """How often each class is met in training, (classes,), sums to 1: what a posterior is made of."""
    llr_clip: float
    references: tuple[Reference, ...]
    training: dict[str, Any]
    """Method, surrogate, seed, epochs, temperatures, SNR range, validation figures."""
    provenance: dict[str, Any]
    """Versions and command."""
    grid: Grid | None = None
    """Where the transmitter computes on an integer grid: its units.  None: the search is one of float32."""
    precision: Literal["float32", "int8"] = "float32"
    """What the weights of the deployed graphs are stored and multiplied in; those of a ``front`` are stored
    so too, and multiplied in float32."""
    front: Front | None = None
    """What makes features of text, ahead of the head.  None: the transmitter takes features."""
    conformance: Conformance | None = None
    """Vectors that a runtime must reproduce; a bundle has them."""
    accuracy: Accuracy | None = None
    """What the exporter measured of the deployed graphs; a bundle has it."""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """File name -> ``{"sha256": ..., "bytes": ...}``; the manifest itself is not in it."""
    conventions: dict[str, str] = field(default_factory=lambda: dict(CONVENTIONS))

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= _MOST_CLASSES:
            raise InputError("classes", f"name 1 to {_MOST_CLASSES:,} classes", len(self.classes))
        check_listing(self.files)
        check_derived("conventions", self.conventions, CONVENTIONS)
        for name in ("training", "provenance"):
            check_record(name, getattr(self, name), self.__dataclass_fields__)
        if min(self.input_shape, default=1) < 1:
            raise InputError("input_shape", "hold sizes of at least 1", self.input_shape)
        if self.front is not None and len(self.input_shape) != 1:
            raise InputError("input_shape", "be one size where a front gives the features", self.input_shape)
        self.input.check(math.prod(self.input_shape))
        if not 0.0 < self.llr_clip < float("inf"):
            raise InputError("llr_clip", "be above 0 and finite", self.llr_clip)
        _check_count("class_frequency", self.class_frequency, len(self.classes), "class")
        if min(self.class_frequency) <= 0 or abs(math.fsum(self.class_frequency) - 1) > 1e-9:
            raise InputError("class_frequency", "be above 0 and sum to 1", self.class_frequency)
        self._check_codebooks()
        self.routing.check(self.modes)
        _check_count("symbol_energy", self.symbol_energy, len(self.modes), "mode")
        for mode, energy in zip(self.modes, self.symbol_energy, strict=True):
            possible = np.abs(qam(mode.order).points) ** 2
            low, high = float(possible.min()) * (1 - 1e-4), float(possible.max()) * (1 + 1e-4)
            if not low <= energy <= high:
                rule = f"lie in {low:.4g}..{high:.4g}, as the points of {mode.name} do"
                raise InputError("symbol_energy", rule, energy)

    def _check_codebooks(self) -> None:
        sizes, width = self.link.codebook_sizes, self.link.embedding_dim
        for name in ("codebooks", "labels", "usage"):
            _check_count(name, getattr(self, name), len(sizes), "codebook")
        for index, (size, labels) in enumerate(zip(sizes, self.labels, strict=True)):
            if sorted(labels) != list(range(size)):
                raise InputError(f"labels[{index}]", f"be a permutation of 0..{size - 1}", labels)
            if len(self.usage[index]) != size:
                raise InputError(f"usage[{index}]", f"have shape {(size,)}", "another")
            check_shares(f"usage[{index}]", self.usage[index])
            if [len(codeword) for codeword in self.codebooks[index]] != [width] * size:
                raise InputError(f"codebooks[{index}]", f"have shape {(size, width)}", "another")
        if self.grid is not None:
            _check_count("grid", self.grid.exponents, len(sizes), "codebook", "exponents")
            for index in range(len(sizes)):
                self.grid_codebook(index)

    @property
    def amplitudes(self) -> NDArray[np.float64]:
        """Root of each mode's symbol energy, shape (modes,)."""
        return np.asarray(np.sqrt(self.symbol_energy), dtype=np.float64)

    @property
    def modes(self) -> ModeTable:
        """All modes of the link."""
        return self.link.modes

    @property
    def header(self) -> Header:
        """The headers that tell the mode; of no symbols where none is sent."""
        return self.routing.header_of(len(self.modes))

    @property
    def head_file(self) -> str:
        """The transmitter's graph from features on: ``tx.onnx`` itself where there is no front."""
        return "tx.onnx" if self.front is None else "tx_head.onnx"

    @property
    def graph_files(self) -> tuple[str, ...]:
        """The graphs of its bundle but for the front: the head, ``rx.onnx``, those of the soft references."""
        named = (name for reference in self.references for name in (reference.soft, reference.rx))
        return tuple(dict.fromkeys((self.head_file, "rx.onnx", *named)))

    @property
    def whole_files(self) -> tuple[str, ...]:
        """What its bundle holds beside these for text: the graph from token ids on, and the tokenizer."""
        return () if self.front is None else ("tx.onnx", TOKENIZER_FILE)

    def codebook(self, index: int) -> NDArray[np.float64]:
        """Codewords of one codebook, shape (K, C)."""
        return np.asarray(self.codebooks[index], dtype=np.float64)

    def grid_codebook(self, index: int) -> NDArray[np.int64]:
        """Codewords of one codebook in units of the grid, shape (K, C).

        Raises
        ------
        InputError
            If the link has no grid, or the codewords do not lie on it.
        """
        if self.grid is None:
            raise InputError("grid", "be there", None)
        return grid_codebook(self.codebook(index), self.grid.exponents[index])

    def label_array(self, index: int) -> NDArray[np.int64]:
        """Labels of one codebook, shape (K,)."""
        return np.asarray(self.labels[index], dtype=np.int64)


def _check_count(name: str, values: Sequence[object], count: int, of: str, what: str = "entries") -> None:
    if len(values) != count:
        raise InputError(name, f"hold {count} {what}, one per {of}", len(values))


def program_file(graph_file: str) -> str:
    """The program of a run that becomes a graph of a bundle: ``tx.onnx`` comes from ``programs/tx.pt2``."""
    return f"programs/{graph_file.removesuffix('.onnx')}.pt2"


def write_manifest(folder: Path, manifest: Manifest, files: tuple[str, ...]) -> None:
    """Hash ``files`` of ``folder``, then write ``link.json``, atomically; it ends with a digest of itself."""
    hashes = {
        name: {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size}
        for name in sorted(files)
    }
    body = asdict(manifest) | {"files": hashes}
    head = {
        "format": FORMAT,
        "version": VERSION,
        "modes": modes_entry(manifest.modes),
    }
    content = head | body
    write_json(folder / MANIFEST_NAME, content | {"digest": _digest(content)})


def newest(runs: Path, kind: Literal["run", "bundle"]) -> Path:
    """The run under ``runs``, or the bundle in one of them, that was finished last.

    Folders with a leading dot do not count: training sets the run before aside as ``.NAME.previous``.  A
    bundle is the one that the exporter writes by default; those under other names are taken by name only.

    Raises
    ------
    ArtifactError
        If there is none, or a folder cannot be read.
    """
    pattern = f"*/{MANIFEST_NAME}" if kind == "run" else f"*/bundle/{MANIFEST_NAME}"
    with reading(runs):
        found = [path for path in runs.glob(pattern) if not path.relative_to(runs).parts[0].startswith(".")]
        finished = [path for path in found if kind_of(path) == kind]
        if finished:
            return max(finished, key=lambda path: (path.stat().st_mtime_ns, path)).parent
    remedy = "train one with tp-train" if kind == "run" else "tp-train, then tp-export, make one"
    raise ArtifactError(f"no finished {kind} is under '{runs}': {remedy}, or name its folder")


def kind_of(path: Path) -> object:
    """What a manifest says that it describes; None if it is no manifest."""
    try:
        value = read_json(path) if path.is_file() else None
    except ArtifactError:
        return None
    return value.get("kind") if isinstance(value, dict) and value.get("format") == FORMAT else None


Chosen = Collection[str] | Callable[[Manifest], Collection[str]]
"""Names of files, or what gives them once the manifest is known."""


def load_manifest(folder: Path, kind: Literal["run", "bundle"], only: Chosen | None = None) -> Manifest:
    """Read ``link.json`` of ``folder`` and check every file that it lists against its hash.

    It must list the test split and every graph of a bundle, or every program of a run; those of a link with a
    front its tokenizer too.

    Parameters
    ----------
    folder, kind
        The run or bundle, and which of the two it must be.
    only
        Files to check, for a device that has no others, or what names them when it is given the manifest; all
        if not given.

    Raises
    ------
    ArtifactError
        If the folder is no finished run or bundle, is of another version, or a file is missing,
        unreadable, truncated or altered.
    """
    with reading(folder):
        path = folder / MANIFEST_NAME
        if not folder.is_dir():
            raise ArtifactError(f"'{folder}' is not a folder: no {kind} is there")
        if not path.exists():
            raise ArtifactError(f"'{folder}' is no finished {kind}: '{MANIFEST_NAME}' is missing")
        value = read_json(path, folder)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ArtifactError(f"'{path}' is not a {FORMAT} manifest")
        if (version := value.get("version")) != VERSION:
            raise ArtifactError(f"'{path}' must be of version {VERSION}, not {version!r}: make it again")
        if value.get("kind") != kind:
            found = f"'{path}' must describe a {kind}, not a {value.get('kind')!r}"
            raise ArtifactError(found + _elsewhere(folder, kind))
        manifest = _manifest_from(value, path)
        _check_files(folder, manifest, only(manifest) if callable(only) else only)
        if value.get("digest") != _digest(value):
            raise ArtifactError(f"'{path}' is altered: its digest is not that of its content")
        return manifest


def _digest(content: dict[str, Any]) -> str:
    """SHA-256 of all entries but the digest itself."""
    rest = {name: entry for name, entry in content.items() if name != "digest"}
    return sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _manifest_from(value: dict[str, Any], path: Path) -> Manifest:
    hints = get_type_hints(Manifest)
    if missing := sorted(hints.keys() - value.keys()):
        raise ArtifactError(f"'{path}' lacks {', '.join(missing)}: truncated or altered")
    if strange := sorted(value.keys() - hints.keys() - _HEAD):
        raise ArtifactError(f"'{path}' is altered: it holds '{strange[0]}', which no manifest has")
    try:
        manifest = Manifest(**{name: from_json(kind, value[name], name) for name, kind in hints.items()})
        check_derived("modes", value.get("modes"), modes_entry(manifest.modes))
    except ValueError as error:
        raise ArtifactError(f"'{path}' is altered: {error}") from error
    return manifest


def _check_files(folder: Path, manifest: Manifest, only: Collection[str] | None) -> None:
    needed = (EVAL_FILE, *manifest.graph_files, *manifest.whole_files)
    if manifest.kind == "run":
        front = () if manifest.front is None else (BACKBONE_PROGRAM, TOKENIZER_FILE)
        needed = (EVAL_FILE, *map(program_file, manifest.graph_files), *front)
    listing = folder / MANIFEST_NAME
    if missing := [name for name in needed if name not in manifest.files]:
        raise ArtifactError(f"'{listing}' must list {', '.join(needed)}; it lacks {', '.join(missing)}")
    for problem in problems_of_files(folder, manifest.files, only):
        raise ArtifactError(problem)


def _elsewhere(folder: Path, kind: str) -> str:
    """Where the other one of run and bundle lies, if it does."""
    place = folder.absolute().parent if kind == "run" else folder / "bundle"
    if kind_of(place / MANIFEST_NAME) == kind:
        return f": the {kind} is '{place}'"
    return ": tp-export makes its bundle" if kind == "bundle" else ""
