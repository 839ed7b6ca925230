"""The choice of the mode: proof that it is the manifest's, and a table in the place of a trained router.

Proof that the mode is the one the manifest's routing says, and that the receiver can know it:

request   ``mode`` is ``mode_request`` where that is not negative and the router's choice elsewhere: the part
          of the graph between these two and ``mode`` is run on every pair.  A link of one mode has none.
router    A mode that both ends derive from the SNR must follow from ``snr_db`` alone; read from the features
          it would be information that crosses the channel free of charge and without errors.  It must come
          about by comparing ``snr_db`` with stored numbers: between two of them nothing can change, so that a
          run at each of them, next to it and between them compares it with the manifest's table at every SNR
          there is.  A mode that the content decides must be an ArgMax over scores, and signalled by a header.

Surgery (``install_table``): a look-up of the SNR, ``mode = modes[number of thresholds <= snr_db]``, takes the
place of the router.  It can be audited at a glance; the router and all that it alone needed are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from twophase.export.graphs.run import GraphRunError, OnnxRuntime, Values
from twophase.export.graphs.signature import UNFORCED
from twophase.export.graphs.view import INTEGER_TYPES, GraphError, GraphView, attribute, node_inputs
from twophase.link.graphs import MODE_REQUEST
from twophase.link.manifest import Manifest
from twophase.link.routing import SnrTable

__all__ = ["ModeProof", "check_mode", "find_switch", "install_table", "prove_mode", "view_with"]

_SHAPING = frozenset({"Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that move values and change none."""

_COMPARISONS = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})


@dataclass(frozen=True)
class ModeProof:
    """What was proved of a transmitter's choice of the mode."""

    scores: tuple[str, ...]
    """Tensors (batch, choices) whose largest entries a router that sees the content takes; else none."""
    snr_points: int
    """SNRs at which the choice was compared with the manifest's table; 0 where the content decides."""
    request_pairs: int
    """Pairs of a requested and a routed mode that were run; 0 for a link of one mode."""


def view_with(model: ModelProto, outputs: Collection[str]) -> tuple[GraphView | None, list[str]]:
    """A graph that has ``outputs``; None, and the problems, if it breaks the standard or has not."""
    try:
        view = GraphView(model)
    except GraphError as error:
        return None, [f"the graph does not type-check: {error}"]
    missing = [f"output '{name}' is missing" for name in outputs if name not in view.outputs]
    return (None if missing else view), missing


def check_mode(model: ModelProto, manifest: Manifest) -> tuple[ModeProof | None, list[str]]:
    """The proof of how a transmitter chooses the mode, None if it fails, and a sentence for each problem."""
    view, problems = view_with(model, ["mode"])
    return (None, problems) if view is None else prove_mode(view, manifest)


def prove_mode(view: GraphView, manifest: Manifest) -> tuple[ModeProof | None, list[str]]:
    """As ``check_mode``, for a graph that is known to have the output ``mode``."""
    several = len(manifest.modes) > 1
    switch = find_switch(view) if several else None
    if several and switch is None:
        return None, [
            f"'mode' must be made by a Where that takes '{MODE_REQUEST}' where that is not negative, and "
            "elsewhere a mode that does not depend on it"
        ]
    routed = "mode" if switch is None else switch[0].input[switch[1]]
    pairs, problems = _prove_request(view, routed, len(manifest.modes)) if several else (0, [])
    scores: tuple[str, ...] = ()
    points = 0
    if manifest.routing.tells_mode:
        scores, found = _find_scores(view, routed)
    else:
        points, found = _prove_table(view, routed, manifest)
    problems += found
    return (None if problems else ModeProof(scores, points, pairs)), problems


def find_switch(view: GraphView) -> tuple[NodeProto, int] | None:
    """The Where that lets a request replace the router's choice, and which input holds that choice."""
    node = view.producer("mode")
    while node is not None and node.op_type in _SHAPING:
        node = view.producer(node.input[0])
    if node is None or node.op_type != "Where":
        return None
    asked = [MODE_REQUEST in view.sources([name], shapes="computed") for name in node.input]
    return (node, asked.index(False)) if asked[0] and asked.count(False) == 1 else None


def _prove_request(view: GraphView, routed: str, count: int) -> tuple[int, list[str]]:
    """Run every request on every routed mode: for all samples at once, and one for each sample."""
    given = [MODE_REQUEST, routed]
    others = sorted(view.sources(["mode"], given, shapes="computed"))
    if others:
        return 0, [
            f"'mode' takes values from '{name}' past '{MODE_REQUEST}' and the router's choice"
            for name in others
        ]
    modes = np.arange(count, dtype=np.int64)
    requests = np.arange(UNFORCED, count, dtype=np.int64)
    chosen = np.tile(modes, len(requests))
    asked = np.repeat(requests, count)
    try:
        run = _part(view, given, "mode")
        results = [(asked, chosen, run({MODE_REQUEST: asked, routed: chosen}))]
        for request in requests:
            result = run({MODE_REQUEST: np.array([request]), routed: modes})
            results.append((np.full(count, request), modes, result))
    except GraphRunError as error:
        return 0, [f"the part from '{MODE_REQUEST}' to 'mode' does not run: {error}"]
    for ask, choice, got in results:
        wanted = np.where(ask >= 0, ask, choice)
        if got.shape != wanted.shape or (got != wanted).any():
            row = int(np.argmax(got != wanted)) if got.shape == wanted.shape else 0
            return 0, [
                f"a request is not honoured: 'mode' is {got.ravel()[row]} where {ask[row]} is requested and "
                f"{choice[row]} routed, not {wanted[row]}"
            ]
    return len(asked), []


def _find_scores(view: GraphView, routed: str) -> tuple[tuple[str, ...], list[str]]:
    """Walk from the routed mode back to the ArgMax over mode scores; only integers may stand on the way."""
    scores: dict[str, None] = {}
    problems: list[str] = []
    for node, name in _integer_walk(view, routed):
        if node is not None and node.op_type == "ArgMax":
            axes = view.shape(node.input[0])
            by_row = axes is not None and len(axes) == 2 and axes[0] is None and axes[1] is not None
            if not by_row or attribute(node, "axis", 0) not in (-1, 1):
                problems.append(
                    f"ArgMax ('{node.name}') before 'mode' must decide over the last axis of scores of shape "
                    f"(batch, choices), which '{node.input[0]}' has not"
                )
            scores[node.input[0]] = None
        else:
            problems.append(
                f"'mode' must be an ArgMax over scores, and takes values from {_named(node, name)}"
            )
    return tuple(scores), problems


def _prove_table(view: GraphView, routed: str, manifest: Manifest) -> tuple[int, list[str]]:
    """The routed mode follows from comparisons of ``snr_db``, and at all SNRs it is the table's."""
    known = ["'snr_db'"] + ([f"'{MODE_REQUEST}'"] if len(manifest.modes) > 1 else [])
    secret = sorted(view.sources([routed], shapes="computed") - {"snr_db"})
    if secret:
        return 0, [
            f"'mode' is computed from '{name}', which the receiver does not know: it must follow from "
            f"{' and '.join(known)} alone, for no header signals the mode"
            for name in secret
        ]
    levels: list[NDArray[np.float32]] = []
    for node, name in _integer_walk(view, routed):
        level = _compared_level(view, node) if node is not None and node.op_type in _COMPARISONS else None
        if level is None:
            return 0, [
                "'mode' must come about by comparing 'snr_db' with stored numbers, and takes values from "
                f"{_named(node, name)}"
            ]
        levels.append(level)
    table = manifest.routing.table
    points = _probe_points(np.concatenate([*levels, np.array(table.thresholds_db, dtype=np.float32)]))
    problem = _compare_with_table(view, routed, points, table)
    return len(points), [] if problem is None else [problem]


def _integer_walk(view: GraphView, routed: str) -> list[tuple[NodeProto | None, str]]:
    """Where real numbers become the integers that ``routed`` is made of: nodes and what they give.

    Besides the nodes that decide these are inputs of the graph, branches, and whatever else makes reals.
    """
    found: list[tuple[NodeProto | None, str]] = []
    seen: set[str] = set()
    stack = [routed]
    while stack:
        name = stack.pop()
        if name in seen or view.is_constant(name):
            continue
        seen.add(name)
        node = view.producer(name)
        decides = node is not None and node.op_type in (*_COMPARISONS, "ArgMax", "ArgMin")
        reads_reals = node is not None and any(
            source and view.element_type(source) not in INTEGER_TYPES for source in node.input
        )
        branches = node is not None and any(item.HasField("g") for item in node.attribute)
        if (
            node is None
            or branches
            or view.element_type(name) not in INTEGER_TYPES
            or (decides and reads_reals)
        ):
            found.append((node, name))
        else:
            stack.extend(source for source in node.input if source)
    return found


def _compared_level(view: GraphView, node: NodeProto) -> NDArray[np.float32] | None:
    """The stored numbers that a node compares ``snr_db`` with; None if it compares something else."""
    levels = [stored for name in node.input if (stored := view.stored(name)) is not None]
    sides = [name for name in node.input if view.stored(name) is None]
    if len(levels) != 1 or levels[0].dtype != np.float32:
        return None
    name = sides[0]
    while (maker := view.producer(name)) is not None and maker.op_type in _SHAPING:
        name = maker.input[0]
    return levels[0].ravel() if name == "snr_db" else None


def _probe_points(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every level, its neighbours in float32, one SNR between any two of them, and the extremes."""
    largest = np.finfo(np.float32).max
    ends = np.array([-largest, 0.0, largest], dtype=np.float32)
    exact = np.unique(levels[np.isfinite(levels)])
    below, above = (np.nextafter(exact, np.float32(end)) for end in (-np.inf, np.inf))
    near = np.unique(np.concatenate([ends, exact, below, above]))
    near = near[np.isfinite(near)]
    between = (near[1:].astype(np.float64) + near[:-1]) / 2.0
    return np.unique(np.concatenate([near, between.astype(np.float32)]))


def _compare_with_table(
    view: GraphView, routed: str, points: NDArray[np.float32], table: SnrTable
) -> str | None:
    """Run the router at ``points``, all together and one by one."""
    wanted = table.choose(points)
    try:
        run = _part(view, ["snr_db"], routed)
        together = run({"snr_db": points})
        alone = [run({"snr_db": points[row : row + 1]}) for row in range(len(points))]
    except GraphRunError as error:
        return f"the part from 'snr_db' to 'mode' does not run: {error}"
    if together.shape != wanted.shape or any(part.shape != (1,) for part in alone):
        return f"the routed mode '{routed}' must have shape (batch,), not {together.shape}"
    for got in (together, np.concatenate(alone)):
        if (got != wanted).any():
            row = int(np.argmax(got != wanted))
            return (
                f"'mode' is {got[row]} at {points[row]!s} dB, "
                f"where {wanted[row]} is what the manifest's routing table gives"
            )
    return None


def _part(view: GraphView, given: list[str], output: str) -> Callable[[Values], NDArray[np.int64]]:
    """The part of a graph that makes ``output`` from ``given``; other inputs lend it their shape alone.

    The last of ``given`` has a row for each sample.
    """
    shapes = sorted(view.sources([output], given))
    try:
        part = view.cut([*given, *shapes], [output])
    except GraphError as error:
        raise GraphRunError(str(error)) from error
    runner = OnnxRuntime(part)

    def run(feed: Values) -> NDArray[np.int64]:
        blanks = {name: view.blank(name, len(feed[given[-1]])) for name in shapes}
        (result,) = runner.run([output], {**feed, **blanks})
        return np.asarray(result, dtype=np.int64)

    return run


def _named(node: NodeProto | None, name: str) -> str:
    return f"'{name}'" if node is None else f"{node.op_type} ('{node.name}')"


def install_table(model: ModelProto, table: SnrTable) -> ModelProto:
    """A copy of a transmitter that chooses its mode by ``table``.

    The look-up enters at the Where that lets ``mode_request`` overrule the router.  A graph without such a
    place, or one that breaks the ONNX standard, comes back as it is: the proof of its mode says why.
    """
    result = deepcopy(model)
    view, _ = view_with(model, ["mode"])
    switch = None if view is None else find_switch(view)
    if switch is None:
        return result
    where, position = switch
    graph = result.graph
    prefix = _free_prefix(result)

    def node(operator: str, inputs: list[str], output: str, **options: Any) -> NodeProto:
        output = f"{prefix}_{output}"
        return helper.make_node(operator, inputs, [output], name=f"node_{output}", **options)

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
    (place,) = [entry for entry in graph.node if where.output[0] in entry.output]
    place.input[position] = look_up[-1].output[0]
    graph.initializer.extend(
        numpy_helper.from_array(value, f"{prefix}_{name}") for name, value in constants.items()
    )
    _keep_needed(result, [*look_up, *graph.node])
    return result


def _free_prefix(model: ModelProto) -> str:
    """A prefix that no name in the graph begins with."""
    names = {name for node in model.graph.node for name in (*node.input, *node.output, node.name)}
    names |= {tensor.name for tensor in model.graph.initializer} | {value.name for value in model.graph.input}
    prefix = "routing"
    while any(name.removeprefix("node_").startswith(prefix) for name in names):
        prefix += "_table"
    return prefix


def _keep_needed(model: ModelProto, nodes: list[NodeProto]) -> None:
    """Leave those of ``nodes`` and of the stored tensors that an output needs."""
    graph = model.graph
    needed = {value.name for value in graph.output}
    live: list[NodeProto] = []
    for node in reversed(nodes):
        if needed & set(node.output):
            live.append(node)
            needed |= node_inputs(node)
    # copies, because clearing the graph's lists invalidates what came out of them
    kept = [NodeProto.FromString(node.SerializeToString()) for node in reversed(live)]
    inputs = {value.name for value in graph.input}
    tensors = [
        TensorProto.FromString(tensor.SerializeToString())
        for tensor in graph.initializer
        if tensor.name in needed | inputs
    ]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.initializer.extend(tensors)
