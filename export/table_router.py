"""Which routing a bundle gets, and how a table takes the place of the router that was trained.

The trained routing, one with another header, or a look-up of the SNR: ``mode = modes[number of thresholds <=
snr_db]``, which can be audited at a glance.  The router and all that it alone needed are then gone from the
graph.  Nothing here needs torch, so that bad input is refused at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from twophase.export.graphs.view import GraphError, GraphView, node_inputs
from twophase.export.proof.mode import find_switch
from twophase.link.errors import InputError
from twophase.link.header import HeaderStep, header_code
from twophase.link.manifest import Manifest
from twophase.link.routing import Routing, SnrTable

__all__ = ["AUTO", "HYSTERESIS_DB", "RouterChoice", "exported_routing", "install_table"]


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


RouterChoice = Literal["trained", "table"]
"""``trained``: as the run has it.  ``table``: the run's table, by a look-up that anybody can read."""

AUTO = "auto"
"""Name of the headers that the run planned."""

HYSTERESIS_DB = 1.0
"""Hysteresis of a table that takes a router's place, in dB."""


def exported_routing(
    manifest: Manifest,
    router: RouterChoice = "trained",
    hysteresis_db: float | None = None,
    header: str = AUTO,
) -> Routing:
    """The routing of a bundle.

    Parameters
    ----------
    manifest
        The run's.
    router
        Whether the run's table takes the place of its router.
    hysteresis_db
        Hysteresis in dB of a bundle that goes by a table; None: the run's own, or ``HYSTERESIS_DB`` for a
        table that takes a router's place.
    header
        Name of the one code that signals the mode at every SNR, or ``auto``.

    Raises
    ------
    InputError
        If the link has one mode and a table is asked for, if a hysteresis is given without a table or is
        negative, if a code is named for a link that sends no header, is unknown or has too few words.
    """
    routing = manifest.routing
    if router not in get_args(RouterChoice):
        raise InputError("router", f"be one of {', '.join(get_args(RouterChoice))}", router)
    if router == "table":
        if len(manifest.modes) == 1:
            raise InputError(
                "router", "be 'trained' for a link of one mode: there is nothing to choose", router
            )
        kept = routing.hysteresis_db if routing.router == "table" else HYSTERESIS_DB
        routing = Routing("table", routing.table, kept, ())
    if hysteresis_db is not None:
        if routing.router != "table":
            raise InputError(
                "hysteresis_db",
                f"be left out for the router '{routing.router}': only a table has it",
                hysteresis_db,
            )
        routing = replace(routing, hysteresis_db=hysteresis_db)
    if header != AUTO:
        if not routing.tells_mode:
            raise InputError(
                "header", f"be '{AUTO}' for the router '{routing.router}': it sends no header", header
            )
        header_code(header, len(manifest.modes))
        routing = replace(routing, header=(HeaderStep(routing.header[0].from_db, header),))
    routing.check(manifest.modes)
    return routing
