"""A program under torch and a graph under ONNX Runtime behind one face: named arrays in, named arrays out."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import ModelProto
from torch.export import ExportedProgram

from twophase.export.freeze import serialize
from twophase.export.session import GraphRunError, Session, Values
from twophase.export.signature import Signature
from twophase.link.routing import SnrTable
from twophase.link.runtime import MODE_REQUEST

__all__ = ["GraphRunner", "ProgramRunner"]


class ProgramRunner:
    """The operations of a saved program, run by torch.

    Parameters
    ----------
    program
        The program.
    signature
        Names, types and shapes of its inputs and outputs.
    table
        What chooses the mode where none is requested, in the place of the program's own router.
    """

    def __init__(self, program: ExportedProgram, signature: Signature, table: SnrTable | None = None) -> None:
        self._module = program.module()
        self._signature = signature
        self._table = table

    def run(self, feed: Values) -> Values:
        """Outputs by name.

        Raises
        ------
        GraphRunError
            If the program fails or an output has another type or shape than the signature says.
        """
        if self._table is None or MODE_REQUEST in feed:
            return self._run(feed)
        modes = self._table.choose(feed["snr_db"])
        groups = [np.flatnonzero(modes == mode) for mode in np.unique(modes)]
        parts = [
            self._run({name: value[rows] for name, value in feed.items()} | {MODE_REQUEST: modes[rows[:1]]})
            for rows in groups
        ]
        order = np.argsort(np.concatenate(groups))
        return {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}

    def _run(self, feed: Values) -> Values:
        arrays = [
            np.array([port.default])
            if port.default is not None and port.name not in feed
            else feed[port.name]
            for port in self._signature.inputs
        ]
        inputs = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        try:
            with torch.inference_mode():
                outputs = self._module(*inputs)
        except Exception as error:
            raise GraphRunError(f"the program fails under torch: {str(error).splitlines()[0]}") from error
        if isinstance(outputs, torch.Tensor):
            outputs = (outputs,)
        values = {
            port.name: value.numpy() for port, value in zip(self._signature.outputs, outputs, strict=True)
        }
        _check(values, self._signature, len(inputs[0]), "the program")
        return values


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
            probe.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in inner)
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
        _check(values, self._signature, len(next(iter(feed.values()))), "the graph")
        return values

    def read_inner(self, feed: Values) -> Values:
        """Values of the inner tensors by name."""
        names = list(self._inner)
        return dict(zip(names, self._probe.run(names, feed), strict=True)) if names else {}


def _check(values: Values, signature: Signature, batch: int, who: str) -> None:
    for port in signature.outputs:
        value, shape = values[port.name], (batch, *port.shape)
        if value.dtype != port.dtype or value.shape != shape:
            raise GraphRunError(
                f"{who} gives '{port.name}' as {value.dtype} of shape {value.shape}, "
                f"not {port.dtype} of shape {shape}"
            )
        if not np.isfinite(value).all():
            raise GraphRunError(f"{who} gives NaN or infinity in '{port.name}'")
