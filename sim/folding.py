"""Receivers specialised to one mode: ``rx.onnx`` with its mode fixed, and without what other modes need.

``rx.onnx`` computes every mode for each sample and then picks one.  A sweep receives samples of equal mode
together, so that the pick can be made beforehand: what is looked up by the mode is replaced by the entry that
it gives, and what nobody asks for any more is left out.  No node that stays is altered, so that logits and
indices come out equal to the last bit; :class:`FoldedReceiver` holds each specialised graph against the whole
one before it uses it, and uses the whole one where they differ.

Only this module imports ``onnx`` (the ``[sim]`` extra), and late; without it the whole graph is run.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike, NDArray

from twophase.link.errors import ArtifactError, first_line
from twophase.link.graphs import graph_content
from twophase.link.manifest import Manifest
from twophase.link.receiver import Receiver, Reception
from twophase.link.sizes import problem_of_sizes

if TYPE_CHECKING:
    import onnx

__all__ = ["FoldedReceiver", "check_sizes", "fold_mode"]

_OUTPUTS = ["logits", "indices"]
_COMPARED = 128
"""Rows of random LLRs by which a specialised graph is held against the whole one."""

_log = logging.getLogger(__name__)


class FoldedReceiver:
    """The receiver of a bundle for samples of one mode at a time: a graph of its own for each mode in use.

    Arguments and errors are those of
    :class:`~twophase.link.receiver.Receiver`.
    """

    def __init__(self, bundle: Path, threads: int, file: str, manifest: Manifest) -> None:
        self._whole = Receiver(bundle, threads, file, manifest=manifest)
        self._path, self._threads, self._modes = bundle / file, threads, manifest.modes
        self._model: onnx.ModelProto | None = None
        self._folded: dict[int, onnxruntime.InferenceSession | None] = {}
        if len(manifest.modes) > 1:
            try:
                import onnx
            except ModuleNotFoundError:
                return
            self._model = onnx.load_model_from_string(graph_content(bundle, file, manifest))

    def receive(self, llr: ArrayLike, mode: ArrayLike) -> Reception:
        """Classify a batch; arguments and errors of :meth:`~twophase.link.receiver.Receiver.receive`.

        A batch of several modes goes through the whole graph.
        """
        numbers = np.unique(mode)
        if self._model is None or numbers.size != 1:
            return self._whole.receive(llr, mode)
        number = int(numbers[0])
        if number not in self._folded:
            self._folded[number] = self._specialised(number)
        session = self._folded[number]
        if session is None:
            return self._whole.receive(llr, mode)
        return _run(session, np.asarray(llr, dtype=np.float32))

    def _specialised(self, number: int) -> onnxruntime.InferenceSession | None:
        """A session for one mode; None where nothing is folded, or with a warning where it differs."""
        assert self._model is not None
        name = f"'{self._path.name}' specialised to mode {self._modes.names[number]}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self._threads, 1
        options.log_severity_level = 3
        try:
            folded_model = fold_mode(self._model, number)
            if [entry.name for entry in folded_model.graph.input] != ["llr"]:
                _log.info("%s would not be another graph", name)
                return None
            content = folded_model.SerializeToString()
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            llr = self._random_llr(number)
            folded = _run(session, llr)
        except Exception as error:  # noqa: BLE001 - a graph of another make may fail at any step; the whole one runs
            _log.warning("%s does not run (%s): the whole graph is used", name, first_line(error))
            return None
        whole = self._whole.receive(llr, number)
        for output in _OUTPUTS:
            if not np.array_equal(getattr(folded, output), getattr(whole, output)):
                _log.warning("%s gives other %s: the whole graph is used", name, output)
                return None
        return session

    def _random_llr(self, number: int) -> NDArray[np.float32]:
        rng = np.random.default_rng(number)
        llr = np.zeros((_COMPARED, self._modes.max_bits), dtype=np.float32)
        bits = self._modes[number].channel_bits
        llr[:, :bits] = rng.normal(0, 1, (_COMPARED, bits)) * np.geomspace(0.1, 30, _COMPARED)[:, np.newaxis]
        return llr


def _run(session: onnxruntime.InferenceSession, llr: NDArray[np.float32]) -> Reception:
    logits, indices = session.run(_OUTPUTS, {"llr": llr})
    return Reception(np.asarray(logits, dtype=np.float32), np.asarray(indices, dtype=np.int64))


def check_sizes(bundle: Path, file: str, manifest: Manifest) -> None:
    """Refuse a graph whose tensors would take any memory, before it is run; without ``onnx`` do nothing.

    ArtifactError as of :func:`twophase.link.graphs.graph_content` and :mod:`twophase.link.sizes`.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        return
    model = onnx.load_model_from_string(graph_content(bundle, file, manifest))
    is_whole = file not in manifest.graph_files  # the backbone of a link of text
    infer = onnx.shape_inference.infer_shapes
    if (problem := problem_of_sizes(model, manifest, infer, may_be_unknown=is_whole)) is not None:
        raise ArtifactError(f"'{bundle / file}' {problem}")


def fold_mode(model: onnx.ModelProto, mode: int) -> onnx.ModelProto:
    """The graph of one mode, which takes ``llr`` alone and gives ``logits`` and ``indices``.

    Folded is ``Gather(GatherElements(Concat(Unsqueeze(x0), Unsqueeze(x1), ...), index), 0)`` along axis 1
    where ``index`` depends on the mode alone: the entry x_i that the mode picks.  The input ``mode`` stays if
    something else takes it.
    """
    import onnx

    graph = model.graph
    made_by = {output: node for node in graph.node for output in node.output}
    constants = {entry.name: onnx.numpy_helper.to_array(entry) for entry in graph.initializer}
    chosen: dict[str, str] = {}
    for node in graph.node:
        picked = made_by.get(node.input[0]) if node.op_type == "Gather" else None
        if picked is None or picked.op_type != "GatherElements" or _axis(node) != 1 or _axis(picked) != 1:
            continue
        stack, first = made_by.get(picked.input[0]), constants.get(node.input[1])
        if stack is None or stack.op_type != "Concat" or _axis(stack) != 1 or first is None or first.any():
            continue
        entries = [made_by.get(name) for name in stack.input]
        if not all(entry is not None and entry.op_type == "Unsqueeze" for entry in entries):
            continue
        place = _value(model, picked.input[1], mode)
        entry = entries[place] if place is not None else None
        if entry is not None and constants[entry.input[1]].tolist() == [1]:
            chosen[node.output[0]] = entry.input[0]
    return _pruned(model, chosen)


def _axis(node: onnx.NodeProto) -> int:
    return next((entry.i for entry in node.attribute if entry.name == "axis"), 0)


def _value(model: onnx.ModelProto, tensor: str, mode: int) -> int | None:
    """The one number that a tensor holds in a mode; None if it holds several or needs the LLRs."""
    import onnx

    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    del kept.graph.output[:], kept.graph.input[:], kept.graph.node[:]
    kept.graph.node.extend(_needed(model.graph, [tensor]))
    if any("llr" in node.input for node in kept.graph.node):
        return None
    kept.graph.input.extend(entry for entry in model.graph.input if entry.name == "mode")
    kept.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
    kept.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(kept.SerializeToString(), options, ["CPUExecutionProvider"])
    values = np.unique(session.run([tensor], {"mode": np.array([mode], dtype=np.int64)})[0])
    return int(values[0]) if values.size == 1 else None


def _needed(graph: onnx.GraphProto, tensors: list[str]) -> list[onnx.NodeProto]:
    """The nodes that some tensors follow from, in their order."""
    wanted = set(tensors)
    kept = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]


def _pruned(model: onnx.ModelProto, chosen: dict[str, str]) -> onnx.ModelProto:
    """The model with tensors replaced by others, and only what logits and indices need of it."""
    import onnx

    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = chosen.get(name, name)
    for name in _OUTPUTS:
        if name in chosen:
            graph.node.append(onnx.helper.make_node("Identity", [chosen[name]], [name]))
            for node in graph.node[:-1]:
                node.output[:] = ["" if output == name else output for output in node.output]
    nodes = _needed(graph, _OUTPUTS)
    used = {name for node in nodes for name in node.input}
    for entries, kept in (
        (graph.node, nodes),
        (graph.output, [entry for entry in graph.output if entry.name in _OUTPUTS]),
        (graph.input, [entry for entry in graph.input if entry.name in used]),
        (graph.initializer, [entry for entry in graph.initializer if entry.name in used]),
    ):
        copies = [type(entry).FromString(entry.SerializeToString()) for entry in kept]
        del entries[:]
        entries.extend(copies)
    return folded
