"""Proof that a transmitter on an integer grid chooses the same codewords on every runtime.

Every tensor between the inputs and the indices is followed through the graph with a grid that its values lie
on and bounds on them (``exact_values``).  Where every sum, with the magnitudes of all its terms added up,
stays below 2^24 units of its grid, float32 computes it without an error: in any order of summation, with or
without fused multiply-add, alone or in a batch.  What is the same before a rounding, a comparison or an
ArgMax is the same after it.  So all runtimes that follow IEEE 754 and the ONNX standard give the same indices
for the same finite input, and no two runs need to be compared to know it.  The exception is a runtime that
multiplies float32 with fewer bits, on request (bfloat16 "fast math") or by default (TF32 in some GPU
libraries): it does not follow the standard then, and nothing is proved of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from twophase.export.graphs.run import GraphRunError, OnnxRuntime
from twophase.export.graphs.signature import UNFORCED
from twophase.export.graphs.view import GraphView, node_inputs, subgraphs
from twophase.export.proof.exact_rules import apply_rule
from twophase.export.proof.exact_sums import PRODUCTS, Operation
from twophase.export.proof.exact_values import Exact, NotExactError, given, limit_of, of_array
from twophase.link.graphs import MODE_REQUEST
from twophase.link.manifest import Manifest

__all__ = ["ExactProof", "ExactSum", "prove_exact"]

_SUMS = frozenset({*PRODUCTS, "Add", "ReduceSum", "Sub", "Sum"})


@dataclass(frozen=True)
class ExactSum:
    """A sum of the graph that is exact in any order."""

    node: str
    unit: int
    """It counts in units of 2 to this power."""
    largest: float
    """What its partial sums may reach, in units."""
    limit: int
    """Below which they are exact."""


@dataclass(frozen=True)
class ExactProof:
    """What was proved."""

    nodes: int
    """Nodes between the inputs and the outputs; all give the same values on every runtime."""
    sums: tuple[ExactSum, ...]
    mode: str | None
    """Why the mode may differ between runtimes: the proof then holds given the mode.  None: it cannot."""

    @property
    def tightest(self) -> ExactSum | None:
        """The sum that comes closest to its limit."""
        return max(self.sums, key=lambda entry: entry.largest / entry.limit, default=None)


def prove_exact(
    view: GraphView, manifest: Manifest, outputs: Sequence[str] = ("indices",)
) -> tuple[ExactProof | None, list[str]]:
    """The proof that ``outputs`` are the same on every runtime, for any finite input, and the problems found.

    The proof is None if it failed; there is one sentence for each problem.

    What a caller must keep to: ``mode_request`` is -1 or the number of one of the link's modes.  Any other is
    an index out of range, and each runtime has its own way with those.  A mode that is chosen by content, by
    real scores, is taken as given, one of the link's.
    """
    missing = [name for name in outputs if name not in view.outputs]
    if missing:
        return None, [f"output '{name}' is missing" for name in missing]
    if view.model.functions:
        return None, [
            f"'{function.domain}.{function.name}' is a function of the model's own; the proof follows "
            "operators of the ONNX standard"
            for function in view.model.functions
        ]
    modes = len(manifest.modes)
    chosen = _Walk(view, modes, ["mode"] if "mode" in view.outputs and "mode" not in outputs else [], ())
    by_content = chosen.problems and manifest.routing.tells_mode
    walk = _Walk(view, modes, outputs, ["mode"] if by_content else ())
    if walk.problems:
        return None, walk.problems
    return ExactProof(walk.nodes, tuple(walk.sums), chosen.problems[0] if by_content else None), []


class _Walk:
    """Follows the nodes that ``outputs`` need, from the inputs and ``stop`` on; notes what is not exact."""

    def __init__(self, view: GraphView, modes: int, outputs: Sequence[str], stop: Collection[str]) -> None:
        self._view = view
        self._modes = modes
        self.problems: list[str] = []
        self.sums: list[ExactSum] = []
        self.nodes = 0
        self._known: dict[str, Exact | None] = {"": None}
        needed = self._needed(outputs, stop)
        for name in needed:
            self._begin(name, stop)
        for node in view.model.graph.node:
            if any(name in needed and name not in stop for name in node.output):
                self.nodes += 1
                self._follow(node)
        if not self.problems:  # of what a rule gave nothing for, nothing is proved
            unknown = [name for name in outputs if self._known.get(name) is None]
            self.problems += [f"'{name}' could not be followed" for name in unknown]

    def _needed(self, outputs: Sequence[str], stop: Collection[str]) -> dict[str, None]:
        """Tensors that the outputs depend on, in a fixed order."""
        found: dict[str, None] = {}
        stack = list(outputs)
        while stack:
            name = stack.pop()
            if name not in found:
                found[name] = None
                node = self._view.producer(name)
                if node is not None and name not in stop:
                    stack.extend(sorted(node_inputs(node)))
        return found

    def _begin(self, name: str, stop: Collection[str]) -> None:
        """Note what is known of an input or a stored tensor."""
        if self._view.producer(name) is not None and name not in stop:
            return
        stored = self._view.stored(name)
        try:
            self._known[name] = self._given(name) if stored is None else of_array(stored)
        except NotExactError as error:
            self._fail(name, f"'{name}'", error)

    def _given(self, name: str) -> Exact:
        """An input, or the mode where that is taken as given."""
        kind = self._view.element_type(name)
        if kind == TensorProto.INT64 and name in (MODE_REQUEST, "mode"):
            return Exact(0, float(UNFORCED) if name == MODE_REQUEST else 0.0, self._modes - 1.0)
        return given(kind)

    def _follow(self, node: NodeProto) -> None:
        if any(name and self._known.get(name) is None for name in node_inputs(node)):
            return  # what makes it inexact stands before it
        label = f"{node.op_type} ('{node.name or node.output[0]}')"
        try:
            for name in node.output:
                if name:
                    self._known[name] = self._result(node, name)
        except NotExactError as error:
            self._fail(node.output[0], label, error)
            return
        kind = self._view.element_type(node.output[0])
        made = self._known[node.output[0]]
        is_sum = node.op_type in _SUMS and kind in (TensorProto.FLOAT, TensorProto.DOUBLE)
        if is_sum and made is not None and made.exponent is not None:
            self.sums.append(ExactSum(label, made.unit, made.peak, limit_of(kind)))

    def _result(self, node: NodeProto, output: str) -> Exact:
        if any(True for _ in subgraphs(node)):
            raise NotExactError("what it computes depends on branches or loops")
        if node.op_type == "Constant":
            return of_array(self._fold(node, output))
        inputs = [self._known[name] for name in node.input]
        kinds = [self._view.element_type(name) if name else TensorProto.UNDEFINED for name in node.input]
        shapes = [
            value.array.shape if value is not None and value.array is not None else self._view.shape(name)
            for name, value in zip(node.input, inputs, strict=True)
        ]
        result = apply_rule(Operation(node, inputs, shapes, kinds, self._view.element_type(output)))
        if inputs and all(value is None or value.array is not None for value in inputs):
            return replace(of_array(self._fold(node, output)), raw=result.raw)
        return result

    def _fold(self, node: NodeProto, output: str) -> NDArray[np.generic]:
        """The values of a node all of whose inputs are stored; its rule has said that they are exact."""
        stored = {name: value.array for name in node.input if (value := self._known[name]) is not None}
        graph = helper.make_graph(
            [node],
            "stored",
            [],
            [helper.make_tensor_value_info(output, self._view.element_type(output), None)],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
        )
        model = helper.make_model(
            graph, opset_imports=self._view.model.opset_import, ir_version=self._view.model.ir_version
        )
        try:
            (result,) = OnnxRuntime(model).run([output], {})
        except GraphRunError as error:
            raise NotExactError(f"it cannot be run on stored tensors: {error}") from error
        return np.asarray(result)

    def _fail(self, name: str, label: str, error: NotExactError) -> None:
        self._known[name] = None
        self.problems.append(f"{label} is not exact: {error}")
