"""Running a graph with ONNX Runtime, quietly."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from twophase.export.graphs.signature import Signature
from twophase.export.graphs.view import serialize
from twophase.link.errors import first_line

__all__ = [
    "GraphRunError",
    "GraphRunner",
    "OnnxRuntime",
    "Reference",
    "Runner",
    "Session",
    "Values",
    "check_values",
]


Values = dict[str, NDArray[Any]]
"""Arrays by name."""


class GraphRunError(RuntimeError):
    """ONNX Runtime refuses to load or to run a graph."""


class Session:
    """A graph held in memory.

    Parameters
    ----------
    serialized
        Bytes of the model.
    optimised
        Whether ONNX Runtime may rewrite it.
    threads
        Threads that share one call.

    Raises
    ------
    GraphRunError
        If ONNX Runtime cannot load it.
    """

    def __init__(self, serialized: bytes, *, optimised: bool = True, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        level = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # errors come as exceptions, and its warnings are about nodes that it optimises away
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(
                serialized, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise GraphRunError(first_line(error)) from error

    def run(self, outputs: list[str], feed: Values) -> list[NDArray[Any]]:
        """Values of ``outputs``, by name.

        Raises
        ------
        GraphRunError
            If the graph fails on these inputs.
        """
        try:
            result: list[NDArray[Any]] = self._session.run(outputs, feed)
        except Exception as error:
            raise GraphRunError(first_line(error)) from error
        return result


class Runner(Protocol):
    """A graph that can be run."""

    def run(self, outputs: list[str], feed: Values) -> list[NDArray[Any]]:
        """Values of ``outputs``, by name."""


class OnnxRuntime(Session):
    """A graph in ONNX Runtime on the CPU; parameters as for ``Session``.

    Raises
    ------
    GraphRunError
        If ONNX Runtime cannot load it.
    """

    def __init__(self, model: ModelProto, *, optimised: bool = True, threads: int = 1) -> None:
        super().__init__(model.SerializeToString(), optimised=optimised, threads=threads)


class GatherElements(OpRun):
    """The operator of that name; the reference's own fails over more than 64 entries (onnx 1.23)."""

    op_domain = ""

    def _run(self, data: NDArray[Any], indices: NDArray[Any], axis: int = 0) -> tuple[NDArray[Any]]:
        size = data.shape[axis]
        return (np.take_along_axis(data, np.where(indices < 0, indices + size, indices), axis),)


class Reference:
    """A graph in the reference implementation of the ONNX standard, which is NumPy alone.

    Parameters
    ----------
    model
        The graph.

    Raises
    ------
    GraphRunError
        If it has an operator that the reference does not know.
    """

    def __init__(self, model: ModelProto) -> None:
        try:
            self._evaluator = ReferenceEvaluator(model, new_ops=[GatherElements])
        except Exception as error:
            raise GraphRunError(first_line(error)) from error

    def run(self, outputs: list[str], feed: Values) -> list[NDArray[Any]]:
        """As for ``OnnxRuntime``."""
        try:
            # extreme inputs overflow on their way to a Clip, as the standard has it
            with np.errstate(all="ignore"):
                results = self._evaluator.run(outputs, feed)
        except Exception as error:
            raise GraphRunError(first_line(error)) from error
        return [np.asarray(result) for result in results]


class GraphRunner:
    """A graph, run by ONNX Runtime.

    Parameters
    ----------
    model
        The graph.
    signature
        Names, types and shapes of its inputs and outputs.
    inner
        Names of inner tensors to read besides the outputs.

    Raises
    ------
    GraphRunError
        If ONNX Runtime cannot load the graph.
    """

    def __init__(self, model: ModelProto, signature: Signature, inner: tuple[str, ...] = ()) -> None:
        self._signature = signature
        self._session = Session(serialize(model))
        self._inner = inner
        if inner:
            # a copy, so that the graph that is verified is the graph that is shipped
            probe = ModelProto()
            probe.CopyFrom(model)
            probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in inner)
            self._probe = Session(serialize(probe))

    def run(self, feed: Values) -> Values:
        """Outputs by name.

        Raises
        ------
        GraphRunError
            If the graph fails or an output has another type or shape than the signature says.
        """
        names = self._signature.output_names
        values = dict(zip(names, self._session.run(names, feed), strict=True))
        check_values(values, self._signature, len(next(iter(feed.values()))), "the graph")
        return values

    def read_inner(self, feed: Values) -> Values:
        """Values of the inner tensors by name."""
        names = list(self._inner)
        return dict(zip(names, self._probe.run(names, feed), strict=True)) if names else {}


def check_values(values: Values, signature: Signature, batch: int, who: str) -> None:
    """Refuse outputs of another type or shape than the signature says, and those that are not finite.

    Raises
    ------
    GraphRunError
        At the first of them.
    """
    for port in signature.outputs:
        value, shape = values[port.name], (batch, *port.shape)
        if value.dtype != port.dtype or value.shape != shape:
            raise GraphRunError(
                f"{who} gives '{port.name}' as {value.dtype} of shape {value.shape}, "
                f"not {port.dtype} of shape {shape}"
            )
        if not np.isfinite(value).all():
            raise GraphRunError(f"{who} gives NaN or infinity in '{port.name}'")
