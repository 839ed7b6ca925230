"""Ways to run a graph that are compared: ONNX Runtime in several settings, and onnx.reference."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator

from twophase.export.session import GraphRunError, Values
from twophase.link.errors import first_line

__all__ = ["OnnxRuntime", "Reference", "Runner"]


class Runner(Protocol):
    """A graph that can be run."""

    def run(self, outputs: list[str], feed: Values) -> list[NDArray[Any]]:
        """Values of ``outputs``, by name."""


class OnnxRuntime:
    """A graph in ONNX Runtime on the CPU.

    Parameters
    ----------
    model
        The graph.
    optimised
        Whether ONNX Runtime may rewrite it.
    threads
        Threads that share one call.

    Raises
    ------
    GraphRunError
        If ONNX Runtime cannot load it.
    """

    def __init__(self, model: ModelProto, *, optimised: bool = True, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        level = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
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
            self._evaluator = ReferenceEvaluator(model)
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
