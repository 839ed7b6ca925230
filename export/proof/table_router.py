"""Surgery: a look-up of the SNR takes the place of the router that was trained.

What remains can be audited at a glance: ``mode = modes[number of thresholds <= snr_db]``.  The router and all
that it alone needed are gone from the graph.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from twophase.export.graphs.view import GraphError, GraphView, node_inputs
from twophase.export.proof.mode import find_switch
from twophase.link.routing import SnrTable

__all__ = ["install_table"]


def install_table(model: ModelProto, table: SnrTable) -> ModelProto:
    """A copy of a transmitter that chooses its mode by ``table``.

    The look-up enters at the Where that lets ``mode_request`` overrule the router.  A graph without such a
    place, or one that breaks the ONNX standard, comes back as it is: the proof of its mode says why.
    """
    result = ModelProto()
    result.CopyFrom(model)
    try:
        switch = find_switch(GraphView(model))
    except GraphError:
        return result
    if switch is None:
        return result
    graph = result.graph
    prefix = _free_prefix(result)

    def node(operator: str, inputs: list[str], output: str, **options: int) -> NodeProto:
        made = helper.make_node(operator, inputs, [f"{prefix}_{output}"], name=f"node_{prefix}_{output}")
        made.attribute.extend(helper.make_attribute(name, value) for name, value in options.items())
        return made

    constants = {"modes": np.array(table.modes)}
    if table.thresholds_db:
        constants |= {"axis": np.array([1]), "thresholds_db": np.array(table.thresholds_db, dtype=np.float32)}
        look_up = [
            node("Unsqueeze", ["snr_db", f"{prefix}_axis"], "column"),
            node("GreaterOrEqual", [f"{prefix}_column", f"{prefix}_thresholds_db"], "reached"),
            node("Cast", [f"{prefix}_reached"], "counted", to=TensorProto.INT64),
            node("ReduceSum", [f"{prefix}_counted", f"{prefix}_axis"], "step", keepdims=0),
            node("Gather", [f"{prefix}_modes", f"{prefix}_step"], "mode", axis=0),
        ]
    else:
        # ONNX Runtime mixes up buffers around a tensor of no thresholds
        look_up = [
            node("Shape", ["snr_db"], "shape"),
            node("Expand", [f"{prefix}_modes", f"{prefix}_shape"], "mode"),
        ]
    (place,) = [node for node in graph.node if switch.where.output[0] in node.output]
    place.input[switch.position] = look_up[-1].output[0]
    # copies, because clearing the graph's list invalidates the nodes that came out of it
    kept = [NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    del graph.node[:]
    graph.node.extend([*look_up, *kept])
    graph.initializer.extend(
        numpy_helper.from_array(value, f"{prefix}_{name}") for name, value in constants.items()
    )
    _prune(result)
    return result


def _free_prefix(model: ModelProto) -> str:
    """A prefix that no name in the graph begins with."""
    names = {name for node in model.graph.node for name in (*node.input, *node.output, node.name)}
    names |= {tensor.name for tensor in model.graph.initializer} | {value.name for value in model.graph.input}
    prefix = "routing"
    while any(name.removeprefix("node_").startswith(prefix) for name in names):
        prefix += "_table"
    return prefix


def _prune(model: ModelProto) -> None:
    """Drop nodes and stored tensors that no output needs."""
    graph = model.graph
    needed = {value.name for value in graph.output}
    live: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            live.append(node)
            needed |= node_inputs(node)
    live.reverse()
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in live]
    inputs = {value.name for value in graph.input}
    tensors = [
        TensorProto.FromString(tensor.SerializeToString())
        for tensor in graph.initializer
        if tensor.name in needed | inputs
    ]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
