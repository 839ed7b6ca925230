"""One ONNX graph in ONNX Runtime, held to the names and shapes that the manifest gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike, NDArray

from twophase.link.bits import as_array, whole_numbers
from twophase.link.errors import ArtifactError, InputError, first_line
from twophase.link.listing import read_listed
from twophase.link.manifest import Manifest
from twophase.link.modes import ModeTable
from twophase.link.noise import esn0_float32
from twophase.link.wire import problem_of_graph, problem_of_ort

__all__ = [
    "CHUNK",
    "MODE_REQUEST",
    "ByPath",
    "FeatureGraph",
    "Graph",
    "GraphFormat",
    "GraphOptions",
    "Shapes",
    "TokenGraph",
    "graph_content",
    "graph_file",
    "modes_of",
    "per_sample",
]

GraphFormat = Literal["onnx", "ort"]
"""``onnx``, or ONNX Runtime's own format, which builds without the ONNX parser load."""

Number = TypeVar("Number", bound=np.generic)

MODE_REQUEST = "mode_request"
"""Optional input of the transmitters of a link with several modes: int64, one number or one per sample; -1,
its default, leaves the mode to the router."""

Shapes = dict[str, tuple[int, ...]]
"""Outputs that are needed, by name, with their shape after the batch axis."""


@dataclass(frozen=True)
class GraphOptions:
    """How ONNX Runtime holds and runs a graph.  What a transmitter on a grid sends does not depend on it."""

    optimise: bool = True
    """Whether ONNX Runtime may fuse and fold nodes when it loads an ``onnx`` graph.  False runs the nodes as
    they stand in the file, to compare; an ``ort`` graph was optimised when it was made."""
    arena: bool = True
    """Whether memory of a call is kept for the next one.  False gives it back: for devices that now and then
    process a large batch.  At batch 1 it saves nothing."""
    format: GraphFormat = "onnx"
    """Which file of the bundle to load: ``tx.onnx``, or ``ort/tx.ort`` if it was exported with that."""

    def __post_init__(self) -> None:
        if self.format not in get_args(GraphFormat):
            raise InputError("format", f"be one of {', '.join(get_args(GraphFormat))}", self.format)


CHUNK = 16_384
"""Samples that go through a graph, or a demapper, at once: some 200 MB."""


class Graph:
    """One ONNX Runtime session on the CPU, with the names and shapes that its graph must have.

    Several threads may run it at once.

    Parameters
    ----------
    folder, file, manifest
        The bundle, its graph as the manifest names it, and the manifest; the file's hash is checked, and the
        bytes that were hashed are loaded.
    threads
        Threads that share the work of one call.  Callers in several threads do not need more: each call runs
        on its caller's.
    inputs
        Names of the inputs that it must take.
    outputs
        Outputs that it must give; others are not computed.
    optional
        Inputs that have a default ("overridable initializers" of ONNX).

    Raises
    ------
    InputError
        If ``threads`` is below 1.
    ArtifactError
        If the file is altered, cannot be loaded, asks for more than a link needs
        (:mod:`twophase.link.wire`), or has other inputs or outputs.
    """

    def __init__(
        self,
        folder: Path,
        file: str,
        manifest: Manifest,
        threads: int,
        inputs: tuple[str, ...],
        outputs: Shapes,
        optional: tuple[str, ...] = (),
        options: GraphOptions | None = None,
    ) -> None:
        if threads < 1:
            raise InputError("threads", "be at least 1", threads)
        path = folder / graph_file(file, options)
        content = graph_content(folder, file, manifest, options)
        try:
            self._session = onnxruntime.InferenceSession(
                content,
                _session_options(threads, options or GraphOptions()),
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:
            raise ArtifactError(
                f"'{path}' is no graph that ONNX Runtime can load: {first_line(error)}"
            ) from error
        self._path, self._outputs = path, outputs
        taken = [entry.name for entry in self._session.get_inputs()]
        given = [entry.name for entry in self._session.get_outputs()]
        if sorted(taken) != sorted(inputs):
            raise ArtifactError(
                f"'{path}' must take {', '.join(inputs)}, not {', '.join(taken) or 'nothing'}"
            )
        may_take = [entry.name for entry in self._session.get_overridable_initializers()]
        if sorted(may_take) != sorted(optional):
            wanted = f"the optional input {', '.join(optional)}" if optional else "no optional input"
            raise ArtifactError(f"'{path}' must take {wanted}, not {', '.join(may_take) or 'none'}")
        if not set(outputs) <= set(given):
            raise ArtifactError(f"'{path}' must give {', '.join(outputs)}, not {', '.join(given)}")

    def run(self, inputs: dict[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
        """The needed outputs, in their order; the first of ``inputs`` has the batch axis first.

        Raises
        ------
        ArtifactError
            If the graph fails or gives arrays of other shapes.
        """
        batch = len(next(iter(inputs.values())))
        parts = [
            self._run({name: value[start : start + CHUNK] for name, value in inputs.items()})
            for start in range(0, batch, CHUNK)
        ]
        return (
            parts[0] if len(parts) == 1 else [np.concatenate(column) for column in zip(*parts, strict=True)]
        )

    def _run(self, inputs: dict[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
        try:
            result: list[NDArray[np.generic]] = self._session.run(list(self._outputs), inputs)
        except Exception as error:
            raise ArtifactError(
                f"'{self._path}' fails on inputs as the manifest has them: {first_line(error)}"
            ) from error
        batch = len(next(iter(inputs.values())))
        for (name, shape), array in zip(self._outputs.items(), result, strict=True):
            if np.shape(array) != (batch, *shape):
                raise ArtifactError(
                    f"'{self._path}' must give '{name}' the shape {(batch, *shape)}, not {np.shape(array)}"
                )
        return result


class _RoutedGraph(Graph):
    """A graph that takes ``snr_db`` last, and a request for a mode if there are several."""

    samples: ClassVar[tuple[str, ...]]
    """Names of what it takes ahead of that."""

    def __init__(
        self,
        folder: Path,
        file: str,
        manifest: Manifest,
        threads: int,
        outputs: Shapes,
        options: GraphOptions | None,
    ) -> None:
        self._shape, self._input = manifest.input_shape, manifest.input
        self._modes = manifest.modes
        optional = (MODE_REQUEST,) if len(self._modes) > 1 else ()
        inputs = (*self.samples, "snr_db")
        super().__init__(folder, file, manifest, threads, inputs, outputs, optional, options)
        self._optional = optional

    def _routed(
        self, batch: int, snr_db: ArrayLike, mode: ArrayLike | None
    ) -> dict[str, NDArray[np.generic]]:
        """Checked inputs after the samples."""
        snr = esn0_float32(snr_db)
        inputs: dict[str, NDArray[np.generic]] = {"snr_db": per_sample("snr_db", snr, batch)}
        if mode is not None:
            request = modes_of(mode, batch, self._modes)
            inputs |= {name: request for name in self._optional}
        return inputs


class FeatureGraph(_RoutedGraph):
    """A graph that takes ``input`` and ``snr_db``, and a request for a mode if there are several."""

    samples = ("input",)

    def inputs(
        self, features: ArrayLike, snr_db: ArrayLike, mode: ArrayLike | None
    ) -> dict[str, NDArray[np.generic]]:
        """Checked inputs for :meth:`run`; one sample becomes a batch of one.

        Raises
        ------
        InputError
            If a shape is wrong, a value is not finite, is none of the link's units
            (:meth:`~twophase.link.input_scale.InputScale.taken`) or a mode does not exist.
        """
        batch = self._input.taken("features", features)
        if batch.shape == self._shape:
            batch = batch[np.newaxis]
        if batch.shape[1:] != self._shape:
            raise InputError(
                "features", f"have shape {self._shape} or {_batch_of(self._shape)}", np.shape(features)
            )
        if not len(batch):
            raise InputError("features", "hold at least one sample", batch.shape)
        return {"input": batch} | self._routed(batch.shape[0], snr_db, mode)


class TokenGraph(_RoutedGraph):
    """A graph that takes ``input_ids``, ``attention_mask``, then what a :class:`FeatureGraph` takes."""

    samples = ("input_ids", "attention_mask")

    def inputs(
        self,
        texts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
        snr_db: ArrayLike,
        mode: ArrayLike | None,
    ) -> list[dict[str, NDArray[np.generic]]]:
        """Checked inputs for :meth:`run`, one of each text: ids and mask, both (1, length), are not padded.

        Raises
        ------
        InputError
            If the SNR or mode is not one number or one per text, is not finite, or does not exist.
        """
        routed = self._routed(len(texts), snr_db, mode)
        return [
            {"input_ids": ids, "attention_mask": mask}
            | {name: values[number : number + 1] for name, values in routed.items()}
            for number, (ids, mask) in enumerate(texts)
        ]


class ByPath:
    """One end of a bundle, which is pickled by its path: unpickling opens the bundle there and checks hashes.

    Of an end that holds estimates the copy begins anew.  ArtifactError if the bundle is another one by then.
    """

    manifest: Manifest
    _opened: tuple[Path, dict[str, Any]]
    """Absolute path of the folder, and the other arguments."""

    def __reduce__(self) -> tuple[object, ...]:
        return _reopened, (type(self), *self._opened, self.manifest)


def _reopened(
    kind: Callable[..., ByPath], folder: Path, arguments: dict[str, Any], manifest: Manifest
) -> ByPath:
    end = kind(folder, **arguments)
    if end.manifest != manifest:
        raise ArtifactError(f"'{folder}' is another bundle than the one that was pickled")
    return end


def graph_file(file: str, options: GraphOptions | None) -> str:
    """Name of a graph's file in the format that is asked for."""
    if options is None or options.format == "onnx":
        return file
    return f"ort/{file.removesuffix('.onnx')}.ort"


def graph_content(folder: Path, file: str, manifest: Manifest, options: GraphOptions | None = None) -> bytes:
    """The bytes of a graph in that format, whose hash and operators are checked.

    Raises
    ------
    ArtifactError
        If it is not listed, altered, or asks for more than a link needs (:mod:`twophase.link.wire`).
    """
    name = graph_file(file, options)
    if name != file and name not in manifest.files:
        raise ArtifactError(f"'{folder}' has no '{name}': export it with --ort")
    content = read_listed(folder, name, manifest.files)
    problem = problem_of_graph(content) if name == file else problem_of_ort(content)
    if problem is not None:
        raise ArtifactError(f"'{folder / name}' {problem}")
    return content


def modes_of(mode: ArrayLike, batch: int, modes: ModeTable) -> NDArray[np.int64]:
    """Mode numbers, shape (batch,), of one name or number, or one per sample.

    :class:`InputError` if one does not exist.
    """
    given = as_array("mode", mode)
    if given.dtype.kind == "U":
        found = [modes.find(str(name)) for name in given.ravel()]
        given = np.array(found, dtype=np.int64).reshape(given.shape)
    return per_sample("mode", whole_numbers("mode", given, len(modes)), batch)


def _batch_of(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, ('batch', *shape)))})"


def per_sample(name: str, values: NDArray[Number], batch: int) -> NDArray[Number]:
    """One value for all samples, or one for each, as shape (batch,); :class:`InputError` for other shapes."""
    if values.ndim == 0:
        return np.full(batch, values)
    if values.shape != (batch,):
        raise InputError(name, f"be one number or {batch} numbers, one per sample", values.shape)
    return values


def _session_options(threads: int, options: GraphOptions) -> onnxruntime.SessionOptions:
    level = onnxruntime.GraphOptimizationLevel
    session = onnxruntime.SessionOptions()
    session.intra_op_num_threads = threads
    session.inter_op_num_threads = 1
    session.log_severity_level = 3
    session.enable_cpu_mem_arena = options.arena
    session.graph_optimization_level = level.ORT_ENABLE_ALL if options.optimise else level.ORT_DISABLE_ALL
    return session
