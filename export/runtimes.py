"""Ways to run a graph that are compared: ONNX Runtime in several settings, and onnx.reference."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator

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
