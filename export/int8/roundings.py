"""Whether a sample passes the roundings of an INT8 graph alike on every machine.

An activation is computed in float32, with an error that differs between runtimes, and then rounded to a whole
step.  Where it lies half-way between two steps up to that error, one runtime takes the lower and another the
upper one, and what follows differs by far more than a rounding error.  That is no fault of either.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, helper, numpy_helper

from twophase.export.session import Session, Values

__all__ = ["CLEARANCE", "steady_rows"]

CLEARANCE = 1e-4
"""Distance from half-way between two steps, in steps, below which a rounding is not clear.  Between ONNX
Runtime and ``onnx.reference`` activations of a link for digits differed by up to 1.5e-5 steps."""

_EXACT = frozenset({"Clip", "Flatten", "Identity", "Max", "Min", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that change no value but to a stored one, if all but their first input are stored."""


def steady_rows(model: ModelProto, feed: Values) -> NDArray[np.bool_]:
    """Which samples keep clear of the middle between two steps, wherever the graph rounds; (batch,).

    What a graph rounds of its inputs themselves does not count, for that is exact.  Nor is this needed for a
    transmitter on an integer grid, where all is.

    Parameters
    ----------
    model
        A graph with QuantizeLinear in stored steps; without any, every sample is steady.
    feed
        Inputs by name; the first has the batch axis first.

    Raises
    ------
    GraphRunError
        If ONNX Runtime cannot run the graph.
    """
    probe = ModelProto()
    probe.CopyFrom(model)
    stored = {tensor.name: tensor for tensor in probe.graph.initializer}
    steps = {
        node.input[0]: float(numpy_helper.to_array(stored[node.input[1]]).item())
        for node in probe.graph.node
        if node.op_type == "QuantizeLinear" and not _is_given(probe.graph, node.input[0])
    }
    steady = np.full(len(next(iter(feed.values()))), True)
    if not steps:
        return steady
    given = {value.name for value in probe.graph.output}
    probe.graph.output.extend(
        helper.make_empty_tensor_value_info(name) for name in steps if name not in given
    )
    values = Session(probe.SerializeToString()).run(list(steps), feed)
    for value, step in zip(values, steps.values(), strict=True):
        places = np.asarray(value, dtype=np.float64).reshape(len(steady), value.size // len(steady)) / step
        steady &= (np.abs(places - np.floor(places) - 0.5) >= CLEARANCE).all(axis=1)
    return steady


def _is_given(graph: GraphProto, name: str) -> bool:
    """Whether a tensor holds what the graph was given, or what is stored: it is the same everywhere."""
    makers = {output: node for node in graph.node for output in node.output}
    while name in makers:
        source, *bounds = makers[name].input
        if makers[name].op_type not in _EXACT or any(bound in makers for bound in bounds):
            return False
        name = source
    return True
