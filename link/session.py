"""One ONNX graph in ONNX Runtime, held to the names and shapes that the manifest gives it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from twophase.link.errors import ArtifactError, InputError, first_line

__all__ = ["Graph", "Shapes"]

Shapes = dict[str, tuple[int, ...]]
"""Outputs that are needed, by name, with their shape behind the batch axis."""


class Graph:
    """One ONNX Runtime session on the CPU, with the names and shapes that its graph must have.

    Parameters
    ----------
    path
        The ONNX file.
    threads
        Threads of ONNX Runtime.
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
        If the file cannot be loaded or has other inputs or outputs.
    """

    def __init__(
        self,
        path: Path,
        threads: int,
        inputs: tuple[str, ...],
        outputs: Shapes,
        optional: tuple[str, ...] = (),
    ) -> None:
        if threads < 1:
            raise InputError("threads", "be at least 1", threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ArtifactError(
                f"'{path}' is no graph that ONNX Runtime can load: {first_line(error)}"
            ) from error
        self._path = path
        self._outputs = outputs
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
        """Run the graph; the first of ``inputs`` has the batch axis first.

        Returns
        -------
        list
            The needed outputs, in their order.

        Raises
        ------
        ArtifactError
            If the graph fails or gives arrays of other shapes.
        """
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
