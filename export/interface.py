"""Whether a graph has the inputs and outputs of its signature."""

from __future__ import annotations

import onnx
from onnx import ModelProto, ValueInfoProto, numpy_helper

from twophase.export.signature import Port, Signature

__all__ = ["check_interface"]


def check_interface(model: ModelProto, signature: Signature) -> list[str]:
    """Problems of the names, types and shapes of a graph's inputs and outputs."""
    return [
        *_check_ports("input", list(model.graph.input), signature.inputs),
        *_check_ports("output", list(model.graph.output), signature.outputs),
        *_check_defaults(model, signature),
    ]


def _check_defaults(model: ModelProto, signature: Signature) -> list[str]:
    """Inputs that may be left out have the default of the signature, the others have none."""
    stored = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in model.graph.initializer}
    problems = []
    for port in signature.inputs:
        wanted = None if port.default is None else [port.default]
        if (default := stored.get(port.name)) != wanted:
            rule = "no default" if wanted is None else f"the default {wanted}"
            problems.append(f"input '{port.name}' must have {rule}, not {default or 'none'}")
    return problems


def _check_ports(side: str, values: list[ValueInfoProto], ports: tuple[Port, ...]) -> list[str]:
    names, wanted = [value.name for value in values], [port.name for port in ports]
    if names != wanted:
        return [f"the {side}s must be {wanted}, not {names}"]
    problems = []
    for value, port in zip(values, ports, strict=True):
        tensor = value.type.tensor_type
        dtype = (
            onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else "undefined"
        )
        if dtype != port.dtype:
            problems.append(f"{side} '{port.name}' must be {port.dtype}, not {dtype}")
        axes = [axis.dim_param or axis.dim_value for axis in tensor.shape.dim]
        if axes != list(port.axes):
            problems.append(f"{side} '{port.name}' must have shape {list(port.axes)}, not {axes}")
    return problems
