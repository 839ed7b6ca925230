"""Running a graph: one ``Runner`` for ONNX Runtime and the reference implementation of ONNX.

The programs of torch are run in the same way by ``torch_program.TorchProgram``, which stands apart so that
``tp-verify`` never imports torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from twophase.export.graphs.signature import Signature
from twophase.export.graphs.view import serialize
from twophase.link.errors import first_line

__all__ = ["GraphRunError", "OnnxReference", "OnnxRuntime", "Runner", "Values", "joined", "rows_of"]


Values = dict[str, NDArray[Any]]
"""Arrays by name."""


class GraphRunError(RuntimeError):
    """A runtime refuses to load or to run a graph."""


class Runner(ABC):
    """What makes tensors, by name, from the inputs of a graph or of a program.

    ``signature`` has names, types and shapes of the inputs and outputs, for ``outputs``.
    """

    called = "the graph"
    """What errors call it."""

    def __init__(self, signature: Signature | None = None) -> None:
        self._signature = signature

    @abstractmethod
    def run(self, names: Sequence[str], feed: Values) -> list[NDArray[Any]]:
        """Values of tensors, by name.

        Raises
        ------
        GraphRunError
            If the graph cannot be loaded, or fails on these inputs.
        """

    def read(self, names: Sequence[str], feed: Values) -> Values:
        """The same by name; inputs may be named too, and are what was fed."""
        made = [name for name in names if name not in feed]
        values = dict(zip(made, self.run(made, feed) if made else (), strict=True))
        return {name: values[name] if name in values else feed[name] for name in names}

    def outputs(self, feed: Values) -> Values:
        """Every output of the signature by name, checked.

        Raises
        ------
        GraphRunError
            As ``run``, or if an output is not finite or of another type or shape than the signature says.
        """
        assert self._signature is not None
        values = self.read(self._signature.output_names, feed)
        batch = len(feed[self._signature.inputs[0].name])
        for port in self._signature.outputs:
            value, shape = values[port.name], (batch, *port.shape)
            if value.dtype != port.dtype or value.shape != shape:
                raise GraphRunError(
                    f"{self.called} gives '{port.name}' as {value.dtype} of shape {value.shape}, "
                    f"not {port.dtype} of shape {shape}"
                )
            if not np.isfinite(value).all():
                raise GraphRunError(f"{self.called} gives NaN or infinity in '{port.name}'")
        return values


class OnnxRuntime(Runner):
    """A graph in ONNX Runtime on the CPU, quietly.

    Outputs come from the graph that is given, to the byte; what is asked for together with an inner tensor
    comes from a copy that has those tensors as outputs too.

    ``graph`` is a model, or the bytes of a file, also of one in ONNX Runtime's own format; ``inner`` names
    the inner tensors to read.  Only where it is ``optimised`` ONNX Runtime may rewrite the graph.
    """

    def __init__(
        self,
        graph: ModelProto | bytes,
        signature: Signature | None = None,
        *,
        inner: Collection[str] = (),
        optimised: bool = True,
        threads: int = 1,
    ) -> None:
        super().__init__(signature)
        self._graph, self._inner = graph, frozenset(inner)
        self._optimised, self._threads = optimised, threads

    def run(self, names: Sequence[str], feed: Values) -> list[NDArray[Any]]:
        """As for ``Runner``."""
        session = self._exposing if self._inner.intersection(names) else self._session
        try:
            values: list[NDArray[Any]] = session.run(names, feed)
        except Exception as error:
            raise GraphRunError(first_line(error)) from error
        return values

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        return self._load(self._graph if isinstance(self._graph, bytes) else serialize(self._graph))

    @cached_property
    def _exposing(self) -> onnxruntime.InferenceSession:
        model = ModelProto()
        if isinstance(self._graph, bytes):
            model.ParseFromString(self._graph)
        else:
            model.CopyFrom(self._graph)
        known = {value.name for value in (*model.graph.output, *model.graph.input)}
        model.graph.output.extend(
            helper.make_empty_tensor_value_info(name) for name in sorted(self._inner - known)
        )
        return self._load(serialize(model))

    def _load(self, content: bytes) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        level = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if self._optimised else level.ORT_DISABLE_ALL
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # errors come as exceptions, and its warnings are about nodes that it optimises away
        options.log_severity_level = 4
        try:
            return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise GraphRunError(first_line(error)) from error


class GatherElements(OpRun):
    """The operator of that name; the reference's own fails over more than 64 entries (onnx 1.23)."""

    op_domain = ""

    def _run(self, data: NDArray[Any], indices: NDArray[Any], axis: int = 0) -> tuple[NDArray[Any]]:
        size = data.shape[axis]
        return (np.take_along_axis(data, np.where(indices < 0, indices + size, indices), axis),)


class OnnxReference(Runner):
    """A graph in the reference implementation of the ONNX standard, which is NumPy alone."""

    def __init__(self, graph: ModelProto | bytes, signature: Signature | None = None) -> None:
        super().__init__(signature)
        self._graph = graph

    def run(self, names: Sequence[str], feed: Values) -> list[NDArray[Any]]:
        """As for ``Runner``."""
        try:
            # extreme inputs overflow on their way to a Clip, as the standard has it
            with np.errstate(all="ignore"):
                values = self._evaluator.run(list(names), feed)
        except Exception as error:
            raise GraphRunError(first_line(error)) from error
        return [np.asarray(value) for value in values]

    @cached_property
    def _evaluator(self) -> ReferenceEvaluator:
        model = onnx.load_model_from_string(self._graph) if isinstance(self._graph, bytes) else self._graph
        return ReferenceEvaluator(model, new_ops=[GatherElements])


def rows_of(values: Values, rows: NDArray[Any] | slice) -> Values:
    """Some samples: rows of every array."""
    return {name: value[rows] for name, value in values.items()}


def joined(parts: Sequence[Values]) -> Values:
    """Batches one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
