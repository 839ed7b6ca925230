"""Ways to run a graph that are compared: ONNX Runtime in several settings, and onnx.reference."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from twophase.export.session import GraphRunError, Session, Values
from twophase.link.errors import first_line

__all__ = ["OnnxRuntime", "Reference", "Runner"]


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
