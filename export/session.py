"""Running a graph with ONNX Runtime, quietly."""

from __future__ import annotations

from typing import Any

import onnxruntime
from numpy.typing import NDArray

from twophase.link.errors import first_line

__all__ = ["GraphRunError", "Session", "Values"]

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
